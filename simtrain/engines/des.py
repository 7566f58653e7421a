"""The reference engine: SimPy processes for GPUs, the network and the clock.

Every GPU of the Program is a process that starts the kernels of its compute and host lanes; one network process
starts all transfers and, whenever something began or ended that touches a transfer, asks
:mod:`simtrain.engines.rates` for the rates of what that touches; the clock process wakes them at each instant.  At one
instant all due operations finish first (chains of zero length included), then ready ones start, then rates are set.
Ends within 1e-12 * max(1, t) are one instant.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Generator
from itertools import pairwise
from typing import Any

import numpy as np
import simpy

from simtrain.engines.network import CHANGED, TRANSFER, prepare
from simtrain.engines.rates import settle
from simtrain.engines.waits import deadlock
from simtrain.jit import available
from simtrain.program.program import STREAMS, Program, Stream
from simtrain.program.timeline import Timeline

__all__ = ["simulate"]

_LOCAL_STREAMS = (Stream.COMPUTE, Stream.HOST)
_Process = Generator[simpy.Event, Any, None]


def simulate(program: Program) -> Timeline:
    """Run a Program to its end.

    Raises:
        DeadlockError: operations are left that can never start.
    """
    run = _Run(program)
    run.env.run()
    if run.left:
        raise deadlock(program, np.isfinite(run.end_s))
    return Timeline(program, np.array(run.start_s), np.array(run.end_s), "des")


class _Run:
    """State shared by the processes of one simulation."""

    def __init__(self, program: Program) -> None:
        n = program.size
        self.env = simpy.Environment()
        self.left = n
        self.start_s = [float("nan")] * n
        self.end_s = [float("nan")] * n
        self.latency_s: list[float] = program.latency_s.tolist()
        self.work_s: list[float] = program.work_s.tolist()
        # An operation may start once every dependency has ended and it heads every one of its lanes.
        self.pending: list[int] = (np.diff(program.dep_ptr) + np.diff(program.op_ptr)).tolist()
        self.op_lanes = _rows(program.op_ptr, program.lanes)
        self.followers = _followers(program)
        self.queues = [list(reversed(row)) for row in _rows(program.fifo_ptr, program.fifo)]
        self.due: list[tuple[float, int, int]] = []
        self.version = [0] * n
        self.working: dict[int, tuple[float, float, float]] = {}  # op: (since, work left, rate)
        self.network = _Network(self, program)
        gpus = [_Gpu(self) for _ in range(program.ranks)]
        self.starter = self._starters(program, gpus)
        self.awake: list[_Starter] = []
        for starter in (*gpus, self.network):
            self.env.process(starter.run())
        self.env.process(self._clock())

    def _starters(self, program: Program, gpus: list[_Gpu]) -> list[_Starter]:
        """Who starts each operation: its GPU when it is a kernel, the network when bytes move."""
        first = program.lanes[program.op_ptr[:-1]]
        local = np.isin(first % STREAMS, _LOCAL_STREAMS)
        return [
            gpus[rank] if is_local else self.network
            for rank, is_local in zip((first // STREAMS).tolist(), local.tolist(), strict=True)
        ]

    def _clock(self) -> _Process:
        env, due = self.env, self.due
        self._finish(self._open_lanes())
        while True:
            awake, self.awake = self.awake, []
            if awake:
                for gpu in awake:
                    gpu.wake.succeed()
                yield env.timeout(0)  # every GPU has started its kernels once this is over
            if self.network.anything:
                self.network.wake.succeed()  # the last to be woken: it sets the rates of what has started
                yield env.timeout(0)
            if not due:
                return
            yield env.timeout(due[0][0] - env.now)
            self._finish(self._pop_due())

    def _open_lanes(self) -> list[int]:
        """Let the first operation of every lane head it; return those of zero length that can start at once."""
        instant: list[int] = []
        for lane in range(len(self.queues)):
            self._advance(lane, instant)
        return instant

    def _pop_due(self) -> list[int]:
        due = self.due
        now = self.env.now
        horizon = now + 1e-12 * max(1.0, now)
        finished: list[int] = []
        while due and due[0][0] <= horizon:
            _, op, version = heapq.heappop(due)
            if version < 0:  # a dependency whose lag has passed
                self._release(op, finished)
            elif version == self.version[op]:
                if op in self.working or self.work_s[op] == 0.0:
                    finished.append(op)
                else:
                    self.network.arrived(op)
        return finished

    def _finish(self, finished: list[int]) -> None:
        """End operations now; ``finished`` grows while zero-length ones end in the same instant."""
        now, end_s = self.env.now, self.end_s
        for op in finished:
            end_s[op] = now
            if self.working.pop(op, None):
                self.network.ended(op)
            for follower, lag in self.followers[op]:
                if lag:
                    heapq.heappush(self.due, (now + lag, follower, -1))
                else:
                    self._release(follower, finished)
            for lane in self.op_lanes[op]:
                self.queues[lane].pop()
                self._advance(lane, finished)
        self.left -= len(finished)

    def _advance(self, lane: int, instant: list[int]) -> None:
        if self.queues[lane]:
            self._release(self.queues[lane][-1], instant)

    def _release(self, op: int, instant: list[int]) -> None:
        """One condition of ``op`` is met; with the last one it may start."""
        self.pending[op] -= 1
        if self.pending[op]:
            return
        self.start_s[op] = self.env.now
        if self.latency_s[op] + self.work_s[op] == 0.0:
            instant.append(op)
            return
        starter = self.starter[op]
        starter.ready.append(op)
        starter.call()

    def alarm(self, op: int, time_s: float) -> None:
        """Put an operation on the clock's list, in place of where it stood before."""
        self.version[op] += 1
        heapq.heappush(self.due, (time_s, op, self.version[op]))


