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

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simtrain.jit import jit
from simtrain.program.program import STREAMS, Program, Stream

__all__ = ["KERNEL", "OTHER", "TRANSFER", "Fixed", "Live", "prepare", "settle"]

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]

OTHER, KERNEL, TRANSFER = 0, 1, 2
"""Kinds of operations: host work, whose rate is always 1; compute kernels; transfers."""

_FULL = 1e-12
"""A link is full from this much above its capacity on; less is rounding."""


class Fixed(NamedTuple):
    """What a run does not change.

    Attributes:
        rank_ptr, rank: distinct ranks of each operation. lane_ptr, lane: its lanes.
        kind: (n,) OTHER, KERNEL or TRANSFER.
        sms, grid, flow, flow_ptr, flow_edge, flow_use, flow_weight: as in Program.
        sm_count, kernel_rate, transfer_rate: as in :class:`simtrain.program.program.Sharing`.
    """

    rank_ptr: Ints
    rank: Ints
    lane_ptr: Ints
    lane: Ints
    kind: Ints
    sms: Floats
    grid: Ints
    flow: Ints
    flow_ptr: Ints
    flow_edge: Ints
    flow_use: Floats
    flow_weight: Floats
    sm_count: float
    kernel_rate: float
    transfer_rate: float


class Live(NamedTuple):
    """What is under way.

    Attributes:
        rate, cap: (n,) rate of each operation, and what it would be if no link were shared.
        busy: (n,) on how many of a transfer's ranks a kernel runs.
        on_lane: operation at work on each lane, -1 without.
        held, kernels: per rank, SM share held by transfers and kernels running.
        edge_head, node_op, node_next, free: transfers on each edge, as linked lists; ``free[0]`` is the first
            unused node.
        op_mark, edge_mark, rank_mark, epoch: what has been visited since the last change.
        ops, edges, ranks, touched: scratch. fresh: (n,) rates being worked out.
        changed: operations whose rate is new.
    """

    rate: Floats
    cap: Floats
    busy: Ints
    on_lane: Ints
    held: Floats
    kernels: Ints
    edge_head: Ints
    node_op: Ints
    node_next: Ints
    free: Ints
    op_mark: Ints
    edge_mark: Ints
    rank_mark: Ints
    epoch: Ints
    ops: Ints
    edges: Ints
    ranks: Ints
    touched: Ints
    fresh: Floats
    changed: Ints


