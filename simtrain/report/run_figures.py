"""A run with failures drawn: over time, where its time goes, when it is done, what its tokens cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from simtrain.report.frame import framed
from simtrain.report.html import Section, Table
from simtrain.report.palette import INK, STYLES, BucketStyle, Kind, lighten
from simtrain.report.run_tables import BUCKET_WORDS
from simtrain.report.stacked import scenario_names, stacked_bars

if TYPE_CHECKING:
    from simtrain.reliability.run import RunReport

__all__ = ["completion", "run_cost", "run_ledger", "run_sections", "run_timeline"]

DAY_S = 86400.0
BLUE, ORANGE, GREEN = STYLES[Kind.FORWARD].color, STYLES[Kind.BACKWARD].color, STYLES[Kind.BACKWARD_WEIGHT].color
_LOOKS = {
    "useful": ("#0072B2", ""),
    "lost_work": ("#D55E00", "/"),
    "checkpoint": ("#009E73", ""),
    "lost_checkpoint": ("#66C4AB", "/"),
    "detection": ("#F0E442", ""),
    "diagnose": ("#E9C6DB", ""),
    "allocate": ("#DDA3C3", "."),
    "start": ("#CC79A7", ""),
    "communicator": ("#B45F8E", "/"),
    "load": ("#8F4A72", "-"),
    "warmup": ("#6B3856", "x"),
    "recovery": ("#CC79A7", "|"),
    "waiting_for_spares": ("#E69F00", "-"),
    "degraded": ("#56B4E9", "+"),
    "planned": ("#979DA9", "."),
}
RUN_BUCKETS = {bucket: BucketStyle(BUCKET_WORDS[bucket], *look) for bucket, look in _LOOKS.items()}
"""How the buckets of a run are drawn."""
_MARKED = ("failure", "waiting", "found", "planned", "corrupt")
_MARKS = {
    "failure": ("failure", "x", ORANGE),
    "waiting": ("nodes missing", "square", "#E69F00"),
    "found": ("corruption found", "diamond", "#8F4A72"),
    "corrupt": ("silent corruption", "diamond-open", "#8F4A72"),
    "planned": ("planned stop", "circle", "#555B66"),
}
_POINTS = 800
_SHOWN = 60
"""Failures of the first part of a run that is shown event by event."""


def run_timeline(run: RunReport, window_s: float = 3600.0) -> go.Figure:
    """One replicate: MFU with its events at first, then effective training time of the whole run.

    Above, the time of the first 60 events, stalls for checkpoints left out, with tokens per second on the right; below,
    useful over wall time since the start, and over the ``window_s`` before.
    """
    figure = make_subplots(
        rows=2, cols=1, vertical_spacing=0.2, row_heights=[0.5, 0.5], specs=[[{"secondary_y": True}], [{}]]
    )
    _draw_speed(figure, run)
    line, end_s = run.timeline, float(run.timeline.time_s[-1])
    at_s = np.linspace(end_s / _POINTS, end_s, _POINTS)
    hours = f"{window_s / 3600:g} h"
    for name, share, color, width in (
        (f"over the {hours} before", line.sliding(at_s, window_s), lighten(BLUE, 0.55), 1.0),
        ("since the start", line.cumulative(at_s), INK, 2.4),
    ):
        figure.add_trace(
            go.Scatter(
                name=f"effective training time {name}",
                x=at_s / DAY_S,
                y=share * 100,
                mode="lines",
                line={"color": color, "width": width},
                hovertemplate=f"%{{x:.2f}} days: %{{y:.1f}} % {name}<extra></extra>",
            ),
            row=2,
            col=1,
        )
    framed(figure, f"MFU with failures: {_name(run)}", _words(run), height=620)
    figure.update_layout(margin_b=100, margin_r=90)
    figure.update_xaxes(title_text="wall time of the first events (h)", row=1, col=1)
    figure.update_xaxes(title_text="wall time (days)", row=2, col=1)
    top = run.step.mfu * 100 * 1.25
    figure.update_yaxes(title_text="MFU (%)", range=[0, top], row=1, col=1)
    scale = run.step.tokens_per_s / 1e3 / (run.step.mfu * 100)
    figure.update_yaxes(
        title_text="thousand tokens/s",
        range=[0, top * scale],
        showgrid=False,
        tickmode="auto",
        row=1,
        col=1,
        secondary_y=True,
    )
    figure.update_yaxes(title_text="useful time (%)", range=[0, 102], row=2, col=1)
    return figure


def _draw_speed(figure: go.Figure, run: RunReport) -> None:
    line = run.timeline
    marked = [event for event in line.events if event.kind in _MARKED]
    until_s = marked[_SHOWN - 1].time_s if len(marked) >= _SHOWN else float(line.time_s[-1])
    shown = line.time_s <= until_s
    figure.add_trace(
        go.Scatter(
            name="MFU",
            x=line.time_s[shown] / 3600,
            y=line.mfu[shown] * 100,
            mode="lines",
            line={"shape": "hv", "color": BLUE, "width": 1.6},
            fill="tozeroy",
            fillcolor=lighten(BLUE, 0.8),
            hovertemplate="%{x:.2f} h: MFU %{y:.1f} %<extra></extra>",
        ),
        row=1,
        col=1,
    )
    figure.add_trace(  # plotly draws a second axis only where something stands on it
        go.Scatter(x=[0.0], y=[0.0], mode="markers", marker={"opacity": 0}, showlegend=False, hoverinfo="skip"),
        row=1,
        col=1,
        secondary_y=True,
    )
    for kind, (name, symbol, color) in _MARKS.items():
        events = [event for event in marked[:_SHOWN] if event.kind == kind]
        if not events:
            continue
        figure.add_trace(
            go.Scatter(
                name=name,
                x=[event.time_s / 3600 for event in events],
                y=[run.step.mfu * 100 * 1.1] * len(events),
                mode="markers",
                marker={"symbol": symbol, "color": color, "size": 8},
                customdata=[event.cause for event in events],
                hovertemplate=f"<b>{name}</b>: %{{customdata}}<br>after %{{x:.2f}} h<extra></extra>",
            ),
            row=1,
            col=1,
        )


def run_ledger(runs: RunReport | Sequence[RunReport], unit: Literal["share", "hours", "usd"] = "share") -> go.Figure:
    """Where the wall time of runs goes, one stacked bar each.

    Args:
        runs: one or several.
        unit: share of wall time in %, thousand GPU-hours, or thousand US dollars (runs without a price are left out).
    """
    runs = _several(runs)
    totals = {
        "share": [100.0] * len(runs),
        "hours": [run.bill.gpu_hours / 1e3 for run in runs],
        "usd": [(run.cost_usd or 0.0) / 1e3 for run in runs],
    }[unit]
    title = {"share": "share of wall time (%)", "hours": "thousand GPU-hours", "usd": "thousand USD"}[unit]
    return _stacked(runs, totals, "Where the time of the run goes", title)


def run_cost(runs: RunReport | Sequence[RunReport]) -> go.Figure:
    """Cost per million useful tokens, split by what the time was spent on; runs without a price are empty."""
    runs = _several(runs)
    totals = [run.usd_per_million_tokens or 0.0 for run in runs]
    return _stacked(runs, totals, "What useful tokens cost", "USD per million useful tokens")


def _stacked(runs: Sequence[RunReport], totals: Sequence[float], title: str, axis: str) -> go.Figure:
    figure = stacked_bars(
        scenario_names([run.step.scenario for run in runs]),
        RUN_BUCKETS,
        [run.ledger for run in runs],
        totals,
        f"%{{customdata[0]:.2f}} % of wall time, %{{x:.4g}} {axis}",
        least=1e-6,
    )
    struck = "Failures strike recovery too." if runs[0].result.recovery_can_fail else "No failure strikes recovery."
    framed(figure, title, f"Mean of {runs[0].result.runs} simulated runs. {struck}", height=240 + 58 * len(runs))
    figure.update_layout(margin_b=136, uniformtext={"minsize": 10, "mode": "hide"})
    figure.update_xaxes(title_text=axis)
    return figure


def completion(run: RunReport) -> go.Figure:
    """Chance that a run is done by a date, in days from its start, with the days of p5, p50 and p95."""
    result = run.result
    days = np.sort(result.wall_s[result.completed]) / DAY_S
    figure = go.Figure(
        go.Scatter(
            name="share of simulated runs that are done",
            x=np.concatenate((days[:1], days)),
            y=np.concatenate(([0.0], np.arange(1, len(days) + 1) / result.runs * 100)) if len(days) else [],
            mode="lines",
            line={"shape": "hv", "color": BLUE, "width": 2.4},
            hovertemplate="%{y:.0f} % are done after %{x:.2f} days<extra></extra>",
        )
    )
    for name, found, share in zip(("p5", "p50", "p95"), run.days_quantiles(0.05, 0.5, 0.95), (5, 50, 95), strict=True):
        if found is None:
            continue
        figure.add_trace(
            go.Scatter(
                name=f"{name}: {found:,.2f} days",
                x=[found],
                y=[share],
                mode="markers+text",
                text=f"{name} {found:,.2f}",
                textposition="bottom right" if share < 90 else "top left",
                cliponaxis=False,
                marker={"color": ORANGE, "size": 10},
                showlegend=False,
                hovertemplate=f"{name}: {found:,.2f} days<extra></extra>",
            )
        )
    undone = "" if run.completed else f" {np.mean(~result.completed):.0%} are not done by the horizon."
    framed(figure, f"Done by when: {_name(run)}", f"{result.runs} simulated runs.{undone}", height=400)
    figure.update_layout(showlegend=False, margin_b=64)
    figure.update_xaxes(title_text="days from the start")
    figure.update_yaxes(title_text="chance to be done (%)", range=[-9, 104])
    return figure


def run_sections(run: RunReport) -> list[Section]:
    """Everything about one run, for a page."""
    costs = [run_cost(run)] if run.usd_per_million_tokens is not None else []
    return [
        Section("MFU with failures over time", [run_timeline(run)]),
        Section("Where the time goes", [run_ledger(run), _ledger_table(run)]),
        Section("When it is done", [completion(run)]),
        *([Section("What a token costs", costs)] if costs else []),
    ]


def _ledger_table(run: RunReport) -> Table:
    """Buckets that are not empty, in time, GPU-hours and money."""
    rows = [
        (
            RUN_BUCKETS[bucket].label,
            f"{share:.2%}",
            f"{share * run.bill.days:,.2f}",
            f"{share * run.bill.gpu_hours:,.0f}",
            "" if run.cost_usd is None else f"{share * run.cost_usd:,.0f}",
        )
        for bucket, share in run.ledger.items()
        if share >= 5e-5
    ]
    return Table(("", "share", "days", "GPU-hours", "USD"), rows, "Shares below 0.005 % are left out.")


def _several(runs: RunReport | Sequence[RunReport]) -> list[RunReport]:
    return list(runs) if isinstance(runs, Sequence) else [runs]


def _name(run: RunReport) -> str:
    return scenario_names([run.step.scenario])[0]


def _words(run: RunReport) -> str:
    struck = "failures strike recovery too" if run.result.recovery_can_fail else "no failure strikes recovery"
    return (
        f"MFU {run.step.mfu:.1%} while it runs times goodput {run.goodput:.1%} = {run.effective_mfu:.1%}; "
        f"one replicate of {run.result.runs}; {struck}."
    )
