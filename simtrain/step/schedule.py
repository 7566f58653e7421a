"""A pipeline schedule alone: its order timed by an engine, and what the Timeline says of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simtrain.engines import Engine, choose, simulate
from simtrain.engines.compiled import ends_of_many
from simtrain.program.pipeline import Pipeline
from simtrain.program.timeline import Timeline
from simtrain.schedules.order import Action, Order
from simtrain.schedules.slot_costs import SlotCosts
from simtrain.timeline.memory import live_bytes

__all__ = ["ScheduleReport", "evaluate_many", "evaluate_order", "live_chunks"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ScheduleReport:
    """A schedule under given costs; times in the unit of the costs.

    Attributes:
        order: what every rank runs; timeline: when.
        makespan: last end; bubble_fraction: 1 - busy / (ranks * makespan).
        max_rank_span: longest time from a rank's first start to its last end.
        busy, idle_in_span: per rank.
        peak_chunks: per rank, most chunk activations alive from the start of F to the end of W or B.
        peak_chunks_free_at_I: the same when the end of I frees them.
        sends: activations and gradients that cross ranks, per micro batch.
    """

    order: Order
    costs: SlotCosts
    timeline: Timeline
    makespan: float
    bubble_fraction: float
    max_rank_span: float
    busy: tuple[float, ...]
    idle_in_span: tuple[float, ...]
    peak_chunks: tuple[int, ...]
    peak_chunks_free_at_I: tuple[int, ...]  # noqa: N815  the field's name for the backward for inputs
    sends: float

    def document(self) -> dict[str, Any]:
        """The JSON document of ``simtrain schedule``."""
        order = self.order
        return {
            "schedule": order.schedule,
            "P": order.ranks,
            "V": order.chunks,
            "M": order.microbatches,
            "num_stages": order.stages,
            "placement": order.placement,
            "engine": self.timeline.engine,
            "makespan": self.makespan,
            "bubble_fraction": self.bubble_fraction,
            "max_rank_span": self.max_rank_span,
            "busy": list(self.busy),
            "idle_in_span": list(self.idle_in_span),
            "peak_chunks": list(self.peak_chunks),
            "peak_chunks_free_at_I": list(self.peak_chunks_free_at_I),
            "sends_per_microbatch": self.sends,
            "ranks": order.slots(),
        }


def evaluate_order(order: Order, costs: SlotCosts | None = None, engine: Engine = "auto") -> ScheduleReport:
    """Time an order and read everything off its Timeline.

    Raises:
        DeadlockError: the order cannot finish.
        ScheduleError: an action is missing or stands twice, or a cost is wrong.
    """
    costs = costs or SlotCosts()
    pipeline = Pipeline(order)
    return _report(order, costs, pipeline, simulate(pipeline.program(costs), engine))


def _report(order: Order, costs: SlotCosts, pipeline: Pipeline, timeline: Timeline) -> ScheduleReport:
    bounds = np.concatenate([[0], np.cumsum([len(actions) for actions in order.actions])])[:-1]
    busy = np.add.reduceat(timeline.program.work_s, bounds)
    spans = np.maximum.reduceat(timeline.end_s, bounds) - np.minimum.reduceat(timeline.start_s, bounds)
    makespan = timeline.makespan_s
    kind = pipeline.slots[:, 0]
    return ScheduleReport(
        order=order,
        costs=costs,
        timeline=timeline,
        makespan=makespan,
        bubble_fraction=1.0 - float(busy.sum()) / (order.ranks * makespan) if makespan else 0.0,
        max_rank_span=float(spans.max()),
        busy=tuple(busy.tolist()),
        idle_in_span=tuple(np.maximum(spans - busy, 0.0).tolist()),
        peak_chunks=_peaks(kind, bounds, (Action.W, Action.B, Action.X)),
        peak_chunks_free_at_I=_peaks(kind, bounds, (Action.I, Action.B, Action.X)),
        sends=pipeline.crossings / order.microbatches,
    )


def _peaks(kind: NDArray[np.int32], bounds: Ints, frees: Sequence[Action]) -> tuple[int, ...]:
    """Most chunks alive per rank; a rank runs its slots one after another, so their order alone decides."""
    allocates, freed = _table((Action.F, Action.X))[kind], _table(frees)[kind]
    after = np.cumsum(allocates - freed)
    before = np.concatenate([[0], after])[bounds]  # what the ranks above left over, so that each starts from 0
    return tuple((np.maximum.reduceat(after + freed, bounds) - before).tolist())


def _table(kinds: Sequence[Action]) -> Ints:
    """1 at each of these kinds, 0 at the others."""
    table = np.zeros(len(Action), dtype=np.int64)
    table[list(kinds)] = 1
    return table


def live_chunks(report: ScheduleReport, rank: int, *, free_at: str = "W") -> tuple[Floats, Floats]:
    """Chunk activations alive on a rank over time: times and counts, a step function.

    Args:
        report: an evaluated schedule.
        rank: pipeline rank.
        free_at: ``W`` (activations are kept for the weight gradients) or ``I``.
    """
    actions, ops = report.order.actions[rank], report.timeline.lane(rank, 0)  # type: ignore[arg-type]
    kind = actions[:, 0]
    allocates = np.isin(kind, (Action.F, Action.X))
    frees = np.isin(kind, (Action.B, Action.X, Action.W if free_at == "W" else Action.I))
    times = np.concatenate([report.timeline.start_s[ops[allocates]], report.timeline.end_s[ops[frees]]])
    return live_bytes(times, np.concatenate([np.ones(allocates.sum()), -np.ones(frees.sum())]))


def evaluate_many(order: Order, sets: list[SlotCosts]) -> Floats:
    """Makespans of one order under many cost sets, in one call; shape (sets,)."""
    pipeline = Pipeline(order)
    durations = np.stack([pipeline.durations(costs) for costs in sets])
    comm = np.array([costs.comm for costs in sets])
    return np.asarray(ends_of_many(pipeline.program(SlotCosts(comm=1.0)), durations, comm).max(axis=1))


def timed(build: Any, repeat: int, costs: SlotCosts, engine: Engine) -> Mapping[str, float]:
    """Medians of ``repeat`` warm repetitions: ``order_s`` to generate the order, ``evaluate_s`` to time it."""
    engine = choose(engine)
    evaluate_order(build(), costs, engine)  # compiled code is loaded before the clock starts
    ordering, evaluating = [], []
    for _ in range(repeat):
        begin = time.perf_counter()
        order = build()
        ordered = time.perf_counter()
        evaluate_order(order, costs, engine)
        evaluating.append(time.perf_counter() - ordered)
        ordering.append(ordered - begin)
    return {"order_s": statistics.median(ordering), "evaluate_s": statistics.median(evaluating)}
