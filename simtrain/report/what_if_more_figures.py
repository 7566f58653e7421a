"""What-if analyses over sizes, nodes, policies and prices drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from simtrain.quantities import format_quantity
from simtrain.reliability.study import CostLine, Policy, RateLine
from simtrain.reliability.what_if import SizeCurve, SpareCurve
from simtrain.report.frame import framed
from simtrain.report.palette import INK, STYLES, Kind, lighten
from simtrain.report.what_if_figures import round_ticks

__all__ = ["cost_by_rate", "failures_by_size", "goodput_by_size", "nodes_away", "policies", "spares"]

_BLUE, _ORANGE = (STYLES[kind].color for kind in (Kind.FORWARD, Kind.BACKWARD))
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555B66")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
_GREY = "#57606A"
_SIZES = tuple(2**k for k in range(3, 18))


def goodput_by_size(
    curves: Sequence[SizeCurve], how: str = "By formula, blocking checkpoints at their best interval."
) -> go.Figure:
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
                customdata=[format_quantity(t, "time", 2) for t in curve.interval_s],
                hovertemplate=f"<b>{curve.name}</b><br>%{{x:,}} GPUs: %{{y:.1f}} %, a checkpoint each %{{customdata}}"
                "<extra></extra>",
            )
        )
    framed(figure, "Goodput against size", how, height=460)
    figure.update_layout(margin_b=118)
    gpus = np.unique(np.concatenate([curve.gpus for curve in curves]))
    figure.update_xaxes(title_text="GPUs of the job", **_at(gpus))
    figure.update_yaxes(title_text="goodput (%)", range=[0, 102])
    return figure


def failures_by_size(rates: Sequence[RateLine], recovery_s: float, interval_s: float) -> go.Figure:
    """Time between failures against GPUs, log-log, beside recovery time and checkpoint interval; the first is thick."""
    figure = go.Figure()
    gpus = np.array(_SIZES)
    for i, rate in enumerate(rates):
        hours = rate.gpu_days * 24 / gpus
        figure.add_trace(
            go.Scatter(
                name=f"{rate.name} ({rate.gpu_days:,.0f} GPU-days)",
                x=gpus,
                y=hours,
                mode="lines",
                line={
                    "color": INK if i == 0 else _LINES[(i - 1) % 7],
                    "dash": _DASHES[(i - 1) % 7] if i else "solid",
                    "width": 3.5 if i == 0 else 1.8,
                },
                customdata=[format_quantity(hour * 3600, "time", 2) for hour in hours],
                hovertemplate=f"<b>{rate.name}</b><br>%{{x:,}} GPUs: a failure each %{{customdata}}<extra></extra>",
            )
        )
    for name, time_s, dash in (("recovery", recovery_s, "dot"), ("checkpoint interval", interval_s, "dash")):
        if time_s:
            figure.add_trace(
                _mark(
                    f"{name}: {format_quantity(time_s, 'time', 2)}", [8, _SIZES[-1]], [time_s / 3600] * 2, _GREY, dash
                )
            )
    words = "Below the grey lines a job fails before it has recovered, or before it has saved."
    framed(figure, "Time between failures against size", words, height=560)
    figure.update_layout(margin_b=150)
    figure.update_xaxes(title_text="GPUs of the job", **_at(gpus))
    hours = np.array([1 / 60, 1 / 6, 1, 6, 24, 168, 720, 8760, 87600])
    names = ["1 min", "10 min", "1 h", "6 h", "1 day", "1 week", "30 days", "1 year", "10 years"]
    figure.update_yaxes(title_text="time between failures", type="log", tickvals=hours, ticktext=names)
    return figure


def nodes_away(curve: SpareCurve) -> go.Figure:
    """How many nodes are in repair at a random time, with the numbers not exceeded half and 99 % of the time."""
    shown = np.flatnonzero(curve.down > 1e-4 * curve.down.max())
    figure = go.Figure(
        go.Bar(
            x=shown,
            y=curve.down[shown] * 100,
            marker={"color": lighten(_BLUE, 0.35)},
            hovertemplate="%{x} nodes away: %{y:.2f} % of the time<extra></extra>",
            showlegend=False,
        )
    )
    top = float(curve.down.max()) * 105
    for chance, color, dash in ((0.5, INK, "dot"), (0.99, _ORANGE, "dash")):
        most = curve.down_at_most(chance)
        figure.add_trace(_mark(f"{chance:.0%} of the time at most {most}", [most + 0.5] * 2, [0, top], color, dash))
    words = "While enough spares keep the job going; any number of repairs at once."
    framed(figure, "Nodes in repair at once", words, height=420)
    figure.update_layout(margin_b=110, bargap=0.15)
    figure.update_xaxes(title_text="nodes in repair")
    figure.update_yaxes(title_text="share of the time (%)", rangemode="tozero")
    return figure


def policies(found: Sequence[Policy]) -> go.Figure:
    """Goodput of each way to save and to go on, with 95 % intervals, and the change against the first."""
    figure = go.Figure()
    for group, color, pattern in (("checkpoints", _BLUE, ""), ("nodes", "#009E73", "/")):
        mine = [policy for policy in found if policy.group == group]
        ends = [policy.goodput.interval()[1] - policy.goodput.value for policy in mine]
        figure.add_trace(
            go.Bar(
                name={"checkpoints": "how state is saved", "nodes": "what happens without enough nodes"}[group],
                orientation="h",
                y=[policy.name for policy in mine],
                x=[policy.goodput.value * 100 for policy in mine],
                error_x={"type": "data", "array": [end * 100 for end in ends], "color": INK, "thickness": 1.2},
                marker={
                    "color": color,
                    "pattern": {"shape": pattern, "size": 7, "solidity": 0.12, "fgcolor": "#FFFFFF"},
                    "pattern_fillmode": "overlay",
                },
                hovertemplate="%{y}: %{x:.2f} %<extra></extra>",
            )
        )
        for policy in mine:
            changed = "" if policy is found[0] else f" ({policy.change.value * 100:+.1f})"
            figure.add_annotation(
                x=max(policy.goodput.interval()[1], 0.0) * 100,
                y=policy.name,
                text=f"{policy.goodput.value:.1%}{changed}",
                xanchor="left",
                xshift=6,
                showarrow=False,
            )
    words = "On the same failures; in brackets the change in points; thin lines are 95 % intervals."
    framed(figure, "Policies compared", words, height=190 + 36 * len(found), margin_left=230)
    figure.update_layout(bargap=0.3, margin_b=100)
    figure.update_yaxes(autorange="reversed", showgrid=False, ticksuffix="  ")
    figure.update_xaxes(title_text="goodput (%)", range=[0, 115], tickvals=list(range(0, 101, 20)))
    return figure


def cost_by_rate(lines: Sequence[CostLine], free_usd: float, now_days: float) -> go.Figure:
    """USD per million useful tokens against failure rate at the best interval of each, a line per recovery time."""
    figure = go.Figure()
    for i, line in enumerate(lines):
        figure.add_trace(
            go.Scatter(
                name=f"{format_quantity(line.recovery_s, 'time', 2)} to recover",
                x=line.gpu_days,
                y=line.usd,
                mode="lines+markers",
                line={"color": _LINES[i % 7], "dash": _DASHES[i % 7], "width": 2},
                hovertemplate="a failure in %{x:,.0f} GPU-days: %{y:.4g} USD<extra></extra>",
            )
        )
    days = lines[0].gpu_days
    usd = np.concatenate([[free_usd], *(line.usd[np.isfinite(line.usd)] for line in lines)])
    figure.add_trace(_mark("nothing fails", [days.min(), days.max()], [free_usd] * 2, _GREY, "dot"))
    figure.add_trace(_mark("this job", [now_days] * 2, [usd.min(), usd.max()], _GREY, "dash"))
    framed(figure, "Cost of a useful token", "At the best interval of each rate, as in the maps above.", height=440)
    figure.update_layout(margin_b=118)
    figure.update_xaxes(title_text="GPU-days per failure", **_at(lines[0].gpu_days))
    figure.update_yaxes(
        title_text="USD per million useful tokens", **(round_ticks(usd) if np.ptp(usd) > usd.min() else {})
    )
    return figure


def _mark(name: str, x: Sequence[float], y: Sequence[float], color: str, dash: str) -> go.Scatter:
    """A line across the figure that the legend names."""
    line = {"color": color, "dash": dash, "width": 1.6}
    return go.Scatter(name=name, x=x, y=y, mode="lines", line=line, hoverinfo="skip")


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
    for name, shares, (color, dash) in zip(
        ("half of the runs reach", "99 of 100 runs reach"),
        curve.quantiles.T,
        ((_BLUE, "dot"), (_ORANGE, "dashdot")),
        strict=True,
    ):
        figure.add_trace(
            go.Scatter(
                name=name,
                x=curve.spares,
                y=shares * 100,
                mode="lines",
                line={"color": color, "dash": dash, "width": 1.8},
                hovertemplate=f"%{{x}} spare nodes: {name} %{{y:.2f}} %<extra></extra>",
            )
        )
    run = format_quantity(curve.run_s, "time", 3)
    words = f"Cold spare nodes; runs of {run}. Erlang-B: failures at their full rate all the time."
    framed(figure, "Spare nodes against availability", words, height=460)
    figure.update_layout(margin_b=118)
    figure.update_xaxes(title_text="cold spare nodes", tickmode="array", tickvals=curve.spares.tolist())
    figure.update_yaxes(title_text="time with enough nodes (%)", range=[0, 104])
    return figure


def _at(values: np.ndarray) -> dict[str, object]:
    ticks = [float(value) for value in values]
    return {
        "type": "log",
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": [f"{value:,.3g}" if value < 1000 else f"{value:,.0f}" for value in ticks],
    }