class _Starter(ABC):
    """A process that sleeps until it is called, then starts its ready operations in order of id."""

    def __init__(self, run: _Run) -> None:
        self.state = run
        self.ready: list[int] = []
        self.called = False
        self.wake = run.env.event()

    def call(self) -> None:
        """Have the clock wake this process once all due operations have finished."""
        if not self.called:
            self.called = True
            self.state.awake.append(self)

    def run(self) -> _Process:
        while True:
            yield self.wake
            self.wake = self.state.env.event()
            self.called = False
            ready, self.ready = self.ready, []
            self.start(sorted(ready))

    @abstractmethod
    def start(self, ready: list[int]) -> None:
        """Begin operations now."""


class _Gpu(_Starter):
    """A GPU: its kernels count as running from their launch on."""

    def start(self, ready: list[int]) -> None:
        state = self.state
        for op in ready:
            state.network.begun(op, state.env.now + state.latency_s[op])


class _Network(_Starter):
    """Owns everything under way: starts transfers, and sets rates whenever something began or ended beside a transfer.

    A kernel on GPUs without transfers that hold SMs runs at rate 1 and changes no other rate; the rates learn of it
    only before the next transfer comes or goes.
    """

    def __init__(self, run: _Run, program: Program) -> None:
        super().__init__(run)
        net = prepare(program)
        self.coupled = program.coupled
        self.net = net.plain() if program.coupled and not available() else net
        self.ranks = [{lane // STREAMS for lane in lanes} for lanes in run.op_lanes]
        self.holds: list[bool] = (net.ops["sms"] > 0.0).tolist()
        self.kernel: list[bool] = (net.ops["kind"] != TRANSFER).tolist()
        self.transfers = [0] * program.ranks  # that hold SMs of each rank
        self.new: list[int] = []
        self.over: list[int] = []
        self.quietly_new: dict[int, None] = {}
        self.quietly_over: list[int] = []

    def call(self) -> None:
        """The clock wakes the network by itself."""

    @property
    def anything(self) -> bool:
        """Whether there is anything to do at this instant."""
        return bool(self.ready or self.new or self.over)

    def start(self, ready: list[int]) -> None:
        """Begin transfers: fixed latency first, which moves nothing."""
        state = self.state
        now = state.env.now
        for op in ready:
            if state.latency_s[op]:
                state.alarm(op, now + state.latency_s[op])
            else:
                self.begun(op, now)
        if self.new or self.over:
            self._set_rates(now)

    def arrived(self, op: int) -> None:
        """The latency of a transfer is over."""
        self.begun(op, self.state.env.now)

    def begun(self, op: int, since: float) -> None:
        """An operation is under way; its work counts from ``since`` on."""
        state = self.state
        if self._alone(op):
            state.working[op] = (since, state.work_s[op], 1.0)
            state.alarm(op, since + state.work_s[op])
            self.quietly_new[op] = None
        else:
            state.working[op] = (since, state.work_s[op], 0.0)
            self._hold(op, 1)
            self.new.append(op)

    def ended(self, op: int) -> None:
        """An operation that was under way is over."""
        if op in self.quietly_new:
            del self.quietly_new[op]
        elif self._alone(op):
            self.quietly_over.append(op)
        else:
            self._hold(op, -1)
            self.over.append(op)

    def _alone(self, op: int) -> bool:
        """Whether an operation changes no other rate as it comes or goes, and runs at rate 1 itself."""
        if not self.coupled:
            return True
        return self.kernel[op] and not any(self.transfers[rank] for rank in self.ranks[op])

    def _hold(self, op: int, change: int) -> None:
        if self.holds[op]:
            for rank in self.ranks[op]:
                self.transfers[rank] += change

    def _set_rates(self, now: float) -> None:
        state, net = self.state, self.net
        new = np.array([*self.quietly_new, *self.new], dtype=np.int32)
        over = np.array([*self.quietly_over, *self.over], dtype=np.int32)
        for told in (self.quietly_new, self.new, self.quietly_over, self.over):
            told.clear()
        for i in range(settle(net, new, over)):
            lane = net.lanes[net.lists[CHANGED][i + 1]]
            op, rate = int(lane["op"]), float(lane["rate"])
            since, work, old = state.working[op]
            if rate == old:
                continue
            if now > since:
                since, work = now, work - (now - since) * old
            state.working[op] = (since, work, rate)
            state.alarm(op, since + work / rate)


def _rows(ptr: np.ndarray, values: np.ndarray) -> list[list[int]]:
    flat = values.tolist()
    return [flat[a:b] for a, b in pairwise(ptr.tolist())]


def _followers(program: Program) -> list[list[tuple[int, float]]]:
    """For every operation, (operation that depends on it, lag in seconds)."""
    followers: list[list[tuple[int, float]]] = [[] for _ in range(program.size)]
    owner = np.repeat(np.arange(program.size), np.diff(program.dep_ptr))
    for dep, op, lag in zip(program.dep.tolist(), owner.tolist(), program.lag_s.tolist(), strict=True):
        followers[dep].append((op, lag))
    return followers
