"""Search for an order with given costs within a given memory.

An order grows from a building block: the slots of one micro batch, repeated with a period (Qi et al. 2024,
arXiv 2405.15362, section 3).  How long the hops between ranks are decides the memory; the search varies them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import ScheduleError
from simtrain.schedules import kernels
from simtrain.schedules.base import Actions
from simtrain.schedules.kernels import Slots
from simtrain.schedules.order import Action, Placement, stage_rank
from simtrain.schedules.slot_costs import SlotCosts

__all__ = ["Problem", "actions_of", "search", "slots_of"]

Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]

PATIENCE = (0.01, 0.5, 1.0)
MOST_PLANS, PLAN_SLOTS = 400, 3_000_000
MOST_TRIES, TRIED_SLOTS = 4000, 3_000_000


@dataclass(frozen=True, slots=True)
class Problem:
    """What is searched for.

    Attributes:
        ranks, microbatches, chunks: sizes.
        placement: of stages.
        costs: of slots.
        limit: most chunk activations on a rank, alive from F to the end of W.
        span_weight: how much the longest span of a rank (first start to last end) counts beside the makespan.
    """

    ranks: int
    microbatches: int
    chunks: int
    placement: Placement
    costs: SlotCosts
    limit: int
    span_weight: float

    @property
    def stages(self) -> int:
        return self.ranks * self.chunks


class Plan(NamedTuple):
    """One building block: longer hops (in mean slots, for each forward chunk, then each backward one), a longer
    period (as a factor), and whether all slots count as equally long."""

    hops: tuple[float, ...]
    period: float
    equal: bool


class Found(NamedTuple):
    """An order, and how good it is (weighted sum, makespan, longest span)."""

    score: tuple[float, float, float]
    order: Ints
    first: Ints


def slots_of(
    ranks: int, microbatches: int, chunks: int, placement: Placement, durations: Floats, lag: float, limit: int
) -> Slots:
    """Slots of a pipeline.

    Args:
        ranks: P.
        microbatches: M.
        chunks: V.
        placement: of the P V stages.
        durations: shape (3, stages) for F, I and W; shape (2, stages) for F and a full backward.
        lag: latency between ranks.
        limit: most activations on a rank.
    """
    kinds, stages = durations.shape
    where = np.array([stage_rank(placement, stage, ranks) for stage in range(stages)])
    kind, stage, microbatch = (axis.ravel() for axis in np.indices((kinds, stages, microbatches)))
    slot = np.arange(kind.size)
    neighbour = stage + np.choose(kind, [-1, 1, stages])
    has_neighbour = (neighbour >= 0) & (neighbour < stages)
    before = np.where(has_neighbour, (kind * stages + neighbour) * microbatches + microbatch, -1)
    far = has_neighbour & (where[np.where(has_neighbour, neighbour, stage)] != where[stage])
    own = np.where(kind > 0, slot - stages * microbatches, -1)
    alive = np.array([1, 0, -1] if kinds == 3 else [1, -1])[kind]
    return Slots(where[stage], before, far * lag, own, durations[kind, stage], alive, np.full(ranks, limit))


def actions_of(
    order: Ints, first: Ints, stages: int, microbatches: int, *, kinds: Sequence[Action]
) -> tuple[Actions, ...]:
    """Actions of every rank for an order of slots."""
    table = np.full((len(order), 5), -1, dtype=np.int32)
    table[:, 0] = np.array(kinds)[order // (stages * microbatches)]
    table[:, 1] = order // microbatches % stages
    table[:, 2] = order % microbatches
    return tuple(table[begin:end] for begin, end in pairwise(first.tolist()))


def search(problem: Problem, known: Iterable[Sequence[Actions]] = ()) -> tuple[Actions, ...]:
    """The best order found; no longer, in makespan or in span, than any of the ``known`` ones.

    Raises:
        ScheduleError: costs do not fit the stages, or the limit holds less than one micro batch.
    """
    if problem.limit < problem.chunks:
        raise ScheduleError(f"memory for {problem.limit} chunks cannot hold one micro batch on {problem.chunks} chunks")
    bench = _Bench(problem, problem.microbatches)
    rivals = [bench.timed(*_slots_in(actions, problem)) for actions in known]
    found = [*rivals, *(bench.grown(plan) for plan in _plans(problem))]
    found = sorted((one for one in found if one is not None), key=lambda one: one.score)
    tries = min(MOST_TRIES, TRIED_SLOTS // len(bench.slots.rank))
    found += [bench.refined(one, tries) for one in found[:3]]
    bar = [min(one.score[i] for one in rivals) if rivals else np.inf for i in (1, 2)]
    allowed = [one for one in found if one.score[1] <= bar[0] and one.score[2] <= bar[1]]
    best = min(allowed, key=lambda one: one.score)
    kinds = (Action.F, Action.I, Action.W)
    return actions_of(best.order, best.first, problem.stages, problem.microbatches, kinds=kinds)


class _Bench:
    """Grows orders for a number of micro batches, and times them."""

    def __init__(self, problem: Problem, microbatches: int) -> None:
        self.problem, self.microbatches = problem, microbatches
        durations = problem.costs.table(problem.stages)[:3]
        mean = float(durations.mean()) or 1.0
        self.slots = self._slots(durations, problem.costs.comm)
        # Zero durations would leave open which of two slots comes first.
        self._models = {
            False: self._slots(np.maximum(durations / mean, 1e-3), problem.costs.comm / mean),
            True: self._slots(np.ones_like(durations), 0.0),
        }

    def _slots(self, durations: Floats, lag: float) -> Slots:
        p = self.problem
        return slots_of(p.ranks, self.microbatches, p.chunks, p.placement, durations, lag, p.limit)

    def grown(self, plan: Plan) -> Found | None:
        """The best order that a building block gives; none where memory is too small for any."""
        model = self._models[plan.equal]
        hops = np.repeat(plan.hops, self.problem.ranks)
        load = np.bincount(model.rank, model.duration).max() / self.microbatches
        for widening in range(40):
            period = load * plan.period * 1.25**widening
            targets = kernels.pattern(model, self.microbatches, hops, period)
            fits, order, first = kernels.insert(targets, period, self.microbatches, model)
            if fits:
                orders = [order, *(self._refilled(order, first, patience) for patience in PATIENCE)]
                timed = [self.timed(each, first) for each in orders if each is not None]
                return min((one for one in timed if one), key=lambda one: one.score, default=None)
        return None

    def _refilled(self, order: Ints, first: Ints, patience: float) -> Ints | None:
        start, finish = np.empty(len(order)), np.empty(len(order))
        runs, filled = kernels.refill(order, first, self.slots, patience, start, finish)
        return filled if runs else None

    def timed(self, order: Ints, first: Ints) -> Found | None:
        """An order with its times; none where it breaks the limit."""
        start, finish = np.empty(len(order)), np.empty(len(order))
        if not kernels.run(order, first, self.slots, start, finish):
            return None
        return Found(kernels.score(order, first, start, finish, self.problem.span_weight), order, first)

    def refined(self, found: Found, tries: int) -> Found:
        order = found.order.copy()
        kernels.refine(order, found.first, self.slots, tries, self.problem.span_weight)
        return self.timed(order, found.first) or found


def _plans(problem: Problem) -> Iterator[Plan]:
    """The best few building blocks, tried on no more micro batches than it takes to see them."""
    bench = _Bench(problem, min(problem.microbatches, 3 * problem.ranks))
    tries = min(MOST_PLANS, max(20, PLAN_SLOTS // len(bench.slots.rank)))
    legs = 2 * problem.chunks
    hops = [(0.0,) * legs, *(tuple(float(leg == other) for other in range(legs)) for leg in range(legs))]
    seen: dict[Plan, Found | None] = {}
    pool = [Plan(each, 1.0, equal) for each in hops for equal in (False, True)]
    for plan in pool:
        seen[plan] = bench.grown(plan)
    random = np.random.default_rng(0)
    while tries > 0:
        tries -= 1
        ranked = _ranked(seen)[:4]
        if not ranked:
            break
        plan = _varied(ranked[min(int(random.exponential(1.0)), len(ranked) - 1)], random)
        if plan not in seen:
            seen[plan] = bench.grown(plan)
    yield from _ranked(seen)[:6]


def _ranked(seen: dict[Plan, Found | None]) -> list[Plan]:
    scored = [(found.score, plan) for plan, found in seen.items() if found]
    return [plan for _, plan in sorted(scored)]


def _varied(plan: Plan, random: np.random.Generator) -> Plan:
    hops = list(plan.hops)
    for _ in range(int(random.integers(1, 3))):
        leg = int(random.integers(len(hops)))
        hops[leg] = max(0.0, hops[leg] + float(random.choice([-2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0])))
    period = max(1.0, plan.period + float(random.choice([-0.1, 0.0, 0.0, 0.1])))
    return Plan(tuple(hops), round(period, 6), bool(plan.equal ^ (random.random() < 0.1)))


def _slots_in(actions: Sequence[Actions], problem: Problem) -> tuple[Ints, Ints]:
    """Order of slots for actions of F, I and W; a full backward is an I with its W."""
    ranks = []
    for table in actions:
        kind, stage, microbatch = (table[:, column].astype(np.int64) for column in range(3))
        whole = kind == Action.B
        kind = np.where(whole, int(Action.I), kind)
        slots = (kind * problem.stages + stage) * problem.microbatches + microbatch
        weights = slots + problem.stages * problem.microbatches
        ranks.append(np.stack((slots, weights), axis=1)[np.stack((np.ones_like(whole), whole), axis=1)])
    first = np.cumsum([0, *map(len, ranks)])
    return np.concatenate(ranks), first
