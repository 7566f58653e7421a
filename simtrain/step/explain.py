"""What contributes to a step, operator by operator, and how well it is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np

from simtrain.costs.kernels import KernelTime
from simtrain.costs.prices import Priced
from simtrain.costs.step import StepPrices
from simtrain.program.lower import Lowered
from simtrain.program.program import STREAMS, Phase
from simtrain.program.timeline import Timeline
from simtrain.step.report import Contribution, Coverage
from simtrain.timeline.ledger import Ledger

__all__ = ["contributions", "coverage"]


def all_priced(prices: StepPrices) -> Iterator[Priced]:
    """Every priced operator of a step, each stage's in turn."""
    for stages in (prices.forward, prices.backward):
        for stage in stages:
            yield from stage
    for layers in (*prices.reduce, *prices.gather, *prices.parameter_gather):
        for found in layers.values():
            yield from found
    yield from prices.optimizer
    yield from prices.mirror
    yield prices.grad_norm
    if prices.tied is not None:
        yield prices.tied


def coverage(prices: StepPrices) -> Coverage:
    """How many distinct kernels rest on another device's measurements."""
    kernels: dict[tuple[str, str], KernelTime] = {}
    for op in all_priced(prices):
        if isinstance(op.cost, KernelTime):
            kernels.setdefault((op.name, op.kind), op.cost)
    borrowed = [f"{name} ({kind}): {cost.source}" for (name, kind), cost in kernels.items() if cost.extrapolated]
    return Coverage(len(kernels), len(borrowed), tuple(borrowed))


def contributions(prices: StepPrices, lowered: Lowered, timeline: Timeline, ledger: Ledger) -> tuple[Contribution, ...]:
    """Operators by the GPU time they hold the compute stream, largest first.

    Operations are grouped by name and phase; formula and inputs are those of the longest one.
    """
    program = timeline.program
    gpus = float(program.multiplicity.sum())
    group = program.name.astype(np.int64) * len(Phase) + program.phase
    keys, inverse, count = np.unique(group, return_inverse=True, return_counts=True)
    duration = timeline.end_s - timeline.start_s
    weight = np.add.reduceat(program.multiplicity[program.lanes // STREAMS], program.op_ptr[:-1])
    busy = np.bincount(inverse, duration * weight) / gpus
    held = np.bincount(inverse, ledger.held_s) / gpus
    known = _longest(chain(all_priced(prices), lowered.flows.exchanges))
    found = [
        _contribution(
            program.names[key // len(Phase)], Phase(key % len(Phase)), int(count[i]), busy[i], held[i], timeline, known
        )
        for i, key in enumerate(keys.tolist())
    ]
    return tuple(sorted(found, key=lambda c: (-c.exposed_s, c.name)))


def _longest(operators: Iterable[Priced]) -> dict[tuple[str, str], Priced]:
    """The longest operator of each name, within its part of the step and (part "") over all parts."""
    longest: dict[tuple[str, str], Priced] = {}
    for op in operators:
        for key in ((op.name, "again" if op.recompute else op.part), (op.name, "")):
            held = longest.get(key)
            if held is None or op.latency_s + op.work_s > held.latency_s + held.work_s:
                longest[key] = op
    return longest


_PART = {Phase.FORWARD: "F", Phase.BACKWARD_INPUT: "I", Phase.BACKWARD_WEIGHT: "W", Phase.RECOMPUTE: "again"}
_SUFFIX = {
    Phase.FORWARD: " forward",
    Phase.BACKWARD_INPUT: " backward (inputs)",
    Phase.BACKWARD_WEIGHT: " backward (weights)",
    Phase.RECOMPUTE: " recomputed",
}


def _host_contribution(name: str, count: int, busy_s: float, held_s: float, timeline: Timeline) -> Contribution:
    return Contribution(
        name=name,
        kind="host",
        count=count,
        each_s=busy_s / count if count else 0.0,
        busy_s=busy_s,
        exposed_s=held_s,
        share=held_s / timeline.makespan_s if timeline.makespan_s else 0.0,
        formula="calls of the software x host_call of the node, or workload.host_time_per_micro_batch",
        inputs="",
        source="software profile",
    )


def _contribution(
    name: str,
    phase: Phase,
    count: int,
    busy: float,
    held: float,
    timeline: Timeline,
    known: dict[tuple[str, str], Priced],
) -> Contribution:
    if phase is Phase.HOST:
        return _host_contribution(name, count, float(busy), float(held), timeline)
    op = known.get((name, _PART.get(phase, "")), known.get((name, "")))
    cost = op.cost if op is not None else None
    shape = "" if op is None else f"{op.flops:.4g} FLOP, {op.bytes:.4g} B"
    return Contribution(
        name=name + _SUFFIX.get(phase, ""),
        kind=op.kind if op is not None else "send_recv",
        count=count,
        each_s=0.0 if op is None else op.latency_s + op.work_s,
        busy_s=float(busy),
        exposed_s=float(held),
        share=float(held) / timeline.makespan_s if timeline.makespan_s else 0.0,
        formula=cost.formula if cost is not None else "",
        inputs=shape,
        source=getattr(cost, "source", "cluster graph"),
    )
