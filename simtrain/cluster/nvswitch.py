"""Nodes whose GPUs all hang on one NVSwitch."""

from __future__ import annotations

from simtrain.cluster.node_shape import NodeShape, ShapeBuilder, add_pcie_and_nics
from simtrain.scenario.cluster import Node, SwitchedLinks

__all__ = ["shape"]


def shape(node: Node, links: SwitchedLinks) -> NodeShape:
    """Shape of a switched node."""
    builder = ShapeBuilder(node)
    switch = builder.vertex("nvswitch", "NVSwitch")
    for gpu in range(node.gpus):
        builder.edge(gpu, switch, "nvlink", links.gpu)
    add_pcie_and_nics(builder, links.pcie)
    return builder.finish()
