"""Large exchanges, everybody with everybody, added up without following every single flow.

A path from one node to another is a way out of the source's node, a way through the switches, and a way into the
target's node.  The first depends on the source alone, the last on the target alone, and the middle on the switch
that the source is plugged into and the target.  One flow of each such kind is followed and counted as often as
there are flows of that kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from simtrain.costs.collectives.traffic import Traffic

__all__ = ["add"]

Ints = NDArray[np.int64]
_INSIDE, _NIC, _BETWEEN = 0, 1, 2
"""Edges inside a node, between a NIC and its switch, and between switches."""


def add(traffic: Traffic, rows: Ints, share: float) -> None:
    """Add a flow of ``share`` bytes between every two GPUs of each row (rows, GPUs), both ways."""
    exchange = _Exchange(traffic, np.sort(rows, axis=1), share)
    exchange.add_near()
    exchange.add_ends()
    exchange.add_middles()


@dataclass(frozen=True)
class _Exchange:
    """One exchange; ``rows`` are sorted, so that the GPUs of a node stand together."""

    traffic: Traffic
    rows: Ints
    share: float

    @cached_property
    def node(self) -> Ints:
        """(rows, GPUs) node of each GPU."""
        return self.rows // self.traffic.groups.topology.gpus_per_node

    @cached_property
    def kinds(self) -> Ints:
        """(directed edges,) inside a node, at a NIC, or between switches."""
        topology = self.traffic.groups.topology
        kinds = np.where(topology.edge_kind == "fabric", _BETWEEN, _NIC)
        kinds[: topology.nodes * 2 * len(topology.node.links)] = _INSIDE
        return kinds

    @cached_property
    def partner(self) -> Ints:
        """(rows, GPUs) a GPU of the row that is on another node, where there is one."""
        return np.where(self.node != self.node[:, :1], self.rows[:, :1], self.rows[:, -1:])

    def add_near(self) -> None:
        """Flows inside nodes, between near neighbours of a row."""
        rows, node = self.rows, self.node
        for shift in range(1, min(self.traffic.groups.topology.gpus_per_node, rows.shape[1])):
            near = node[:, :-shift] == node[:, shift:]
            a, b = rows[:, :-shift][near], rows[:, shift:][near]
            self.traffic.add(a, b, self.share)
            self.traffic.add(b, a, self.share)

    def add_ends(self) -> None:
        """The ways out of each GPU's node and into it, once for each partner on another node."""
        key = np.arange(len(self.rows))[:, None] * self.traffic.groups.topology.nodes + self.node
        _, place, on_node = np.unique(key, return_inverse=True, return_counts=True)
        times = (self.rows.shape[1] - on_node[place]).reshape(self.rows.shape)
        apart = times > 0
        gpu, partner = self.rows[apart], self.partner[apart]
        group = self.traffic.groups.group_of_gpu[gpu]
        for direction, pair in enumerate(((gpu, partner), (partner, gpu))):
            edges = self.traffic.groups.topology.routes(*pair)
            self.traffic.record(edges, self._own(edges, gpu, direction), self.share, group, times[apart])

    def _own(self, edges: Ints, gpu: Ints, direction: int) -> NDArray[np.bool_]:
        """Edges of each path that lie in the node of ``gpu``, or on its NIC's way up (direction 0) or down (1)."""
        topology = self.traffic.groups.topology
        kind = self.kinds[edges]
        inside = edges // (2 * len(topology.node.links)) == (gpu // topology.gpus_per_node)[:, None]
        own: NDArray[np.bool_] = np.where(kind == _NIC, edges % 2 == direction, (kind == _INSIDE) & inside)
        return own & (edges >= 0)

    def add_middles(self) -> None:
        """The ways between switches: from each switch to each target, as often as there are sources at that switch.

        Sources of one row at one switch are a class; its flow to a target is followed from the source with the longest
        way out that is not on the target's own node.
        """
        nodes = self.traffic.groups.topology.nodes
        switch, seconds = self._ways_out()
        row = np.repeat(np.arange(len(self.rows)), self.rows.shape[1])
        order = np.lexsort((-seconds, switch, row))
        start = np.flatnonzero(np.diff(row[order] * (switch.max() + 1) + switch[order], prepend=-1))
        size = np.diff(start, append=len(order))
        of_source = np.repeat(np.arange(len(start)), size)
        source, node = self.rows.ravel()[order], self.node.ravel()[order]
        # The first source of each class, and the first one on another node than that (any, where there is none).
        elsewhere = np.flatnonzero(node != node[start][of_source])
        classes, at = np.unique(of_source[elsewhere], return_index=True)
        second = start.copy()
        second[classes] = elsewhere[at]
        target, target_node = self.rows[row[order][start]], self.node[row[order][start]]
        on_node = np.bincount(of_source * nodes + node, minlength=len(start) * nodes).reshape(-1, nodes)
        times = size[:, None] - np.take_along_axis(on_node, target_node, axis=1)
        chosen = np.where(node[start][:, None] != target_node, start[:, None], second[:, None])
        wanted = times > 0
        sender = source[chosen[wanted]]
        group = self.traffic.groups.group_of_gpu[sender]
        self.traffic.follow(sender, target[wanted], self.share, group, times[wanted], self.kinds == _BETWEEN)

    def _ways_out(self) -> tuple[Ints, NDArray[np.float64]]:
        """(GPUs of all rows,) a number shared by those at the same switch or switches, and the latency up to there."""
        topology, gpu = self.traffic.groups.topology, self.rows.ravel()
        edges = topology.routes(gpu, self.partner.ravel())
        own = self._own(edges, gpu, 0)
        seconds = np.where(own, topology.edge_latency[edges], 0.0)
        vertex = np.where(own & (self.kinds[edges] == _NIC), topology.ends[edges // 2, 1], -1)
        _, switch = np.unique(np.sort(vertex, axis=1), axis=0, return_inverse=True)
        return switch.ravel(), seconds.sum(axis=1)
