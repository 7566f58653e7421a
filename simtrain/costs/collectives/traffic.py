"""Who sends how much to whom, turned into bytes on every directed edge.

All groups run at the same time.  Bytes are counted per byte of collective, for each group and edge, so that
sibling groups share what they have in common.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simtrain.cluster.topology import Topology
from simtrain.costs.collectives.groups import Groups

__all__ = ["Loads", "Traffic"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Loads:
    """Bytes per byte of collective on the edges that are crossed.

    Shapes: k pairs of a group and an edge it crosses, sorted; u edges that any group crosses, ascending.

    Attributes:
        group_ptr: (groups + 1,) bounds of each group in ``edge`` and ``bytes``.
        edge, bytes: (k,).
        edges: (u,), total: (u,) bytes of all groups, largest: (u,) bytes of the largest single flow, and 0
            where a single flow can fill the edge.
    """

    group_ptr: Ints
    edge: Ints
    bytes: Floats
    edges: Ints
    total: Floats
    largest: Floats


@dataclass
class Traffic:
    """Adds up what crosses each directed edge.

    Attributes:
        near_s, far_s: longest path latency of a hop inside a node, and between nodes.
    """

    groups: Groups
    near_s: float = 0.0
    far_s: float = 0.0
    _keys: list[Ints] = field(default_factory=list)
    _bytes: list[Floats] = field(default_factory=list)
    _limited: list[tuple[Ints, Floats]] = field(default_factory=list)

    def add(self, source: Ints, target: Ints, share: float, group: Ints | None = None) -> None:
        """Add flows from each ``source`` to its ``target``, each of ``share`` bytes per byte of collective.

        Args:
            source: (flows,) GPUs that send.
            target: (flows,) GPUs that receive.
            share: bytes of each flow.
            group: (flows,) group of each flow; by default the one that its source is in.
        """
        if not source.size:
            return
        topology = self.groups.topology
        if group is None:
            group = self.groups.group_of_gpu[source]
        edges, ways = _paths(topology, source, target)
        real = edges >= 0
        latency = np.where(real, topology.edge_latency[edges], 0.0).sum(axis=1)
        far = source // topology.gpus_per_node != target // topology.gpus_per_node
        self.near_s = max(self.near_s, float(latency[~far].max(initial=0.0)))
        self.far_s = max(self.far_s, float(latency[far].max(initial=0.0)))
        keys = (group[:, None] * _edge_count(topology) + edges)[real]
        self._collect(keys, np.full(len(keys), share) if ways is None else share * ways[real])

    def exchange(self, rows: Ints, share: float) -> None:
        """Add a flow of ``share`` bytes between every two GPUs of each row, both ways; rows are (rows, GPUs)."""
        for shift in range(1, rows.shape[1]):
            self.add(rows.ravel(), np.roll(rows, shift, axis=1).ravel(), share)

    def _collect(self, keys: Ints, flow_bytes: Floats) -> None:
        limit = self.groups.topology.edge_flow_bandwidth
        if not np.isinf(limit).all():
            edge = keys % _edge_count(self.groups.topology)
            chosen = np.isfinite(limit[edge])
            self._limited.append((edge[chosen], flow_bytes[chosen]))
        merged, amount = _merged(keys, flow_bytes)
        self._keys.append(merged)
        self._bytes.append(amount)

    @cached_property
    def loads(self) -> Loads:
        """What all flows added so far come to; nothing is added after this was asked for."""
        count = _edge_count(self.groups.topology)
        keys, amount = _merged(np.concatenate(self._keys), np.concatenate(self._bytes))
        group, edge = np.divmod(keys, count)
        total: Floats = np.bincount(edge, weights=amount, minlength=count).astype(np.float64)
        largest = np.zeros(count)
        for limited, most in self._limited:
            np.maximum.at(largest, limited, most)
        edges = np.flatnonzero(total)
        ptr = np.searchsorted(group, np.arange(len(self.groups.members) + 1))
        return Loads(ptr, edge, amount, edges, total[edges], largest[edges])


def _paths(topology: Topology, source: Ints, target: Ints) -> tuple[Ints, Floats | None]:
    """Edges of each flow, (flows, hops) padded with -1, and the share of the flow on each; None where it is all."""
    return topology.routes(source, target), None


def _edge_count(topology: Topology) -> int:
    return len(topology.edge_bandwidth)


def _merged(keys: Ints, amount: Floats) -> tuple[Ints, Floats]:
    """Distinct keys, ascending, and what each adds up to."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[first], np.add.reduceat(amount[order], first) if len(first) else amount
