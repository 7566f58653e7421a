"""Groups of GPUs that run a collective at the same time, and how they lie on nodes and NICs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simtrain.cluster.topology import Topology

__all__ = ["Groups"]

Ints = NDArray[np.int64]


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
    def group_of_gpu(self) -> Ints:
        """(GPUs of the cluster,) group that each GPU is in; -1 for none."""
        found = np.full(self.topology.gpus, -1, dtype=np.int64)
        found[self.members] = np.arange(len(self.members))[:, None]
        return found

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

    @property
    def local(self) -> Ints:
        """(groups * nodes, per node) members of each node; every group has as many on each of its nodes."""
        return self.members.reshape(len(self.members) * self.most_nodes, -1)

    @property
    def rails(self) -> Ints:
        """(groups * per node, nodes) members of equal position on their nodes; nodes as in :attr:`local`."""
        nodes = self.most_nodes
        return self.members.reshape(len(self.members), nodes, -1).swapaxes(1, 2).reshape(-1, nodes)

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
