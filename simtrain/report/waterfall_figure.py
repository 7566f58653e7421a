"""Where the GPU time goes: one stacked bar per scenario."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import plotly.graph_objects as go

from simtrain.report.frame import framed
from simtrain.report.palette import BUCKETS
from simtrain.report.stacked import scenario_names, stacked_bars

if TYPE_CHECKING:
    from simtrain.step.report import StepReport

__all__ = ["waterfall"]


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
    seconds = [step.time_s for step in steps]
    figure = stacked_bars(
        scenario_names([step.scenario for step in steps]),
        BUCKETS,
        [step.waterfall for step in steps],
        [100.0] * len(steps) if unit == "share" else seconds,
        "%{customdata[0]:.2f} % of GPU time, %{customdata[1]:.4g} s of the step",
        seconds=seconds,
    )
    framed(figure, title, "Every GPU-second of a step is in exactly one colour.", height=232 + 58 * len(steps))
    figure.update_layout(margin_b=128)
    text = "share of GPU time (%)" if unit == "share" else "seconds of the step"
    figure.update_xaxes(title_text=text, range=[0.0, 100.0] if unit == "share" else None)
    return figure
