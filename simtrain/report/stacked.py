"""Bars whose parts add up: one for each step or run, one colour for each bucket of its ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from simtrain.report.palette import INK, BucketStyle

if TYPE_CHECKING:
    from simtrain.scenario.scenario import Scenario

__all__ = ["scenario_names", "stacked_bars"]

_DARK = {"#0072B2", "#D55E00", "#009E73", "#8F4A72", "#6B3856", "#B45F8E", "#555B66"}
"""Colours on which text is white."""


def scenario_names(scenarios: Sequence[Scenario]) -> list[str]:
    """What bars and columns are called: titles, or names where titles are alike (those of a study inherit one)."""
    for names in ([each.title or each.name for each in scenarios], [each.name for each in scenarios]):
        if all(names) and len(set(names)) == len(names):
            return names
    return [f"scenario {number + 1}" for number in range(len(scenarios))]


def stacked_bars(
    names: Sequence[str],
    styles: Mapping[str, BucketStyle],
    ledgers: Sequence[Mapping[str, float]],
    lengths: Sequence[float],
    hover: str,
    *,
    least: float = 1e-9,
    seconds: Sequence[float] | None = None,
) -> go.Figure:
    """Bars from top to bottom, every bucket in its colour with its share of the whole written on it.

    Args:
        names: of the bars, all different: plotly puts what has the same name into one bar.
        styles: of the buckets, from left to right.
        ledgers: per bar the share of each bucket.
        lengths: of whole bars, in the unit of the axis.
        hover: what hovering says below the name of a bucket; customdata holds its share in % and in seconds.
        least: buckets of which no bar has so large a share are left out.
        seconds: of whole bars; absent: ``lengths``.
    """
    figure = go.Figure()
    for bucket, style in styles.items():
        shares = np.array([ledger[bucket] for ledger in ledgers])
        if (np.abs(shares) >= least).any():
            figure.add_trace(_bar(names, style, shares, shares * lengths, shares * (seconds or lengths), hover))
    figure.update_layout(barmode="stack", bargap=0.35, legend_traceorder="normal")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def _bar(
    names: Sequence[str],
    style: BucketStyle,
    shares: NDArray[np.float64],
    lengths: NDArray[np.float64],
    seconds: NDArray[np.float64],
    hover: str,
) -> go.Bar:
    return go.Bar(
        name=style.label,
        orientation="h",
        y=names,
        x=lengths,
        customdata=np.stack((shares * 100, seconds), axis=1),
        marker={
            "color": style.color,
            "line": {"width": 0.8, "color": "#FFFFFF"},
            "pattern": {"shape": style.pattern, "size": 7, "solidity": 0.12, "fgcolor": "#FFFFFF"},
            "pattern_fillmode": "overlay",
        },
        text=[f"{share:.0%}" if share >= 0.04 else "" for share in shares],
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont={"size": 12, "color": "#FFFFFF" if style.color in _DARK else INK},
        hovertemplate=f"<b>{style.label}</b><br>{hover}<extra>%{{y}}</extra>",
    )
