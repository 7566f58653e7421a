"""Broadcast and reduce: the data goes once around the ring, cut where it would come back to the root (NCCL's ring)."""

from __future__ import annotations

import numpy as np

from simtrain.costs.collectives.groups import Groups
from simtrain.costs.collectives.plan import Algorithm, Plan, Stage
from simtrain.costs.collectives.ring import rings
from simtrain.costs.collectives.traffic import Traffic
from simtrain.model.operators import Collective

__all__ = ["ALGORITHM"]


def _plan(groups: Groups, collective: Collective) -> Plan:
    n, nodes = groups.size, groups.most_nodes
    traffic = Traffic(groups)
    for channels, orders in rings(groups):
        source, target = orders.ravel(), np.roll(orders, -1, axis=1).ravel()
        root = groups.roots[groups.group_of_gpu[source]]
        # Nobody sends to the root of a broadcast; the root of a reduce sends to nobody.
        kept = (target if collective == "broadcast" else source) != root
        traffic.add(source[kept], target[kept], 1.0 / channels)
    return Plan(
        "ring",
        (Stage("chain", traffic, near_steps=n - nodes, far_steps=nodes - 1),),
        protocols=("LL", "LL128", "Simple"),
        formula="size along the ring, from rank to rank",
    )


ALGORITHM = Algorithm("ring", ("broadcast", "reduce"), _plan, ideal=True)