def prepare(program: Program) -> tuple[Fixed, Live]:
    """Arrays for :func:`settle`, with nothing under way."""
    n, lanes = program.size, program.ranks * STREAMS
    owner = np.repeat(np.arange(n, dtype=np.int64), np.diff(program.op_ptr))
    pairs = np.unique(owner * program.ranks + program.lanes // STREAMS)
    first = program.lanes[program.op_ptr[:-1]] % STREAMS
    kind = np.full(n, TRANSFER, dtype=np.int32)
    kind[first == Stream.COMPUTE] = KERNEL
    kind[first == Stream.HOST] = OTHER
    fixed = Fixed(
        rank_ptr=np.searchsorted(pairs, np.arange(n + 1, dtype=np.int64) * program.ranks).astype(np.int32),
        rank=(pairs % program.ranks).astype(np.int32),
        lane_ptr=program.op_ptr,
        lane=program.lanes,
        kind=kind,
        sms=program.sms,
        grid=program.grid,
        flow=np.where(kind == TRANSFER, program.flow, -1).astype(np.int32),
        flow_ptr=program.flow_ptr,
        flow_edge=program.flow_edge,
        flow_use=program.flow_use,
        flow_weight=program.flow_weight,
        sm_count=float(program.sharing.sm_count),
        kernel_rate=float(program.sharing.kernel_rate),
        transfer_rate=float(program.sharing.transfer_rate),
    )
    return fixed, _idle(program, lanes, _most_nodes(program, lanes))


def _most_nodes(program: Program, lanes: int) -> int:
    """Places that transfers need on edges at once: an operation that begins may share its lane with one that ends."""
    if not program.flow_edge.size:
        return 0
    length = np.append(np.diff(program.flow_ptr), 0)[program.flow]
    longest = np.zeros(lanes, dtype=np.int64)
    np.maximum.at(longest, program.lanes[program.op_ptr[:-1]], length)
    return 2 * int(longest.sum())


def _idle(program: Program, lanes: int, nodes: int) -> Live:
    n, ranks = program.size, program.ranks
    edges = int(program.flow_edge.max()) + 1 if program.flow_edge.size else 0

    def zeros(size: int) -> Ints:
        return np.zeros(size, dtype=np.int32)

    def nothing(size: int) -> Ints:
        return np.full(size, -1, dtype=np.int32)

    following = np.arange(1, nodes + 1, dtype=np.int32)
    return Live(
        rate=np.zeros(n),
        cap=np.ones(n),
        busy=zeros(n),
        on_lane=nothing(lanes),
        held=np.zeros(ranks),
        kernels=zeros(ranks),
        edge_head=nothing(edges),
        node_op=nothing(nodes),
        node_next=following,
        free=zeros(1),
        op_mark=zeros(n),
        edge_mark=zeros(edges),
        rank_mark=zeros(ranks),
        epoch=zeros(1),
        ops=zeros(2 * lanes),
        edges=zeros(edges),
        ranks=zeros(ranks),
        touched=zeros(edges),
        fresh=np.zeros(n),
        changed=zeros(2 * lanes),
    )


@jit
def settle(fixed: Fixed, live: Live, begun: Ints, ended: Ints) -> int:
    """Bring rates up to date after operations began to work and others ended.

    Args:
        fixed: the program.
        live: what is under way; changed in place.
        begun: kernels that started and transfers whose latency is over; their rate counts as new.
        ended: operations that were at work and are over.

    Returns:
        How many entries of ``live.changed`` hold operations whose rate is new.
    """
    live.epoch[0] += 1
    ops = touched = ranks = 0
    for op in ended:
        for k in range(fixed.lane_ptr[op], fixed.lane_ptr[op + 1]):
            live.on_lane[fixed.lane[k]] = -1
    for op in begun:  # before what ended, so that a kernel right behind another one leaves its GPU busy throughout
        live.rate[op] = 0.0
        ops, touched, ranks = _begin(fixed, live, op, ops, touched, ranks)
    for op in ended:
        ops, touched, ranks = _end(fixed, live, op, ops, touched, ranks)
    changed = _kernel_rates(fixed, live, begun, ranks)
    return _transfer_rates(fixed, live, ops, touched, changed)


@jit
def _begin(fixed: Fixed, live: Live, op: int, ops: int, touched: int, ranks: int) -> tuple[int, int, int]:
    kind, epoch = fixed.kind[op], live.epoch[0]
    for k in range(fixed.lane_ptr[op], fixed.lane_ptr[op + 1]):
        live.on_lane[fixed.lane[k]] = op
    if kind == KERNEL:
        for k in range(fixed.rank_ptr[op], fixed.rank_ptr[op + 1]):
            rank = fixed.rank[k]
            live.kernels[rank] += 1
            if live.kernels[rank] == 1:
                ops = _rank_busy(fixed, live, rank, 1, ops)
    elif kind == TRANSFER:
        busy = 0
        if fixed.sms[op] > 0.0:
            for k in range(fixed.rank_ptr[op], fixed.rank_ptr[op + 1]):
                rank = fixed.rank[k]
                busy += live.kernels[rank] > 0
                ranks = _mark_rank(live, rank, ranks)
        live.busy[op] = busy
        live.cap[op] = fixed.transfer_rate if busy else 1.0
        live.op_mark[op] = epoch
        live.ops[ops] = op
        ops += 1
        flow = fixed.flow[op]
        if flow >= 0:
            for k in range(fixed.flow_ptr[flow], fixed.flow_ptr[flow + 1]):
                edge, node = fixed.flow_edge[k], live.free[0]
                live.free[0] = live.node_next[node]
                live.node_op[node] = op
                live.node_next[node] = live.edge_head[edge]
                live.edge_head[edge] = node
                touched = _touch(live, edge, touched)
    return ops, touched, ranks


@jit
def _end(fixed: Fixed, live: Live, op: int, ops: int, touched: int, ranks: int) -> tuple[int, int, int]:
    kind = fixed.kind[op]
    if kind == KERNEL:
        for k in range(fixed.rank_ptr[op], fixed.rank_ptr[op + 1]):
            rank = fixed.rank[k]
            live.kernels[rank] -= 1
            if live.kernels[rank] == 0:
                ops = _rank_busy(fixed, live, rank, -1, ops)
    elif kind == TRANSFER:
        if fixed.sms[op] > 0.0:
            for k in range(fixed.rank_ptr[op], fixed.rank_ptr[op + 1]):
                ranks = _mark_rank(live, fixed.rank[k], ranks)
        flow = fixed.flow[op]
        if flow >= 0:
            for k in range(fixed.flow_ptr[flow], fixed.flow_ptr[flow + 1]):
                _leave(live, fixed.flow_edge[k], op)
                touched = _touch(live, fixed.flow_edge[k], touched)
    return ops, touched, ranks


@jit
def _rank_busy(fixed: Fixed, live: Live, rank: int, change: int, ops: int) -> int:
    """A rank starts (+1) or stops (-1) computing: its transfers may change their cap."""
    for lane in range(rank * STREAMS, (rank + 1) * STREAMS):
        op = live.on_lane[lane]
        if op >= 0 and fixed.kind[op] == TRANSFER and fixed.sms[op] > 0.0 and _first_lane(fixed, op, rank) == lane:
            live.busy[op] += change
            live.cap[op] = fixed.transfer_rate if live.busy[op] else 1.0
            if live.op_mark[op] != live.epoch[0]:
                live.op_mark[op] = live.epoch[0]
                live.ops[ops] = op
                ops += 1
    return ops


@jit
def _first_lane(fixed: Fixed, op: int, rank: int) -> int:
    """An operation on several lanes of a rank counts once there."""
    for k in range(fixed.lane_ptr[op], fixed.lane_ptr[op + 1]):
        if fixed.lane[k] // STREAMS == rank:
            return int(fixed.lane[k])
    return -1


@jit
def _mark_rank(live: Live, rank: int, ranks: int) -> int:
    if live.rank_mark[rank] != live.epoch[0]:
        live.rank_mark[rank] = live.epoch[0]
        live.ranks[ranks] = rank
        return ranks + 1
    return ranks


@jit
def _touch(live: Live, edge: int, touched: int) -> int:
    if live.edge_mark[edge] != live.epoch[0]:
        live.edge_mark[edge] = live.epoch[0]
        live.touched[touched] = edge
        return touched + 1
    return touched


@jit
def _leave(live: Live, edge: int, op: int) -> None:
    node, before = live.edge_head[edge], -1
    while live.node_op[node] != op:
        before, node = node, live.node_next[node]
    if before < 0:
        live.edge_head[edge] = live.node_next[node]
    else:
        live.node_next[before] = live.node_next[node]
    live.node_op[node] = -1
    live.node_next[node] = live.free[0]
    live.free[0] = node


@jit
def _kernel_rates(fixed: Fixed, live: Live, begun: Ints, ranks: int) -> int:
    """Rates of kernels that began, and of those on ranks where the SMs held by transfers may have changed."""
    changed = 0
    for i in range(ranks):
        rank = live.ranks[i]
        held = 0.0
        for lane in range(rank * STREAMS, (rank + 1) * STREAMS):
            op = live.on_lane[lane]
            if op >= 0 and fixed.kind[op] == TRANSFER and _first_lane(fixed, op, rank) == lane:
                held += fixed.sms[op]
        live.held[rank] = held
    for op in begun:
        if fixed.kind[op] == OTHER:
            live.rate[op] = 1.0
            live.changed[changed] = op
            changed += 1
        elif fixed.kind[op] == KERNEL:
            changed = _set_kernel(fixed, live, op, changed)
    for i in range(ranks):
        op = live.on_lane[live.ranks[i] * STREAMS]
        if op >= 0 and fixed.kind[op] == KERNEL and live.op_mark[op] != live.epoch[0]:
            changed = _set_kernel(fixed, live, op, changed)
    return changed


@jit
def _set_kernel(fixed: Fixed, live: Live, op: int, changed: int) -> int:
    """A kernel on several GPUs keeps the pace of the slowest."""
    live.op_mark[op] = live.epoch[0]
    rate = 1.0
    for k in range(fixed.rank_ptr[op], fixed.rank_ptr[op + 1]):
        held = live.held[fixed.rank[k]]
        if held > 0.0:
            rate = min(rate, _slowed(fixed, fixed.grid[op], held))
    if rate != live.rate[op]:
        live.rate[op] = rate
        live.changed[changed] = op
        return changed + 1
    return changed


@jit
def _slowed(fixed: Fixed, grid: int, held: float) -> float:
    """Rate of a kernel beside transfers that hold a share of the SMs."""
    left = max(1.0, fixed.sm_count * (1.0 - held))
    if grid == 0:  # persistent: work is handed out to the SMs that are there
        return fixed.kernel_rate * left / fixed.sm_count
    waves, more = np.ceil(grid / fixed.sm_count), np.ceil(grid / np.floor(left + 1e-9))
    return float(fixed.kernel_rate * waves / more)


@jit
def _transfer_rates(fixed: Fixed, live: Live, ops: int, touched: int, changed: int) -> int:
    """Max-min shares of every transfer that a change can reach over full links."""
    epoch = live.epoch[0]
    for i in range(touched):
        ops = _reach(live, live.touched[i], ops)
        live.edge_mark[live.touched[i]] = 0
    edges = i = 0
    while i < ops:
        op = live.ops[i]
        i += 1
        live.fresh[op] = -1.0
        flow = fixed.flow[op]
        if flow < 0:
            continue
        for k in range(fixed.flow_ptr[flow], fixed.flow_ptr[flow + 1]):
            edge = fixed.flow_edge[k]
            if live.edge_mark[edge] == epoch:
                continue
            live.edge_mark[edge] = epoch
            if _demand(fixed, live, edge) > 1.0 + _FULL:
                live.edges[edges] = edge
                edges += 1
                ops = _reach(live, edge, ops)
    _fill(fixed, live, ops, edges)
    for i in range(ops):
        op = live.ops[i]
        if abs(live.fresh[op] - live.rate[op]) > 1e-14 * live.fresh[op]:
            live.rate[op] = live.fresh[op]
            live.changed[changed] = op
            changed += 1
    return changed


@jit
def _reach(live: Live, edge: int, ops: int) -> int:
    """Add the transfers on an edge to those that are worked out again."""
    node = live.edge_head[edge]
    while node >= 0:
        op = live.node_op[node]
        if live.op_mark[op] != live.epoch[0]:
            live.op_mark[op] = live.epoch[0]
            live.ops[ops] = op
            ops += 1
        node = live.node_next[node]
    return ops


@jit
def _use(fixed: Fixed, op: int, edge: int) -> float:
    """Share of an edge that an operation takes at rate 1."""
    flow = fixed.flow[op]
    low, high = fixed.flow_ptr[flow], fixed.flow_ptr[flow + 1]
    while low < high:  # edges of a set ascend
        middle = (low + high) // 2
        if fixed.flow_edge[middle] < edge:
            low = middle + 1
        else:
            high = middle
    return float(fixed.flow_use[low])


@jit
def _demand(fixed: Fixed, live: Live, edge: int) -> float:
    """What an edge would carry, in shares of its capacity, if nobody had to share."""
    total = 0.0
    node = live.edge_head[edge]
    while node >= 0:
        op = live.node_op[node]
        total += live.cap[op] * _use(fixed, op, edge)
        node = live.node_next[node]
    return total


@jit
def _fill(fixed: Fixed, live: Live, ops: int, edges: int) -> None:
    """Progressive filling of ``live.edges`` by ``live.ops``; results in ``live.fresh``."""
    left = ops
    while left > 0:
        level = np.inf
        for i in range(edges):
            level = min(level, _level(fixed, live, live.edges[i]))
        before = left
        for i in range(ops):  # whoever is as fast as alone below that level stays so: links only get emptier
            op = live.ops[i]
            if live.fresh[op] < 0.0 and (
                level == np.inf or fixed.flow[op] < 0 or live.cap[op] <= level * fixed.flow_weight[fixed.flow[op]]
            ):
                live.fresh[op] = live.cap[op]
                left -= 1
        if left < before:
            continue
        for i in range(edges):
            if _level(fixed, live, live.edges[i]) > level * (1.0 + _FULL):
                continue
            node = live.edge_head[live.edges[i]]
            while node >= 0:
                op = live.node_op[node]
                if live.fresh[op] < 0.0:
                    live.fresh[op] = level * fixed.flow_weight[fixed.flow[op]]
                    left -= 1
                node = live.node_next[node]


@jit
def _level(fixed: Fixed, live: Live, edge: int) -> float:
    """Level at which an edge is full, given those whose rate is settled; infinite when all are."""
    slack: float = 1.0
    pace: float = 0.0
    node = live.edge_head[edge]
    while node >= 0:
        op = live.node_op[node]
        use = _use(fixed, op, edge)
        if live.fresh[op] < 0.0:
            pace += use * fixed.flow_weight[fixed.flow[op]]
        else:
            slack -= use * live.fresh[op]
        node = live.node_next[node]
    if pace == 0.0:
        return float(np.inf)
    return float(max(slack, 0.0) / pace)
