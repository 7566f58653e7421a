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

from simtrain.cluster.fabric_shape import FabricShape
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
        """Directed edges from one GPU to another, in order; always the same for the same pair.

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
        ports = node_a * self.node.nics + own_nic[local_a], node_b * self.node.nics + own_nic[local_b]
        between = self.fabric.path(*ports, lambda condition, a, b: a if condition else b)
        return (
            *[e + node_a * edges for e in to_nic[local_a]],
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
        """:meth:`route` of many pairs at once: (pairs, hops) directed edges, padded with -1."""
        node, edges = self.node, 2 * len(self.node.links)
        node_a, local_a = np.divmod(source, node.gpus)
        node_b, local_b = np.divmod(target, node.gpus)
        inside = (node_a == node_b)[:, None]
        near = _shifted(node.gpu_to_gpu[local_a, local_b], node_a * edges)
        if self.fabric is None or inside.all():
            return near
        ports = node_a * node.nics + node.nic_of_gpu[local_a], node_b * node.nics + node.nic_of_gpu[local_b]
        between = np.stack(self.fabric.path(*ports, np.where), axis=1)
        far = np.concatenate(
            [
                _shifted(node.gpu_to_nic[local_a], node_a * edges),
                np.where(between >= 0, between + self.nodes * edges, -1),
                _shifted(node.nic_to_gpu[local_b], node_b * edges),
            ],
            axis=1,
        )
        width = max(near.shape[1], far.shape[1])
        return np.where(inside, _widened(near, width), _widened(far, width))

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
        tiers = [count * link.bandwidth * link.efficiency / 2 for count, link in fabric.links() if count]
        one_leaf_group = fabric.nodes <= fabric.nodes_per_leaf
        bisection = tiers[0] if one_leaf_group else min(tiers)
        per_gpu = tiers[0] * 2 / self.gpus
        ends_at_nic = np.isin(self.ends[:, 1], np.unique(self.ends[self.edge_kind[::2] == "nic", 0]))
        slot = float(self.edge_line_rate[::2][ends_at_nic].min())
        nic = fabric.nic_link.bandwidth
        return [
            Finding("network per GPU", format_quantity(per_gpu, "bandwidth")),
            Finding("bisection", format_quantity(bisection, "bandwidth")),
            Finding("oversubscription", f"{fabric.oversubscription:.3g} : 1"),
            Finding(
                "NIC in its PCIe slot",
                f"{format_quantity(nic, 'bandwidth')} in {format_quantity(slot, 'bandwidth')}",
                slot >= nic,
            ),
        ]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a check: ``ok`` is False where something is wrong."""

    name: str
    value: str
    ok: bool = True


def _unpadded(route: list[int]) -> list[int]:
    return [edge for edge in route if edge >= 0]


def _shifted(edges: Ints, offset: Ints) -> Ints:
    return np.where(edges >= 0, edges + offset[:, None], -1)


def _widened(edges: Ints, width: int) -> Ints:
    return np.pad(edges, ((0, 0), (0, width - edges.shape[1])), constant_values=-1)
