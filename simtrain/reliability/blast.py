"""Which parts a cluster has that can fail, and which nodes hang on them, read from its topology."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

from simtrain.cluster.topology import Topology
from simtrain.errors import ScenarioError

__all__ = ["leaf_nodes", "parts_of"]


def leaf_nodes(topology: Topology) -> list[set[int]]:
    """Nodes with a port on each switch that NICs hang on; empty without a fabric, or without switches (a torus)."""
    fabric = topology.fabric
    if fabric is None:
        return []
    ports = np.arange(fabric.ports, dtype=np.int64)
    ends = fabric.ends(ports, fabric.ports)[: fabric.ports]
    found: dict[int, set[int]] = defaultdict(set)
    for nic, switch in ends.tolist():
        if nic < fabric.ports <= switch:
            found[switch].add(nic // fabric.nics)
    return [found[switch] for switch in sorted(found)]


def parts_of(topology: Topology, owner: str, span: int, where: str) -> tuple[int, int]:
    """How many parts of a kind there are, and how many nodes an event of one takes down (the most of any).

    Raises:
        ScenarioError: the cluster has no such parts.
    """
    nodes, nics = topology.nodes, topology.nodes * topology.nics_per_node
    if owner == "leaf_switch":
        leaves = leaf_nodes(topology)
        if not leaves:
            raise ScenarioError(f"{where}.owner = 'leaf_switch', but the cluster's fabric has no switches")
        return len(leaves), max(len(leaf) for leaf in leaves)
    if owner in ("rack", "power_domain"):
        return math.ceil(nodes / span), min(span, nodes)
    if owner in ("storage", "job"):
        return 1, 0
    if owner in ("nic", "link") and nics == 0:
        raise ScenarioError(f"{where}.owner = {owner!r}, but the nodes of the cluster have no network ports")
    return {"gpu": topology.gpus, "gpu_memory": topology.gpus, "nic": nics, "link": nics, "node": nodes}[owner], 1
