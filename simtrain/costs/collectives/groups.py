"""Groups of GPUs that run a collective at the same time, and how they lie on nodes and NICs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simtrain.cluster.topology import Topology
from simtrain.model.routing import Routing

__all__ = ["Blocks", "Groups", "blocks_of"]

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Groups:
    """Groups that run a collective at the same time.

    Attributes:
        members: (groups, size) GPUs of each group, in ascending order (node by node).
        roots: (groups,) GPU that a broadcast or scatter starts from, or a reduce or gather ends at.
        routing: where the tokens of a dispatch or combine go; None: to every GPU alike.
    """

    topology: Topology
    members: Ints
    roots: Ints
    routing: Routing | None = None

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

    @cached_property
    def blocks(self) -> Blocks:
        """The stretches of members that lie on one node."""
        return blocks_of(self.members, self.topology.gpus_per_node)

    @cached_property
    def channels(self) -> list[tuple[int, Ints]]:
        """By number of channels of a group: that number, and (channels of all such groups, size) members in order.

        A group with several NICs within reach runs one channel per NIC: node by node, on each node beginning with
        the GPU of the channel's NIC and going on from there.
        """
        blocks, per_node = self.blocks, self.topology.gpus_per_node
        if self.most_nodes == 1:
            return [(1, self.members)]
        nic = self.topology.node.nic_of_gpu[self.members.ravel() % per_node]
        heads = np.diff(nic, prepend=-1) != 0
        heads[blocks.starts] = True
        rank = np.cumsum(heads) - 1
        rank -= rank[blocks.starts][blocks.of_member]
        per_block = np.add.reduceat(heads, blocks.starts)
        group_of_block = blocks.starts // self.size
        count = np.full(len(self.members), self.size)
        np.minimum.at(count, group_of_block, per_block)
        count[self.node_counts == 1] = 1
        orders = [self._channel(heads & (rank == c)) for c in range(count.max())]
        return [(n, np.concatenate([order[count == n] for order in orders[:n]])) for n in np.unique(count).tolist()]

    def _channel(self, first: NDArray[np.bool_]) -> Ints:
        """(groups, size) members, those of each node turned so that the one marked ``first`` leads."""
        blocks = self.blocks
        turn = np.zeros(len(blocks.starts), dtype=np.int64)
        turn[blocks.of_member[first]] = blocks.position[first]
        place = (blocks.position + turn[blocks.of_member]) % blocks.sizes[blocks.of_member]
        turned: Ints = self.members.ravel()[blocks.starts[blocks.of_member] + place]
        return turned.reshape(self.members.shape)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Stretches of a table of GPUs, read row by row, that lie on one node.

    Attributes:
        starts, sizes: (blocks,).
        of_member, position: (GPUs of the table,) which block a GPU is in, and its place there.
    """

    starts: Ints
    sizes: Ints
    of_member: Ints
    position: Ints


def blocks_of(gpus: Ints, per_node: int) -> Blocks:
    """Stretches of each row of ``gpus``, (rows, size), that lie on one node of ``per_node`` GPUs."""
    change = np.ones(gpus.shape, dtype=bool)
    change[:, 1:] = np.diff(gpus // per_node, axis=1) != 0
    starts = np.flatnonzero(change)
    of_member = np.cumsum(change) - 1
    return Blocks(starts, np.diff(starts, append=gpus.size), of_member, np.arange(gpus.size) - starts[of_member])
