"""What a node looks like inside: vertices, links and the routes between its GPUs and NICs.

Every node of a cluster is alike, so that one shape serves them all: vertex and edge numbers are local,
GPUs come first.  A route is a list of directed edges, ``2 * edge + direction``, direction 0 being from the
first-named vertex of the edge to the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from simtrain.scenario.cluster import Link, Node

__all__ = ["NodeShape", "ShapeBuilder", "add_pcie_and_nics", "nic_count", "nic_of_gpu", "padded"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NodeShape:
    """Vertices, edges and routes of one node.

    Attributes:
        gpus, nics: how many; GPU g is vertex g, NIC i is vertex ``nic_vertices[i]``.
        kinds, labels: of each vertex.
        ends: (edges, 2) vertices of each edge, the lower number first.
        edge_kinds: nvlink, pcie, host, socket or nic; links: bandwidth, latency, efficiency of each edge.
        gpu_to_gpu: (gpus, gpus, hops) directed edges, padded with -1.
        gpu_to_nic, nic_to_gpu: (gpus, hops) directed edges between a GPU and its own NIC, padded with -1.
        nic_of_gpu: (gpus,) the NIC a GPU's traffic leaves by.
    """

    gpus: int
    nics: int
    kinds: tuple[str, ...]
    labels: tuple[str, ...]
    ends: Ints
    edge_kinds: tuple[str, ...]
    links: tuple[Link, ...]
    nic_vertices: Ints
    nic_of_gpu: Ints
    gpu_to_gpu: Ints
    gpu_to_nic: Ints
    nic_to_gpu: Ints


def nic_count(node: Node) -> int:
    """NIC vertices of a node: at most one per GPU; ports beyond that are bundled."""
    return min(node.nics, node.gpus)


def nic_of_gpu(node: Node) -> Ints:
    """(gpus,) NIC by which each GPU's traffic leaves: GPUs spread evenly over the NICs."""
    return np.arange(node.gpus) * nic_count(node) // node.gpus


def padded(routes: Sequence[Sequence[int]]) -> Ints:
    """Routes as one (routes, longest) array, padded with -1."""
    width = max((len(route) for route in routes), default=0)
    rows = [[*route, *[-1] * (width - len(route))] for route in routes]
    return np.array(rows, dtype=np.int64).reshape(len(rows), width)


@dataclass(slots=True)
class ShapeBuilder:
    """Collects vertices and edges of a node, then finds its routes."""

    node: Node
    kinds: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    edges: dict[tuple[int, int], int] = field(default_factory=dict)
    edge_kinds: list[str] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    memory_of_gpu: list[int] = field(default_factory=list)
    nic_vertices: list[int] = field(default_factory=list)
    copies_through_memory: bool = False

    def __post_init__(self) -> None:
        for gpu in range(self.node.gpus):
            self.vertex("gpu", f"GPU {gpu}")

    def vertex(self, kind: str, label: str) -> int:
        """Add a vertex and return its number."""
        self.kinds.append(kind)
        self.labels.append(label)
        return len(self.kinds) - 1

    def edge(self, a: int, b: int, kind: str, link: Link, width: float = 1.0) -> None:
        """Join two vertices by ``width`` parallel links."""
        self.edges[min(a, b), max(a, b)] = len(self.links)
        self.edge_kinds.append(kind)
        self.links.append(link if width == 1.0 else link.model_copy(update={"bandwidth": link.bandwidth * width}))

    def nic(self, number: int, parent: int, pcie: Link) -> None:
        """Add a NIC in a PCIe slot; its own link to the network carries the efficiency of both."""
        nic = self.vertex("nic", f"NIC {number}")
        slot = pcie.model_copy(update={"efficiency": 1.0})
        self.edge(parent, nic, "pcie", slot, width=self.node.nics / nic_count(self.node))
        self.nic_vertices.append(nic)

    def finish(self) -> NodeShape:
        """Work out the routes: over NVLink where there is one, through host memory where the node must."""
        node, gpus = self.node, range(self.node.gpus)
        whole = self._graph(self.edge_kinds)
        scale_up = self._graph(["nvlink"]) if "nvlink" in self.edge_kinds else whole
        own_nic = nic_of_gpu(node)
        nics = [self.nic_vertices[i] for i in own_nic] if self.nic_vertices else []
        copies = [
            [self._route(scale_up, a, b, self.copies_through_memory) if a != b else [] for b in gpus] for a in gpus
        ]
        sends = [self._route(whole, g, nic, not node.gpu_direct) for g, nic in enumerate(nics)]
        receives = [self._route(whole, nic, g, not node.gpu_direct) for g, nic in enumerate(nics)]
        flat = padded([route for row in copies for route in row])
        return NodeShape(
            gpus=node.gpus,
            nics=len(self.nic_vertices),
            kinds=tuple(self.kinds),
            labels=tuple(self.labels),
            ends=np.array(list(self.edges), dtype=np.int64).reshape(-1, 2),
            edge_kinds=tuple(self.edge_kinds),
            links=tuple(self.links),
            nic_vertices=np.array(self.nic_vertices, dtype=np.int64),
            nic_of_gpu=own_nic,
            gpu_to_gpu=flat.reshape(node.gpus, node.gpus, flat.shape[1]),
            gpu_to_nic=padded(sends),
            nic_to_gpu=padded(receives),
        )

    def _graph(self, kinds: Iterable[str]) -> nx.Graph[int]:
        wanted = set(kinds)
        graph: nx.Graph[int] = nx.Graph()
        graph.add_nodes_from(range(len(self.kinds)))
        graph.add_edges_from(pair for pair, edge in self.edges.items() if self.edge_kinds[edge] in wanted)
        return graph

    def _route(self, graph: nx.Graph[int], source: int, target: int, through_memory: bool) -> list[int]:
        stops = [source, target]
        if through_memory:
            # The sender's side holds the bounce buffer; a receiving NIC has no memory of its own.
            gpu = source if source < self.node.gpus else target
            stops = [source, self.memory_of_gpu[gpu], target]
        route: list[int] = []
        for a, b in pairwise(stops):
            path = nx.shortest_path(graph, a, b)
            route += [self._directed(u, v) for u, v in pairwise(path)]
        return route

    def _directed(self, u: int, v: int) -> int:
        return 2 * self.edges[u, v] if u < v else 2 * self.edges[v, u] + 1


def add_pcie_and_nics(builder: ShapeBuilder, pcie: Link) -> None:
    """PCIe of a node whose GPUs talk over NVLink: one switch per NIC with its GPUs, all below one host bridge."""
    node = builder.node
    switches = [builder.vertex("pcie_switch", f"PCIe switch {i}") for i in range(max(nic_count(node), 1))]
    bridge = builder.vertex("host", "host bridge")
    memory = builder.vertex("memory", "host memory")
    own = nic_of_gpu(node) if node.nics else np.zeros(node.gpus, dtype=np.int64)
    for gpu in range(node.gpus):
        builder.edge(gpu, switches[own[gpu]], "pcie", pcie)
    for switch in switches:
        builder.edge(switch, bridge, "pcie", pcie)
    builder.edge(bridge, memory, "host", pcie, width=len(switches))
    builder.memory_of_gpu = [memory] * node.gpus
    for i in range(nic_count(node)):
        builder.nic(i, switches[i], pcie)
