"""Which GPUs are simulated by themselves: those that do not behave like the others of their pipeline rank."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simtrain.engines import choose
from simtrain.layout.parallel import Parallel
from simtrain.layout.placement import Placement
from simtrain.model.expert_loads import rank_loads
from simtrain.program.blocks import SCOPES
from simtrain.program.lower import Lowered
from simtrain.program.unfold import Unfolded, split_uneven, unfold
from simtrain.scenario.model import Model
from simtrain.scenario.scenario import Scenario

__all__ = ["copies_of", "stands_for_uneven"]


MOST_OPERATIONS = {"compiled": 2_000_000, "des": 100_000}
"""Operations up to which every GPU is simulated where one cannot stand for all: one or two seconds."""


def stands_for_uneven(scenario: Scenario, lowered: Lowered, copies: Unfolded | None) -> bool:
    """Whether one GPU stands for others that load links in another way, only because there are too many of them."""
    every = copies is not None and copies.program.ranks > 2 * lowered.program.ranks
    return scenario.fold is None and not lowered.flows.alike and not every


def _too_many(scenario: Scenario, lowered: Lowered, placement: Placement) -> bool:
    copies = np.array([placement.partition(scope).max() + 1 for scope in SCOPES])[lowered.scope]
    return int(copies.sum()) > MOST_OPERATIONS[choose(scenario.engine)]


def copies_of(
    scenario: Scenario, model: Model, parallel: Parallel, placement: Placement, lowered: Lowered
) -> Unfolded | None:
    """The copies of the folded Program that an engine runs; None where the folded one says it all."""
    ep, etp, moe, routing = parallel.ep, parallel.etp, model.moe, scenario.workload.routing
    fold = scenario.fold
    if fold is None:
        fold = lowered.flows.alike or _too_many(scenario, lowered, placement)
    if moe is None or ep == 1 or routing.kind == "balanced":
        return None if fold else unfold(lowered, placement)

    def of_ranks(layer: int) -> NDArray[np.float64]:
        loads = rank_loads(moe, ep, layer, routing)
        return np.asarray(loads / loads.max())

    def of_each(layer: int) -> NDArray[np.float64]:
        return np.tile(np.repeat(of_ranks(layer), etp), parallel.replicas // parallel.expert_ranks)

    def of_two(layer: int) -> NDArray[np.float64]:
        return np.array([1.0, (of_ranks(layer).sum() - 1.0) / (ep - 1)])

    if fold:
        return split_uneven(lowered, 1.0 / ep, of_two)
    return unfold(lowered, placement, of_each)
