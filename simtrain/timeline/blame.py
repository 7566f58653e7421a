"""Where the time of every rank went: busy by what the compute stream ran, idle by what held it, walked back.

Loops over arrays, compiled where numba is installed; :mod:`simtrain.timeline.ledger` says what the buckets mean.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simtrain.jit import jit_in_place
from simtrain.program.program import STREAMS, Bucket, Phase, Stream
from simtrain.program.timeline import Timeline

__all__ = ["BUCKETS", "Books", "open_books", "write"]

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]

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
    Stream.COPY_IN: "host",
    Stream.COPY_OUT: "host",
}

# Compiled code knows neither enumerations nor names.
_USEFUL, _INEFFICIENCY, _RECOMPUTE = map(BUCKETS.index, ("useful", "kernel_inefficiency", "recompute"))
_EXPOSED_PP, _COMM_SMS, _STRAGGLER = map(BUCKETS.index, ("exposed_pp", "comm_sms", "straggler"))
_WARMUP, _STEADY, _COOLDOWN = map(BUCKETS.index, ("bubble_warmup", "bubble_steady", "bubble_cooldown"))
_KERNELS = (Bucket.MATMUL, Bucket.NON_MATMUL, Bucket.OPTIMIZER)
_OF_MATMUL = int(Bucket.MATMUL)
_FORWARD, _AGAIN = int(Phase.FORWARD), int(Phase.RECOMPUTE)
_BACKWARD_INPUT, _BACKWARD_WEIGHT = int(Phase.BACKWARD_INPUT), int(Phase.BACKWARD_WEIGHT)


class Books(NamedTuple):
    """A Timeline and its accounts.

    Attributes:
        start_s, end_s: as in Timeline.
        own_s: (n,) how long each operation would take alone.
        late_s: (n,) what of that is due to waiting for the slowest GPU.
        useful_s, phase, bucket, op_ptr, lanes, fifo_ptr, fifo, dep_ptr, dep, lag_s, stage_of_rank: as in Program.
        before: (e,) operations right before each operation on its lanes, in order of lanes; -1 where it is the first.
        bucket_of: where the busy time of each kind of operation (Bucket) is counted; exposed_of: where the exposed
            time of each stream is.
        multiplicity: (ranks,) as in Program.
        last: (ranks,) operation of each rank that ends last, -1 without.
        last_s: (ranks,) when the last rank of the same pipeline rank ends.
        accounts: (ranks, buckets) seconds of one GPU of each rank.
        held_s: (n,) GPU-seconds that each operation kept compute streams busy, or waiting for it.
        ramp_s: (2,) when the first backward of the present rank starts and its last forward ends.
    """

    start_s: Floats
    end_s: Floats
    own_s: Floats
    late_s: Floats
    useful_s: Floats
    phase: Ints
    bucket: Ints
    op_ptr: Ints
    lanes: Ints
    fifo_ptr: Ints
    fifo: Ints
    dep_ptr: Ints
    dep: Ints
    lag_s: Floats
    stage_of_rank: Ints
    before: Ints
    bucket_of: Ints
    exposed_of: Ints
    multiplicity: Ints
    last: Ints
    last_s: Floats
    accounts: Floats
    held_s: Floats
    ramp_s: Floats


def open_books(timeline: Timeline) -> Books:
    """Empty accounts of a Timeline."""
    program = timeline.program
    last = _last_operations(timeline)
    _, stage = np.unique(program.stage_of_rank, return_inverse=True)
    stage_end_s = np.zeros(program.ranks)
    np.maximum.at(stage_end_s, stage, np.append(timeline.end_s, 0.0)[last])
    of_bucket = ("useful", "non_matmul", "optimizer", "comm_sms", "host")  # by Bucket; matmul is split
    of_stream = [_EXPOSED.get(stream, "straggler") for stream in Stream]  # nobody is exposed to the compute stream
    return Books(
        start_s=timeline.start_s,
        end_s=timeline.end_s,
        own_s=program.latency_s + program.work_s,
        late_s=np.where(np.isin(program.bucket, _KERNELS), program.work_s * (1.0 - 1.0 / program.pace), 0.0),
        useful_s=program.useful_s,
        phase=program.phase,
        bucket=program.bucket,
        op_ptr=program.op_ptr,
        lanes=program.lanes,
        fifo_ptr=program.fifo_ptr,
        fifo=program.fifo,
        dep_ptr=program.dep_ptr,
        dep=program.dep,
        lag_s=program.lag_s,
        stage_of_rank=program.stage_of_rank,
        before=np.empty(len(program.lanes), dtype=np.int32),
        bucket_of=np.array([BUCKETS.index(name) for name in of_bucket], dtype=np.int32),
        exposed_of=np.array([BUCKETS.index(name) for name in of_stream], dtype=np.int32),
        multiplicity=program.multiplicity,
        last=last,
        last_s=stage_end_s[stage],
        accounts=np.zeros((program.ranks, len(BUCKETS))),
        held_s=np.zeros(program.size),
        ramp_s=np.zeros(2),
    )


def _last_operations(timeline: Timeline) -> Ints:
    """The operation of each rank that ends last, the first of equals; -1 for a rank without any."""
    fifo_ptr, fifo = timeline.program.fifo_ptr, timeline.program.fifo
    used = fifo_ptr[1:] > fifo_ptr[:-1]
    last = np.full((timeline.program.ranks, STREAMS), -1, dtype=np.int32)
    last.ravel()[used] = fifo[fifo_ptr[1:][used] - 1]
    latest = np.append(timeline.end_s, -1.0)[last].argmax(axis=1)
    found: Ints = last[np.arange(len(last)), latest]
    return found


@jit_in_place
def write(books: Books, filled: Ints, makespan_s: float) -> int:
    """Account for every second of every rank.

    Args:
        books: accounts to fill in.
        filled: (n,) first of each operation's lanes; scratch.
        makespan_s: length of the step.

    Returns:
        -1, or an operation that starts late without a cause: the Timeline is not one of an engine.
    """
    for lane in range(len(books.fifo_ptr) - 1):
        previous = -1
        for k in range(books.fifo_ptr[lane], books.fifo_ptr[lane + 1]):
            op = books.fifo[k]
            books.before[filled[op]] = previous
            filled[op] += 1
            previous = op
    for rank in range(len(books.accounts)):
        late = _rank(books, rank, makespan_s)
        if late >= 0:
            return late
    return -1


@jit_in_place
def _rank(books: Books, rank: int, makespan_s: float) -> int:
    lane, free_s = rank * STREAMS, 0.0  # the compute stream
    _ramp(books, lane, makespan_s)
    for k in range(books.fifo_ptr[lane], books.fifo_ptr[lane + 1]):
        op = books.fifo[k]
        _busy(books, rank, op)
        if books.start_s[op] > free_s:
            late = _blame(books, rank, op, free_s, books.start_s[op])
            if late >= 0:
                return late
        free_s = books.end_s[op]
    return _tail(books, rank, free_s, makespan_s)


@jit_in_place
def _ramp(books: Books, lane: int, makespan_s: float) -> None:
    """When a rank's first backward starts and its last forward ends."""
    first, last = makespan_s, 0.0
    for k in range(books.fifo_ptr[lane + 1] - 1, books.fifo_ptr[lane] - 1, -1):
        op = books.fifo[k]
        phase = books.phase[op]
        if phase in (_BACKWARD_INPUT, _BACKWARD_WEIGHT, _AGAIN):
            first = books.start_s[op]
        elif phase == _FORWARD and last == 0.0:
            last = books.end_s[op]
    books.ramp_s[0], books.ramp_s[1] = first, last


