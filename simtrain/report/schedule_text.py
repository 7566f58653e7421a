"""Schedules in the terminal: a table that puts them side by side, and a picture with one row per rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from simtrain.quantities import format_quantity
from simtrain.report.palette import INK
from simtrain.report.schedule_bars import COLORS, LABELS, SlotBars, color, common_time, headline, ink, number, slot_bars
from simtrain.schedules.order import Action
from simtrain.step.schedule import ScheduleReport

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

__all__ = ["schedule_header", "schedule_picture", "schedule_pictures", "schedule_rows", "schedule_table"]

_IDLE = "·"


def schedule_header(chunk_bytes: float | None = None) -> tuple[str, ...]:
    """Titles of the columns of :func:`schedule_rows`."""
    return (
        *("schedule", "P", "V", "M", "makespan", "makespan / V", "bubble", "span bubble"),
        *("peak chunks", "peak stages", "freed at I", "copies", "sends"),
        *(() if chunk_bytes is None else ("peak",)),
    )


def schedule_rows(reports: Sequence[ScheduleReport], chunk_bytes: float | None = None) -> list[tuple[str, ...]]:
    """One row per schedule.

    ``span bubble`` is the idle time of the worst rank between its first start and its last end; ``peak`` the most
    activations alive on the worst rank, kept until the weight gradient, as chunks and as stages of V chunks,
    and as stages if the backward for inputs freed them; ``copies`` how often the parameters are held; ``sends``
    activations and gradients that cross ranks, per micro batch.  With ``chunk_bytes``, the activations of one chunk
    of one micro batch, the peak also in bytes.
    """
    return [_row(report, chunk_bytes) for report in reports]


def _row(report: ScheduleReport, chunk_bytes: float | None) -> tuple[str, ...]:
    order, peak = report.order, max(report.peak_chunks)
    return (
        order.schedule,
        str(order.ranks),
        str(order.chunks),
        str(order.microbatches),
        number(report.makespan),
        number(report.makespan / order.chunks),
        f"{report.bubble_fraction:.1%}",
        number(max(report.idle_in_span)),
        str(peak),
        number(peak / order.chunks),
        number(max(report.peak_chunks_free_at_I) / order.chunks),
        "2x" if order.placement == "bidir" else "1x",
        number(report.sends),
        *(() if chunk_bytes is None else (format_quantity(peak * chunk_bytes, "bytes"),)),
    )


def schedule_table(reports: Sequence[ScheduleReport], chunk_bytes: float | None = None) -> Table:
    """The rows of :func:`schedule_rows` for the terminal."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for i, title in enumerate(schedule_header(chunk_bytes)):
        table.add_column(title, justify="right" if i else "left", no_wrap=not i)
    for row in schedule_rows(reports, chunk_bytes):
        table.add_row(*row)
    return table


def schedule_picture(
    report: ScheduleReport, scale_makespan: float | None = None, width: int = 118, unit: float = 1.0
) -> Group:
    """One line per rank: letter and micro batch of every slot on its colour, idle time as dots.

    Args:
        report: an evaluated schedule.
        scale_makespan: time that fills the width, so that several pictures share an axis; absent: its makespan.
        width: characters of a line.
        unit: what the common axis divides this schedule's times by.
    """
    from rich.console import Group
    from rich.text import Text

    drawn, columns = slot_bars(report), _columns([report], width)
    whole = scale_makespan or _snapped([drawn], (1.0,), report.makespan or 1.0, columns)
    cell = whole / columns
    lines = [Text(headline(report, unit), style="bold")]
    for rank in range(report.order.ranks):
        line = Text(_label(rank, report), no_wrap=True, overflow="crop")
        lines.append(line + _line(drawn, np.flatnonzero(drawn.rank == rank).tolist(), report.makespan, cell))
    return Group(*lines, _legend(drawn))


def schedule_pictures(reports: Sequence[ScheduleReport], width: int = 118) -> Group:
    """Pictures one below the other on a common axis."""
    from rich.console import Group

    whole, units = common_time(reports)
    whole = _snapped([slot_bars(report) for report in reports], units, whole, _columns(reports, width))
    drawn = zip(reports, units, strict=True)
    return Group(*(schedule_picture(each, whole * unit, width, unit) for each, unit in drawn))


def _label(rank: int, report: ScheduleReport) -> str:
    return f"rank {rank} ".rjust(len(f"rank {report.order.ranks - 1} "))


def _columns(reports: Sequence[ScheduleReport], width: int) -> int:
    """Characters beside the longest label."""
    return max(width - max(len(_label(0, report)) for report in reports), 8)


def _snapped(drawn: Sequence[SlotBars], units: Sequence[float], whole: float, columns: int) -> float:
    """Time that fills the columns, at least ``whole``, such that the shortest slot is whole characters if it can."""
    shortest = min((bars.end - bars.start).min(initial=np.inf) / unit for bars, unit in zip(drawn, units, strict=True))
    per_slot = int(columns * shortest / whole * (1 + 1e-9)) if np.isfinite(shortest) else 0
    return float(shortest / per_slot * columns) if per_slot else whole


def _line(drawn: SlotBars, slots: list[int], makespan: float, cell: float) -> Text:
    from rich.text import Text

    line, at = Text(), 0
    for slot in slots:
        begin, end = round(drawn.start[slot] / cell), round(drawn.end[slot] / cell)
        if end <= at:  # too short to be seen at this scale
            continue
        begin = max(begin, at)
        line.append(_IDLE * (begin - at), style="dim")
        line.append(_slot(drawn, slot, end - begin))
        at = end
    return line.append(_IDLE * (round(makespan / cell) - at), style="dim")


def _slot(drawn: SlotBars, slot: int, cells: int) -> Text:
    """The cells of one slot; an X has the colours of its forward and of its backward."""
    from rich.text import Text

    kind, forward, group = Action(drawn.kind[slot]), str(drawn.microbatch[slot]), int(drawn.group[slot])
    if kind is Action.X:
        pair = f"{forward}+{drawn.back_microbatch[slot]}"
        text = Text(_fitting((f"X{pair}", pair, forward, forward[-1]), cells))
        text.stylize(f"{ink(Action.F, group)} on {color(Action.F, group, drawn.groups)}")
        back = int(drawn.back_group[slot])
        text.stylize(f"{ink(Action.B, back)} on {color(Action.B, back, drawn.groups)}", (cells + 1) // 2)
        return text
    style = f"{ink(kind, group)} on {color(kind, group, drawn.groups)}"
    return Text(_fitting((f"{kind.name}{forward}", forward, forward[-1]), cells), style=style)


def _fitting(labels: Sequence[str], cells: int) -> str:
    """The first label that leaves room, padded; the last one always fits."""
    fits = [label for label in labels[:-1] if len(label) < cells or len(label) == cells <= 2]
    return (fits[0] if fits else labels[-1]).ljust(cells)


def _legend(drawn: SlotBars) -> Text:
    from rich.text import Text

    line = Text()
    for kind in Action:
        if (drawn.kind == kind).any():
            line.append(f" {kind.name} ", style=f"{INK if kind is Action.I else '#FFFFFF'} on {COLORS[kind]}")
            line.append(f" {LABELS[kind][2:]} ")
    if drawn.groups > 1:
        line.append("lighter: later chunk, other direction  ")
    return line.append(f"{_IDLE} idle", style="dim")
