"""All NICs on one non-blocking switch."""

from __future__ import annotations

from simtrain.cluster.fabric_shape import port_link
from simtrain.cluster.node_shape import nic_count
from simtrain.cluster.tree_shape import TreeShape
from simtrain.scenario.cluster import Link, Node, SingleSwitch

__all__ = ["shape"]


def shape(fabric: SingleSwitch, node: Node, nic: Link, nodes: int) -> TreeShape:
    """Shape of a one-switch fabric; half of the switch's latency lies on each of the two links of a path."""
    link = port_link(node, nic, fabric.latency)
    return TreeShape(
        nodes=nodes,
        nics=nic_count(node),
        nic_link=link,
        rails=1,
        nodes_per_leaf=nodes,
        leaves=1,
        leaf_link=link,
        core_link=link,
    )
