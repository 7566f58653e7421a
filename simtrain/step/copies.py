"""Which GPUs are simulated by themselves: those that do not behave like the others of their pipeline rank."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simtrain.layout.parallel import Parallel
from simtrain.layout.placement import Placement
from simtrain.model.expert_loads import rank_loads
from simtrain.program.lower import Lowered
from simtrain.program.unfold import Unfolded, split_uneven, unfold
from simtrain.scenario.model import Model
from simtrain.scenario.scenario import Scenario

__all__ = ["copies_of"]


def copies_of(
    scenario: Scenario, model: Model, parallel: Parallel, placement: Placement, lowered: Lowered
) -> Unfolded | None:
    """The copies of the folded Program that an engine runs; None where the folded one says it all."""
    ep, etp, moe, routing = parallel.ep, parallel.etp, model.moe, scenario.workload.routing
    if moe is None or ep == 1 or routing.kind == "balanced":
        return None if scenario.fold else unfold(lowered, placement)

    def of_ranks(layer: int) -> NDArray[np.float64]:
        loads = rank_loads(moe, ep, layer, routing)
        return np.asarray(loads / loads.max())

    def of_each(layer: int) -> NDArray[np.float64]:
        return np.tile(np.repeat(of_ranks(layer), etp), parallel.replicas // parallel.expert_ranks)

    def of_two(layer: int) -> NDArray[np.float64]:
        return np.array([1.0, (of_ranks(layer).sum() - 1.0) / (ep - 1)])

    if scenario.fold:
        return split_uneven(lowered, 1.0 / ep, of_two)
    return unfold(lowered, placement, of_each)
