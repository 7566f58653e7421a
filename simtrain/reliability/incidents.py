"""A log of incidents as a CSV table, or a fault trace read as one."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from simtrain.errors import InputError, QuantityError, nearest
from simtrain.quantities import parse_quantity
from simtrain.reliability.traces import read_trace

__all__ = ["COLUMNS", "Incident", "IncidentLog", "read_incidents"]

COLUMNS = {
    "start": "when it began: time since the start of the record with its unit (3.5 days), or a date (2026-03-30T12:00)",
    "class": "what failed: gpu, host, link, software ...; one failure class for each",
    "end": "when the node was back, written like start; may be empty or absent",
    "node": "its name; may be empty or absent",
}
"""Columns of the table; ``start`` and ``class`` must be there, others are not looked at."""


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that failed at ``time_s``; ``repair_s`` is None where nobody noted when it was back."""

    time_s: float
    name: str
    node: str
    repair_s: float | None


@dataclass(frozen=True, slots=True)
class IncidentLog:
    """Incidents in order of time; the record is ``observed_s`` long."""

    incidents: tuple[Incident, ...]
    observed_s: float


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    start_s: float
    end_s: float | None
    name: str
    node: str
    dated: bool


def read_incidents(path: Path, observed_s: float | None = None) -> IncidentLog:
    """Read a log: a CSV table with :data:`COLUMNS`, or a fault trace (``.json``), whose only class is ``fault``.

    ``observed_s`` is the length of the record; absent: up to the last incident or its end. With dates the record
    begins with the day of the first incident.

    Raises:
        InputError: the file cannot be read, or a line is wrong; names file, line, column, value, what is allowed.
    """
    if path.suffix == ".json":
        return _from_trace(path)
    rows = sorted(_rows(path), key=lambda row: row.start_s)
    if not rows:
        raise InputError(f"{path}: the table has no incidents")
    mixed = next((row for row in rows if row.dated != rows[0].dated), None)
    if mixed:
        raise InputError(f"{path}, line {mixed.line}: start is a date in some lines and a time in others")
    origin = rows[0].start_s // 86400 * 86400 if rows[0].dated else 0.0
    last_s = max(max(row.start_s, row.end_s or 0.0) for row in rows) - origin
    if observed_s is not None and observed_s < rows[-1].start_s - origin:
        raise InputError(f"{path}: the record is {observed_s:g} s long, but line {rows[-1].line} starts later")
    incidents = tuple(
        Incident(row.start_s - origin, row.name, row.node, None if row.end_s is None else row.end_s - row.start_s)
        for row in rows
    )
    if not (observed_s or last_s):
        raise InputError(f"{path}: all incidents are at time 0; say how long the record is")
    return IncidentLog(incidents, observed_s or last_s)


def _from_trace(path: Path) -> IncidentLog:
    trace = read_trace(path)
    found = [Incident(start, "fault", node, end - start) for node, spans in trace.down.items() for start, end in spans]
    return IncidentLog(tuple(sorted(found, key=lambda each: (each.time_s, each.node))), trace.horizon_s)


def _rows(path: Path) -> Iterator[_Row]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"no incident file {str(path)!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file") from None
    table = csv.DictReader(io.StringIO(text, newline=""))  # a quoted cell may hold line breaks
    header = [name.strip() for name in table.fieldnames or ()]
    for column in ("start", "class"):
        if column not in header:
            close = nearest(column, header)
            hint = f"; is it {close!r}?" if close else ""
            raise InputError(f"{path}, line 1: no column {column!r} ({COLUMNS[column]}){hint}")
    twice = next((column for column in COLUMNS if header.count(column) > 1), None)
    if twice:
        raise InputError(f"{path}, line 1: column {twice!r} stands twice")
    table.fieldnames = header
    for cells in table:
        if None in cells:
            raise InputError(
                f"{path}, line {table.line_num}: more cells than the {len(header)} columns of line 1; "
                'a cell with a comma in it needs quotes: "x, y"'
            )
        yield _row(f"{path}, line {table.line_num}", table.line_num, cells)


def _row(where: str, line: int, cells: dict[str, str | None]) -> _Row:
    name = (cells["class"] or "").strip()
    if not name:
        raise InputError(f"{where}: class is empty; {COLUMNS['class']}")
    start_s, dated = _time(where, "start", cells["start"] or "")
    end = (cells.get("end") or "").strip()
    end_s, end_dated = _time(where, "end", end) if end else (None, dated)
    if end_s is not None and (end_s < start_s or end_dated != dated):
        raise InputError(f"{where}: end = {end!r} must be written like start and not lie before it")
    return _Row(line, start_s, end_s, name, (cells.get("node") or "").strip(), dated)


def _time(where: str, column: str, text: str) -> tuple[float, bool]:
    """Seconds since the start of the record or, of a date, since 1970 (UTC unless it says otherwise)."""
    try:
        return parse_quantity(text.strip(), "time"), False
    except QuantityError:
        pass
    try:
        stamp = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputError(f"{where}: {column} = {text!r} is not allowed; it must be {COLUMNS[column]}") from None
    return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp(), True
