"""Slots of an evaluated schedule as rectangles: what the picture, the figure and the drawing share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simtrain.report.palette import INK, STYLES, Kind, lighten
from simtrain.schedules.order import Action
from simtrain.step.schedule import ScheduleReport

__all__ = [
    "COLORS",
    "LABELS",
    "SlotBars",
    "color",
    "common_time",
    "headline",
    "ink",
    "number",
    "slot_bars",
    "time_title",
]

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]

COLORS: dict[Action, str] = {
    Action.F: STYLES[Kind.FORWARD].color,
    Action.I: STYLES[Kind.BACKWARD_INPUT].color,
    Action.W: STYLES[Kind.BACKWARD_WEIGHT].color,
    Action.B: STYLES[Kind.BACKWARD].color,
    Action.X: STYLES[Kind.COMMUNICATION].color,
}
LABELS: dict[Action, str] = {
    Action.F: "F forward",
    Action.I: "I backward for inputs",
    Action.W: "W backward for weights",
    Action.B: "B full backward",
    Action.X: "X forward over backward",
}


@dataclass(frozen=True, slots=True)
class SlotBars:
    """Slots of positive length, rank after rank in the order they run.

    Attributes:
        ranks: how many rows.
        groups: shades of each colour: model chunks of a rank, or the two directions of a bidirectional pipeline.
        rank, kind, stage, microbatch: (n,); of an X those of its forward.
        back_stage, back_microbatch: (n,) those of the backward of an X, otherwise -1.
        group, back_group: (n,) shade of the slot, and of the backward of an X.
        start, end: (n,) in the unit of the costs.
    """

    ranks: int
    groups: int
    rank: Ints
    kind: Ints
    stage: Ints
    microbatch: Ints
    back_stage: Ints
    back_microbatch: Ints
    group: Ints
    back_group: Ints
    start: Floats
    end: Floats

    def __len__(self) -> int:
        return len(self.rank)


def slot_bars(report: ScheduleReport) -> SlotBars:
    """The slots of a schedule and when they ran."""
    order, timeline = report.order, report.timeline
    slots = np.concatenate(order.actions)
    rank = np.repeat(np.arange(order.ranks, dtype=np.int32), [len(actions) for actions in order.actions])
    real = timeline.end_s > timeline.start_s
    kind, stage, microbatch, back_stage, back_microbatch = slots[real].T
    mirrored = order.placement == "bidir"
    half = order.microbatches // 2
    return SlotBars(
        ranks=order.ranks,
        groups=2 if mirrored else order.chunks,
        rank=rank[real],
        kind=kind,
        stage=stage,
        microbatch=microbatch,
        back_stage=back_stage,
        back_microbatch=back_microbatch,
        group=np.where(microbatch >= half, 1, 0) if mirrored else stage // order.ranks,
        back_group=np.where(back_microbatch >= half, 1, 0) if mirrored else np.maximum(back_stage, 0) // order.ranks,
        start=timeline.start_s[real],
        end=timeline.end_s[real],
    )


def color(kind: int, group: int, groups: int) -> str:
    """Colour of a slot; later chunks, and the second direction of two, are lighter."""
    return lighten(COLORS[Action(kind)], 0.5 * group / max(groups - 1, 1))


def ink(kind: int, group: int) -> str:
    """Colour of the number on a slot: dark on the light ones."""
    return INK if group > 0 or kind == Action.I else "#FFFFFF"


def headline(report: ScheduleReport, unit: float = 1.0) -> str:
    """Name, size, makespan, bubble and memory in one line; the makespan also divided by ``unit``."""
    order = report.order
    size = f"P {order.ranks}" + (f", V {order.chunks}" if order.chunks > 1 else "") + f", M {order.microbatches}"
    stages = max(report.peak_chunks) / order.chunks
    scaled = f" ({number(report.makespan / unit)} as drawn)" if unit != 1.0 else ""
    return (
        f"{order.schedule} · {size} · makespan {number(report.makespan)}{scaled} · "
        f"bubble {report.bubble_fraction:.1%} · peak {number(stages)} stages of activations"
    )


def number(value: float) -> str:
    """A time or a count: six digits, thousands parted, no trailing zeros."""
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"


def common_time(reports: Sequence[ScheduleReport]) -> tuple[float, tuple[float, ...]]:
    """Length of an axis that suits all, and what each schedule's times are divided by.

    A chunk is 1/V of a stage.  Beside schedules with another V, times are divided by V: then equal
    lengths are equal work of the same model.
    """
    mixed = len({report.order.chunks for report in reports}) > 1
    units = tuple(float(report.order.chunks) if mixed else 1.0 for report in reports)
    whole = max(report.makespan / unit for report, unit in zip(reports, units, strict=True))
    return whole or 1.0, units


def time_title(reports: Sequence[ScheduleReport]) -> str:
    """What the common axis shows."""
    mixed = len({report.order.chunks for report in reports}) > 1
    return "time / V: a chunk is 1/V of a stage" if mixed else "time, in the unit of the costs"
