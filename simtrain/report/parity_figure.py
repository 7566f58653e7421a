"""Predicted against measured step times."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import plotly.colors
import plotly.graph_objects as go

from simtrain.report.frame import framed
from simtrain.report.html import write_html
from simtrain.validation.steps import Predicted, StepsReport

__all__ = ["parity_figure", "write_parity_page"]

_COLORS = plotly.colors.qualitative.Safe + plotly.colors.qualitative.Bold
_BAND = 0.1
"""Share of the measured time that the shaded band leaves on either side."""


def parity_figure(report: StepsReport) -> go.Figure:
    """One point a row that counts, in seconds on logarithmic axes; a band shows 10 % on either side."""
    grouped: dict[str, list[Predicted]] = defaultdict(list)
    for one in report.rows:
        if one.counts and one.status == "predicted":
            grouped[one.row.group].append(one)
    times = [one.row.measured.step_s or 1.0 for group in grouped.values() for one in group] or [1.0]
    low, high = min(times) / 1.3, max(times) * 1.3
    figure = go.Figure()
    figure.add_scatter(
        x=[low, high, high, low],
        y=[low * (1 - _BAND), high * (1 - _BAND), high * (1 + _BAND), low * (1 + _BAND)],
        mode="none",
        fill="toself",
        fillcolor="rgba(120,130,140,0.18)",
        line_width=0,
        hoverinfo="skip",
        name="within 10 %",
    )
    for (name, group), color in zip(sorted(grouped.items()), _COLORS, strict=False):
        figure.add_scatter(
            x=[one.row.measured.step_s for one in group],
            y=[one.step_s for one in group],
            mode="markers",
            name=name,
            marker={"size": 7, "color": color, "opacity": 0.75},
            text=[_words(one) for one in group],
            hovertemplate="%{text}<extra></extra>",
        )
    axis = {"type": "log", "dtick": 1}
    figure.update_xaxes(title="measured step time (s)", **axis)
    figure.update_yaxes(title="predicted step time (s)", **axis)
    count = sum(map(len, grouped.values()))
    framed(figure, f"{count} published rows", "Shaded: within 10 % of the measured time.", height=680)
    return figure


def _words(one: Predicted) -> str:
    row = one.row
    return (
        f"{row.id}: {row.model}, {row.hardware.gpus} x {row.hardware.device}<br>"
        f"tp {row.tp} pp {row.pp} cp {row.cp} dp {row.dp}, micro batch {row.micro_batch}, sequence {row.sequence}<br>"
        f"measured {row.measured.step_s:.4g} s, predicted {one.step_s:.4g} s ({one.error:+.1%})"
    )


def write_parity_page(report: StepsReport, path: str | Path) -> None:
    """Write the figure as an HTML page."""
    write_html(parity_figure(report), path, "Predicted against measured step times")