@jit_in_place
def _busy(books: Books, rank: int, op: int) -> None:
    """Time the compute stream is busy, by what it runs."""
    account, own, kind = books.accounts[rank], books.own_s[op], books.bucket[op]
    busy = books.end_s[op] - books.start_s[op]
    late = books.late_s[op]
    account[_STRAGGLER] += late
    if books.phase[op] == _AGAIN:
        account[_RECOMPUTE] += own - late
    elif kind == _OF_MATMUL:
        account[_USEFUL] += books.useful_s[op]
        account[_INEFFICIENCY] += own - late - books.useful_s[op]
    else:
        account[books.bucket_of[kind]] += own - late
    if busy - own > 1e-9 * busy:  # less is rounding of end - start
        account[_COMM_SMS] += busy - own
    books.held_s[op] += books.multiplicity[rank] * busy


@jit_in_place
def _tail(books: Books, rank: int, free_s: float, makespan_s: float) -> int:
    """From the last kernel of a rank to the end of the step."""
    own, late, own_end_s = books.last[rank], -1, 0.0
    if own >= 0:
        own_end_s = books.end_s[own]
    if own_end_s > free_s:
        _count_transfer(books, rank, own, max(free_s, books.start_s[own]), own_end_s)
        if books.start_s[own] > free_s:
            late = _blame(books, rank, own, free_s, books.start_s[own])
    books.accounts[rank, _STRAGGLER] += books.last_s[rank] - max(own_end_s, free_s)
    _bubble(books, rank, books.last_s[rank], makespan_s)
    return late


