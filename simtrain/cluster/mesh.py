"""Nodes in which every pair of GPUs has its own link (xGMI)."""

from __future__ import annotations

from itertools import combinations

from simtrain.cluster.node_shape import NodeShape, ShapeBuilder, add_pcie_and_nics
from simtrain.scenario.cluster import MeshLinks, Node

__all__ = ["shape"]


def shape(node: Node, links: MeshLinks) -> NodeShape:
    """Shape of a fully connected node."""
    builder = ShapeBuilder(node)
    for a, b in combinations(range(node.gpus), 2):
        builder.edge(a, b, "nvlink", links.pair)
    add_pcie_and_nics(builder, links.pcie)
    return builder.finish()
