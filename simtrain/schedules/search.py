"""Search for an order with given costs within a given memory.

An order grows from a building block: the slots of one micro batch, repeated with a period (Qi et al. 2024,
arXiv 2405.15362, section 3).  How long the hops between ranks are decides the memory; the search varies them.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simtrain.jit import available
from simtrain.schedules import kernels
from simtrain.schedules.base import Actions
from simtrain.schedules.kernels import Slots
from simtrain.schedules.order import Action, Placement, stage_rank
from simtrain.schedules.slot_costs import SlotCosts

__all__ = ["Bench", "Problem", "actions_of", "search", "slots_in", "slots_of"]

Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]

DOUBT = 0.03
MOST_WIDENINGS = 60
PATIENCE = (0.01, 0.5, 1.0)
MOST_PLANS, PLAN_SLOTS, KEPT = 400, 1_200_000, 8
MOST_TRIES, TRIED_SLOTS, STARTS = 20_000, 12_000_000, 4


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
        """P V."""
        return self.ranks * self.chunks


class Plan(NamedTuple):
    """One building block.

    Attributes:
        hops: what a hop between ranks takes longer, in mean slots, for each forward chunk, then each backward one.
        period: factor between micro batches; 1 is what the busiest rank needs.
        equal: whether all slots count as equally long.
    """

    hops: tuple[float, ...]
    period: float
    equal: bool


class Found(NamedTuple):
    """An order, and how good it is: over all cases, and with the given costs score, makespan and longest span."""

    rating: tuple[float, float, float, float]
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
    kind, stage = np.indices((kinds, stages)).reshape(2, -1)
    neighbour = stage + np.array([-1, 1, stages])[kind]
    has = (neighbour >= 0) & (neighbour < stages)
    far = has & (where[np.where(has, neighbour, stage)] != where[stage])
    alive = np.array([1, 0, -1] if kinds == 3 else [1, -1])[kind]

    def of_all(values: NDArray[Any], kind: type) -> NDArray[Any]:
        return np.repeat(values.astype(kind), microbatches)

    def shifted(place: Ints, there: NDArray[np.bool_]) -> Ints:
        table = place[:, None] * microbatches + np.arange(microbatches)
        return np.where(there[:, None], table, -1).astype(np.int32).ravel()

    return Slots(
        rank=of_all(where[stage], np.int32),
        before=shifted(kind * stages + neighbour, has),
        lag=of_all(np.where(far, lag, 0.0), np.float64),
        own=shifted((kind - 1) * stages + stage, kind > 0),
        duration=of_all(durations.ravel(), np.float64),
        alive=of_all(alive, np.int32),
        limit=np.full(ranks, limit, np.int32),
    )


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
    """The best order found, with the given costs no worse than any of the ``known`` ones.

    Raises:
        ScheduleError: costs do not fit the stages.
    """
    bench = Bench(problem, problem.microbatches)
    rivals = _some(bench.timed(*slots_in(actions, problem)) for actions in known)
    found = [*rivals, *_some(bench.grown(plan) for plan in _plans(problem))]
    distinct = {one.rating: one for one in found}
    starts = sorted(distinct.values(), key=lambda one: one.rating)[:STARTS]
    tries = int(_effort() * min(MOST_TRIES, TRIED_SLOTS // len(starts) // len(bench.cases[0].rank)))
    found = [*distinct.values(), *(bench.refined(one, tries) for one in starts)]
    bar = min((one.rating[1] for one in rivals), default=np.inf)
    best = min((one for one in found if one.rating[1] <= bar), key=lambda one: one.rating)
    kinds = (Action.F, Action.I, Action.W)
    return actions_of(best.order, best.first, problem.stages, problem.microbatches, kinds=kinds)


class Bench:
    """Grows orders for a number of micro batches, and times them."""

    def __init__(self, problem: Problem, microbatches: int) -> None:
        self.problem, self.microbatches = problem, microbatches
        durations = problem.costs.table(problem.stages)[:3]
        mean = float(durations.mean()) or 1.0
        even = np.broadcast_to(durations.mean(axis=0), durations.shape)
        skewed = even * np.array([[1.0], [1.2], [0.8]])
        given = self._slots(durations, problem.costs.comm)
        others = [self._slots(case, late) for case in (even, skewed) for late in (0.0, 0.3 * mean)]
        self.cases = (given, *others)
        # Zero durations would leave open which of two slots comes first; beyond some latency more changes no order.
        lag = min(problem.costs.comm / mean, 2.0 * problem.limit)
        self._models = {
            False: self._slots(np.maximum(durations / mean, 1e-3), lag),
            True: self._slots(np.ones_like(durations), 0.0),
        }

    def _slots(self, durations: Floats, lag: float) -> Slots:
        p = self.problem
        return slots_of(p.ranks, self.microbatches, p.chunks, p.placement, durations, lag, p.limit)

    def grown(self, plan: Plan, best: float = np.inf) -> Found | None:
        """The best order that a building block gives; none where memory is too small for any."""
        model = self._models[plan.equal]
        hops = np.repeat(plan.hops, self.problem.ranks)
        load = np.bincount(model.rank, model.duration).max() / self.microbatches
        for widening in range(MOST_WIDENINGS):
            period = load * plan.period * 1.25**widening
            targets = kernels.pattern(model, self.microbatches, hops, period)
            fits, order, first = kernels.insert(targets, period, self.microbatches, model)
            if fits:
                orders = [order, *(self._refilled(order, first, patience) for patience in PATIENCE)]
                timed = [self.timed(each, first, 1.01 * best) for each in orders if each is not None]
                return min((one for one in timed if one), key=lambda one: one.rating, default=None)
        return None

    def _refilled(self, order: Ints, first: Ints, patience: float) -> Ints | None:
        start, finish = np.empty(len(order)), np.empty(len(order))
        runs, filled = kernels.refill(order, first, self.cases[0], patience, start, finish)
        return filled if runs else None

    def timed(self, order: Ints, first: Ints, most: float = np.inf) -> Found | None:
        """An order with its times; none where it breaks the limit."""
        rating = kernels.rate(order, first, self.cases, DOUBT, self.problem.span_weight, most)
        return Found(rating, order, first) if np.isfinite(rating[0]) else None

    def refined(self, found: Found, tries: int) -> Found:
        """The order after ``tries`` moves, each kept where it does no harm."""
        order = found.order.copy()
        kernels.refine(order, found.first, self.cases, DOUBT, self.problem.span_weight, tries)
        return self.timed(order, found.first) or found


def _plans(problem: Problem) -> list[Plan]:
    """The best few building blocks, tried on no more micro batches than it takes to see them."""
    bench = Bench(problem, min(problem.microbatches, 3 * problem.ranks))
    legs = 2 * problem.chunks
    shapes = [(0.0,) * legs, *(tuple(float(leg == other) for other in range(legs)) for leg in range(legs))]
    queue = [Plan(shape, 1.0, equal) for shape in shapes for equal in (False, True)]
    seen: set[Plan] = set()
    ranking: list[tuple[tuple[float, ...], Plan]] = []
    random = np.random.default_rng(0)
    for _ in range(int(_effort() * min(MOST_PLANS, max(100, PLAN_SLOTS // len(bench.cases[0].rank))))):
        rank = min(int(random.exponential(1.0)), len(ranking) - 1)
        plan = queue.pop() if queue else _varied(ranking[rank][1], random)
        if plan in seen:
            continue
        seen.add(plan)
        found = bench.grown(plan, ranking[0][0][1] if ranking else np.inf)
        if found:
            insort(ranking, (found.rating, plan))
    return [plan for _, plan in ranking[:KEPT]]


def _effort() -> float:
    """Share of the work to do: loops that are not compiled take far longer."""
    return 1.0 if available() else 0.07


def _some(found: Iterable[Found | None]) -> list[Found]:
    return [one for one in found if one is not None]


def _varied(plan: Plan, random: np.random.Generator) -> Plan:
    hops = list(plan.hops)
    for _ in range(int(random.integers(1, 3))):
        leg = int(random.integers(len(hops)))
        hops[leg] = max(0.0, hops[leg] + float(random.choice([-2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0])))
    period = max(1.0, plan.period + float(random.choice([-0.1, 0.0, 0.0, 0.1])))
    return Plan(tuple(hops), round(period, 6), bool(plan.equal ^ (random.random() < 0.1)))


def slots_in(actions: Sequence[Actions], problem: Problem) -> tuple[Ints, Ints]:
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
