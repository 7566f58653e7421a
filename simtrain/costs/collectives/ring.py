"""Ring: every GPU sends to its neighbour; one ring (channel) per NIC that the group can reach.

all_reduce moves 2 (n - 1) / n of the size over each hop, all_gather and reduce_scatter half of that
(Patarasuk and Yuan, Bandwidth optimal all-reduce algorithms, 2009; steps as in NCCL's tuning.cc).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simtrain.costs.collectives.groups import Groups, blocks_of
from simtrain.costs.collectives.plan import Algorithm, Plan, Stage, passes
from simtrain.costs.collectives.traffic import Traffic
from simtrain.model.operators import Collective

__all__ = ["ALGORITHM", "rings"]

Ints = NDArray[np.int64]


def _plan(groups: Groups, collective: Collective) -> Plan:
    n, nodes, rounds = groups.size, groups.most_nodes, passes(collective)
    traffic = Traffic(groups)
    for channels, orders in rings(groups):
        traffic.add(orders.ravel(), np.roll(orders, -1, axis=1).ravel(), rounds * (n - 1) / n / channels)
    stage = Stage(
        "ring",
        traffic,
        near_steps=rounds * (n - nodes),
        far_steps=rounds * (nodes - 1),
        crossings=rounds * (n - 1) / n,
        reduces_in_ring=collective == "all_reduce",
    )
    return Plan(
        "ring",
        (stage,),
        protocols=("LL", "LL128", "Simple"),
        formula=f"{rounds} * ({n} - 1) / {n} * size over the ring",
    )


def rings(groups: Groups) -> list[tuple[int, Ints]]:
    """Ring orders (rings, size), by the number of channels of their group."""
    if groups.most_nodes == groups.size:
        return [(1, groups.members)]
    return [(channels, _to_and_fro(groups, orders)) for channels, orders in groups.channels]


def _to_and_fro(groups: Groups, orders: Ints) -> Ints:
    """Every second node is walked backwards: it is entered by the rail that the node before was left by."""
    blocks = blocks_of(orders, groups.topology.gpus_per_node)
    first = blocks.of_member.reshape(orders.shape)[:, :1]
    backwards = ((blocks.of_member.reshape(orders.shape) - first) % 2).ravel()
    place = np.where(backwards, blocks.sizes[blocks.of_member] - 1 - blocks.position, blocks.position)
    walked: Ints = orders.ravel()[blocks.starts[blocks.of_member] + place]
    return walked.reshape(orders.shape)


ALGORITHM = Algorithm("ring", ("all_reduce", "all_gather", "reduce_scatter"), _plan, ideal=True)
