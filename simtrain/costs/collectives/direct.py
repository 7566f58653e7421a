"""Direct exchange: every GPU sends each other one its part at once, then the sums come back.

On a full mesh that is what RCCL does; through an NVSwitch MSCCL++ does it.
"""

from __future__ import annotations

from simtrain.costs.collectives.groups import Groups
from simtrain.costs.collectives.plan import Algorithm, Plan, Stage, passes
from simtrain.costs.collectives.traffic import Traffic
from simtrain.model.operators import Collective

__all__ = ["ALL_PAIRS", "MESH"]


def _plan_mesh(groups: Groups, collective: Collective) -> Plan | None:
    return _plan(groups, collective) if groups.topology.scale_up == "mesh" else None


def _plan(groups: Groups, collective: Collective) -> Plan | None:
    if groups.topology.scale_up == "pcie" or groups.most_nodes > 1:
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


_COLLECTIVES: tuple[Collective, ...] = ("all_reduce", "all_gather", "reduce_scatter")
MESH = Algorithm("direct", _COLLECTIVES, _plan_mesh)
ALL_PAIRS = Algorithm("all_pairs", _COLLECTIVES, _plan, nccl=False, mscclpp=True)
