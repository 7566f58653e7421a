"""The compiled engine where operations change each other's rates: a loop over instants in machine code.

At one instant all due operations finish first (chains of zero length included), then ready ones start, then rates are
set (:mod:`simtrain.engines.rates`).  Due ends wait in a heap in which each may be moved; the lag of a dependency is
an entry of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simtrain.engines.rates import TRANSFER, Fixed, Live, prepare, settle
from simtrain.jit import jit
from simtrain.program.program import Program

__all__ = ["INSTANT", "run"]

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]

INSTANT = 1e-12
"""Ends within this, times max(1, t), are one instant."""

_FINISHING, _READY, _BEGUN, _ENDED, _HEAP = 0, 1, 2, 3, 4
"""Places in ``_State.sizes``."""


class _State(NamedTuple):
    """Where the run stands.

    Attributes:
        latency_s, work_s, fifo_ptr, fifo: as in Program.
        next_ptr, following, lag_s: operations that wait for each operation.
        pending: (n,) lanes and dependencies that each operation still waits for; head: (lanes,) next of each lane.
        start_s, end_s, since, left, rate, at_work: (n,); ``left`` is work from ``since`` on, at ``rate``.
        finishing, ready, begun, ended: lists of operations; sizes: their lengths, and that of the heap.
        heap, place, key: items by time; item n + k is the lag of ``following[k]``.
    """

    latency_s: Floats
    work_s: Floats
    fifo_ptr: Ints
    fifo: Ints
    next_ptr: Ints
    following: Ints
    lag_s: Floats
    pending: Ints
    head: Ints
    start_s: Floats
    end_s: Floats
    since: Floats
    left: Floats
    rate: Floats
    at_work: NDArray[np.bool_]
    finishing: Ints
    ready: Ints
    begun: Ints
    ended: Ints
    sizes: Ints
    heap: Ints
    place: Ints
    key: Floats


def run(program: Program) -> tuple[Floats, Floats]:
    """Starts and ends of all operations; NaN for those that can never start."""
    n, items = program.size, program.size + len(program.dep)
    fixed, live = prepare(program)
    owner = np.repeat(np.arange(n, dtype=np.int32), np.diff(program.dep_ptr))
    by_cause = np.argsort(program.dep, kind="stable")

    def operations() -> Ints:
        return np.empty(n, dtype=np.int32)

    state = _State(
        latency_s=program.latency_s,
        work_s=program.work_s,
        fifo_ptr=program.fifo_ptr,
        fifo=program.fifo,
        next_ptr=np.concatenate([[0], np.cumsum(np.bincount(program.dep, minlength=n))]).astype(np.int32),
        following=owner[by_cause],
        lag_s=program.lag_s[by_cause],
        pending=(np.diff(program.dep_ptr) + np.diff(program.op_ptr)).astype(np.int32),
        head=program.fifo_ptr[:-1].copy(),
        start_s=np.full(n, np.nan),
        end_s=np.full(n, np.nan),
        since=np.zeros(n),
        left=np.zeros(n),
        rate=np.zeros(n),
        at_work=np.zeros(n, dtype=np.bool_),
        finishing=operations(),
        ready=operations(),
        begun=operations(),
        ended=operations(),
        sizes=np.zeros(5, dtype=np.int32),
        heap=np.empty(items, dtype=np.int32),
        place=np.full(items, -1, dtype=np.int32),
        key=np.empty(items),
    )
    _loop(fixed, live, state)
    return state.start_s, state.end_s


@jit
def _loop(fixed: Fixed, live: Live, state: _State) -> None:
    now = 0.0
    for lane in range(len(state.head)):
        if state.head[lane] < state.fifo_ptr[lane + 1]:
            _release(state, state.fifo[state.head[lane]], now)
    while True:
        while state.sizes[_FINISHING]:
            state.sizes[_FINISHING] -= 1
            _finish(fixed, state, state.finishing[state.sizes[_FINISHING]], now)
        for i in range(state.sizes[_READY]):
            _start(fixed, state, state.ready[i], now)
        state.sizes[_READY] = 0
        _set_rates(fixed, live, state, now)
        if state.sizes[_HEAP] == 0:
            return
        now = state.key[state.heap[0]]
        horizon = now + INSTANT * max(1.0, now)
        while state.sizes[_HEAP] and state.key[state.heap[0]] <= horizon:
            _due(state, _pop(state), now)


@jit
def _release(state: _State, op: int, now: float) -> None:
    """One condition of an operation is met; with the last one it may start."""
    state.pending[op] -= 1
    if state.pending[op] == 0:
        state.start_s[op] = now
        if state.latency_s[op] + state.work_s[op] == 0.0:
            state.finishing[state.sizes[_FINISHING]] = op
            state.sizes[_FINISHING] += 1
        else:
            state.ready[state.sizes[_READY]] = op
            state.sizes[_READY] += 1


@jit
def _finish(fixed: Fixed, state: _State, op: int, now: float) -> None:
    state.end_s[op] = now
    if state.at_work[op]:
        state.at_work[op] = False
        state.ended[state.sizes[_ENDED]] = op
        state.sizes[_ENDED] += 1
    for k in range(state.next_ptr[op], state.next_ptr[op + 1]):
        if state.lag_s[k] > 0.0:
            _put(state, len(state.work_s) + k, now + state.lag_s[k])
        else:
            _release(state, state.following[k], now)
    for k in range(fixed.lane_ptr[op], fixed.lane_ptr[op + 1]):
        lane = fixed.lane[k]
        state.head[lane] += 1
        if state.head[lane] < state.fifo_ptr[lane + 1]:
            _release(state, state.fifo[state.head[lane]], now)


@jit
def _start(fixed: Fixed, state: _State, op: int, now: float) -> None:
    """A transfer with latency takes nothing from others until its bytes move; a kernel counts from its launch on."""
    state.since[op], state.left[op] = now + state.latency_s[op], state.work_s[op]
    if fixed.kind[op] == TRANSFER and state.latency_s[op] > 0.0:
        _put(state, op, now + state.latency_s[op])
    else:
        _work(state, op)


@jit
def _work(state: _State, op: int) -> None:
    state.at_work[op] = True
    state.begun[state.sizes[_BEGUN]] = op
    state.sizes[_BEGUN] += 1


@jit
def _due(state: _State, item: int, now: float) -> None:
    n = len(state.work_s)
    if item >= n:
        _release(state, state.following[item - n], now)
    elif state.at_work[item] or state.work_s[item] == 0.0:
        state.finishing[state.sizes[_FINISHING]] = item
        state.sizes[_FINISHING] += 1
    else:  # the latency of a transfer is over
        state.since[item] = now
        _work(state, item)


@jit
def _set_rates(fixed: Fixed, live: Live, state: _State, now: float) -> None:
    begun, ended = state.begun[: state.sizes[_BEGUN]], state.ended[: state.sizes[_ENDED]]
    if len(begun) + len(ended) == 0:
        return
    state.sizes[_BEGUN] = state.sizes[_ENDED] = 0
    for i in range(settle(fixed, live, begun, ended)):
        op = live.changed[i]
        if now > state.since[op]:
            state.left[op] -= (now - state.since[op]) * state.rate[op]
            state.since[op] = now
        state.rate[op] = live.rate[op]
        _put(state, op, state.since[op] + state.left[op] / live.rate[op])


@jit
def _put(state: _State, item: int, time_s: float) -> None:
    """Put an item on the heap at a time, or move it there."""
    position = state.place[item]
    if position < 0:
        position = state.sizes[_HEAP]
        state.sizes[_HEAP] += 1
    state.key[item] = time_s
    while position:
        above = (position - 1) // 2
        if state.key[state.heap[above]] <= time_s:
            break
        state.heap[position] = state.heap[above]
        state.place[state.heap[position]] = position
        position = above
    _sink(state, item, position)


@jit
def _pop(state: _State) -> int:
    """Take the earliest item off the heap."""
    first = state.heap[0]
    state.place[first] = -1
    state.sizes[_HEAP] -= 1
    if state.sizes[_HEAP]:
        _sink(state, state.heap[state.sizes[_HEAP]], 0)
    return int(first)


@jit
def _sink(state: _State, item: int, position: int) -> None:
    """Place an item at a position, or below it where earlier ones must come first."""
    size = state.sizes[_HEAP]
    while 2 * position + 1 < size:
        below = 2 * position + 1
        if below + 1 < size and state.key[state.heap[below + 1]] < state.key[state.heap[below]]:
            below += 1
        if state.key[item] <= state.key[state.heap[below]]:
            break
        state.heap[position] = state.heap[below]
        state.place[state.heap[position]] = position
        position = below
    state.heap[position] = item
    state.place[item] = position
