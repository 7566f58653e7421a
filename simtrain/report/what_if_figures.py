"""What-if analyses of one job drawn: intervals, failure rates, sensitivities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from simtrain.quantities import format_quantity
from simtrain.reliability.what_if import GoodputMap, IntervalCurve, SensitivityBar
from simtrain.report.frame import framed
from simtrain.report.goodput_text import KNOBS
from simtrain.report.palette import BACKGROUND, INK, STYLES, Kind, lighten

__all__ = ["goodput_by_interval", "goodput_by_rate", "round_ticks", "sensitivity"]

_BLUE, _ORANGE, _GREEN = (STYLES[kind].color for kind in (Kind.FORWARD, Kind.BACKWARD, Kind.BACKWARD_WEIGHT))
_OPTIMA = {
    "exact": (INK, "solid"),
    "daly": (_GREEN, "dash"),
    "young": ("#8F4A72", "dot"),
    "simulated": (_ORANGE, "dashdot"),
}


def goodput_by_interval(curve: IntervalCurve) -> go.Figure:
    """Goodput against useful work between checkpoints: runs with their 95 % band, formula, and optima."""
    minutes = curve.interval_s / 60
    bounds = np.array([estimate.interval() for estimate in curve.sampled]) * 100
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            name="95 % band of the simulation",
            x=np.concatenate((minutes, minutes[::-1])),
            y=np.concatenate((bounds[:, 0], bounds[::-1, 1])),
            mode="lines",
            fill="toself",
            fillcolor=lighten(_BLUE, 0.75),
            line={"width": 0},
            hoverinfo="skip",
        )
    )
    figure.add_trace(
        go.Scatter(
            name="simulated",
            x=minutes,
            y=[estimate.value * 100 for estimate in curve.sampled],
            mode="markers+lines",
            line={"color": _BLUE, "width": 1.5},
            marker={"size": 7},
            hovertemplate="every %{x:.3g} min: %{y:.2f} %<extra>simulated</extra>",
        )
    )
    if np.isfinite(curve.closed_form).any():
        figure.add_trace(
            go.Scatter(
                name="formula",
                x=minutes,
                y=curve.closed_form * 100,
                mode="lines",
                line={"color": INK, "width": 1.5, "dash": "dash"},
                hovertemplate="every %{x:.3g} min: %{y:.2f} %<extra>formula</extra>",
            )
        )
    low, high = (each / 60 for each in curve.near_best_s)
    if low < high:
        figure.add_vrect(low, high, fillcolor=_ORANGE, opacity=0.13, line_width=0, layer="below")
    top = float(np.nanmax(np.append(curve.closed_form, bounds[:, 1] / 100))) * 100
    least = float(bounds[:, 0].min())
    bottom = max(0.0, least - 0.1 * (top - least)) if least > top / 2 else 0.0
    for name, (color, dash) in _OPTIMA.items():
        best_s = curve.best_s.get(name)
        if best_s is None:
            continue
        figure.add_trace(
            go.Scatter(
                name=f"best, {name.capitalize() if name in ('daly', 'young') else name}: {best_s / 60:.3g} min",
                x=[best_s / 60] * 2,
                y=[bottom, top + 0.05 * (top - bottom)],
                mode="lines",
                line={"color": color, "dash": dash, "width": 1.6},
            )
        )
    struck = "Failures strike recovery too." if curve.recovery_can_fail else "No failure strikes recovery."
    band = "<br>Shaded: intervals whose goodput cannot be told from the best (95 %)." if low < high else ""
    framed(figure, "Goodput against checkpoint interval", struck + band, height=500)
    figure.update_layout(margin_b=126)
    figure.update_xaxes(title_text="useful work between two checkpoints (min)", **round_ticks(minutes))
    figure.update_yaxes(title_text="goodput (%)", range=[bottom, top + 0.08 * (top - bottom)])
    return figure


def sensitivity(bars: Sequence[SensitivityBar]) -> go.Figure:
    """Tornado: points of goodput won or lost at half and at twice each knob, the longest bar on top; 95 % intervals."""
    figure = go.Figure()
    names = [KNOBS[bar.knob] for bar in bars]
    for name, ends, color, pattern in (
        ("half", [bar.half for bar in bars], _ORANGE, "/"),
        ("twice", [bar.twice for bar in bars], _BLUE, ""),
    ):
        reach = [(end.interval()[1] - end.value) * 100 for end in ends]
        figure.add_trace(
            go.Bar(
                name=f"{name} as much",
                orientation="h",
                y=names,
                x=[end.value * 100 for end in ends],
                error_x={"type": "data", "array": reach, "color": INK, "thickness": 1.2, "width": 4},
                marker={
                    "color": color,
                    "pattern": {"shape": pattern, "size": 7, "solidity": 0.12, "fgcolor": "#FFFFFF"},
                    "pattern_fillmode": "overlay",
                },
                text=[f"{end.value * 100:+.1f}" for end in ends],
                textposition="inside",
                insidetextanchor="middle",
                textangle=0,
                textfont={"color": "#FFFFFF"},
                hovertemplate=f"%{{y}}, {name} as much: %{{x:+.2f}} points<extra></extra>",
            )
        )
    framed(figure, "What moves goodput most", "Same failures for all; the thin lines are 95 % intervals.", height=420)
    figure.update_layout(barmode="group", bargap=0.25, bargroupgap=0.05)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(title_text="change of goodput (points)", zeroline=True, zerolinecolor=INK)
    return figure


def goodput_by_rate(*maps: GoodputMap) -> go.Figure:
    """Heat maps of simulated goodput over failure rate and checkpoint interval, one for each recovery time.

    Framed: the best interval of each rate; lines: goodput of 50 and 90 %.
    """
    titles = [f"{format_quantity(found.recovery_s, 'time', 2)} to recover" for found in maps]
    figure = make_subplots(1, len(maps), shared_yaxes=True, horizontal_spacing=0.02, subplot_titles=titles)
    for column, found in enumerate(maps, 1):
        for trace in _map_traces(found, 34 if len(maps) == 1 else 24, first=column == 1):
            figure.add_trace(trace, 1, column)
    figure.update_layout(
        coloraxis={
            "cmin": 0,
            "cmax": 100,
            "colorscale": [[0.0, BACKGROUND], [1.0, _BLUE]],
            "colorbar": {"title": {"text": "goodput (%)", "side": "right"}, "outlinewidth": 0, "thickness": 16},
        }
    )
    words = "Framed: the best interval of each rate."
    framed(figure, "Goodput by failure rate and checkpoint interval", words, 520)
    figure.update_layout(margin_b=118, margin_t=112)
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", showgrid=False)
    figure.update_xaxes(title_text="useful work between two checkpoints", col=(len(maps) + 1) // 2)
    figure.update_yaxes(title_text="GPU-days per failure", col=1)
    return figure


def _map_traces(found: GoodputMap, size: int, *, first: bool) -> list[go.Heatmap | go.Contour | go.Scatter]:
    shown = found.goodput * 100
    times = [format_quantity(t, "time", 3) for t in found.interval_s]
    rates = [f"{days:,.0f}" if days >= 10 else f"{days:.3g}" for days in found.gpu_days]
    cells = go.Heatmap(
        x=times,
        y=rates,
        z=shown,
        coloraxis="coloraxis",
        text=[[f"{value:.0f}" for value in row] for row in shown],
        texttemplate="%{text}",
        hovertemplate="a failure in %{y} GPU-days, a checkpoint each %{x}: %{z:.1f} %<extra></extra>",
        xgap=1,
        ygap=1,
    )
    lines = [
        go.Contour(
            name=f"goodput {level} %",
            x=times,
            y=rates,
            z=shown,
            contours={"type": "levels", "coloring": "none", "start": level, "end": level, "size": 1},
            line={"color": INK, "width": 2.2, "dash": dash, "smoothing": 0.6},
            showscale=False,
            legendgroup=f"{level}",
            showlegend=first,
            hoverinfo="skip",
        )
        for level, dash in ((50, "solid"), (90, "dash"))
    ]
    best = go.Scatter(
        x=[times[j] for j in np.argmax(found.goodput, axis=1)],
        y=rates,
        mode="markers",
        marker={"symbol": "square-open", "size": size, "color": _ORANGE, "line": {"width": 2.5}},
        hoverinfo="skip",
        showlegend=False,
    )
    return [cells, *lines, best]


def round_ticks(values: np.ndarray) -> dict[str, object]:
    """A logarithmic axis with ticks at 1, 2 and 5 times powers of ten."""
    low, high = np.floor(np.log10(values.min())), np.ceil(np.log10(values.max()))
    ticks = [m * 10.0**k for k in np.arange(low, high + 1) for m in (1, 2, 5)]
    ticks = [tick for tick in ticks if values.min() * 0.99 <= tick <= values.max() * 1.01]
    return {"type": "log", "tickmode": "array", "tickvals": ticks, "ticktext": [f"{tick:,.4g}" for tick in ticks]}
