"""From the document of a cluster to its :class:`Topology`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simtrain.cluster import dragonfly, fat_tree, mesh, nvswitch, pcie, single_switch, torus
from simtrain.cluster.fabric_shape import FabricShape
from simtrain.cluster.node_shape import NodeShape
from simtrain.cluster.topology import Topology
from simtrain.errors import ScenarioError
from simtrain.scenario.cluster import (
    Cluster,
    Dragonfly,
    FatTree,
    Link,
    MeshLinks,
    Node,
    SingleSwitch,
    SwitchedLinks,
    Torus,
)

__all__ = ["build"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def build(cluster: Cluster) -> Topology:
    """Build the topology of a resolved cluster (node and fabric are objects, not names).

    Raises:
        ScenarioError: parts that do not fit together: no fabric, no NICs, no socket link, too many ports.
    """
    node = cluster.node
    if not isinstance(node, Node):
        raise ScenarioError(f"cluster.node = {node!r} is a name; load the scenario so that it becomes a node")
    shape, fabric = _node_shape(node), _fabric_shape(cluster, node)
    kinds = list(shape.edge_kinds) * cluster.nodes
    groups = [(cluster.nodes, shape.links)] + ([(n, (link,)) for n, link in fabric.links()] if fabric else [])
    if fabric is not None:
        kinds += ["nic"] * fabric.ports + ["fabric"] * sum(n for n, _ in fabric.links()[1:])
    line, efficiency, flow, latency = _figures(groups)
    return Topology(
        gpus=node.gpus * cluster.nodes,
        nodes=cluster.nodes,
        node=shape,
        fabric=fabric,
        scale_up=node.links.kind,
        nvls_bandwidth=_nvls_bandwidth(node),
        ends=_ends(shape, fabric, cluster.nodes),
        edge_kind=np.repeat(np.array(kinds, dtype=np.str_), 2),
        edge_line_rate=line,
        edge_bandwidth=line * efficiency,
        edge_flow_bandwidth=flow,
        edge_latency=latency,
        fill_s=node.fill,
        network_software_s=node.network_software,
    )


def _node_shape(node: Node) -> NodeShape:
    links = node.links
    if node.nics and node.nic is None:
        raise ScenarioError(
            f"cluster.node ({node.title}): nics = {node.nics} needs nic (bandwidth and latency of one port)"
        )
    if isinstance(links, SwitchedLinks):
        return nvswitch.shape(node, links)
    if isinstance(links, MeshLinks):
        return mesh.shape(node, links)
    return pcie.shape(node, links)


def _fabric_shape(cluster: Cluster, node: Node) -> FabricShape | None:
    fabric = cluster.fabric
    if isinstance(fabric, str):
        raise ScenarioError(f"cluster.fabric = {fabric!r} is a name; load the scenario so that it becomes a fabric")
    if cluster.nodes == 1 and (fabric is None or node.nic is None or node.nics == 0):
        return None
    if fabric is None:
        raise ScenarioError(
            f"cluster.nodes = {cluster.nodes} needs cluster.fabric: the name of a fabric, or one written out "
            "with kind: single_switch, fat_tree, dragonfly or torus"
        )
    if node.nic is None or node.nics == 0:
        raise ScenarioError(
            f"cluster.nodes = {cluster.nodes}, but cluster.node ({node.title}) has nics = {node.nics}; "
            "in a cluster of several nodes each needs nics of at least 1, and nic (bandwidth and latency of one)"
        )
    match fabric:
        case SingleSwitch():
            return single_switch.shape(fabric, node, node.nic, cluster.nodes)
        case FatTree():
            return fat_tree.shape(fabric, node, node.nic, cluster.nodes)
        case Dragonfly():
            return dragonfly.shape(fabric, node, node.nic, cluster.nodes)
        case Torus():
            return torus.shape(fabric, node, node.nic, cluster.nodes)


def _nvls_bandwidth(node: Node) -> float | None:
    links = node.links
    return links.nvls_bandwidth if isinstance(links, SwitchedLinks) and links.nvls else None


def _figures(groups: list[tuple[int, tuple[Link, ...]]]) -> Floats:
    """Line rate, efficiency, rate of one flow and latency of every directed edge, shape (4, 2e).

    A group is how often its links repeat.
    """
    parts = []
    for count, links in groups:
        rows = [(x.bandwidth, x.efficiency, x.flow_bandwidth or np.inf, x.latency) for x in links]
        columns = np.array(rows, dtype=np.float64).reshape(-1, 4).T
        parts.append(np.tile(np.repeat(columns, 2, axis=1), count))
    return np.concatenate(parts, axis=1)


def _ends(shape: NodeShape, fabric: FabricShape | None, nodes: int) -> Ints:
    """Vertices of every link: GPUs of all nodes first, then the rest node by node, then switches."""
    gpus, others = shape.gpus, len(shape.kinds) - shape.gpus
    local = np.arange(len(shape.kinds))
    number = np.arange(nodes)[:, None]
    vertex = np.where(local < gpus, number * gpus + local, nodes * gpus + number * others + local - gpus)
    ends = vertex[:, shape.ends].reshape(-1, 2)
    if fabric is None:
        return ends
    nic_vertex = vertex[:, shape.nic_vertices].ravel()
    return np.concatenate([ends, fabric.ends(nic_vertex, nodes * len(shape.kinds))])
