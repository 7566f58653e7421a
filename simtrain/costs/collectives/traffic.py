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
from simtrain.costs.collectives import exchange
from simtrain.costs.collectives.groups import Groups

__all__ = ["Loads", "Traffic"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FIRST_PART, PART_EDGES = 2048, 2_000_000
"""Flows are followed in parts, the first of so many flows, the others of about so many edges."""
DIRECT_FLOWS = 20_000
"""Exchanges with more flows are added up from their parts, where the fabric's paths have parts: a few milliseconds
instead of seconds."""


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
        times = None
        if group is None:
            # The channels of a ring or tree take mostly the same hops inside nodes.
            pairs, count = np.unique(source * self.groups.topology.gpus + target, return_counts=True)
            if len(pairs) < len(source):
                source, target = np.divmod(pairs, self.groups.topology.gpus)
                times = count
            group = self.groups.group_of_gpu[source]
        self.follow(source, target, share, group, times)

    def exchange(self, rows: Ints, share: float) -> None:
        """Add a flow of ``share`` bytes between every two GPUs of each row, both ways; rows are (rows, GPUs)."""
        size, topology = rows.shape[1], self.groups.topology
        inside = (rows // topology.gpus_per_node == rows[:, :1] // topology.gpus_per_node).all()
        if not inside and rows.size * (size - 1) > DIRECT_FLOWS and topology.fabric and topology.fabric.separable:
            exchange.add(self, rows, share)
            return
        to = (np.arange(size) + np.arange(1, size)[:, None]) % size
        self.add(np.broadcast_to(rows, (size - 1, *rows.shape)).ravel(), rows[:, to].swapaxes(0, 1).ravel(), share)

    def follow(
        self,
        source: Ints,
        target: Ints,
        share: float,
        group: Ints,
        times: Ints | None = None,
        only: NDArray[np.bool_] | None = None,
    ) -> None:
        """Count ``share`` bytes of each flow for its group, ``times`` over, on edges that are among ``only``.

        Args:
            source: (flows,) GPUs that send.
            target: (flows,) GPUs that receive.
            share: bytes of each flow.
            group: (flows,) group of each flow.
            times: (flows,) how many such flows there are; by default one.
            only: (directed edges,) which edges are counted; by default all.
        """
        begin, size = 0, FIRST_PART
        while begin < len(source):
            part = slice(begin, begin + size)
            edges, ways = self._ways(source[part], target[part])
            chosen = edges >= 0 if only is None else (edges >= 0) & only[edges]
            self.record(edges, chosen, share, group[part], None if times is None else times[part], ways)
            begin, size = begin + size, max(FIRST_PART, PART_EDGES // max(edges.shape[1], 1))

    def _ways(self, source: Ints, target: Ints) -> tuple[Ints, Floats | None]:
        """:func:`_paths` of flows, with a look at their latencies."""
        topology = self.groups.topology
        edges, ways = _paths(topology, source, target)
        seconds = np.where(edges >= 0, topology.edge_latency[edges], 0.0)
        latency = (seconds if ways is None else seconds * ways).sum(axis=1)
        far = source // topology.gpus_per_node != target // topology.gpus_per_node
        self.near_s = max(self.near_s, float(latency[~far].max(initial=0.0)))
        self.far_s = max(self.far_s, float(latency[far].max(initial=0.0)))
        return edges, ways

    def record(
        self,
        edges: Ints,
        chosen: NDArray[np.bool_],
        share: float,
        group: Ints,
        times: Ints | None = None,
        ways: Floats | None = None,
    ) -> None:
        """Count flows whose ways are known: edges, chosen, ways (flows, hops), the others as in :meth:`follow`."""
        count = _edge_count(self.groups.topology)
        keys = (group[:, None] * count + edges)[chosen]
        single: float | Floats = share if ways is None else share * ways[chosen]
        self._limit(keys % count, single)
        if times is not None:
            single = np.multiply(single, np.broadcast_to(times[:, None], chosen.shape)[chosen], dtype=np.float64)
        merged, amount = _merged(keys, single)
        self._keys.append(merged)
        self._bytes.append(amount)

    def _limit(self, edge: Ints, flow_bytes: float | Floats) -> None:
        """Remember the flows on edges that a single flow cannot fill."""
        limit = self.groups.topology.edge_flow_bandwidth
        if not np.isinf(limit).all():
            chosen = np.isfinite(limit[edge])
            self._limited.append((edge[chosen], np.broadcast_to(flow_bytes, edge.shape)[chosen]))

    @cached_property
    def loads(self) -> Loads:
        """What all flows added so far come to; nothing is added after this was asked for."""
        count = _edge_count(self.groups.topology)
        keys, amount = _merged(np.concatenate(self._keys), np.concatenate(self._bytes))
        self._keys.clear()
        self._bytes.clear()
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
    if topology.fabric is None or not topology.fabric.spreads:
        return topology.routes(source, target), None
    return topology.paths(source, target)


def _edge_count(topology: Topology) -> int:
    return len(topology.edge_bandwidth)


def _merged(keys: Ints, amount: float | Floats) -> tuple[Ints, Floats]:
    """Distinct keys, ascending, and what each adds up to."""
    if isinstance(amount, float):
        keys = np.sort(keys)
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        return keys[first], np.diff(first, append=len(keys)) * amount
    order = np.argsort(keys)
    keys = keys[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[first], np.add.reduceat(amount[order], first) if len(first) else amount
