"""Nodes whose GPUs talk over PCIe: switches or root ports, host bridges, sockets, host memory.

Without peer-to-peer a copy goes GPU, host bridge, host memory, host bridge, GPU; without GPU direct a NIC's
bytes do the same.  The host edge (bridge to memory) is then shared by all GPUs of a socket.
"""

from __future__ import annotations

from itertools import combinations

from simtrain.cluster.node_shape import NodeShape, ShapeBuilder, nic_count, nic_of_gpu
from simtrain.errors import ScenarioError
from simtrain.scenario.cluster import Node, PcieTree

__all__ = ["shape"]


def shape(node: Node, links: PcieTree) -> NodeShape:
    """Shape of a PCIe node.

    Raises:
        ScenarioError: several sockets without ``socket_link``, or more sockets than GPUs.
    """
    _check(node, links)
    builder = ShapeBuilder(node, copies_through_memory=not links.peer_to_peer)
    bridges = _sockets(builder, links)
    parents = _gpu_parents(builder, links, bridges)
    for gpu, parent in enumerate(parents):
        builder.edge(gpu, parent, "pcie", links.pcie)
    for i in range(nic_count(node)):
        first_gpu = int((nic_of_gpu(node) == i).argmax())
        builder.nic(i, parents[first_gpu], links.pcie)
    return builder.finish()


def _check(node: Node, links: PcieTree) -> None:
    where = f"cluster.node ({node.title})"
    if links.sockets > 1 and links.socket_link is None:
        raise ScenarioError(
            f"{where}: links.sockets = {links.sockets} needs cluster.node.links.socket_link (bandwidth and latency "
            "between sockets); or set cluster.node.links.sockets to 1"
        )
    if links.sockets > node.gpus:
        raise ScenarioError(
            f"{where}: links.sockets = {links.sockets} is more than its {node.gpus} GPUs; allowed: 1 to {node.gpus}"
        )


def _sockets(builder: ShapeBuilder, links: PcieTree) -> list[int]:
    """Host bridges and memories; returns the bridge of each GPU."""
    bridges = [builder.vertex("host", f"host bridge {s}") for s in range(links.sockets)]
    memories = [builder.vertex("memory", f"host memory {s}") for s in range(links.sockets)]
    for bridge, memory in zip(bridges, memories, strict=True):
        builder.edge(bridge, memory, "host", links.host)
    if links.socket_link is not None:
        for a, b in combinations(bridges, 2):
            builder.edge(a, b, "socket", links.socket_link)
    gpus = builder.node.gpus
    socket = [gpu * links.sockets // gpus for gpu in range(gpus)]
    builder.memory_of_gpu = [memories[s] for s in socket]
    return [bridges[s] for s in socket]


def _gpu_parents(builder: ShapeBuilder, links: PcieTree, bridges: list[int]) -> list[int]:
    """The PCIe switch, or else the host bridge, that each GPU is plugged into."""
    if links.gpus_per_switch is None:
        return bridges
    parents: list[int] = []
    filled = links.gpus_per_switch
    for gpu, bridge in enumerate(bridges):
        if filled == links.gpus_per_switch or bridge != bridges[gpu - 1]:
            switch = builder.vertex("pcie_switch", f"PCIe switch {builder.kinds.count('pcie_switch')}")
            builder.edge(switch, bridge, "pcie", links.uplink or links.pcie)
            filled = 0
        parents.append(switch)
        filled += 1
    return parents
