"""A cluster as arrays of links, as a networkx graph, and as routes between GPUs.

GPU g is vertex g of the graph.  A link is one edge; each of its two directions has its own number,
``2 * edge + direction``, direction 0 being from the lower-numbered vertex to the higher.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from simtrain.cluster.fabric_shape import FabricShape, Finding
from simtrain.cluster.node_shape import NodeShape
from simtrain.errors import LayoutError
from simtrain.quantities import format_quantity

__all__ = ["Finding", "Topology"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Topology:
    """A built cluster.

    Shapes: e links, hence 2e directed edges.

    Attributes:
        gpus, nodes: counts.
        node: shape of every node; fabric: network between them, None for a single node.
        scale_up: what GPUs of a node talk over: nvswitch, mesh or pcie.
        nvls_bandwidth: all-reduce bus bandwidth of a node with in-switch reduction; None without.
        ends: (e, 2) vertices of each link, the lower first.
        edge_kind: (2e,) nvlink, pcie, host, socket, nic or fabric.
        edge_line_rate: (2e,) line rate in bytes per second; edge_bandwidth: (2e,) what large transfers reach.
        edge_flow_bandwidth: (2e,) what one flow alone reaches; infinite where one flow can fill the link.
        edge_latency: (2e,) seconds.
        fill_s: how slowly pipelines of collectives fill; network_software_s: what a hop between nodes costs beyond
            NCCL's own latencies.
        cache: results other rooms keep for this topology, keyed by whatever determines them.
    """

    gpus: int
    nodes: int
    node: NodeShape
    fabric: FabricShape | None
    scale_up: str
    nvls_bandwidth: float | None
    ends: Ints
    edge_kind: NDArray[np.str_]
    edge_line_rate: Floats
    edge_bandwidth: Floats
    edge_flow_bandwidth: Floats
    edge_latency: Floats
    fill_s: float
    network_software_s: float
    cache: dict[Any, Any] = field(default_factory=dict, repr=False)
    _routes: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict, repr=False)

    @property
    def gpus_per_node(self) -> int:
        """GPUs of one node."""
        return self.node.gpus

    @property
    def nics_per_node(self) -> int:
        """NICs of one node."""
        return self.node.nics

    def node_of(self, gpu: int) -> int:
        """Node that holds a GPU."""
        return gpu // self.node.gpus

    def route(self, source: int, target: int) -> tuple[int, ...]:
        """Directed edges of one path from one GPU to another, in order; always the same for the same pair.

        Raises:
            LayoutError: a GPU that the cluster does not have.
        """
        found = self._routes.get((source, target))
        if found is None:
            found = self._routes[source, target] = self._find(source, target)
        return found

    def _find(self, source: int, target: int) -> tuple[int, ...]:
        if not (0 <= source < self.gpus and 0 <= target < self.gpus):
            raise LayoutError(f"no route from GPU {source} to GPU {target}: the cluster has GPUs 0 to {self.gpus - 1}")
        node_a, local_a = divmod(source, self.node.gpus)
        node_b, local_b = divmod(target, self.node.gpus)
        to_gpu, to_nic, from_nic, own_nic = self._tables
        edges = 2 * len(self.node.links)
        if node_a == node_b:
            return tuple([e + node_a * edges for e in to_gpu[local_a][local_b]])
        if self.fabric is None:
            raise LayoutError(f"no route from GPU {source} to GPU {target}: the cluster has no fabric")
        first = self.nodes * edges
        forwarded = self.fabric.forwards and own_nic[local_a] != own_nic[local_b]
        leaver, handed = (local_b, to_gpu[local_a][local_b]) if forwarded else (local_a, [])
        ports = node_a * self.node.nics + own_nic[leaver], node_b * self.node.nics + own_nic[local_b]
        between = self.fabric.path(*ports, lambda condition, a, b: a if condition else b)
        return (
            *[e + node_a * edges for e in (*handed, *to_nic[leaver])],
            *[e + first for e in between if e >= 0],
            *[e + node_b * edges for e in from_nic[local_b]],
        )

    @cached_property
    def _tables(self) -> tuple[list[list[list[int]]], list[list[int]], list[list[int]], list[int]]:
        """The node's routes as plain lists without padding: four times faster than arrays for one route."""
        node = self.node
        to_gpu = [[_unpadded(route) for route in row.tolist()] for row in node.gpu_to_gpu]
        to_nic, from_nic = ([_unpadded(r) for r in table.tolist()] for table in (node.gpu_to_nic, node.nic_to_gpu))
        return to_gpu, to_nic, from_nic, node.nic_of_gpu.tolist()

    def routes(self, source: Ints, target: Ints) -> Ints:
        """:meth:`route` of many pairs at once: (pairs, hops) directed edges, in order, padded with -1.

        Raises:
            LayoutError: a GPU that the cluster does not have.
        """
        ways = self._ways(source, target)
        if self.fabric is None or ways.inside.all():
            return ways.near
        between = np.stack(self.fabric.path(*ways.ports, np.where), axis=1)
        return ways.joined(self._in_fabric(between))

    def paths(self, source: Ints, target: Ints) -> tuple[Ints, Floats]:
        """All edges that the bytes of each pair are spread over, and how.

        Where a pair has s equal ways, each carries 1/s; edges times shares add up to what each link carries, and
        latencies times shares to the mean latency.  With adaptive routing a pair crosses many edges, and the arrays
        are wide: ask for large numbers of pairs in parts.

        Returns:
            (pairs, hops) directed edges, padded with -1, and (pairs, hops) shares of the pair's bytes, 0 for padding.

        Raises:
            LayoutError: a GPU that the cluster does not have.
        """
        ways = self._ways(source, target)
        if self.fabric is None or ways.inside.all():
            return ways.near, (ways.near >= 0).astype(np.float64)
        between, spread = self.fabric.paths(*ways.ports)
        edges = ways.joined(self._in_fabric(between))
        shares = (edges >= 0).astype(np.float64)
        first = ways.leave.shape[1]
        columns = slice(first, first + spread.shape[1])
        shares[:, columns] = np.where(ways.inside[:, None], shares[:, columns], spread)
        return edges, shares

    def _ways(self, source: Ints, target: Ints) -> _Ways:
        """What leads to and from the fabric, for each pair."""
        for gpus in (source, target):
            if gpus.size and not (gpus.min() >= 0 and gpus.max() < self.gpus):
                raise LayoutError(
                    f"no route between GPUs {gpus.min()} and {gpus.max()}: the cluster has GPUs 0 to {self.gpus - 1}"
                )
        node, edges = self.node, 2 * len(self.node.links)
        node_a, a = np.divmod(source, node.gpus)
        node_b, b = np.divmod(target, node.gpus)
        near = _shifted(node.gpu_to_gpu[a, b], node_a * edges)
        if self.fabric is None:
            nothing = near[:, :0]
            return _Ways(node_a == node_b, near, nothing, nothing, (node_a, node_b))
        own = node.nic_of_gpu
        forwarded = self.fabric.forwards & (own[a] != own[b])
        leave = _shifted(node.gpu_to_nic[np.where(forwarded, b, a)], node_a * edges)
        if self.fabric.forwards:
            leave = np.concatenate([np.where(forwarded[:, None], near, -1), leave], axis=1)
        enter = _shifted(node.nic_to_gpu[b], node_b * edges)
        ports = node_a * node.nics + own[np.where(forwarded, b, a)], node_b * node.nics + own[b]
        return _Ways(node_a == node_b, near, leave, enter, ports)

    def _in_fabric(self, edges: Ints) -> Ints:
        return np.where(edges >= 0, edges + self.nodes * 2 * len(self.node.links), -1)

    def latency(self, route: Iterable[int]) -> float:
        """Seconds until the first byte has crossed a route."""
        return float(sum(self.edge_latency[edge] for edge in route))

    @cached_property
    def graph(self) -> nx.Graph[int]:
        """The cluster as a networkx graph.

        Vertices have ``kind`` and ``label``; edges ``id``, ``kind``, ``bandwidth_bytes_per_s`` (line rate, one
        direction), ``efficiency`` and ``latency_s``.
        """
        kinds, labels = self._vertices
        graph: nx.Graph[int] = nx.Graph()
        graph.add_nodes_from((v, {"kind": k, "label": n}) for v, (k, n) in enumerate(zip(kinds, labels, strict=True)))
        names = ("id", "kind", "bandwidth_bytes_per_s", "efficiency", "latency_s")
        columns = zip(
            self.ends.tolist(),
            range(len(self.ends)),
            self.edge_kind[::2].tolist(),
            self.edge_line_rate[::2].tolist(),
            (self.edge_bandwidth[::2] / self.edge_line_rate[::2]).tolist(),
            self.edge_latency[::2].tolist(),
            strict=True,
        )
        graph.add_edges_from((a, b, dict(zip(names, values, strict=True))) for (a, b), *values in columns)
        return graph

    @cached_property
    def _vertices(self) -> tuple[list[str], list[str]]:
        node = self.node
        others = range(node.gpus, len(node.kinds))
        order = [(n, v) for n in range(self.nodes) for v in range(node.gpus)]
        order += [(n, v) for n in range(self.nodes) for v in others]
        kinds, labels = [node.kinds[v] for _, v in order], [f"node {n} {node.labels[v]}" for n, v in order]
        if self.fabric is not None:
            more_kinds, more_labels = self.fabric.switches()
            kinds, labels = kinds + more_kinds, labels + more_labels
        return kinds, labels

    def edge_label(self, directed_edge: int) -> str:
        """A directed edge in words, such as ``node 3 NIC 0 -> leaf 2``."""
        a, b = self.ends[directed_edge // 2].tolist()
        if directed_edge % 2:
            a, b = b, a
        labels = self._vertices[1]
        return f"{labels[a]} -> {labels[b]}"

    def check(self) -> list[Finding]:
        """Facts about the cluster, and what is wrong with it; ``ok`` is False for a problem."""
        kinds = Counter(self._vertices[0])
        switches = ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in kinds.items() if kind != "gpu")
        found = [
            Finding("GPUs", f"{self.gpus} in {self.nodes} nodes of {self.gpus_per_node}"),
            Finding("other vertices", switches),
            Finding("links", str(len(self.ends))),
            Finding("connected", "yes" if (whole := nx.is_connected(self.graph)) else "no", whole),
            Finding(
                "NICs", f"{self.nics_per_node} per node, {self.gpus_per_node / max(self.nics_per_node, 1):g} GPUs each"
            ),
        ]
        return found if self.fabric is None else found + self._check_fabric(self.fabric)

    def _check_fabric(self, fabric: FabricShape) -> list[Finding]:
        nic = fabric.nic_link
        per_gpu = fabric.ports * nic.bandwidth * nic.efficiency / self.gpus
        ends_at_nic = np.isin(self.ends[:, 1], np.unique(self.ends[self.edge_kind[::2] == "nic", 0]))
        slot = float(self.edge_line_rate[::2][ends_at_nic].min())
        return [
            Finding("network per GPU", format_quantity(per_gpu, "bandwidth")),
            *fabric.facts(),
            Finding(
                "NIC in its PCIe slot",
                f"{format_quantity(nic.bandwidth, 'bandwidth')} in {format_quantity(slot, 'bandwidth')}",
                slot >= nic.bandwidth,
            ),
        ]


@dataclass(frozen=True, slots=True)
class _Ways:
    """Parts of the paths of many pairs, each (pairs, hops) directed edges padded with -1.

    Attributes:
        inside: (pairs,) both GPUs are in one node, and ``near`` is the whole path.
        leave, enter: otherwise, from the GPU to its NIC and from the other NIC to its GPU.
        ports: the two NIC ports, each (pairs,).
    """

    inside: NDArray[np.bool_]
    near: Ints
    leave: Ints
    enter: Ints
    ports: tuple[Ints, Ints]

    def joined(self, between: Ints) -> Ints:
        """Whole paths, given what lies between the NICs."""
        far = np.concatenate([self.leave, between, self.enter], axis=1)
        width = max(self.near.shape[1], far.shape[1])
        return np.where(self.inside[:, None], _widened(self.near, width), _widened(far, width))


def _unpadded(route: list[int]) -> list[int]:
    return [edge for edge in route if edge >= 0]


def _shifted(edges: Ints, offset: Ints) -> Ints:
    return np.where(edges >= 0, edges + offset[:, None], -1)


def _widened(edges: Ints, width: int) -> Ints:
    return np.pad(edges, ((0, 0), (0, width - edges.shape[1])), constant_values=-1)
