"""The ledger: every second of every GPU in exactly one named bucket.

Busy time is counted by what the compute stream runs.  Idle time of the compute stream is blamed by walking
back from the operation that ended the idleness along whatever held it: its own rank's transfers are exposed
communication, work of another pipeline rank is bubble, a late member of the same group is a straggler.
No bucket is what the others leave over.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from simtrain.program.program import STREAMS, Bucket, Phase, Program, Stream
from simtrain.program.timeline import Timeline

__all__ = ["BUCKETS", "Ledger", "account"]

BUCKETS = (
    "useful",
    "kernel_inefficiency",
    "non_matmul",
    "recompute",
    "exposed_tp",
    "exposed_cp",
    "exposed_ep",
    "exposed_pp",
    "exposed_dp",
    "comm_sms",
    "bubble_warmup",
    "bubble_steady",
    "bubble_cooldown",
    "optimizer",
    "host",
    "straggler",
)

_EXPOSED = {
    Stream.TP: "exposed_tp",
    Stream.CP: "exposed_cp",
    Stream.EP: "exposed_ep",
    Stream.PP_SEND_NEXT: "exposed_pp",
    Stream.PP_RECV_PREV: "exposed_pp",
    Stream.PP_SEND_PREV: "exposed_pp",
    Stream.PP_RECV_NEXT: "exposed_pp",
    Stream.DP: "exposed_dp",
    Stream.DP_GATHER: "exposed_dp",
    Stream.DP_REPLICATE: "exposed_dp",
    Stream.HOST: "host",
}
_BACKWARD = (Phase.BACKWARD_INPUT, Phase.BACKWARD_WEIGHT, Phase.RECOMPUTE)


@dataclass(frozen=True, slots=True)
class Ledger:
    """GPU-seconds of a step by bucket, and by operation.

    Attributes:
        gpu_seconds: step time times GPUs.
        buckets: GPU-seconds of each of :data:`BUCKETS`.
        held_s: (n,) GPU-seconds that an operation kept the compute stream busy, or waiting for it.
    """

    gpu_seconds: float
    buckets: dict[str, float]
    held_s: NDArray[np.float64]

    def shares(self) -> dict[str, float]:
        """Each bucket as a share of all GPU-seconds."""
        return {name: value / self.gpu_seconds for name, value in self.buckets.items()}


def account(timeline: Timeline) -> Ledger:
    """Account for every GPU-second of a Timeline."""
    return _Accounts(timeline).ledger()


class _Accounts:
    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.program = program = timeline.program
        self.makespan = timeline.makespan_s
        self.buckets = dict.fromkeys(BUCKETS, 0.0)
        self.held_s = np.zeros(program.size)
        self.start: list[float] = timeline.start_s.tolist()
        self.end: list[float] = timeline.end_s.tolist()
        self.conditions = _conditions(program)
        self.lane_of: list[int] = program.lanes.tolist()
        self.lane_ptr: list[int] = program.op_ptr.tolist()
        self._ramp = (0.0, 0.0)

    def ledger(self) -> Ledger:
        program = self.program
        for rank in range(program.ranks):
            self._rank(rank, float(program.multiplicity[rank]))
        return Ledger(self.makespan * float(program.multiplicity.sum()), self.buckets, self.held_s)

    def _rank(self, rank: int, gpus: float) -> None:
        ops = self.timeline.lane(rank, Stream.COMPUTE)
        self._busy(ops, gpus)
        starts, ends = self.timeline.start_s[ops], self.timeline.end_s[ops]
        self._ramp = _ramp(self.program, self.timeline, ops)
        before = np.concatenate([[0.0], ends[:-1]]) if len(ops) else ends
        for i in np.flatnonzero(starts > before).tolist():
            self._blame(rank, int(ops[i]), float(before[i]), float(starts[i]), gpus)
        self._tail(rank, float(ends[-1]) if len(ops) else 0.0, gpus)

    def _busy(self, ops: NDArray[np.int32], gpus: float) -> None:
        """Time the compute stream is busy, by what it runs."""
        program, buckets = self.program, self.buckets
        busy = self.timeline.end_s[ops] - self.timeline.start_s[ops]
        own = program.latency_s[ops] + program.work_s[ops]
        again = program.phase[ops] == Phase.RECOMPUTE
        kind = np.where(again, -1, program.bucket[ops])
        matmul = kind == Bucket.MATMUL
        useful = program.useful_s[ops]
        buckets["useful"] += gpus * float(useful[matmul].sum())
        buckets["kernel_inefficiency"] += gpus * float((own - useful)[matmul].sum())
        buckets["recompute"] += gpus * float(own[again].sum())
        buckets["non_matmul"] += gpus * float(own[kind == Bucket.NON_MATMUL].sum())
        buckets["optimizer"] += gpus * float(own[kind == Bucket.OPTIMIZER].sum())
        buckets["host"] += gpus * float(own[kind == Bucket.HOST].sum())
        slowed = np.where(busy - own > 1e-9 * busy, busy - own, 0.0)  # less is rounding of end - start
        buckets["comm_sms"] += gpus * float(slowed.sum() + own[kind == Bucket.COMMUNICATION].sum())
        self.held_s[ops] += gpus * busy

    def _tail(self, rank: int, last_end: float, gpus: float) -> None:
        """From the last kernel of a rank to the end of the step."""
        own = self._last_operation(rank)
        own_end = self.end[own] if own >= 0 else 0.0
        peers = np.flatnonzero(self.program.stage_of_rank == self.program.stage_of_rank[rank]).tolist()
        peers_end = max(self.end[op] if op >= 0 else 0.0 for op in map(self._last_operation, peers))
        if own_end > last_end:
            self._count_transfer(rank, own, max(last_end, self.start[own]), own_end, gpus)
            if self.start[own] > last_end:
                self._blame(rank, own, last_end, self.start[own], gpus)
        self.buckets["straggler"] += gpus * (peers_end - max(own_end, last_end))
        self._bubble(peers_end, self.makespan, gpus)

    def _last_operation(self, rank: int) -> int:
        """The operation of a rank that ends last, -1 when it has none."""
        program = self.program
        last = [
            int(program.fifo[program.fifo_ptr[lane + 1] - 1])
            for lane in range(rank * STREAMS, (rank + 1) * STREAMS)
            if program.fifo_ptr[lane + 1] > program.fifo_ptr[lane]
        ]
        return max(last, key=lambda op: self.end[op], default=-1)

    def _blame(self, rank: int, op: int, low: float, high: float, gpus: float) -> None:
        """Explain why ``op``, which starts at ``high``, could not start from ``low`` on."""
        while high > low:
            cause, released = self._cause(op)
            if cause < 0:
                raise AssertionError(f"{self.program.label(op)} starts late without a cause")
            if released > self.end[cause]:  # the lag of a dependency: latency on the wire
                begin = max(low, self.end[cause])
                self.buckets["exposed_pp"] += gpus * (high - begin)
                high = begin
            if not self._on(cause, rank):
                self._elsewhere(rank, cause, low, high, gpus)
                return
            begin = max(low, self.start[cause])
            self._count_transfer(rank, cause, begin, high, gpus)
            op, high = cause, begin

    def _cause(self, op: int) -> tuple[int, float]:
        """The condition of ``op`` that was met last: (operation, when it released ``op``)."""
        cause, released = -1, -1.0
        for other, lag in self.conditions[op]:
            time = self.end[other] + lag
            if time > released:
                cause, released = other, time
        return cause, released

    def _on(self, op: int, rank: int) -> bool:
        lanes = self.lane_of[self.lane_ptr[op] : self.lane_ptr[op + 1]]
        return any(lane // STREAMS == rank for lane in lanes)

    def _elsewhere(self, rank: int, cause: int, low: float, high: float, gpus: float) -> None:
        """The wait is for another rank: a later pipeline stage is bubble, a member of the same one a straggler."""
        stages = self.program.stage_of_rank
        other = self.lane_of[self.lane_ptr[cause]] // STREAMS
        if stages[other] == stages[rank]:
            self.buckets["straggler"] += gpus * (high - low)
        else:
            self._bubble(low, high, gpus)

    def _bubble(self, low: float, high: float, gpus: float) -> None:
        first_backward, last_forward = self._ramp
        middle = max(first_backward, last_forward)
        edges = [low, *(min(max(t, low), high) for t in (first_backward, middle)), high]
        for name, a, b in zip(("bubble_warmup", "bubble_steady", "bubble_cooldown"), edges, edges[1:], strict=False):
            self.buckets[name] += gpus * (b - a)

    def _count_transfer(self, rank: int, op: int, begin: float, end: float, gpus: float) -> None:
        if end <= begin:
            return
        lanes = self.lane_of[self.lane_ptr[op] : self.lane_ptr[op + 1]]
        stream = next(Stream(lane % STREAMS) for lane in lanes if lane // STREAMS == rank)
        self.buckets[_EXPOSED[stream]] += gpus * (end - begin)
        self.held_s[op] += gpus * (end - begin)


def _ramp(program: Program, timeline: Timeline, ops: NDArray[np.int32]) -> tuple[float, float]:
    """When a rank's first backward starts and its last forward ends."""
    backward = ops[np.isin(program.phase[ops], _BACKWARD)]
    forward = ops[program.phase[ops] == Phase.FORWARD]
    first = float(timeline.start_s[backward[0]]) if len(backward) else timeline.makespan_s
    return first, float(timeline.end_s[forward[-1]]) if len(forward) else 0.0


def _conditions(program: Program) -> list[list[tuple[int, float]]]:
    """Everything an operation waits for: its dependencies, and the operation before it on each of its lanes."""
    found: list[list[tuple[int, float]]] = [[] for _ in range(program.size)]
    owner = np.repeat(np.arange(program.size), np.diff(program.dep_ptr))
    for op, dep, lag in zip(owner.tolist(), program.dep.tolist(), program.lag_s.tolist(), strict=True):
        found[op].append((dep, lag))
    queue = program.fifo.tolist()
    for begin, end in pairwise(program.fifo_ptr.tolist()):
        for before, op in pairwise(queue[begin:end]):
            found[op].append((before, 0.0))
    return found
