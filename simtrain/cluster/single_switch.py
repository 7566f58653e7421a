"""All NICs on one non-blocking switch."""

from __future__ import annotations

from simtrain.cluster.fabric_shape import FabricShape
from simtrain.cluster.node_shape import nic_count
from simtrain.scenario.cluster import Link, Node, SingleSwitch

__all__ = ["shape"]


def shape(fabric: SingleSwitch, node: Node, nic: Link, nodes: int) -> FabricShape:
    """Shape of a one-switch fabric; half of the switch's latency lies on each of the two links of a path."""
    nics = nic_count(node)
    link = nic.model_copy(
        update={"bandwidth": nic.bandwidth * node.nics / nics, "latency": nic.latency + fabric.latency / 2}
    )
    return FabricShape(
        nodes=nodes, nics=nics, rails=1, nodes_per_leaf=nodes, leaves=1, nic_link=link, leaf_link=link, core_link=link
    )
