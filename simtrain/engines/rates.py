"""Rates of running operations: written once, as loops over arrays that every engine calls.

An operation runs at rate 1 when alone.  Two things slow it down:

- A transfer that a kernel drives holds SMs of its GPUs while its bytes move.  A compute kernel loses that share of its
  rate (or, with a static grid, runs in more waves) and a little for memory contention; the transfer itself moves at
  ``transfer_rate`` at most while a kernel runs on one of its GPUs.
- Transfers share the links they cross by max-min fairness, found by progressive filling: every transfer's flow grows at
  the same pace until a link on its way is full or it moves as fast as it would alone (Bertsekas and Gallager, Data
  Networks, 1992, section 6.5.2).  All flows of one operation move in step; the fullest link decides.

After each change only operations that it can reach over full links are worked out again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simtrain.engines.network import (
    BEGUN,
    CHANGED,
    EPOCH,
    FULL,
    KERNEL,
    LEFT,
    OTHER,
    RANKS,
    REACHED,
    STIRRED,
    TRANSFER,
    Network,
)
from simtrain.jit import jit_in_place
from simtrain.program.program import STREAMS

__all__ = ["add", "enter", "leave", "settle", "update"]

Ints = NDArray[np.int32]
Records = NDArray[np.void]

_FULL = 1e-12
"""A link is full from this much above its capacity on; less is rounding."""


@jit_in_place
def settle(net: Network, begun: Ints, ended: Ints) -> int:
    """Bring rates up to date after operations began to work and others ended.

    Args:
        net: what is under way; changed in place.
        begun: kernels that started and transfers whose latency is over; their rate counts as new.
        ended: operations that were at work and are over.

    Returns:
        How many homes follow in ``net.lists[CHANGED][1:]`` whose rate is new.
    """
    for op in ended:
        leave(net, op)
    for op in begun:
        enter(net, op)
    return update(net)


@jit_in_place
def enter(net: Network, op: int) -> None:
    """An operation is at work from now on; :func:`update` gives it a rate."""
    kind, home = net.ops[op]["kind"], net.op_lanes[net.ops[op]["lane"]]
    for k in range(net.ops[op]["lane"], net.ops[op + 1]["lane"]):
        net.lanes[net.op_lanes[k]]["home"] = home
    lane = net.lanes[home]
    lane["op"], lane["rate"], lane["sms"], lane["length"] = op, 0.0, net.ops[op]["sms"], 0
    _count(net, op, 1)
    if kind == TRANSFER:
        _cross(net, op, home)
        _reach(net.lanes, net.lists, home)
    else:
        add(net.lists, BEGUN, home)


@jit_in_place
def leave(net: Network, op: int) -> None:
    """An operation that was at work is over."""
    home = net.op_lanes[net.ops[op]["lane"]]
    for k in range(net.ops[op]["lane"], net.ops[op + 1]["lane"]):
        net.lanes[net.op_lanes[k]]["home"] = -1
    _count(net, op, -1)
    if net.ops[op]["kind"] == TRANSFER:
        first = net.lanes[home]["node"]
        for node in range(first, first + net.lanes[home]["length"]):
            _unlink(net.edges, net.nodes, net.lists, node)


@jit_in_place
def _count(net: Network, op: int, change: int) -> None:
    """Count lanes of each rank on which kernels work, and transfers that hold SMs."""
    kind = net.ops[op]["kind"]
    if kind == OTHER or (kind == TRANSFER and net.ops[op]["sms"] == 0.0):
        return
    for k in range(net.ops[op]["lane"], net.ops[op + 1]["lane"]):
        rank = net.ranks[net.op_lanes[k] // STREAMS]
        if kind == KERNEL:
            rank["kernels"] += change
        else:
            rank["transfers"] += change
        if rank["mark"] != net.lists[EPOCH][0]:
            rank["mark"] = net.lists[EPOCH][0]
            add(net.lists, RANKS, net.op_lanes[k] // STREAMS)


@jit_in_place
def _cross(net: Network, op: int, home: int) -> None:
    """A transfer takes its place on every edge of its set, and learns how many of its ranks are computing."""
    lane, flow = net.lanes[home], net.ops[op]["flow"]
    busy = 0
    if lane["sms"] > 0.0:  # ranks that start or stop at this instant are counted by update
        for k in range(net.ops[op]["lane"], net.ops[op + 1]["lane"]):
            busy += net.ranks[net.op_lanes[k] // STREAMS]["busy"]
    lane["busy"] = busy
    lane["cap"] = net.sharing[2] if busy else 1.0
    if flow < 0:
        return
    share, node = net.sets[flow]["share"], lane["node"]
    lane["weight"] = net.sets[flow]["weight"]
    lane["length"] = net.sets[flow + 1]["share"] - share
    for k in range(lane["length"]):
        edge = net.shares[share + k]["edge"]
        _link(net.edges, net.nodes, node + k, edge)
        place = net.nodes[node + k]
        place["home"], place["edge"], place["use"] = home, edge, net.shares[share + k]["use"]


@jit_in_place
def _link(edges: Records, nodes: Records, node: int, edge: int) -> None:
    """Put a node first in the list of an edge."""
    after = edges[edge]["head"]
    nodes[node]["before"], nodes[node]["after"] = -1, after
    if after >= 0:
        nodes[after]["before"] = node
    edges[edge]["head"] = node


@jit_in_place
def _unlink(edges: Records, nodes: Records, lists: Ints, node: int) -> None:
    """Take a node off its edge; where somebody had to wait there, rates change."""
    before, after, edge = nodes[node]["before"], nodes[node]["after"], nodes[node]["edge"]
    if before < 0:
        edges[edge]["head"] = after
    else:
        nodes[before]["after"] = after
    if after >= 0:
        nodes[after]["before"] = before
    if edges[edge]["full"] and edges[edge]["left"] != lists[EPOCH][0]:
        edges[edge]["left"] = lists[EPOCH][0]
        add(lists, LEFT, edge)


@jit_in_place
def update(net: Network) -> int:
    """Rates after operations entered and left; the homes whose rate is new are in ``net.lists[CHANGED]``."""
    lists = net.lists
    lists[CHANGED][0] = 0
    for i in range(1, lists[RANKS][0] + 1):
        _look_at_rank(net, lists[RANKS][i])
    _kernel_rates(net)
    _transfer_rates(net)
    lists[RANKS][0] = lists[BEGUN][0] = lists[STIRRED][0] = lists[LEFT][0] = lists[REACHED][0] = lists[FULL][0] = 0
    lists[EPOCH][0] += 1
    return int(lists[CHANGED][0])


@jit_in_place
def _look_at_rank(net: Network, number: int) -> None:
    """Whether a rank computes and what transfers hold of its SMs.

    A kernel right behind another one leaves its GPU busy throughout, so that this is asked when all have come and gone.
    """
    rank = net.ranks[number]
    busy = 1 if rank["kernels"] > 0 else 0
    change = busy - rank["busy"]
    rank["busy"] = busy
    if rank["transfers"] == 0 and rank["held"] == 0.0:
        return
    held = 0.0
    for at in range(number * STREAMS, (number + 1) * STREAMS):
        home = net.lanes[at]["home"]
        if home < 0 or net.lanes[home]["sms"] == 0.0:
            continue
        if change != 0:
            lane = net.lanes[home]
            lane["busy"] += change
            lane["cap"] = net.sharing[2] if lane["busy"] > 0 else 1.0
            _reach(net.lanes, net.lists, home)
        if _first_there(net.lanes, number, at):
            held += net.lanes[home]["sms"]
    if held != rank["held"]:
        rank["held"] = held
        add(net.lists, STIRRED, number)


@jit_in_place
def _first_there(lanes: Records, rank: int, at: int) -> bool:
    """An operation on several lanes of a rank holds its SMs once there."""
    for before in range(rank * STREAMS, at):  # noqa: SIM110 -- numba knows no generators in any()
        if lanes[before]["home"] == lanes[at]["home"]:
            return False
    return True


@jit_in_place
def _kernel_rates(net: Network) -> None:
    """Rates of kernels that began, and of those on ranks where the SMs held by transfers have changed."""
    lists, lanes = net.lists, net.lanes
    for i in range(1, lists[BEGUN][0] + 1):
        _set_kernel(net, lists[BEGUN][i])
    for i in range(1, lists[STIRRED][0] + 1):
        home = lanes[lists[STIRRED][i] * STREAMS]["home"]
        if home >= 0 and net.ops[lanes[home]["op"]]["kind"] == KERNEL and lanes[home]["mark"] != lists[EPOCH][0]:
            _set_kernel(net, home)


@jit_in_place
def _set_kernel(net: Network, home: int) -> None:
    """A kernel on several GPUs keeps the pace of the slowest."""
    lane = net.lanes[home]
    op, rate = lane["op"], 1.0
    lane["mark"] = net.lists[EPOCH][0]
    if net.ops[op]["kind"] == KERNEL:
        for k in range(net.ops[op]["lane"], net.ops[op + 1]["lane"]):
            held = net.ranks[net.op_lanes[k] // STREAMS]["held"]
            if held > 0.0:
                rate = min(rate, _slowed(net.sharing, net.ops[op]["grid"], held))
    _set_rate(net.lanes, net.lists, home, rate)


@jit_in_place
def _slowed(sharing: tuple[float, float, float], grid: int, held: float) -> float:
    """Rate of a kernel beside transfers that hold a share of the SMs."""
    sm_count, kernel_rate, _ = sharing
    left = max(1.0, sm_count * (1.0 - held))
    if grid == 0:  # persistent: work is handed out to the SMs that are there
        return float(kernel_rate * left / sm_count)
    waves, more = np.ceil(grid / sm_count), np.ceil(grid / np.floor(left + 1e-9))
    return float(kernel_rate * waves / more)


@jit_in_place
def _transfer_rates(net: Network) -> None:
    """Max-min shares of every transfer that a change can reach over full links."""
    lists, lanes = net.lists, net.lanes
    for i in range(1, lists[LEFT][0] + 1):
        _look_at_edge(net, lists[LEFT][i])
    i = 0
    while i < lists[REACHED][0]:  # the list grows meanwhile
        i += 1
        lane = lanes[lists[REACHED][i]]
        lane["fresh"] = -1.0
        for node in range(lane["node"], lane["node"] + lane["length"]):
            _look_at_edge(net, net.nodes[node]["edge"])
    if lists[FULL][0]:
        _fill(net)
    for i in range(1, lists[REACHED][0] + 1):
        lane = lanes[lists[REACHED][i]]
        _set_rate(lanes, lists, lists[REACHED][i], lane["fresh"] if lists[FULL][0] else lane["cap"])


@jit_in_place
def _look_at_edge(net: Network, number: int) -> None:
    """Once an instant: whether an edge is full. If it is or was, a change reaches everybody on it."""
    edge = net.edges[number]
    if edge["mark"] == net.lists[EPOCH][0]:
        return
    edge["mark"] = net.lists[EPOCH][0]
    demand = 0.0  # in shares of its capacity, if nobody had to share
    node = edge["head"]
    while node >= 0:
        demand += net.lanes[net.nodes[node]["home"]]["cap"] * net.nodes[node]["use"]
        node = net.nodes[node]["after"]
    full = demand > 1.0 + _FULL
    if full or edge["full"]:
        node = edge["head"]
        while node >= 0:
            _reach(net.lanes, net.lists, net.nodes[node]["home"])
            node = net.nodes[node]["after"]
    if full:
        edge["stale"] = 1
        add(net.lists, FULL, number)
    edge["full"] = 1 if full else 0


@jit_in_place
def _fill(net: Network) -> None:
    """Progressive filling of the full edges by the transfers that were reached; results in ``fresh``."""
    lists, lanes = net.lists, net.lanes
    left = lists[REACHED][0]
    while left > 0:
        level = np.inf
        for i in range(1, lists[FULL][0] + 1):
            level = min(level, _level(net, lists[FULL][i]))
        before = left
        for i in range(1, lists[REACHED][0] + 1):  # as fast as alone below that level stays so: links only get emptier
            lane = lanes[lists[REACHED][i]]
            if lane["fresh"] < 0.0 and (
                level == np.inf or lane["length"] == 0 or lane["cap"] <= level * lane["weight"]
            ):
                _fix(net, lists[REACHED][i], lane["cap"])
                left -= 1
        if left < before:
            continue
        for i in range(1, lists[FULL][0] + 1):
            if _level(net, lists[FULL][i]) > level * (1.0 + _FULL):
                continue
            node = net.edges[lists[FULL][i]]["head"]
            while node >= 0:
                home = net.nodes[node]["home"]
                if lanes[home]["fresh"] < 0.0:
                    _fix(net, home, level * lanes[home]["weight"])
                    left -= 1
                node = net.nodes[node]["after"]


@jit_in_place
def _fix(net: Network, home: int, rate: float) -> None:
    """A transfer grows no further."""
    lane = net.lanes[home]
    lane["fresh"] = rate
    for node in range(lane["node"], lane["node"] + lane["length"]):
        net.edges[net.nodes[node]["edge"]]["stale"] = 1


@jit_in_place
def _level(net: Network, number: int) -> float:
    """Level at which an edge is full, given those whose rate is fixed; infinite when all are."""
    edge = net.edges[number]
    if edge["stale"]:
        edge["stale"] = 0
        slack, pace = 1.0, 0.0
        node = edge["head"]
        while node >= 0:
            lane, use = net.lanes[net.nodes[node]["home"]], net.nodes[node]["use"]
            if lane["fresh"] < 0.0:
                pace += use * lane["weight"]
            else:
                slack -= use * lane["fresh"]
            node = net.nodes[node]["after"]
        edge["level"] = np.inf if pace == 0.0 else max(slack, 0.0) / pace
    return float(edge["level"])


@jit_in_place
def _reach(lanes: Records, lists: Ints, home: int) -> None:
    """Work out a transfer's rate again."""
    if lanes[home]["mark"] != lists[EPOCH][0]:
        lanes[home]["mark"] = lists[EPOCH][0]
        add(lists, REACHED, home)


@jit_in_place
def _set_rate(lanes: Records, lists: Ints, home: int, rate: float) -> None:
    if abs(rate - lanes[home]["rate"]) > 1e-14 * rate:
        lanes[home]["rate"] = rate
        add(lists, CHANGED, home)


@jit_in_place
def add(lists: Ints, row: int, value: int) -> None:
    """Append to a list: its length stands first."""
    lists[row][0] += 1
    lists[row][lists[row][0]] = value
