"""Running a sweep: what is finished already, what is left, and the table of both."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simtrain.errors import InputError, ScenarioError
from simtrain.sweep.grid import Grid
from simtrain.sweep.journal import Journal, digest_of
from simtrain.sweep.table import Row, Table
from simtrain.sweep.workers import Job, cores, work

__all__ = ["Watcher", "run_sweep"]


class Watcher:
    """Told how a sweep goes on; these methods do nothing, a subclass may."""

    def opened(self, kept: int, stale: int, total: int) -> None:
        """``kept`` of ``total`` points are in the journal, and ``stale`` rows that no longer belong to it."""

    def advanced(self, table: Table, more: int) -> None:
        """``more`` points are finished; ``table`` has a row for each."""


@dataclass(frozen=True, slots=True)
class _Point:
    """A point by what decides its row; ``error`` where it is no scenario at all."""

    values: Mapping[str, Any]
    digest: str = ""
    error: str = ""


def run_sweep(
    grid: Grid,
    *,
    workers: int | None = None,
    journal: Path | None = None,
    fresh: bool = False,
    watcher: Watcher | None = None,
) -> Table:
    """Work out every point of a grid; the table does not depend on ``workers``.

    Args:
        grid: see :func:`simtrain.sweep.grid.load_sweep`.
        workers: processes; absent: one for each core.
        journal: file in which finished rows are kept; rows that are there already are not worked out again.
        fresh: forget what the journal holds.
        watcher: told how it goes on.

    Raises:
        InputError: a value of an axis that no point can have; the journal cannot be used; no workers.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers = {workers} is not allowed; it must be at least 1")
    watcher = watcher or Watcher()
    points = _points(grid)
    with ExitStack() as stack:
        book = stack.enter_context(Journal(journal)) if journal else None
        rows = _kept(points, book, fresh, watcher)
        unreadable = [point for point in points if point.error]
        watcher.advanced(_table(grid, unreadable, {}), len(unreadable))
        pending: dict[str, list[_Point]] = {}
        for point in points:
            if point.digest and point.digest not in rows:
                pending.setdefault(point.digest, []).append(point)
        batches = stack.enter_context(closing(work(_jobs(grid, pending), len(pending), workers or cores())))
        for batch in batches:
            if book:
                book.add({digest: outcome.row for digest, outcome in batch if outcome.final})
            new = {digest: _lean(outcome.row) for digest, outcome in batch}
            rows |= new
            finished = [point for digest in new for point in pending[digest]]
            watcher.advanced(_table(grid, finished, new), len(finished))
        return _table(grid, points, rows)


def _points(grid: Grid) -> list[_Point]:
    """All points; a value with which not a single one can be read is an error of the input."""
    points = [_point(grid, values) for values in grid.points]
    readable = {(key, repr(value)) for point in points if point.digest for key, value in point.values.items()}
    for point in points:
        if any((key, repr(value)) not in readable for key, value in point.values.items()):
            raise ScenarioError(point.error)
    return points


def _point(grid: Grid, values: Mapping[str, Any]) -> _Point:
    try:
        return _Point(values, digest=digest_of(grid.scenario(values)))
    except InputError as error:
        return _Point(values, error=str(error))


def _jobs(grid: Grid, pending: Mapping[str, list[_Point]]) -> Iterator[Job]:
    """Scenarios are made again when their turn comes: a large grid of them would fill the memory."""
    for digest, (point, *_) in pending.items():
        yield digest, grid.scenario(point.values)


def _kept(points: list[_Point], book: Journal | None, fresh: bool, watcher: Watcher) -> dict[str, Row]:
    """Rows of the journal that are of these points; all others leave it."""
    wanted = {point.digest for point in points}
    found = book.rows() if book else {}
    kept = {} if fresh else {digest: _lean(row) for digest, row in found.items() if digest in wanted}
    if book and len(kept) < len(found):
        book.remove(found.keys() - kept.keys())
    known = sum(1 for point in points if point.digest in kept)
    watcher.opened(known, len(found) - len(kept), len(points))
    return kept


def _lean(row: Mapping[str, Any]) -> Row:
    """The row with names that all rows share: of a large grid copies of them would fill the memory."""
    return {sys.intern(name): value for name, value in row.items()}


def _table(grid: Grid, points: Iterable[_Point], rows: Mapping[str, Row]) -> Table:
    return Table(grid.sweep.title, grid.axes, tuple(_row(point, rows) for point in points))


def _row(point: _Point, rows: Mapping[str, Row]) -> Row:
    row = {"error": point.error} if point.error else rows[point.digest]
    return {**point.values, **row, "error": row.get("error")}
