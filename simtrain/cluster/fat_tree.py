"""Leaf, spine and, when ports run out, core switches; rail-optimised or classic, in one plane or one for each rail.

A leaf splits its ``radix`` ports into down and up so that down / up is at least the oversubscription asked for;
a spine does the same towards the cores.  No more spines and cores are built than the uplinks need.
"""

from __future__ import annotations

from dataclasses import dataclass

from simtrain.cluster.fabric_shape import cable, port_link
from simtrain.cluster.node_shape import nic_count
from simtrain.cluster.tree_shape import TreeShape
from simtrain.errors import ScenarioError
from simtrain.scenario.cluster import FatTree, Link, Node

__all__ = ["shape"]


@dataclass(frozen=True, slots=True)
class _Leaves:
    """Leaves of each plane, and how each is used."""

    count: int
    rails: int
    planes: int
    nodes_per_leaf: int
    uplinks: int
    oversubscription: float


def shape(fabric: FatTree, node: Node, nic: Link, nodes: int) -> TreeShape:
    """Shape of a fat tree.

    Raises:
        ScenarioError: a node has more ports than a leaf, or there are more leaves than three tiers can join.
    """
    nics = nic_count(node)
    leaves = _leaves(fabric, node, nodes)
    below, above = _split(fabric.radix, fabric.core_oversubscription)
    in_plane = leaves.rails // leaves.planes
    tall = leaves.count > fabric.radix
    # A pod holds whole groups of rails where it can.
    in_pod = (below // in_plane * in_plane or below) if tall else leaves.count
    pods = -(-leaves.count // in_pod)
    if pods > fabric.radix:
        raise ScenarioError(
            f"cluster.nodes = {nodes} needs {leaves.count} leaf switches of cluster.fabric.radix = {fabric.radix}"
            f"{' in each plane' if leaves.planes > 1 else ''}; "
            f"three tiers join at most {fabric.radix * in_pod}; use fewer nodes, fewer NICs or a larger radix"
        )
    spines = 0 if leaves.count == 1 else leaves.uplinks
    if not tall and spines:
        spines = _divisor_from(leaves.uplinks, -(-leaves.count * leaves.uplinks // fabric.radix))
    cores = _divisor_from(above, -(-pods * above // fabric.radix)) if tall else 0
    return TreeShape(
        nodes=nodes,
        nics=nics,
        nic_link=port_link(node, nic, fabric.leaf_latency),
        forwards=leaves.planes > 1 or (fabric.cross_rail == "forward" and leaves.rails > 1),
        rails=leaves.rails,
        planes=leaves.planes,
        nodes_per_leaf=leaves.nodes_per_leaf,
        leaves=leaves.count,
        leaf_link=cable(nic, leaves.uplinks / max(spines, 1), fabric.spine_latency / 2),
        core_link=cable(nic, above / max(cores, 1), fabric.core_latency / 2),
        spines=spines,
        leaves_per_pod=in_pod,
        cores=cores,
        oversubscription=leaves.oversubscription if spines else 1.0,
        core_oversubscription=in_pod / above if cores else 1.0,
        routing=fabric.routing,
        seed=fabric.routing_seed,
    )


def _leaves(fabric: FatTree, node: Node, nodes: int) -> _Leaves:
    rails = nic_count(node) if fabric.rail_optimised else 1
    planes = rails if fabric.planes else 1
    in_plane = rails // planes
    ports_per_node = -(-node.nics // rails)
    if in_plane == 1 and ports_per_node * nodes <= fabric.radix:
        return _Leaves(1, rails, planes, nodes, 0, 1.0)
    down, up = _split(fabric.radix, fabric.oversubscription)
    nodes_per_leaf = down // ports_per_node
    if nodes_per_leaf == 0:
        raise ScenarioError(
            f"cluster.fabric.radix = {fabric.radix} leaves {down} down ports on a leaf, but each node needs "
            f"{ports_per_node} there (cluster.node.nics = {node.nics}); use a larger radix, fewer NICs or "
            "rail_optimised: true"
        )
    groups = -(-nodes // nodes_per_leaf)
    down_rate = nodes_per_leaf * node.nics / rails
    return _Leaves(groups * in_plane, rails, planes, nodes_per_leaf, up, down_rate / up)


def _split(radix: int, oversubscription: float) -> tuple[int, int]:
    """Down and up ports of a switch."""
    up = max(1, int(radix / (1.0 + oversubscription)))
    return radix - up, up


def _divisor_from(total: int, least: int) -> int:
    """The smallest divisor of ``total`` that is at least ``least``."""
    return next(d for d in range(max(least, 1), total + 1) if total % d == 0)
