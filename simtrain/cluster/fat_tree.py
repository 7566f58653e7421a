"""Leaf, spine and, when ports run out, core switches; rail-optimised or classic.

A leaf splits its ``radix`` ports into down and up so that down / up is at least the oversubscription asked for;
a spine does the same towards the cores.  No more spines and cores are built than the uplinks need.
"""

from __future__ import annotations

from dataclasses import dataclass

from simtrain.cluster.fabric_shape import FabricShape
from simtrain.cluster.node_shape import nic_count
from simtrain.errors import ScenarioError
from simtrain.scenario.cluster import FatTree, Link, Node

__all__ = ["shape"]


@dataclass(frozen=True, slots=True)
class _Leaves:
    count: int
    rails: int
    nodes_per_leaf: int
    uplinks: int
    oversubscription: float


def shape(fabric: FatTree, node: Node, nic: Link, nodes: int) -> FabricShape:
    """Shape of a fat tree.

    Raises:
        ScenarioError: a node has more ports than a leaf, or there are more leaves than three tiers can join.
    """
    nics = nic_count(node)
    leaves = _leaves(fabric, node, nodes)
    below, above = _split(fabric.radix, fabric.core_oversubscription)
    tall = leaves.count > fabric.radix
    pods = -(-leaves.count // below) if tall else 1
    if pods > fabric.radix:
        raise ScenarioError(
            f"cluster.nodes = {nodes} needs {leaves.count} leaf switches of cluster.fabric.radix = {fabric.radix}; "
            f"three tiers join at most {fabric.radix * below}; use fewer nodes, fewer NICs or a larger radix"
        )
    in_pod = min(leaves.count, below) if tall else leaves.count
    spines = 0 if leaves.count == 1 else leaves.uplinks
    if not tall and spines:
        spines = _divisor_from(leaves.uplinks, -(-leaves.count * leaves.uplinks // fabric.radix))
    cores = _divisor_from(above, -(-pods * above // fabric.radix)) if tall else 0
    return FabricShape(
        nodes=nodes,
        nics=nics,
        rails=leaves.rails,
        nodes_per_leaf=leaves.nodes_per_leaf,
        leaves=leaves.count,
        nic_link=_link(nic, node.nics / nics, nic.latency + fabric.leaf_latency / 2),
        leaf_link=_link(nic, leaves.uplinks / max(spines, 1), fabric.spine_latency / 2),
        core_link=_link(nic, above / max(cores, 1), fabric.core_latency / 2),
        spines=spines,
        leaves_per_pod=in_pod,
        cores=cores,
        oversubscription=leaves.oversubscription if spines else 1.0,
    )


def _leaves(fabric: FatTree, node: Node, nodes: int) -> _Leaves:
    nics = nic_count(node)
    rails = nics if fabric.rail_optimised else 1
    ports_per_node = -(-node.nics // rails)
    if rails == 1 and ports_per_node * nodes <= fabric.radix:
        return _Leaves(1, 1, nodes, 0, 1.0)
    down, up = _split(fabric.radix, fabric.oversubscription)
    nodes_per_leaf = down // ports_per_node
    if nodes_per_leaf == 0:
        raise ScenarioError(
            f"cluster.fabric.radix = {fabric.radix} leaves {down} down ports on a leaf, but each node needs "
            f"{ports_per_node} there (cluster.node.nics = {node.nics}); use a larger radix, fewer NICs or "
            "rail_optimised: true"
        )
    groups = -(-nodes // nodes_per_leaf)
    return _Leaves(groups * rails, rails, nodes_per_leaf, up, nodes_per_leaf * ports_per_node / up)


def _split(radix: int, oversubscription: float) -> tuple[int, int]:
    """Down and up ports of a switch."""
    up = max(1, int(radix / (1.0 + oversubscription)))
    return radix - up, up


def _divisor_from(total: int, least: int) -> int:
    """The smallest divisor of ``total`` that is at least ``least``."""
    return next(d for d in range(max(least, 1), total + 1) if total % d == 0)


def _link(nic: Link, width: float, latency_s: float) -> Link:
    return nic.model_copy(update={"bandwidth": nic.bandwidth * width, "latency": latency_s, "flow_bandwidth": None})
