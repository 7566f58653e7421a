"""The bubble timeline as a plain SVG drawing: the same bars, no dependency, the same bytes every time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simtrain.program.program import Stream
from simtrain.program.timeline import Timeline
from simtrain.report.bars import Bars, Detail, bars, timeline_of
from simtrain.report.html import write_text
from simtrain.report.palette import FONT, GRID, IDLE, INK, STYLES, Kind
from simtrain.report.timeline_figure import row_label, summary

if TYPE_CHECKING:
    from simtrain.step.report import StepReport

__all__ = ["svg", "ticks"]

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW, _BAR = 1200.0, 96.0, 24.0, 56.0, 30.0, 24.0


def svg(
    source: StepReport | Timeline,
    path: str | Path | None = None,
    *,
    detail: Detail = "action",
    ranks: Sequence[int] | None = None,
    title: str | None = None,
) -> str:
    """Draw the compute lanes; write the drawing to ``path`` when one is given.

    Args:
        source: a step or its Timeline.
        path: file to write, complete or not at all.
        detail: one bar per pipeline action or per operation.
        ranks: simulated ranks, top to bottom; absent: the first of every pipeline rank.
        title: first line; absent: step time, bubble and MFU.

    Returns:
        The SVG document.
    """
    drawn = bars(source, streams=(Stream.COMPUTE,), ranks=ranks, detail=detail)
    whole_s = timeline_of(source).makespan_s
    lines = [*_head(drawn, title or summary(source)), *_bars(drawn, whole_s), *_axis(drawn, whole_s), *_legend(drawn)]
    text = "\n".join([*lines, "</svg>", ""])
    if path is not None:
        write_text(path, text)
    return text


def _bottom(drawn: Bars) -> float:
    return _TOP + _ROW * len(drawn.rows)


def _head(drawn: Bars, title: str) -> Iterator[str]:
    height = _bottom(drawn) + 84
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH:g}" height="{height:g}" '
        f'viewBox="0 0 {_WIDTH:g} {height:g}" font-family="{escape(FONT)}" font-size="12" fill="{INK}">'
    )
    yield f'<rect width="{_WIDTH:g}" height="{height:g}" fill="#FFFFFF"/>'
    yield f'<text x="16" y="30" font-size="17" font-weight="bold">{escape(title)}</text>'


def _bars(drawn: Bars, whole_s: float) -> Iterator[str]:
    scale = (_WIDTH - _LEFT - _RIGHT) / max(whole_s, 1e-300)
    for i, row in enumerate(drawn.rows):
        y = _TOP + i * _ROW
        yield f'<text x="{_LEFT - 8:g}" y="{y + 16:g}" text-anchor="end">{escape(row_label(row, drawn.rows))}</text>'
        yield f'<rect x="{_LEFT:g}" y="{y:g}" width="{whole_s * scale:.6f}" height="{_BAR:g}" fill="{IDLE}"/>'
    for i in range(len(drawn)):
        style = STYLES[Kind(drawn.kind[i])]
        x, width = _LEFT + drawn.start_s[i] * scale, (drawn.end_s[i] - drawn.start_s[i]) * scale
        y = _TOP + drawn.row[i] * _ROW
        edge = ' stroke="#FFFFFF" stroke-width="0.6"' if width > 3 else ""
        yield (
            f'<rect class="{Kind(drawn.kind[i]).name.lower()}" x="{x:.6f}" y="{y:g}" width="{width:.6f}" '
            f'height="{_BAR:g}" fill="{style.color}"{edge}/>'
        )
        if width > 22 and drawn.microbatch[i] >= 0:
            ink = INK if drawn.kind[i] in (Kind.RECOMPUTE, Kind.BACKWARD_INPUT) else "#FFFFFF"
            label = f"{style.letter}{drawn.microbatch[i]}"
            middle = f'x="{x + width / 2:.3f}" y="{y + 16:g}"'
            yield f'<text {middle} text-anchor="middle" font-size="10" fill="{ink}">{label}</text>'


def _axis(drawn: Bars, whole_s: float) -> Iterator[str]:
    y = _bottom(drawn) + 2
    span = _WIDTH - _LEFT - _RIGHT
    yield f'<line x1="{_LEFT:g}" y1="{y:g}" x2="{_WIDTH - _RIGHT:g}" y2="{y:g}" stroke="{GRID}"/>'
    for tick_ms in ticks(whole_s * 1e3):
        x = _LEFT + span * tick_ms / (whole_s * 1e3)
        yield f'<line x1="{x:.3f}" y1="{y:g}" x2="{x:.3f}" y2="{y + 5:g}" stroke="{INK}"/>'
        yield f'<text x="{x:.3f}" y="{y + 18:g}" text-anchor="middle">{tick_ms:g}</text>'
    yield f'<text x="{_LEFT + span / 2:g}" y="{y + 36:g}" text-anchor="middle">time (ms)</text>'


def ticks(whole: float) -> list[float]:
    """About eight round numbers from 0 up to ``whole``."""
    if whole <= 0.0:
        return []
    power = 10.0 ** np.floor(np.log10(whole / 8))
    step = float(next(power * m for m in (1, 2, 5, 10) if whole / (power * m) <= 8))
    return [float(f"{i * step:.12g}") for i in range(int(whole / step) + 1)]


def _legend(drawn: Bars) -> Iterator[str]:
    x, y = _LEFT, _bottom(drawn) + 58
    entries = [(STYLES[kind].label, STYLES[kind].color) for kind in Kind if (drawn.kind == kind).any()]
    for label, color in [("idle (bubble)", IDLE), *entries]:
        yield f'<rect x="{x:g}" y="{y:g}" width="12" height="12" fill="{color}"/>'
        yield f'<text x="{x + 17:g}" y="{y + 10:g}">{label}</text>'
        x += 40 + 6.6 * len(label)
