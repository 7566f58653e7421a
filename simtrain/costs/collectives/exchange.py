"""Large exchanges, everybody with everybody, added up without following every single flow.

A path from one node to another is a way out of the source's node, a way through the switches, and a way into the
target's node.  The first depends on the source alone, the last on the target alone, and the middle on the switch
that the source is plugged into and the target.  One flow of each such kind is followed and counted as often as
there are flows of that kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from simtrain.costs.collectives.traffic import Paths, Traffic

__all__ = ["add"]

Ints = NDArray[np.int64]


def add(traffic: Traffic, rows: Ints, share: float) -> None:
    """Add a flow of ``share`` bytes between every two GPUs of each row (rows, GPUs), both ways."""
    per_node = traffic.groups.topology.gpus_per_node
    rows = np.sort(rows, axis=1)
    node = rows // per_node
    _add_near(traffic, rows, share)
    _add_ends(traffic, rows, node, _same(node), share)
    _add_middles(traffic, rows, node, share)


def _same(node: Ints) -> Ints:
    """Members of its row that are on the same node as each GPU, itself included."""
    key = (np.arange(len(node))[:, None] * (node.max() + 1) + node).ravel()
    _, place, count = np.unique(key, return_inverse=True, return_counts=True)
    return count[place].reshape(node.shape)


def _add_near(traffic: Traffic, rows: Ints, share: float) -> None:
    """Flows inside nodes: rows are in order, so that these are the near neighbours."""
    per_node = traffic.groups.topology.gpus_per_node
    for shift in range(1, min(per_node, rows.shape[1])):
        a, b = rows[:, :-shift].ravel(), rows[:, shift:].ravel()
        near = a // per_node == b // per_node
        traffic.add(a[near], b[near], share)
        traffic.add(b[near], a[near], share)


def _add_ends(traffic: Traffic, rows: Ints, node: Ints, same: Ints, share: float) -> None:
    """The ways out of each GPU's node and into it, once for each partner on another node."""
    first, last = rows[:, :1], rows[:, -1:]
    partner = np.where(node != node[:, :1], first, last).ravel()
    gpu, times = rows.ravel(), (rows.shape[1] - same).ravel()
    apart = times > 0
    gpu, partner, times = gpu[apart], partner[apart], times[apart]
    group = traffic.groups.group_of_gpu[gpu]
    out = traffic.paths(gpu, partner)
    traffic.record(_own(traffic, out, gpu, 0), out, share, group, times)
    into = traffic.paths(partner, gpu)
    traffic.record(_own(traffic, into, gpu, 1), into, share, group, times)


def _own(traffic: Traffic, paths: Paths, gpu: Ints, direction: int) -> NDArray[np.bool_]:
    """Edges of each path that lie in the node of ``gpu``, or on its NIC's way up (direction 0) or down (1)."""
    topology, edges = traffic.groups.topology, paths.edges
    kind = _kinds(traffic)[edges]
    node = edges // (2 * len(topology.node.links)) == (gpu // topology.gpus_per_node)[:, None]
    own: NDArray[np.bool_] = (edges >= 0) & np.where(kind == 1, edges % 2 == direction, (kind == 0) & node)
    return own


def _kinds(traffic: Traffic) -> Ints:
    """(directed edges,) 0 inside a node, 1 between a NIC and its switch, 2 between switches."""
    topology = traffic.groups.topology
    inside = topology.nodes * 2 * len(topology.node.links)
    kind = np.where(topology.edge_kind == "fabric", 2, 1)
    kind[:inside] = 0
    return kind


def _add_middles(traffic: Traffic, rows: Ints, node: Ints, share: float) -> None:
    """The ways between switches: from each switch to each target, as often as there are sources at that switch."""
    topology = traffic.groups.topology
    kinds = _kinds(traffic)
    size = rows.shape[1]
    partner = np.where(node != node[:, :1], rows[:, :1], rows[:, -1:])
    switch, seconds = _switches(traffic, rows.ravel(), partner.ravel(), kinds)
    row = np.repeat(np.arange(len(rows)), size)
    # Sources of one row and switch, those with the longest way to it first.
    order = np.lexsort((-seconds, switch, row))
    place = np.flatnonzero(np.diff(row[order] * (switch.max() + 1) + switch[order], prepend=-1))
    count = np.diff(place, append=len(order))
    klass = np.repeat(np.arange(len(place)), count)
    source, source_node = rows.ravel()[order], node.ravel()[order]
    other = source_node != source_node[place][klass]
    second = np.full(len(place), -1)
    found, where = np.unique(klass[other], return_index=True)
    second[found] = np.flatnonzero(other)[where]
    # (classes, targets): a source that is not on the target's node, and how many there are.
    target, target_node = rows[row[order][place]], node[row[order][place]]
    key = klass * topology.nodes + source_node
    on_node = np.bincount(key, minlength=len(place) * topology.nodes).reshape(len(place), -1)
    times = count[:, None] - np.take_along_axis(on_node, target_node, axis=1)
    chosen = np.where(source_node[place][:, None] != target_node, place[:, None], second[:, None])
    wanted = times > 0
    sender = source[chosen[wanted]]
    paths = traffic.paths(sender, target[wanted])
    middle = (paths.edges >= 0) & (kinds[paths.edges] == 2)
    traffic.record(middle, paths, share, traffic.groups.group_of_gpu[sender], times[wanted])


def _switches(traffic: Traffic, gpu: Ints, partner: Ints, kinds: Ints) -> tuple[Ints, NDArray[np.float64]]:
    """(GPUs,) a number that GPUs behind the same switches share, and the latency of each GPU's way out."""
    topology = traffic.groups.topology
    paths = traffic.paths(gpu, partner)
    own = _own(traffic, paths, gpu, 0)
    seconds = np.where(own, topology.edge_latency[paths.edges], 0.0)
    up = own & (kinds[paths.edges] == 1)
    vertex = np.where(up, topology.ends[paths.edges // 2, 1], -1)
    _, switch = np.unique(np.sort(vertex, axis=1), axis=0, return_inverse=True)
    return switch.ravel(), (seconds if paths.ways is None else seconds * paths.ways).sum(axis=1)
