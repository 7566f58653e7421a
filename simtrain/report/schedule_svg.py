"""Pipeline schedules as a plain SVG drawing on a common axis: no dependency, the same bytes every time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from simtrain.report.html import write_text
from simtrain.report.palette import FONT, GRID, IDLE, INK
from simtrain.report.schedule_bars import (
    COLORS,
    LABELS,
    SlotBars,
    color,
    common_time,
    headline,
    ink,
    slot_bars,
    time_title,
)
from simtrain.report.svg_drawing import ticks
from simtrain.schedules.order import Action
from simtrain.step.schedule import ScheduleReport

__all__ = ["schedule_svg"]

_WIDTH, _LEFT, _RIGHT, _TOP, _GAP = 1200.0, 80.0, 24.0, 16.0, 44.0


def schedule_svg(reports: Sequence[ScheduleReport], path: str | Path | None = None) -> str:
    """Draw schedules one below the other; write the drawing to ``path`` when one is given.

    Args:
        reports: evaluated schedules; times of those with other V are divided by V, and the axis says so.
        path: file to write, complete or not at all.

    Returns:
        The SVG document.
    """
    whole, units = common_time(reports)
    drawn = [slot_bars(report) for report in reports]
    lines: list[str] = []
    y = _TOP
    for report, bars, unit in zip(reports, drawn, units, strict=True):
        y += _GAP - 16
        lines.append(f'<text x="{_LEFT:g}" y="{y - 7:g}" font-weight="bold">{escape(headline(report, unit))}</text>')
        lines += _rows(bars, y, (_WIDTH - _LEFT - _RIGHT) / (whole * unit), report.makespan)
        y += bars.ranks * _row_height(bars) + 16
    lines += _axis(whole, time_title(reports), y - 12)
    lines += _legend(drawn, y + 36)
    height = y + 64
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH:g}" height="{height:g}" '
        f'viewBox="0 0 {_WIDTH:g} {height:g}" font-family="{escape(FONT)}" font-size="12" fill="{INK}">\n'
        f'<rect width="{_WIDTH:g}" height="{height:g}" fill="#FFFFFF"/>'
    )
    text = "\n".join([head, *lines, "</svg>", ""])
    if path is not None:
        write_text(path, text)
    return text


def _row_height(bars: SlotBars) -> float:
    return max(4.0, min(24.0, 640.0 / bars.ranks))


def _rows(bars: SlotBars, top: float, scale: float, makespan: float) -> Iterator[str]:
    row = _row_height(bars)
    for rank in range(bars.ranks):
        y = top + rank * row
        if row >= 12 or rank % 8 == 0:
            yield f'<text x="{_LEFT - 8:g}" y="{y + row / 2 + 4:g}" text-anchor="end">rank {rank}</text>'
        yield f'<rect x="{_LEFT:g}" y="{y:g}" width="{makespan * scale:.3f}" height="{0.88 * row:g}" fill="{IDLE}"/>'
    for slot in range(len(bars)):
        x, width = _LEFT + bars.start[slot] * scale, (bars.end[slot] - bars.start[slot]) * scale
        y, kind = top + bars.rank[slot] * row, Action(bars.kind[slot])
        microbatch, group = int(bars.microbatch[slot]), int(bars.group[slot])
        if kind is not Action.X:
            yield from _slot(bars, kind, group, microbatch, (x, y, width, 0.88 * row))
            continue
        back = int(bars.back_microbatch[slot]), int(bars.back_group[slot])
        yield from _slot(bars, Action.F, group, microbatch, (x, y, width, 0.44 * row), paired=True)
        yield from _slot(bars, Action.B, back[1], back[0], (x, y + 0.44 * row, width, 0.44 * row), paired=True)


def _slot(
    bars: SlotBars,
    kind: Action,
    group: int,
    microbatch: int,
    box: tuple[float, float, float, float],
    *,
    paired: bool = False,
) -> Iterator[str]:
    x, y, width, height = box
    edge = ' stroke="#FFFFFF" stroke-width="0.5"' if width > 3 else ""
    name = f"x {kind.name.lower()}" if paired else kind.name.lower()
    yield (
        f'<rect class="{name}" x="{x:.3f}" y="{y:g}" width="{width:.3f}" height="{height:g}" '
        f'fill="{color(kind, group, bars.groups)}"{edge}/>'
    )
    size = min(10.0, height - 1)
    if size >= 7 and width > size * 0.62 * len(str(microbatch)) + 2:
        yield (
            f'<text x="{x + width / 2:.3f}" y="{y + height / 2 + 0.36 * size:.3f}" text-anchor="middle" '
            f'font-size="{size:g}" fill="{ink(kind, group)}">{microbatch}</text>'
        )


def _axis(whole: float, title: str, y: float) -> Iterator[str]:
    span = _WIDTH - _LEFT - _RIGHT
    yield f'<line x1="{_LEFT:g}" y1="{y:g}" x2="{_WIDTH - _RIGHT:g}" y2="{y:g}" stroke="{GRID}"/>'
    for tick in ticks(whole):
        x = _LEFT + span * tick / whole
        yield f'<line x1="{x:.3f}" y1="{y:g}" x2="{x:.3f}" y2="{y + 5:g}" stroke="{INK}"/>'
        yield f'<text x="{x:.3f}" y="{y + 18:g}" text-anchor="middle">{tick:g}</text>'
    yield f'<text x="{_LEFT + span / 2:g}" y="{y + 36:g}" text-anchor="middle">{escape(title)}</text>'


def _legend(drawn: Sequence[SlotBars], y: float) -> Iterator[str]:
    present = [kind for kind in Action if any((bars.kind == kind).any() for bars in drawn)]
    x = _LEFT
    for label, upper, lower in [
        *((LABELS[kind], COLORS[kind], COLORS[kind]) for kind in present if kind is not Action.X),
        *((LABELS[kind], COLORS[Action.F], COLORS[Action.B]) for kind in present if kind is Action.X),
        ("idle (bubble)", IDLE, IDLE),
    ]:
        yield f'<rect x="{x:g}" y="{y:g}" width="12" height="6" fill="{upper}"/>'
        yield f'<rect x="{x:g}" y="{y + 6:g}" width="12" height="6" fill="{lower}"/>'
        yield f'<text x="{x + 17:g}" y="{y + 10:g}">{label}</text>'
        x += 40 + 6.6 * len(label)
