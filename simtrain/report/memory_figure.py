"""Memory of every pipeline rank: what lies there at the peak, and how it rises and falls over the step."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from simtrain.quantities import format_quantity
from simtrain.report.frame import framed
from simtrain.report.palette import INK
from simtrain.step.report import MemoryReport, StepReport

__all__ = ["memory"]

_GIB = 2.0**30
_PARTS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#979DA9", "#F0E442")
_HATCHES = ("", "/", ".", "x", "-", "|", "+", "\\")
MAX_CURVES = 16


def memory(source: StepReport | MemoryReport) -> go.Figure:
    """Stacked parts at the peak on the left, curves over the step on the right, capacity as a line in both."""
    report = source if isinstance(source, MemoryReport) else source.memory
    figure = make_subplots(
        rows=1,
        cols=2,
        column_widths=[0.42, 0.58],
        horizontal_spacing=0.09,
        subplot_titles=("at the peak, by part", "over the step"),
    )
    _draw_parts(figure, report)
    drawn = _draw_curves(figure, report)
    capacity = format_quantity(report.capacity_bytes, "bytes")
    worst = max(report.peak_bytes)
    rank = report.peak_bytes.index(worst)
    verdict = "fits" if report.fits else f"does not fit, {format_quantity(worst - report.capacity_bytes, 'bytes')} over"
    title = f"Memory: {format_quantity(worst, 'bytes')} of {capacity} on rank {rank} · {verdict}"
    ranks = len(report.peak_bytes)
    note = "" if drawn == ranks else f" Curves of {drawn} of {ranks} ranks."
    framed(figure, title, f"Worst GPU of each pipeline rank; the dashed line is what a GPU has.{note}", height=500)
    figure.update_layout(barmode="stack", bargap=0.25, margin_b=118, margin_t=108, legend_traceorder="normal")
    figure.add_hline(y=report.capacity_bytes / _GIB, line={"color": INK, "width": 2, "dash": "dash"})
    figure.update_yaxes(title_text="GiB", range=[0.0, max(report.capacity_bytes, *report.peak_bytes) / _GIB * 1.08])
    figure.update_annotations(font_size=13, yshift=6)
    figure.update_xaxes(title_text="pipeline rank", showgrid=False, col=1)
    figure.update_xaxes(tickmode="linear", dtick=max(1, ranks // 16), col=1)
    figure.update_xaxes(title_text="time (ms)", col=2)
    return figure


def _draw_parts(figure: go.Figure, report: MemoryReport) -> None:
    ranks = np.arange(len(report.peak_bytes))
    for i, (part, values) in enumerate(report.parts.items()):
        sizes = np.array(values) / _GIB
        if not sizes.any():
            continue
        figure.add_trace(
            go.Bar(
                name=part,
                x=ranks,
                y=sizes,
                marker={
                    "color": _PARTS[i % len(_PARTS)],
                    "pattern": {"shape": _HATCHES[i % len(_HATCHES)], "size": 7, "solidity": 0.12},
                    "pattern_fgcolor": "#FFFFFF",
                    "pattern_fillmode": "overlay",
                },
                textposition="none",
                hovertemplate=f"<b>{part}</b><br>rank %{{x}}: %{{y:.2f}} GiB<extra></extra>",
            ),
            row=1,
            col=1,
        )


def _draw_curves(figure: go.Figure, report: MemoryReport) -> int:
    """Step curves, from dark (first rank) to light (last rank); returns how many."""
    count = len(report.curve)
    chosen = np.unique(np.linspace(0, count - 1, min(count, MAX_CURVES)).astype(int))
    for rank in chosen:
        times_s, alive = report.curve[rank]
        share = rank / max(count - 1, 1)
        shade = [round(a + (b - a) * share) for a, b in zip((0, 59, 102), (230, 159, 0), strict=True)]
        figure.add_trace(
            go.Scatter(
                name=f"rank {rank}",
                x=times_s * 1e3,
                y=alive / _GIB,
                mode="lines",
                line={"shape": "hv", "width": 1.6, "color": f"rgb({shade[0]},{shade[1]},{shade[2]})"},
                showlegend=False,
                hovertemplate=f"<b>rank {rank}</b><br>%{{x:.2f}} ms: %{{y:.2f}} GiB<extra></extra>",
            ),
            row=1,
            col=2,
        )
    return len(chosen)
