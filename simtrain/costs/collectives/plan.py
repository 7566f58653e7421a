"""What an algorithm does to the links and how many steps it takes, whatever the size: a :class:`Plan`.

All groups of a plan run at the same time.  Loads are bytes that cross a directed edge per byte of collective,
summed over all groups, so that siblings share what they have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simtrain.cluster.topology import Topology
from simtrain.costs.collectives.protocol import Family
from simtrain.model.operators import Collective

__all__ = ["Algorithm", "Groups", "Plan", "Traffic", "passes"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Groups:
    """Groups that run a collective at the same time.

    Attributes:
        members: (groups, size) GPUs of each group, in ascending order (node by node).
    """

    topology: Topology
    members: Ints

    @property
    def size(self) -> int:
        """GPUs of one group."""
        return int(self.members.shape[1])

    @cached_property
    def nodes(self) -> Ints:
        """(groups, size) node of each member."""
        return self.members // self.topology.gpus_per_node

    @cached_property
    def node_counts(self) -> Ints:
        """(groups,) nodes that each group touches."""
        return np.asarray((np.diff(self.nodes, axis=1) != 0).sum(axis=1) + 1)

    @property
    def most_nodes(self) -> int:
        """Nodes of the group that touches most of them."""
        return int(self.node_counts.max())

    @property
    def per_node(self) -> int | None:
        """Members that every group has on each of its nodes; None where that differs."""
        each = self.size // self.most_nodes
        if (self.node_counts != self.most_nodes).any() or each * self.most_nodes != self.size:
            return None
        blocks = self.nodes.reshape(-1, self.most_nodes, each)
        return each if (blocks == blocks[:, :, :1]).all() else None

    def by_node(self, row: Ints) -> list[Ints]:
        """The members of one group, node by node."""
        starts = np.flatnonzero(np.diff(row // self.topology.gpus_per_node)) + 1
        return np.split(row, starts)

    @cached_property
    def channels(self) -> list[list[list[Ints]]]:
        """For each group and each of its channels: the members of each node, first a GPU of the channel's NIC.

        A group with several NICs within reach runs one channel per NIC.
        """
        return [self._channels(self.by_node(row)) for row in self.members]

    def _channels(self, nodes: list[Ints]) -> list[list[Ints]]:
        if len(nodes) == 1:
            return [nodes]
        rail = self.topology.node.nic_of_gpu
        firsts = [np.unique(rail[m % self.topology.gpus_per_node], return_index=True)[1] for m in nodes]
        count = min(len(first) for first in firsts)
        return [[np.roll(m, -first[c]) for m, first in zip(nodes, firsts, strict=True)] for c in range(count)]


@dataclass
class Traffic:
    """Adds up what crosses each directed edge.

    Attributes:
        load: (directed edges,) bytes per byte of collective; flows: (directed edges,) flows that cross;
            largest: (directed edges,) bytes of the largest flow per byte of collective.
        near_s, far_s: longest path latency of a hop inside a node, and between nodes.
    """

    topology: Topology
    load: Floats = field(init=False)
    flows: Ints = field(init=False)
    largest: Floats = field(init=False)
    near_s: float = 0.0
    far_s: float = 0.0

    def __post_init__(self) -> None:
        edges = len(self.topology.edge_bandwidth)
        self.load, self.largest = np.zeros(edges), np.zeros(edges)
        self.flows = np.zeros(edges, dtype=np.int64)

    def add(self, source: Ints, target: Ints, share: float) -> None:
        """Add flows from each ``source`` to its ``target``, each of ``share`` bytes per byte of collective."""
        topology = self.topology
        routes = topology.routes(source, target)
        real = routes >= 0
        crossed = np.bincount(routes[real], minlength=len(self.load))
        self.load += crossed * share
        self.flows += crossed
        np.maximum(self.largest, share * (crossed > 0), out=self.largest)
        latency = np.where(real, topology.edge_latency[routes], 0.0).sum(axis=1)
        far = source // topology.gpus_per_node != target // topology.gpus_per_node
        self.near_s = max(self.near_s, float(latency[~far].max(initial=0.0)))
        self.far_s = max(self.far_s, float(latency[far].max(initial=0.0)))


@dataclass(frozen=True, slots=True)
class Plan:
    """One algorithm on some groups, whatever the size.

    Attributes:
        near_steps, far_steps: successive hops inside nodes and between nodes, of the slowest group.
        seconds_per_byte: least transfer time whatever the links say (a measured rate); 0 without.
        protocols: names of the protocols the algorithm can use.
        formula: the transfer in words, for explanations.
    """

    algorithm: str
    family: Family
    traffic: Traffic
    near_steps: int
    far_steps: int
    protocols: tuple[str, ...]
    formula: str
    seconds_per_byte: float = 0.0
    launched: bool = True


@dataclass(frozen=True, slots=True)
class Algorithm:
    """An algorithm: ``plan`` returns None where it does not apply.

    Attributes:
        collectives: those it can run; nccl, ideal: whether it is tried in that mode without being asked for.
    """

    name: str
    collectives: Sequence[Collective]
    plan: Callable[[Groups, Collective], Plan | None]
    nccl: bool = True
    ideal: bool = False


def passes(collective: Collective) -> int:
    """How often the data goes around: an all-reduce is a reduce-scatter and an all-gather."""
    return 2 if collective == "all_reduce" else 1
