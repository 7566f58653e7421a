"""The compiled engine where operations change each other's rates: a loop over instants in machine code.

At one instant all due operations finish first (chains of zero length included), then ready ones start, then rates are
set (:mod:`simtrain.engines.rates`).  Due ends wait in a heap in which each may be moved; the lag of a dependency is
an entry of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simtrain.engines.network import CHANGED, TRANSFER, Network, prepare, records
from simtrain.engines.rates import add, enter, leave, update
from simtrain.jit import jit_in_place
from simtrain.program.program import Program

__all__ = ["INSTANT", "run"]

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]
Records = NDArray[np.void]

INSTANT = 1e-12
"""Ends within this, times max(1, t), are one instant."""

_FINISHING, _READY, _HEAP = range(3)
"""Rows of ``_State.lists``."""

_JOB = np.dtype([("latency_s", "f8"), ("work_s", "f8"), ("pending", "i4"), ("next", "i4")], align=True)
_LANE = np.dtype(
    [
        *[(name, "i4") for name in ("head", "last", "op", "at_work", "place")],
        *[(name, "f8") for name in ("since", "left", "rate")],
    ],
    align=True,
)
_ENTRY = np.dtype([("key", "f8"), ("item", "i8")], align=True)


class _State(NamedTuple):
    """Where the run stands.

    Attributes:
        jobs: (n + 1,) records ``latency_s``, ``work_s`` as in Program; ``pending``, how many lanes and dependencies an
            operation still waits for; ``next``, first of the ``following`` operations that wait for it.
        following, lag_s: (d,) operations that wait for another, and how long after its end.
        fifo: as in Program.
        lanes: (lanes,) records: ``head`` and ``last``, bounds of what is left of the lane in ``fifo``. Of the operation
            under way whose first lane it is: ``op``, ``at_work``, and the work ``left`` from ``since`` on, at ``rate``;
            ``place`` of its end in the heap, -1 without.
        heap: items by time (``key``): below the number of lanes, what is due on a lane; above, the lag of following[k].
        lists: operations that finish, that are ready, and the length of the heap; as in Network.
        start_s, end_s: (n,) result.
    """

    jobs: Records
    following: Ints
    lag_s: Floats
    fifo: Ints
    lanes: Records
    heap: Records
    lists: Ints
    start_s: Floats
    end_s: Floats


def run(program: Program) -> tuple[Floats, Floats]:
    """Starts and ends of all operations; NaN for those that can never start."""
    n, lanes = program.size, len(program.fifo_ptr) - 1
    owner = np.repeat(np.arange(n, dtype=np.int32), np.diff(program.dep_ptr))
    by_cause = np.argsort(program.dep, kind="stable")
    state = _State(
        jobs=records(
            _JOB,
            n + 1,
            latency_s=program.latency_s,
            work_s=program.work_s,
            pending=np.diff(program.dep_ptr) + np.diff(program.op_ptr),
            next=np.concatenate([[0], np.cumsum(np.bincount(program.dep, minlength=n))]),
        ),
        following=owner[by_cause],
        lag_s=program.lag_s[by_cause],
        fifo=program.fifo,
        lanes=records(
            _LANE,
            lanes,
            head=program.fifo_ptr[:-1],
            last=program.fifo_ptr[1:],
            place=np.full(lanes, -1, dtype=np.int32),
        ),
        heap=records(_ENTRY, lanes + int(np.count_nonzero(program.lag_s))),
        lists=np.zeros((3, 1 + lanes), dtype=np.int32),
        start_s=np.full(n, np.nan),
        end_s=np.full(n, np.nan),
    )
    _loop(prepare(program), state)
    return state.start_s, state.end_s


@jit_in_place
def _loop(net: Network, state: _State) -> None:
    now = 0.0
    lists = state.lists
    for lane in range(len(state.lanes)):
        if state.lanes[lane]["head"] < state.lanes[lane]["last"]:
            _release(state, state.fifo[state.lanes[lane]["head"]], now)
    while True:
        while lists[_FINISHING][0]:
            lists[_FINISHING][0] -= 1
            _finish(net, state, lists[_FINISHING][lists[_FINISHING][0] + 1], now)
        for i in range(1, lists[_READY][0] + 1):
            _start(net, state, lists[_READY][i], now)
        lists[_READY][0] = 0
        _set_rates(net, state, now)
        if lists[_HEAP][0] == 0:
            return
        now = state.heap[0]["key"]
        horizon = now + INSTANT * max(1.0, now)
        while lists[_HEAP][0] and state.heap[0]["key"] <= horizon:
            _due(net, state, _pop(state), now)


@jit_in_place
def _release(state: _State, op: int, now: float) -> None:
    """One condition of an operation is met; with the last one it may start."""
    job = state.jobs[op]
    job["pending"] -= 1
    if job["pending"] == 0:
        state.start_s[op] = now
        add(state.lists, _FINISHING if job["latency_s"] + job["work_s"] == 0.0 else _READY, op)


@jit_in_place
def _finish(net: Network, state: _State, op: int, now: float) -> None:
    state.end_s[op] = now
    first, end = net.ops[op]["lane"], net.ops[op + 1]["lane"]
    lane = state.lanes[net.op_lanes[first]]
    if lane["at_work"]:
        lane["at_work"] = 0
        leave(net, op)
    for k in range(state.jobs[op]["next"], state.jobs[op + 1]["next"]):
        if state.lag_s[k] > 0.0:
            _put(state, len(state.lanes) + k, now + state.lag_s[k])
        else:
            _release(state, state.following[k], now)
    for k in range(first, end):
        queue = state.lanes[net.op_lanes[k]]
        queue["head"] += 1
        if queue["head"] < queue["last"]:
            _release(state, state.fifo[queue["head"]], now)


@jit_in_place
def _start(net: Network, state: _State, op: int, now: float) -> None:
    """A transfer with latency takes nothing from others until its bytes move; a kernel counts from its launch on."""
    home, job = net.op_lanes[net.ops[op]["lane"]], state.jobs[op]
    lane = state.lanes[home]
    lane["op"], lane["since"], lane["left"] = op, now + job["latency_s"], job["work_s"]
    if net.ops[op]["kind"] == TRANSFER and job["latency_s"] > 0.0:
        _put(state, home, lane["since"])
    else:
        _work(net, lane)


@jit_in_place
def _work(net: Network, lane: np.void) -> None:
    lane["at_work"] = 1
    lane["rate"] = 0.0
    enter(net, lane["op"])


@jit_in_place
def _due(net: Network, state: _State, item: int, now: float) -> None:
    if item >= len(state.lanes):
        _release(state, state.following[item - len(state.lanes)], now)
        return
    lane = state.lanes[item]
    if lane["at_work"] or lane["left"] == 0.0:
        add(state.lists, _FINISHING, lane["op"])
    else:  # the latency of a transfer is over
        lane["since"] = now
        _work(net, lane)


@jit_in_place
def _set_rates(net: Network, state: _State, now: float) -> None:
    for i in range(1, update(net) + 1):
        home = net.lists[CHANGED][i]
        lane = state.lanes[home]
        if now > lane["since"]:
            lane["left"] -= (now - lane["since"]) * lane["rate"]
            lane["since"] = now
        lane["rate"] = net.lanes[home]["rate"]
        _put(state, home, lane["since"] + lane["left"] / lane["rate"])


@jit_in_place
def _put(state: _State, item: int, time_s: float) -> None:
    """Put an item on the heap at a time, or move it there."""
    position = state.lanes[item]["place"] if item < len(state.lanes) else -1
    if position < 0:
        position = state.lists[_HEAP][0]
        state.lists[_HEAP][0] += 1
    while position:
        above = (position - 1) // 2
        if state.heap[above]["key"] <= time_s:
            break
        _place(state, position, state.heap[above]["item"], state.heap[above]["key"])
        position = above
    _sink(state, item, time_s, position)


@jit_in_place
def _pop(state: _State) -> int:
    """Take the earliest item off the heap."""
    first, size = state.heap[0]["item"], state.lists[_HEAP][0] - 1
    if first < len(state.lanes):
        state.lanes[first]["place"] = -1
    state.lists[_HEAP][0] = size
    if size:
        _sink(state, state.heap[size]["item"], state.heap[size]["key"], 0)
    return int(first)


@jit_in_place
def _sink(state: _State, item: int, time_s: float, position: int) -> None:
    """Place an item at a position, or below it where earlier ones must come first."""
    size = state.lists[_HEAP][0]
    while 2 * position + 1 < size:
        below = 2 * position + 1
        if below + 1 < size and state.heap[below + 1]["key"] < state.heap[below]["key"]:
            below += 1
        if time_s <= state.heap[below]["key"]:
            break
        _place(state, position, state.heap[below]["item"], state.heap[below]["key"])
        position = below
    _place(state, position, item, time_s)


@jit_in_place
def _place(state: _State, position: int, item: int, time_s: float) -> None:
    entry = state.heap[position]
    entry["item"], entry["key"] = item, time_s
    if item < len(state.lanes):
        state.lanes[item]["place"] = position
