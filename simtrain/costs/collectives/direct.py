"""Direct exchange on a full mesh: every GPU sends each other one its part at once, then the sums come back."""

from __future__ import annotations

from simtrain.costs.collectives.groups import Groups
from simtrain.costs.collectives.plan import Algorithm, Plan, Stage, passes
from simtrain.costs.collectives.traffic import Traffic
from simtrain.model.operators import Collective

__all__ = ["ALGORITHM"]


def _plan(groups: Groups, collective: Collective) -> Plan | None:
    if groups.topology.scale_up != "mesh" or groups.most_nodes > 1:
        return None
    n, rounds = groups.size, passes(collective)
    traffic = Traffic(groups)
    traffic.exchange(groups.members, rounds / n)
    return Plan(
        "direct",
        (Stage("exchange", traffic, near_steps=rounds, far_steps=0),),
        protocols=("LL", "LL128", "Simple"),
        formula=f"{rounds} / {n} * size over each pair's link",
    )


ALGORITHM = Algorithm("direct", ("all_reduce", "all_gather", "reduce_scatter"), _plan)
