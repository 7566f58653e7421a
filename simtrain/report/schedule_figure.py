"""Pipeline schedules as a plotly figure: one bubble timeline per schedule on a common axis, and memory below each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from simtrain.report.frame import framed
from simtrain.report.palette import IDLE, STYLES, Kind
from simtrain.report.schedule_bars import (
    COLORS,
    LABELS,
    SlotBars,
    color,
    common_time,
    headline,
    ink,
    number,
    slot_bars,
    time_title,
)
from simtrain.schedules.order import Action
from simtrain.step.schedule import ScheduleReport, live_chunks

__all__ = ["MAX_BARS", "schedule_figure"]

MAX_BARS = 12_000
"""More rectangles than this in one figure make a browser slow; the largest schedules are then drawn as pictures."""
MAX_NUMBERS = 4_000
"""Micro batch numbers are written into the bars up to this many."""
MAX_CURVES = 16
COLUMNS = 3000
_GAP_PX, _FRAME_PX, _MEMORY_PX = 46, 190, 130
_PATTERNS = {
    Action.F: "",
    Action.I: STYLES[Kind.BACKWARD_INPUT].pattern,
    Action.W: STYLES[Kind.BACKWARD_WEIGHT].pattern,
    Action.B: STYLES[Kind.BACKWARD].pattern,
    Action.X: "",
}

Floats = NDArray[np.float64]


def schedule_figure(
    reports: Sequence[ScheduleReport], *, memory: bool = False, free_at: str = "W", chunk_bytes: float | None = None
) -> go.Figure:
    """Draw schedules one below the other, rank 0 on top, all on one time axis.

    A schedule of many slots is drawn as a picture; the others have a bar per slot, with stage, micro batch, start and
    end where the pointer rests.  An X has its forward in the upper and its backward in the lower half.

    Args:
        reports: evaluated schedules; times of those with other V are divided by V, and the axis says so.
        memory: below each, the activations alive on every rank over time.
        free_at: ``W`` (activations are kept for the weight gradient) or ``I``.
        chunk_bytes: activations of one chunk of one micro batch; absent: memory is shown in stages of V chunks.
    """
    whole, units = common_time(reports)
    each = 2 if memory else 1
    heights = [px for report in reports for px in ((_rows_px(report), _MEMORY_PX) if memory else (_rows_px(report),))]
    total_px = sum(heights) + _GAP_PX * (len(heights) - 1)
    figure = make_subplots(
        rows=len(heights),
        cols=1,
        shared_xaxes=True,
        row_heights=heights,
        vertical_spacing=_GAP_PX / total_px if len(heights) > 1 else None,
        subplot_titles=[
            text
            for report, unit in zip(reports, units, strict=True)
            for text in _titles(report, unit, memory=memory, free_at=free_at, in_bytes=chunk_bytes is not None)
        ],
    )
    drawn = [slot_bars(report) for report in reports]
    as_picture = _pictures(drawn)
    for i, (report, bars, unit) in enumerate(zip(reports, drawn, units, strict=True)):
        length = whole if as_picture[i] else report.makespan / unit
        _timeline(figure, bars, length, unit, as_picture=as_picture[i], row=1 + each * i)
        if memory:
            scale = 1.0 / report.order.chunks if chunk_bytes is None else chunk_bytes / 2.0**30
            _memory(figure, report, unit, scale, free_at, row=2 + each * i)
    _legend(figure, drawn)
    if not any(as_picture) and sum(map(len, drawn)) <= MAX_NUMBERS:
        figure.update_layout(uniformtext={"minsize": 8, "mode": "hide"})
    name = "Pipeline schedule" if len(reports) == 1 else "Pipeline schedules on a common axis"
    framed(figure, name, _subtitle(drawn, as_picture), total_px + _FRAME_PX)
    figure.update_layout(barmode="overlay", bargap=0, margin_t=120)
    figure.update_annotations(x=0.0, xanchor="left", font_size=13, yshift=2)
    figure.update_xaxes(range=[0.0, whole * 1.002], showgrid=False)
    figure.update_xaxes(title_text=time_title(reports), row=len(heights))
    return figure


def _rows_px(report: ScheduleReport) -> int:
    ranks = report.order.ranks
    paired = any((actions[:, 0] == Action.X).any() for actions in report.order.actions)
    return int(max(60.0, ranks * min(36.0 if paired else 26.0, max(5.0, 640.0 / ranks))))


def _titles(report: ScheduleReport, unit: float, *, memory: bool, free_at: str, in_bytes: bool) -> tuple[str, ...]:
    freed = "weight gradient" if free_at == "W" else "backward for inputs"
    unit_of_memory = "GiB" if in_bytes else "stages"
    below = f"activations alive, in {unit_of_memory}; freed after the {freed}; dark: first rank, light: last"
    return (f"<b>{headline(report, unit)}</b>", below) if memory else (f"<b>{headline(report, unit)}</b>",)


def _subtitle(drawn: Sequence[SlotBars], as_picture: Sequence[bool]) -> str:
    said = []
    if any((bars.kind == Action.X).any() for bars in drawn):
        said.append("Paired slots: forward in the upper half, backward in the lower.")
    if any(bars.groups > 1 for bars in drawn):
        said.append("Lighter: later model chunks, or the second direction.")
    if any(as_picture):
        said.append(f"Large schedules are pictures of {COLUMNS:,} columns.")
    return " ".join(said)


def _pictures(drawn: Sequence[SlotBars]) -> list[bool]:
    """Which schedules are drawn as pictures: the largest, until the others fit into :data:`MAX_BARS`."""
    chosen = [False] * len(drawn)
    left = sum(map(len, drawn))
    for i in sorted(range(len(drawn)), key=lambda i: -len(drawn[i])):
        if left <= MAX_BARS:
            break
        chosen[i] = True
        left -= len(drawn[i])
    return chosen


def _timeline(figure: go.Figure, bars: SlotBars, length: float, unit: float, *, as_picture: bool, row: int) -> None:
    for trace in [_picture(bars, length, unit)] if as_picture else _traces(bars, length, unit):
        figure.add_trace(trace, row=row, col=1)
    every = -(-bars.ranks // 16)
    ranks = list(range(0, bars.ranks, every))
    figure.update_yaxes(
        tickvals=ranks,
        ticktext=[f"rank {rank}" for rank in ranks],
        range=[bars.ranks - 0.5, -0.5],
        showgrid=False,
        row=row,
        col=1,
    )


def _traces(bars: SlotBars, length: float, unit: float) -> Iterator[go.Bar]:
    yield _bar("idle", np.arange(bars.ranks), np.zeros(bars.ranks), np.full(bars.ranks, length), marker={"color": IDLE})
    for kind in Action:
        chosen = np.flatnonzero(bars.kind == kind)
        if len(chosen):
            yield _halves(bars, chosen, unit) if kind is Action.X else _slots(bars, chosen, kind, unit)


def _slots(bars: SlotBars, chosen: NDArray[np.intp], kind: Action, unit: float) -> go.Bar:
    groups = bars.group[chosen].tolist()
    return _bar(
        kind.name,
        bars.rank[chosen],
        bars.start[chosen] / unit,
        (bars.end - bars.start)[chosen] / unit,
        marker=_marker([color(kind, group, bars.groups) for group in groups], _PATTERNS[kind]),
        hovertext=[_hover(bars, slot, kind.name, int(bars.stage[slot]), int(bars.microbatch[slot])) for slot in chosen],
        text=_numbers(bars, bars.microbatch[chosen]),
        textfont={"color": [ink(kind, group) for group in groups], "size": 11},
    )


def _halves(bars: SlotBars, chosen: NDArray[np.intp], unit: float) -> go.Bar:
    """Every X as two thin bars: its forward above its backward, each in its own colour."""
    both = np.concatenate([chosen, chosen])
    groups = [*bars.group[chosen].tolist(), *bars.back_group[chosen].tolist()]
    kinds = [Action.F] * len(chosen) + [Action.B] * len(chosen)
    stages = np.concatenate([bars.stage[chosen], bars.back_stage[chosen]])
    microbatches = np.concatenate([bars.microbatch[chosen], bars.back_microbatch[chosen]])
    shift = np.repeat([-0.22, 0.22], len(chosen))
    names = [f"X, its {LABELS[kind][2:]}:" for kind in kinds]
    return _bar(
        "X",
        bars.rank[both] + shift,
        bars.start[both] / unit,
        (bars.end - bars.start)[both] / unit,
        width=0.44,
        marker=_marker([color(*pair, bars.groups) for pair in zip(kinds, groups, strict=True)], ""),
        hovertext=[
            _hover(bars, *each) for each in zip(both, names, stages.tolist(), microbatches.tolist(), strict=True)
        ],
        text=_numbers(bars, microbatches),
        textfont={"color": [ink(*pair) for pair in zip(kinds, groups, strict=True)], "size": 10},
    )


def _bar(name: str, y: Any, base: Floats, length: Floats, **more: Any) -> go.Bar:
    shown = {"hovertemplate": "%{hovertext}<extra></extra>"} if "hovertext" in more else {"hoverinfo": "skip"}
    settings: dict[str, Any] = {"width": 0.88, "textposition": "inside", "insidetextanchor": "middle", "textangle": 0}
    return go.Bar(
        name=name, orientation="h", y=y, base=base, x=length, showlegend=False, **(settings | shown | more)
    )  # fmt: skip


def _marker(colors: Sequence[str], pattern: str) -> dict[str, Any]:
    hatching = {"shape": pattern, "size": 7, "solidity": 0.1, "fgcolor": "#FFFFFF", "fillmode": "overlay"}
    edge = {"width": 0.6 if len(colors) <= MAX_NUMBERS else 0.0, "color": "#FFFFFF"}
    return {"color": list(colors), "line": edge, "pattern": hatching}


def _numbers(bars: SlotBars, microbatches: NDArray[np.int32]) -> list[str] | None:
    return [str(microbatch) for microbatch in microbatches.tolist()] if len(bars) <= MAX_NUMBERS else None


def _hover(bars: SlotBars, slot: int, name: str, stage: int, microbatch: int) -> str:
    begin, end = float(bars.start[slot]), float(bars.end[slot])
    times = f"{number(begin)} to {number(end)}, {number(end - begin)} long"
    return f"<b>{name} stage {stage}, micro batch {microbatch}</b><br>rank {bars.rank[slot]}, {times}"


def _picture(bars: SlotBars, whole: float, unit: float) -> go.Heatmap:
    """The kind that covers the middle of each of :data:`COLUMNS` columns."""
    middle = (np.arange(COLUMNS) + 0.5) * (whole / COLUMNS)
    start, end = bars.start / unit, bars.end / unit
    codes = np.full((bars.ranks, COLUMNS), -1, dtype=np.int8)
    for rank, (low, high) in enumerate(pairwise(np.searchsorted(bars.rank, np.arange(bars.ranks + 1)).tolist())):
        slot = low + np.searchsorted(start[low:high], middle, side="right") - 1
        hit = (slot >= low) & (end[slot] > middle)
        codes[rank, hit] = bars.kind[slot[hit]]
    colors = [IDLE, *COLORS.values()]
    edges = np.linspace(0.0, 1.0, len(colors) + 1)
    return go.Heatmap(
        z=codes,
        x0=whole / COLUMNS / 2,
        dx=whole / COLUMNS,
        colorscale=[[edges[i + side], each] for i, each in enumerate(colors) for side in (0, 1)],
        zmin=-1.5,
        zmax=max(Action) + 0.5,
        showscale=False,
        hovertemplate="%{y}, %{x}<extra></extra>",
    )


def _memory(figure: go.Figure, report: ScheduleReport, unit: float, scale: float, free_at: str, *, row: int) -> None:
    """Step curves of the activations alive, chunks times ``scale``, from dark (first rank) to light (last rank)."""
    ranks = report.order.ranks
    for rank in np.unique(np.linspace(0, ranks - 1, min(ranks, MAX_CURVES)).astype(int)).tolist():
        times, alive = live_chunks(report, rank, free_at=free_at)
        share = rank / max(ranks - 1, 1)
        shade = [round(a + (b - a) * share) for a, b in zip((0, 59, 102), (230, 159, 0), strict=True)]
        figure.add_trace(
            go.Scatter(
                name=f"rank {rank}",
                x=times / unit,
                y=alive * scale,
                mode="lines",
                line={"shape": "hv", "width": 1.5, "color": f"rgb({shade[0]},{shade[1]},{shade[2]})"},
                showlegend=False,
                hovertemplate=f"rank {rank}: %{{y:.6~g}}<extra></extra>",
            ),
            row=row,
            col=1,
        )
    figure.update_yaxes(rangemode="tozero", row=row, col=1)


def _legend(figure: go.Figure, drawn: Sequence[SlotBars]) -> None:
    """One entry per kind that is drawn, whatever its shades."""
    present = [kind for kind in Action if any((bars.kind == kind).any() for bars in drawn)]
    for kind in present:
        back = COLORS[Action.B] if kind is Action.X else "#FFFFFF"
        shape = "/" if kind is Action.X else _PATTERNS[kind]
        pattern = {"shape": shape, "size": 8, "solidity": 0.5 if kind is Action.X else 0.15, "fgcolor": back}
        first = COLORS[Action.F] if kind is Action.X else COLORS[kind]
        marker = {"color": first, "pattern": pattern | {"fillmode": "overlay"}}
        figure.add_trace(go.Bar(name=LABELS[kind], x=[None], y=[None], marker=marker, orientation="h"), row=1, col=1)
    figure.add_trace(
        go.Bar(name="idle (bubble)", x=[None], y=[None], marker={"color": IDLE}, orientation="h"), row=1, col=1
    )
