"""Gather and scatter: every other GPU's part goes straight to the root, or comes from it (NCCL send/recv)."""

from __future__ import annotations

import numpy as np

from simtrain.costs.collectives.groups import Groups
from simtrain.costs.collectives.plan import Algorithm, Plan, Stage
from simtrain.costs.collectives.traffic import Traffic
from simtrain.model.operators import Collective

__all__ = ["ALGORITHM"]


def _plan(groups: Groups, collective: Collective) -> Plan:
    n, per_node = groups.size, groups.topology.gpus_per_node
    roots = np.broadcast_to(groups.roots[:, None], groups.members.shape)
    other = groups.members != roots
    member, root = groups.members[other], roots[other]
    traffic = Traffic(groups)
    if collective == "gather":
        traffic.add(member, root, 1.0 / n)
    else:
        traffic.add(root, member, 1.0 / n)
    near = (groups.nodes == (groups.roots // per_node)[:, None]).sum(axis=1) - 1
    peers = int(near.min())
    return Plan(
        "direct",
        (Stage(collective, traffic, near_steps=peers, far_steps=n - 1 - peers),),
        protocols=("LL", "Simple"),
        formula=f"size / {n} for each of {n - 1} peers of the root",
    )


ALGORITHM = Algorithm("direct", ("gather", "scatter"), _plan, ideal=True)
