"""Pairwise all-to-all: every GPU sends every other one its part, one peer after the other (NCCL send/recv).

A dispatch or combine that knows nothing of nodes is the same: each token goes to each of its experts by itself.
"""

from __future__ import annotations

from simtrain.costs.collectives.groups import Groups
from simtrain.costs.collectives.plan import Algorithm, Plan, Stage
from simtrain.costs.collectives.traffic import Traffic
from simtrain.model.operators import Collective

__all__ = ["ALGORITHM"]


def _plan(groups: Groups, collective: Collective) -> Plan:
    n = groups.size
    traffic = Traffic(groups)
    traffic.exchange(groups.members, 1.0 / n)
    peers_inside = int(groups.blocks.sizes.min()) - 1
    return Plan(
        "pairwise",
        (Stage("exchange", traffic, peers_inside, n - 1 - peers_inside, family="exchange"),),
        protocols=("LL", "Simple"),
        formula=f"size / {n} to each of {n - 1} peers",
    )


ALGORITHM = Algorithm("pairwise", ("all_to_all", "dispatch", "combine"), _plan, mscclpp=True, ideal=True)
