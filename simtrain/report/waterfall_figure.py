"""Where the GPU time goes: one stacked bar per scenario."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import plotly.graph_objects as go

from simtrain.report.frame import framed
from simtrain.report.palette import BUCKETS, INK

if TYPE_CHECKING:
    from simtrain.step.report import StepReport

__all__ = ["step_name", "waterfall"]

_DARK = {"#0072B2", "#8F4A72", "#6B3856", "#555B66", "#009E73", "#B45F8E"}


def waterfall(
    steps: StepReport | Sequence[StepReport],
    *,
    unit: Literal["share", "seconds"] = "share",
    title: str = "Where the GPU time goes",
) -> go.Figure:
    """Draw the buckets of the ledger, in their fixed order, one bar per scenario.

    Args:
        steps: one or several steps.
        unit: ``share`` of GPU time, each bar adding up to 1, or ``seconds`` of the step.
        title: first line of the figure.
    """
    steps = list(steps) if isinstance(steps, Sequence) else [steps]
    scale = np.array([100.0 if unit == "share" else step.time_s for step in steps])
    figure = go.Figure()
    for bucket, style in BUCKETS.items():
        shares = np.array([step.waterfall[bucket] for step in steps])
        if (np.abs(shares) < 1e-9).all():
            continue
        figure.add_trace(
            go.Bar(
                name=style.label,
                orientation="h",
                y=[step_name(step, i) for i, step in enumerate(steps)],
                x=shares * scale,
                customdata=np.stack((shares * 100, shares * [step.time_s for step in steps]), axis=1),
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
                hovertemplate=f"<b>{style.label}</b><br>%{{customdata[0]:.2f}} % of GPU time, "
                "%{customdata[1]:.4g} s of the step<extra>%{y}</extra>",
            )
        )
    figure.update_layout(barmode="stack", bargap=0.35)
    framed(figure, title, "Every GPU-second of a step is in exactly one colour.", height=232 + 58 * len(steps))
    figure.update_layout(legend_traceorder="normal", margin_b=128)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    text = "share of GPU time (%)" if unit == "share" else "seconds of the step"
    figure.update_xaxes(title_text=text, range=[0.0, 100.0] if unit == "share" else None)
    return figure


def step_name(step: StepReport, number: int = 0) -> str:
    """Name of a step's scenario, for rows and columns."""
    return step.scenario.title or step.scenario.name or f"scenario {number + 1}"
