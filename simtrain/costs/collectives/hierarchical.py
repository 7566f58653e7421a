"""Two levels: inside each node, and between nodes over each GPU's own rail.

all_reduce is reduce-scatter inside, all-reduce between GPUs of equal position, all-gather inside; all_to_all
hands everything for a position to the local GPU of that position, which sends it on (NCCL's PXN).  The levels
run as a pipeline, so that the slowest link decides.
"""

from __future__ import annotations

import numpy as np

from simtrain.costs.collectives.plan import Algorithm, Groups, Plan, Traffic, passes
from simtrain.model.operators import Collective

__all__ = ["ALGORITHM", "ALL_TO_ALL"]


def _plan(groups: Groups, collective: Collective) -> Plan | None:
    each, nodes = groups.per_node, groups.most_nodes
    if each is None or each == 1 or nodes == 1:
        return None
    rounds = passes(collective)
    local = groups.members.reshape(-1, each)
    rails = groups.members.reshape(-1, nodes, each).swapaxes(1, 2).reshape(-1, nodes)
    traffic = Traffic(groups.topology)
    traffic.add(local.ravel(), np.roll(local, -1, axis=1).ravel(), rounds * (each - 1) / each)
    traffic.add(rails.ravel(), np.roll(rails, -1, axis=1).ravel(), rounds * (nodes - 1) / nodes / each)
    return Plan(
        "hierarchical",
        "ring",
        traffic,
        near_steps=rounds * (each - 1),
        far_steps=rounds * (nodes - 1),
        protocols=("LL", "LL128", "Simple"),
        formula=f"{rounds} * size: ({each} - 1) / {each} inside, ({nodes} - 1) / {nodes} / {each} between nodes",
    )


def _plan_all_to_all(groups: Groups, collective: Collective) -> Plan | None:
    each, nodes = groups.per_node, groups.most_nodes
    if each is None or each == 1 or nodes == 1 or groups.topology.scale_up == "pcie":
        return None
    local = groups.members.reshape(-1, each)
    rails = groups.members.reshape(-1, nodes, each).swapaxes(1, 2).reshape(-1, nodes)
    traffic = Traffic(groups.topology)
    for shift in range(1, each):
        traffic.add(local.ravel(), np.roll(local, shift, axis=1).ravel(), 1.0 / each)
    for shift in range(1, nodes):
        traffic.add(rails.ravel(), np.roll(rails, shift, axis=1).ravel(), 1.0 / nodes)
    return Plan(
        "hierarchical",
        "ring",
        traffic,
        near_steps=each - 1,
        far_steps=nodes - 1,
        protocols=("LL", "Simple"),
        formula=f"size: ({each} - 1) / {each} inside, ({nodes} - 1) / {nodes} between nodes",
    )


ALGORITHM = Algorithm("hierarchical", ("all_reduce", "all_gather", "reduce_scatter"), _plan, nccl=False)
ALL_TO_ALL = Algorithm("hierarchical", ("all_to_all",), _plan_all_to_all)
