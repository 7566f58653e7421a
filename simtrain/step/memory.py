"""Bytes alive on the worst GPU of each pipeline rank, read from the Timeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simtrain.costs.data_parallel import buckets
from simtrain.costs.memory import (
    StageActivations,
    element_bytes,
    gradient_bytes,
    parameter_bytes,
    stage_activations,
    stage_layers,
    stage_parameters,
)
from simtrain.costs.step import send_bytes, stage_operators
from simtrain.layout.parallel import Parallel
from simtrain.model.operators import Shard
from simtrain.program.lower import Lowered
from simtrain.program.timeline import Timeline
from simtrain.scenario.cluster import Device
from simtrain.scenario.layout import Layout
from simtrain.scenario.model import Model
from simtrain.scenario.scenario import Scenario
from simtrain.schedules.order import Action, Order
from simtrain.step.report import MemoryReport
from simtrain.timeline.memory import live_bytes

__all__ = ["Held", "activations_of", "held_bytes", "memory_report", "replay_peak"]

PARTS = ("weights", "gradients", "optimizer", "activations", "buffers", "framework")


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes on a GPU through the whole step."""

    weights: float
    gradients: float
    optimizer: float
    buffers: float
    framework: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.weights + self.gradients + self.optimizer + self.buffers + self.framework


def activations_of(scenario: Scenario, model: Model, shard: Shard, parallel: Parallel) -> list[StageActivations]:
    """Activation bytes of one micro batch, by stage."""
    away = send_bytes(model, shard) if "residual" in scenario.layout.offload else 0.0
    return stage_activations(
        stage_operators(model, shard, parallel),
        fragmentation=scenario.software.fragmentation,
        residual_bytes=away,
    )


def held_bytes(
    scenario: Scenario,
    model: Model,
    parallel: Parallel,
    stages: Sequence[int],
    activations: Sequence[StageActivations],
) -> Held:
    """What a GPU that holds ``stages`` keeps through the step; ``activations`` are those of all stages."""
    layout, software = scenario.layout, scenario.software
    state = parameter_bytes(model, layout, parallel, stages, both_gradients=software.both_gradients)
    buffers = float(software.workspace_memory) + _buffers(model, layout, parallel, stages)
    if software.dummy_gradients and layout.zero < 2:
        shapes = frozenset().union(*(activations[stage].weight_shapes for stage in stages))
        buffers += element_bytes(layout.precision) * sum(rows * columns for rows, columns in shapes)
    return Held(state.weights, state.gradients, state.optimizer, buffers, float(scenario.software.framework_memory))


def replay_peak(actions: NDArray[np.int32], activations: Sequence[StageActivations]) -> float:
    """Peak activation bytes of a rank, from the order of its actions (slots, 5) alone.

    A forward and a backward that overlap (X) are taken to be alive together, the most they can be.
    """
    live = peak = 0.0
    for kind, stage, _, other, _ in actions.tolist():
        backward = activations[other if kind == Action.X else stage]
        extra = {Action.F: 0.0, Action.I: backward.input_extra, Action.W: 0.0}.get(kind, backward.backward_extra)
        if kind in (Action.F, Action.X):
            live += activations[stage].saved
            extra += activations[stage].forward_extra
        if kind == Action.I:
            live += backward.remade
        peak = max(peak, live + extra)
        if kind in (Action.W, Action.B, Action.X):
            live -= backward.saved + (backward.remade if kind == Action.W else 0.0)
    return peak


def memory_report(
    scenario: Scenario,
    model: Model,
    device: Device,
    parallel: Parallel,
    order: Order,
    activations: Sequence[StageActivations],
    lowered: Lowered,
    timeline: Timeline,
) -> MemoryReport:
    """Peak, parts and curve of each pipeline rank.

    A micro batch's activations live from the start of its forward to the end of its weight gradients; what
    backward needs on top lives while the backward runs, or for as long as the weight gradients need it.
    """
    peaks, times, curves = [], [], []
    parts: dict[str, list[float]] = {part: [] for part in PARTS}
    for rank in range(order.ranks):
        actions = lowered.actions[lowered.actions[:, 0] == rank]
        held = held_bytes(scenario, model, parallel, sorted(set(actions[:, 2].tolist())), activations)
        time_s, live = _curve(actions, activations, timeline, held.total)
        worst = int(np.argmax(live))
        peaks.append(float(live[worst]))
        times.append(float(time_s[worst]))
        curves.append((time_s, live))
        parts["activations"].append(peaks[-1] - held.total)
        for part in ("weights", "gradients", "optimizer", "buffers", "framework"):
            parts[part].append(getattr(held, part))
    return MemoryReport(
        capacity_bytes=float(device.memory),
        peak_bytes=tuple(peaks),
        parts={part: tuple(values) for part, values in parts.items()},
        peak_time_s=tuple(times),
        curve=tuple(curves),
    )


def _curve(
    actions: np.ndarray, activations: Sequence[StageActivations], timeline: Timeline, base: float
) -> tuple[np.ndarray, np.ndarray]:
    times, deltas = [], []
    for _, kind, stage, _, first, last in actions.tolist():
        begin, end = timeline.start_s[first], timeline.end_s[last]
        held = activations[stage]
        at_begin, at_end = {
            Action.F: (held.saved + held.forward_extra, -held.forward_extra),
            Action.I: (held.remade + held.input_extra, -held.input_extra),
            Action.W: (0.0, -held.saved - held.remade),
            Action.B: (held.backward_extra, -held.saved - held.backward_extra),
        }[Action(kind)]
        times += [begin, end]
        deltas += [at_begin, at_end]
    return live_bytes(times, deltas, base)


def _buffers(model: Model, layout: Layout, parallel: Parallel, stages: Sequence[int]) -> float:
    """Whole gradients and weights held for a while, in bytes, where ZeRO 2 and 3 or host memory hold the others.

    Gradients of the bucket in backward and of the one being reduced or sent away, or of the stages likewise where
    gradients are summed over a run of micro batches; also, where they are gathered or fetched, the weights of the layer
    that computes and of those gathered ahead, or of all layers where forward keeps them.  Embedding and head are layers
    too; after the last layer or bucket comes the first of the next micro batch.
    """
    weights = gradients = 0.0
    cut = layout.zero >= 2 or "gradients" in layout.offload
    of = [[[count for _, count in own] for own in buckets(model, layout, parallel, s).values()] for s in stages]
    if cut and layout.accumulate_runs:
        gradients = _most([sum(map(sum, axes)) for axes in of], min(2, len(of)))
    elif cut and not layout.reduce_once:
        gradients = max(sum(_most(own, 2) for own in axes) for axes in of)
    if layout.zero == 3 or "weights" in layout.offload:
        layers = [[_parameters(model, parallel, s, i) for i in stage_layers(parallel, s)] for s in stages]
        ahead = [_most(own, (layout.prefetch or 0) + 1) for own in layers]
        weights = max(ahead, default=0.0) if layout.reshard_after_forward else sum(map(sum, layers))
    return gradients * gradient_bytes(layout) + weights * element_bytes(layout.precision)


def _parameters(model: Model, parallel: Parallel, stage: int, layer: int) -> float:
    held = stage_parameters(model, parallel, stage, layer)
    return held.dense + held.experts


def _most(sizes: Sequence[float], count: int) -> float:
    """Largest sum of ``count`` sizes that follow one another in a circle."""
    return max((sum(sizes[(i + j) % len(sizes)] for j in range(count)) for i in range(len(sizes))), default=0.0)