@jit_in_place
def _blame(books: Books, rank: int, op: int, low: float, high: float) -> int:
    """Explain why ``op``, which starts at ``high``, could not start from ``low`` on."""
    while high > low:
        cause, released = _cause(books, rank, op)
        if cause < 0:
            return op
        if released > books.end_s[cause]:  # the lag of a dependency: latency on the wire
            begin = max(low, books.end_s[cause])
            books.accounts[rank, _EXPOSED_PP] += high - begin
            high = begin
        if _stream(books, cause, rank) < 0:
            _elsewhere(books, rank, cause, low, high)
            return -1
        begin = max(low, books.start_s[cause])
        _count_transfer(books, rank, cause, begin, high)
        op, high = cause, begin
    return -1


@jit_in_place
def _cause(books: Books, rank: int, op: int) -> tuple[int, float]:
    """The condition of ``op`` that was met last: (operation, when it released ``op``).

    Of several at one instant, as of ranks in step, one that ``rank`` itself took part in, and of those the first, so
    that copies of a rank blame copies of the same operation.
    """
    cause, released = -1, -1.0
    for k in range(books.dep_ptr[op], books.dep_ptr[op + 1]):
        time_s = books.end_s[books.dep[k]] + books.lag_s[k]
        if _met_after(books, rank, books.dep[k], time_s, cause, released):
            cause, released = books.dep[k], time_s
    for k in range(books.op_ptr[op], books.op_ptr[op + 1]):
        other = books.before[k]
        if other >= 0 and _met_after(books, rank, other, books.end_s[other], cause, released):
            cause, released = other, books.end_s[other]
    return int(cause), float(released)


@jit_in_place
def _met_after(books: Books, rank: int, other: int, time_s: float, cause: int, released: float) -> bool:
    """Whether ``other`` is to blame rather than ``cause``: it was met later, or at the same instant and is nearer."""
    same_s = 1e-12 * max(1.0, released)
    if cause < 0 or abs(time_s - released) > same_s:
        return time_s > released
    here, there = _stream(books, other, rank) >= 0, _stream(books, cause, rank) >= 0
    return here if here != there else other < cause


@jit_in_place
def _stream(books: Books, op: int, rank: int) -> int:
    """The first stream of a rank that an operation is on, -1 without."""
    for k in range(books.op_ptr[op], books.op_ptr[op + 1]):
        if books.lanes[k] // STREAMS == rank:
            return int(books.lanes[k] % STREAMS)
    return -1


@jit_in_place
def _elsewhere(books: Books, rank: int, cause: int, low: float, high: float) -> None:
    """The wait is for another rank: a later pipeline stage is bubble, a member of the same one a straggler."""
    other = books.lanes[books.op_ptr[cause]] // STREAMS
    if books.stage_of_rank[other] == books.stage_of_rank[rank]:
        books.accounts[rank, _STRAGGLER] += high - low
    else:
        _bubble(books, rank, low, high)


@jit_in_place
def _bubble(books: Books, rank: int, low: float, high: float) -> None:
    first_backward, last_forward = books.ramp_s[0], books.ramp_s[1]
    middle = min(max(max(first_backward, last_forward), low), high)
    first = min(max(first_backward, low), high)
    books.accounts[rank, _WARMUP] += first - low
    books.accounts[rank, _STEADY] += middle - first
    books.accounts[rank, _COOLDOWN] += high - middle


@jit_in_place
def _count_transfer(books: Books, rank: int, op: int, begin: float, end: float) -> None:
    if end > begin:
        books.accounts[rank, books.exposed_of[_stream(books, op, rank)]] += end - begin
        books.held_s[op] += books.multiplicity[rank] * (end - begin)
