"""What-if analyses of runs with failures drawn: intervals, sizes, sensitivities, failure rates, spares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from simtrain.quantities import format_quantity
from simtrain.reliability.what_if import GoodputMap, IntervalCurve, SensitivityBar, SizeCurve, SpareCurve
from simtrain.report.frame import framed
from simtrain.report.palette import BACKGROUND, INK, STYLES, Kind, lighten

__all__ = ["goodput_by_interval", "goodput_by_rate", "goodput_by_size", "sensitivity", "spares"]

_BLUE, _ORANGE, _GREEN = (STYLES[kind].color for kind in (Kind.FORWARD, Kind.BACKWARD, Kind.BACKWARD_WEIGHT))
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555B66")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
_OPTIMA = {
    "exact": (INK, "solid"),
    "daly": (_GREEN, "dash"),
    "young": ("#8F4A72", "dot"),
    "simulated": (_ORANGE, "dashdot"),
}
_KNOBS = {
    "mtbf": "time between failures",
    "recovery": "recovery time",
    "interval": "checkpoint interval",
    "checkpoint": "cost of a checkpoint",
    "spares": "spare nodes",
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
    top = float(np.nanmax(np.append(curve.closed_form, bounds[:, 1] / 100))) * 100
    for name, (color, dash) in _OPTIMA.items():
        best_s = curve.best_s.get(name)
        if best_s is None:
            continue
        figure.add_trace(
            go.Scatter(
                name=f"best, {name.capitalize() if name in ('daly', 'young') else name}: {best_s / 60:.3g} min",
                x=[best_s / 60] * 2,
                y=[0, top * 1.05],
                mode="lines",
                line={"color": color, "dash": dash, "width": 1.6},
            )
        )
    struck = "Failures strike recovery too." if curve.recovery_can_fail else "No failure strikes recovery."
    framed(figure, "Goodput against checkpoint interval", struck, height=480)
    figure.update_layout(margin_b=126)
    figure.update_xaxes(title_text="useful work between two checkpoints (min)", **_log(minutes))
    figure.update_yaxes(title_text="goodput (%)", range=[0, top * 1.08])
    return figure


def goodput_by_size(curves: Sequence[SizeCurve]) -> go.Figure:
    """Goodput at the best interval against GPUs of the job, one line per recovery time or failure rate."""
    figure = go.Figure()
    for i, curve in enumerate(curves):
        figure.add_trace(
            go.Scatter(
                name=curve.name,
                x=curve.gpus,
                y=curve.goodput * 100,
                mode="lines+markers",
                line={"color": _LINES[i % 7], "dash": _DASHES[i % 7], "width": 2},
                customdata=[format_quantity(t, "time") for t in curve.interval_s],
                hovertemplate=f"<b>{curve.name}</b><br>%{{x:,}} GPUs: %{{y:.1f}} %, a checkpoint each %{{customdata}}"
                "<extra></extra>",
            )
        )
    framed(figure, "Goodput against size", "By formula, blocking checkpoints at their best interval.", height=460)
    figure.update_layout(margin_b=118)
    gpus = np.unique(np.concatenate([curve.gpus for curve in curves]))
    figure.update_xaxes(title_text="GPUs of the job", **_log(gpus))
    figure.update_yaxes(title_text="goodput (%)", range=[0, 102])
    return figure


def sensitivity(bars: Sequence[SensitivityBar]) -> go.Figure:
    """Tornado: points of goodput won or lost at half and at twice each knob, the longest bar on top; 95 % intervals."""
    figure = go.Figure()
    names = [_KNOBS[bar.knob] for bar in bars]
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
    figure.update_layout(barmode="overlay", bargap=0.3)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(title_text="change of goodput (points)", zeroline=True, zerolinecolor=INK)
    return figure


def goodput_by_rate(found: GoodputMap) -> go.Figure:
    """Heat map of simulated goodput over failure rate and checkpoint interval; stars: best interval of each rate."""
    shown = found.goodput * 100
    times = [format_quantity(t, "time") for t in found.interval_s]
    rates = [f"{days:,.0f}" for days in found.gpu_days]
    figure = go.Figure(
        go.Heatmap(
            x=times,
            y=rates,
            z=shown,
            zmin=0,
            zmax=100,
            text=[[f"{value:.0f}" for value in row] for row in shown],
            texttemplate="%{text}",
            colorscale=[[0.0, BACKGROUND], [1.0, _BLUE]],
            colorbar={"title": {"text": "goodput (%)", "side": "right"}, "outlinewidth": 0},
            hovertemplate="a failure in %{y} GPU-days, a checkpoint each %{x}: %{z:.1f} %<extra></extra>",
            xgap=1,
            ygap=1,
        )
    )
    best = np.argmax(found.goodput, axis=1)
    figure.add_trace(
        go.Scatter(
            x=[times[j] for j in best],
            y=rates,
            mode="markers",
            marker={"symbol": "square-open", "size": 34, "color": _ORANGE, "line": {"width": 2.5}},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    framed(figure, "Goodput by failure rate and checkpoint interval", "Framed: the best interval of each rate.", 460)
    figure.update_layout(margin_b=70)
    figure.update_xaxes(title_text="useful work between two checkpoints", type="category", showgrid=False)
    figure.update_yaxes(title_text="GPU-days per failure", type="category", showgrid=False)
    return figure


def spares(curve: SpareCurve) -> go.Figure:
    """Share of time with enough nodes against cold spare nodes, simulated beside Erlang-B."""
    reach = [(e.interval()[1] - e.value) * 100 for e in curve.sampled]
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            name="Erlang-B",
            x=curve.spares,
            y=curve.erlang_b * 100,
            mode="lines",
            line={"color": INK, "dash": "dash", "width": 1.8},
            hovertemplate="%{x} spare nodes: %{y:.2f} %<extra>Erlang-B</extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            name="simulated, 95 % interval",
            x=curve.spares,
            y=[e.value * 100 for e in curve.sampled],
            error_y={"type": "data", "array": reach, "thickness": 1.2},
            mode="markers",
            marker={"color": _BLUE, "size": 9},
            hovertemplate="%{x} spare nodes: %{y:.2f} %<extra>simulated</extra>",
        )
    )
    framed(
        figure, "Spare nodes against availability", "Erlang-B: failures at their full rate all the time.", height=420
    )
    figure.update_xaxes(title_text="cold spare nodes", tickmode="array", tickvals=curve.spares.tolist())
    figure.update_yaxes(title_text="time with enough nodes (%)", range=[0, 104])
    return figure


def _log(values: np.ndarray) -> dict[str, object]:
    ticks = [float(value) for value in values]
    return {
        "type": "log",
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": [f"{value:,.3g}" if value < 1000 else f"{value:,.0f}" for value in ticks],
    }
