"""The bubble timeline: what every pipeline rank does, and when it does nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from simtrain.program.program import Stream
from simtrain.program.timeline import Timeline
from simtrain.quantities import format_quantity
from simtrain.report.bars import Bars, Row, bars, one_rank_per_stage, timeline_of
from simtrain.report.frame import framed
from simtrain.report.palette import IDLE, INK, STYLES, Kind, lighten

if TYPE_CHECKING:
    from simtrain.step.report import StepReport

__all__ = ["COLUMNS", "MAX_BARS", "raster", "row_label", "summary", "timeline"]

MAX_BARS = 10_000
"""More rectangles than this make a browser slow; beyond it an overview picture takes over."""
COLUMNS = 4000
"""Columns of the overview picture."""
MAX_SAMPLE_RANKS = 16
"""Ranks drawn as bars under an overview picture."""
OVERVIEW_PX = 260
FRAME_PX = 172
"""Pixels of a figure that title, axis title and legend take."""
MAX_NUMBERS = 600
"""Micro batch numbers are written into the bars up to this many."""

Lanes = Literal["compute", "all"]
Floats = NDArray[np.float64]

_HOVER = (
    "<b>%{hovertext}</b><br>%{customdata[0]:.3f} ms, from %{base:.3f} ms"
    "<br>running %{customdata[1]:.3f} ms (recomputation %{customdata[2]:.3f} ms), operations: %{customdata[3]:d}"
    "<extra></extra>"
)


def timeline(
    source: StepReport | Timeline,
    *,
    detail: Literal["auto", "action", "operation"] = "auto",
    ranks: Sequence[int] | None = None,
    lanes: Lanes = "compute",
    title: str | None = None,
) -> go.Figure:
    """Draw a step: one row per pipeline rank, rank 0 on top, time in milliseconds.

    Args:
        source: a step or its Timeline.
        detail: ``action`` one bar per pipeline action, ``operation`` one per operation; ``auto`` shows operations
            when a single rank is asked for, and actions otherwise.
        ranks: simulated ranks to draw; absent: the first of every pipeline rank.
        lanes: ``all`` adds a thin row for every other stream that is used.
        title: first line; absent: step time, bubble and MFU.

    Raises:
        InputError: a rank does not exist.
    """
    if detail == "auto":
        detail = "operation" if ranks is not None and len(ranks) == 1 else "action"
    streams = (Stream.COMPUTE,) if lanes == "compute" else tuple(Stream)
    drawn = bars(source, streams=streams, ranks=ranks, detail=detail)
    whole_s = timeline_of(source).makespan_s
    notes = [_rows_note(timeline_of(source), ranks), _reading_note(drawn)]
    if len(drawn) <= MAX_BARS:
        figure = go.Figure()
        _draw(figure, drawn, whole_s)
        height = _height(drawn.rows)
    else:
        figure, note, height = _overview_and_sample(drawn, whole_s)
        notes.append(note)
    figure.update_layout(barmode="overlay", bargap=0)
    framed(figure, title or summary(source), _lines(notes), height)
    return figure


def summary(source: StepReport | Timeline) -> str:
    """Step time, bubble and MFU in one line; of a bare Timeline the share of compute lanes that is idle."""
    if not isinstance(source, Timeline):
        rates = f"bubble {source.bubble_fraction:.1%} · MFU {source.mfu:.1%}"
        name = source.scenario.title or source.scenario.name
        return " · ".join(filter(None, (name, f"step {format_quantity(source.time_s, 'time')}", rates)))
    drawn = bars(source)
    idle = 1.0 - drawn.busy_s.sum() / max(source.makespan_s * len(drawn.rows), 1e-300)
    return f"step {format_quantity(source.makespan_s, 'time')} · compute idle {idle:.1%}"


def row_label(row: Row, rows: Sequence[Row]) -> str:
    """``rank 3``; with several simulated ranks of one pipeline rank also which of them; other streams by name."""
    if row.stream is not Stream.COMPUTE:
        return row.stream.name.lower().replace("_", " ")
    same = {other.rank for other in rows if other.stage == row.stage}
    return f"rank {row.stage}" if len(same) == 1 else f"rank {row.stage} (GPU {row.rank})"


def raster(drawn: Bars, whole_s: float, columns: int = COLUMNS) -> NDArray[np.int8]:
    """The kind that covers the middle of every column, (rows, columns); -1 where idle."""
    middle = (np.arange(columns) + 0.5) * (whole_s / columns)
    picture = np.full((len(drawn.rows), columns), -1, dtype=np.int8)
    edges = np.searchsorted(drawn.row, np.arange(len(drawn.rows) + 1))
    for row, (low, high) in enumerate(pairwise(edges.tolist())):
        if low == high:
            continue
        bar = low + np.searchsorted(drawn.start_s[low:high], middle, side="right") - 1
        hit = (bar >= low) & (drawn.end_s[bar] > middle)
        picture[row, hit] = drawn.kind[bar[hit]]
    return picture


def _lines(notes: Sequence[str], width: int = 150) -> str:
    """The notes on one line, or on two where they are long."""
    said = [note for note in notes if note]
    return " ".join(said) if sum(map(len, said)) <= width else f"{' '.join(said[:-1])}<br>{said[-1]}"


def _rows_note(timeline: Timeline, ranks: Sequence[int] | None) -> str:
    program = timeline.program
    shown = one_rank_per_stage(program) if ranks is None else tuple(ranks)
    left_out = program.ranks - len(set(shown))
    gpus = sorted({int(program.multiplicity[rank]) for rank in shown})
    parts = []
    if gpus and gpus[-1] > 1:
        count = f"{gpus[0]:,}" if len(gpus) == 1 else f"{gpus[0]:,} to {gpus[-1]:,}"
        parts.append(f"Each row stands for {count} GPUs that behave alike.")
    if left_out:
        parts.append(f"{len(set(shown))} of {program.ranks} simulated ranks are shown.")
    return " ".join(parts)


def _reading_note(drawn: Bars) -> str:
    """How to read what is not plain: waits inside bars, chunks, faint bars."""
    waits = drawn.busy_s < (drawn.end_s - drawn.start_s) * (1 - 1e-9)
    moves = drawn.kind == Kind.COMMUNICATION
    notes = {
        "A bar spans a whole action, the waits inside it included.": (waits & ~moves).any(),
        "The fainter a communication bar, the more of it is idle.": (waits & moves).any(),
        "Lighter: later model chunks.": _chunk(drawn).max(initial=0) > 0,
    }
    return " ".join(note for note, applies in notes.items() if applies)


def _height(rows: Sequence[Row]) -> int:
    _, _, total = _positions(rows)
    return FRAME_PX + int(max(110, min(40.0, max(16.0, 900.0 / total)) * total))


def _positions(rows: Sequence[Row]) -> tuple[Floats, Floats, float]:
    """Centre and height of each row, and where the last one ends; lanes beside compute are thinner."""
    main = np.array([row.stream is Stream.COMPUTE for row in rows], dtype=bool)
    slot = np.where(main, 1.0, 0.42)
    first_of_rank = np.array([i > 0 and rows[i].rank != rows[i - 1].rank for i in range(len(rows))], dtype=bool)
    spread = np.where(first_of_rank & (not main.all()), 0.25, 0.0)
    top = np.cumsum(spread + slot) - slot
    return top + slot / 2, slot * np.where(main, 0.82, 0.8), float((top + slot)[-1]) if len(rows) else 1.0


def _draw(figure: go.Figure, drawn: Bars, whole_s: float, subplot: int | None = None) -> None:
    """Idle background, one trace per kind, micro batch numbers, axes."""
    place: dict[str, Any] = {} if subplot is None else {"row": subplot, "col": 1}
    centre, thick, total = _positions(drawn.rows)
    figure.add_trace(_idle(drawn, centre, thick, whole_s), **place)
    for kind in Kind:
        chosen = drawn.select(drawn.kind == kind)
        if len(chosen):
            figure.add_trace(_kind_trace(kind, chosen, drawn, centre, thick), **place)
    numbers = _numbers(drawn, centre, whole_s)
    if numbers is not None:
        figure.add_trace(numbers, **place)
    labels = [row_label(row, drawn.rows) for row in drawn.rows]
    figure.update_yaxes(
        tickvals=centre, ticktext=labels, range=[total, 0.0], showgrid=False, fixedrange=len(labels) < 40, **place
    )
    figure.update_xaxes(title_text="time (ms)", range=[0.0, whole_s * 1e3], showgrid=False, **place)


def _idle(drawn: Bars, centre: Floats, thick: Floats, whole_s: float) -> go.Bar:
    return go.Bar(
        name="idle (bubble)",
        orientation="h",
        y=centre,
        x=np.full(len(centre), whole_s * 1e3),
        base=np.zeros(len(centre)),
        width=thick,
        marker={"color": [IDLE if row.stream is Stream.COMPUTE else "#F3F4F6" for row in drawn.rows]},
        hoverinfo="skip",
        textposition="none",
    )


def _kind_trace(kind: Kind, chosen: Bars, drawn: Bars, centre: Floats, thick: Floats) -> go.Bar:
    return go.Bar(
        name=STYLES[kind].label,
        orientation="h",
        y=centre[chosen.row],
        base=chosen.start_s * 1e3,
        x=(chosen.end_s - chosen.start_s) * 1e3,
        width=thick[chosen.row],
        marker=_marker(kind, chosen, int(_chunk(drawn).max(initial=0))),
        hovertext=[_bar_text(chosen, i) for i in range(len(chosen))],
        customdata=np.stack(
            ((chosen.end_s - chosen.start_s) * 1e3, chosen.busy_s * 1e3, chosen.recompute_s * 1e3, chosen.operations),
            axis=1,
        ),
        hovertemplate=_HOVER,
        textposition="none",
    )


def _bar_text(drawn: Bars, bar: int) -> str:
    row = drawn.rows[drawn.row[bar]]
    parts = [drawn.label(bar)]
    for label, value in (("stage", drawn.stage[bar]), ("micro batch", drawn.microbatch[bar])):
        if value >= 0:
            parts.append(f"{label} {value}")
    return f"{', '.join(parts)}<br>rank {row.stage}, {row.stream.name.lower().replace('_', ' ')}"


def _chunk(drawn: Bars) -> NDArray[np.int32]:
    """Model chunk of each bar on its rank: how many pipeline lengths its stage lies behind the first."""
    stages = int(drawn.program.stage_of_rank.max(initial=0)) + 1
    return np.maximum(drawn.stage, 0) // stages


def _marker(kind: Kind, chosen: Bars, last_chunk: int) -> dict[str, Any]:
    style = STYLES[kind]
    # A white edge parts neighbours, but would paint over a bar of a pixel or two.
    length_s = chosen.end_s - chosen.start_s
    edge_px = np.where(length_s > 2e-3 * chosen.end_s.max(), 0.6 if len(chosen) < MAX_NUMBERS else 0.0, 0.0)
    pattern = {"shape": style.pattern, "size": 7, "solidity": 0.1, "fgcolor": "#FFFFFF", "fillmode": "overlay"}
    marker: dict[str, Any] = {"color": style.color, "line": {"width": edge_px, "color": "#FFFFFF"}, "pattern": pattern}
    if kind is Kind.COMMUNICATION:
        return marker | {"opacity": 0.25 + 0.75 * chosen.busy_s / length_s}
    if last_chunk == 0:
        return marker
    shades = np.array([lighten(style.color, 0.55 * chunk / last_chunk) for chunk in range(last_chunk + 1)])
    return marker | {"color": shades[_chunk(chosen)]}


def _numbers(drawn: Bars, centre: Floats, whole_s: float) -> go.Scatter | None:
    """Micro batch numbers inside the bars that are wide enough, unless most are too narrow or they are too many."""
    main = np.array([row.stream is Stream.COMPUTE for row in drawn.rows], dtype=bool)[drawn.row]
    wide = main & (drawn.microbatch >= 0) & (drawn.end_s - drawn.start_s > 0.014 * whole_s)
    if not (main & (drawn.microbatch >= 0)).sum() / 2 < wide.sum() <= MAX_NUMBERS:
        return None
    chosen = drawn.select(wide)
    dark = np.isin(chosen.kind, [Kind.RECOMPUTE, Kind.BACKWARD_INPUT]) | (_chunk(chosen) > 0)
    return go.Scatter(
        mode="text",
        x=(chosen.start_s + chosen.end_s) * 500.0,
        y=centre[chosen.row],
        text=chosen.microbatch.astype(str),
        textfont={"size": 11, "color": np.where(dark, INK, "#FFFFFF")},
        hoverinfo="skip",
        showlegend=False,
    )


def _overview_and_sample(drawn: Bars, whole_s: float) -> tuple[go.Figure, str, int]:
    """All ranks as a picture on top, below it bars of as many ranks as a browser can carry; a note, and the height."""
    sample, note, until_s = _sample(drawn, whole_s)
    bars_px = _height(sample.rows) - FRAME_PX
    shares = [OVERVIEW_PX, bars_px]
    figure = make_subplots(rows=2, cols=1, row_heights=shares, vertical_spacing=60 / (OVERVIEW_PX + bars_px + 60))
    main = [i for i, row in enumerate(drawn.rows) if row.stream is Stream.COMPUTE]
    figure.add_trace(_picture(_only_rows(drawn, main), whole_s), row=1, col=1)
    labels = [row_label(drawn.rows[i], drawn.rows) for i in main]
    every = -(-len(labels) // 12)
    ticks: dict[str, Any] = {"tickvals": np.arange(len(labels))[::every], "ticktext": labels[::every]}
    figure.update_yaxes(autorange="reversed", showgrid=False, **ticks, row=1, col=1)
    figure.update_xaxes(range=[0.0, whole_s * 1e3], showgrid=False, row=1, col=1)
    _draw(figure, sample, until_s, subplot=2)
    above = f"Top: compute of every rank as a picture, {whole_s * 1e3 / COLUMNS:.3g} ms per column. {note}"
    return figure, above, OVERVIEW_PX + 60 + bars_px + FRAME_PX


def _picture(drawn: Bars, whole_s: float) -> go.Heatmap:
    colors = [IDLE, *(STYLES[kind].color for kind in Kind)]
    edges = np.linspace(0.0, 1.0, len(colors) + 1)
    scale = [[edges[i + side], color] for i, color in enumerate(colors) for side in (0, 1)]
    step_ms = whole_s * 1e3 / COLUMNS
    return go.Heatmap(
        z=raster(drawn, whole_s),
        x0=step_ms / 2,
        dx=step_ms,
        colorscale=scale,
        zmin=-1.5,
        zmax=max(Kind) + 0.5,
        showscale=False,
        hovertemplate="%{y}, %{x:.3f} ms<extra></extra>",
    )


def _sample(drawn: Bars, whole_s: float) -> tuple[Bars, str, float]:
    """Bars of evenly spread ranks, or of the beginning of one; what was left out; and the time drawn."""
    ranks = np.array([row.rank for row in drawn.rows], dtype=np.int32)
    kinds, of_row = np.unique(ranks, return_inverse=True)
    keep = min(MAX_SAMPLE_RANKS, MAX_BARS // int(np.bincount(of_row[drawn.row]).max()))
    if keep:
        chosen = kinds[np.linspace(0, len(kinds) - 1, keep).astype(np.int32)]
        picked = _only_rows(drawn, np.flatnonzero(np.isin(ranks, chosen)).tolist())
        return picked, f"Bottom: bars of {len(set(chosen.tolist()))} of {len(kinds)} ranks.", whole_s
    first = _only_rows(drawn, np.flatnonzero(ranks == ranks[0]).tolist())
    until_s = float(np.sort(first.start_s)[MAX_BARS])
    early = first.select(first.start_s < until_s)
    note = f"Bottom: bars of 1 of {len(kinds)} ranks, its first {until_s * 1e3:,.1f} of {whole_s * 1e3:,.1f} ms."
    return early, note, until_s


def _only_rows(drawn: Bars, keep: Sequence[int]) -> Bars:
    """The bars of some rows, with the other rows taken out."""
    number = np.full(len(drawn.rows), -1, dtype=np.int32)
    number[list(keep)] = np.arange(len(keep))
    kept = drawn.select(number[drawn.row] >= 0)
    return replace(kept, rows=tuple(drawn.rows[i] for i in keep), row=number[kept.row])
