"""Double binary tree between nodes, a chain inside each node; all-reduce only (NCCL).

Half of the data goes up and down each of two trees; a node that is inside one is a leaf of the other
(Sanders, Speck, Traeff, Two-tree algorithms for full bandwidth broadcast, reduction and scan, 2009).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simtrain.costs.collectives.groups import Groups, blocks_of
from simtrain.costs.collectives.plan import Algorithm, Plan, Stage
from simtrain.costs.collectives.traffic import Traffic
from simtrain.model.operators import Collective

__all__ = ["ALGORITHM", "double_tree"]

Ints = NDArray[np.int64]


def double_tree(nodes: int) -> tuple[Ints, Ints, float]:
    """Both trees over ``nodes`` positions.

    Returns:
        child and parent of every edge, each of shape (2 * (nodes - 1),), and the share of the data an edge
        carries each way: NCCL counts a tree at half of its links' bandwidth (tuning.cc), so that the busiest
        node sends the data twice, even where fewer than four nodes could do with less.
    """
    parents = [(child, parent) for child in range(1, nodes) if (parent := _parent(child, nodes)) is not None]
    tree = np.array([*parents, (0, _root(nodes))], dtype=np.int64)
    both = np.concatenate([tree, (tree + 1) % nodes if nodes % 2 else nodes - 1 - tree])
    return both[:, 0], both[:, 1], 2.0 / float(np.bincount(both.ravel()).max())


def _root(nodes: int) -> int:
    return 1 << (nodes - 1).bit_length() - 1


def _parent(child: int, nodes: int) -> int | None:
    """Parent in the in-order binary tree below position 0 (lowest set bit moved up); None for the root."""
    bit = child & -child
    parent = (child ^ bit) | (bit << 1)
    if parent >= nodes:
        parent = child ^ bit
    return parent if parent else None


def _plan(groups: Groups, collective: Collective) -> Plan | None:
    nodes = groups.most_nodes
    if nodes == 1 or (groups.node_counts != nodes).any():
        return None
    child, parent, share = double_tree(nodes)
    traffic = Traffic(groups)
    for channels, orders in [(1, groups.members)] if nodes == groups.size else groups.channels:
        heads, chains = _heads(groups, orders)
        for a, b in ((child, parent), (parent, child)):
            traffic.add(heads[:, a].ravel(), heads[:, b].ravel(), share / channels)
        for a, b in ((chains[1], chains[0]), (chains[0], chains[1])):
            traffic.add(a, b, 1.0 / channels)
    stage = Stage(
        "two trees",
        traffic,
        near_steps=2 * (-(-groups.size // nodes) - 1),
        far_steps=2 * (nodes.bit_length() - 1),
        family="tree",
        crossings=2.0,
    )
    return Plan(
        "tree",
        (stage,),
        protocols=("LL", "LL128", "Simple"),
        formula="2 * size up and down two trees",
    )


def _heads(groups: Groups, orders: Ints) -> tuple[Ints, tuple[Ints, Ints]]:
    """(channels, nodes) GPU of each node that talks to others; both ends of the links of the chains inside nodes."""
    blocks = blocks_of(orders, groups.topology.gpus_per_node)
    flat = orders.ravel()
    inner = np.flatnonzero(blocks.position)
    return flat[blocks.starts].reshape(len(orders), -1), (flat[inner - 1], flat[inner])


ALGORITHM = Algorithm("tree", ("all_reduce",), _plan)
