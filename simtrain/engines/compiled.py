"""The compiled engine: the same Program arrays, run by machine code.

Where no operation can change the rate of another, an operation's start is the latest of: the end of the operation
before it on each of its lanes, and the end plus lag of each dependency.  The walk visits operations in an order in
which all of these are known, without a queue of events; it ends where the event engine would, deadlocks included.
Where rates can change, :mod:`simtrain.engines.event_loop` goes from instant to instant.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simtrain.engines import event_loop
from simtrain.engines.waits import deadlock
from simtrain.errors import ProgramError
from simtrain.jit import jit
from simtrain.program.program import Program
from simtrain.program.timeline import Timeline

__all__ = ["ends_of_many", "simulate"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


def simulate(program: Program) -> Timeline:
    """Run a Program to its end.

    Raises:
        DeadlockError: operations are left that can never start.
    """
    if program.coupled:
        start_s, end_s = event_loop.run(program)
        if np.isnan(end_s).any():
            raise deadlock(program, np.isfinite(end_s))
    else:
        start_s, end_s, _ = _walk(program)
    return Timeline(program, start_s, end_s, "compiled")


def ends_of_many(program: Program, duration_s: Floats, lag_scale: Floats | None = None) -> Floats:
    """End of every operation for many sets of durations, structure unchanged.

    Args:
        program: its lanes, dependencies and lags are used, its own durations are not.
        duration_s: (sets, n) durations.
        lag_scale: (sets,) what each set multiplies the program's lags by; absent: 1.

    Returns:
        (sets, n) ends in seconds.

    Raises:
        DeadlockError: as :func:`simulate`.
        ProgramError: a shape does not match the program, or its operations share links or SMs.
    """
    if program.coupled:
        raise ProgramError("the operations of this program share links or SMs; simulate it once for each set")
    if duration_s.ndim != 2 or duration_s.shape[1] != program.size:
        raise ProgramError(f"duration_s has shape {duration_s.shape}, but the program has {program.size} operations")
    scale = np.ones(len(duration_s)) if lag_scale is None else np.asarray(lag_scale, dtype=np.float64)
    _, _, order = _walk(program)
    ends = np.array(duration_s, dtype=np.float64, order="C")
    _replay_many(
        program.op_ptr,
        program.lanes,
        len(program.fifo_ptr) - 1,
        program.dep_ptr,
        program.dep,
        program.lag_s,
        order,
        scale,
        ends,
    )
    return ends


def _walk(program: Program) -> tuple[Floats, Floats, Ints]:
    """Starts, ends, and the operations in an order in which every condition comes before what it holds."""
    n = program.size
    start_s, end_s, order = np.full(n, np.nan), np.full(n, np.nan), np.empty(n, dtype=np.int32)
    done = _visit(
        program.op_ptr,
        program.lanes,
        program.fifo_ptr,
        program.fifo,
        program.dep_ptr,
        program.dep,
        program.lag_s,
        program.latency_s + program.work_s,
        start_s,
        end_s,
        order,
    )
    if done < n:
        raise deadlock(program, np.isfinite(end_s))
    return start_s, end_s, order


@jit
def _visit(
    op_ptr: Ints,
    lanes: Ints,
    fifo_ptr: Ints,
    fifo: Ints,
    dep_ptr: Ints,
    dep: Ints,
    lag_s: Floats,
    duration_s: Floats,
    start_s: Floats,
    end_s: Floats,
    order: Ints,
) -> int:
    """Fill ``start_s``, ``end_s`` and ``order``; return how many operations ended."""
    n, lane_count = len(duration_s), len(fifo_ptr) - 1
    free_s = np.zeros(lane_count)  # when each lane's last operation ended
    place = fifo_ptr[:-1].copy()  # next operation of each lane
    heads = np.zeros(n, np.int32)  # lanes that an operation heads already
    met = dep_ptr[:-1].copy()  # dependencies of an operation known to have ended
    waiter = np.full(n, -1, np.int32)  # first operation that waits for this one
    also = np.full(n, -1, np.int32)  # next operation that waits for the same
    stack = np.empty(n, np.int32)
    top = 0
    for lane in range(lane_count):
        if place[lane] < fifo_ptr[lane + 1]:
            op = fifo[place[lane]]
            heads[op] += 1
            if heads[op] == op_ptr[op + 1] - op_ptr[op]:
                stack[top] = op
                top += 1
    done = 0
    while top:
        top -= 1
        op = stack[top]
        while met[op] < dep_ptr[op + 1] and not np.isnan(end_s[dep[met[op]]]):
            met[op] += 1
        if met[op] < dep_ptr[op + 1]:
            cause = dep[met[op]]
            also[op] = waiter[cause]
            waiter[cause] = op
            continue
        begin = 0.0
        for k in range(op_ptr[op], op_ptr[op + 1]):
            begin = max(begin, free_s[lanes[k]])
        for k in range(dep_ptr[op], dep_ptr[op + 1]):
            begin = max(begin, end_s[dep[k]] + lag_s[k])
        end = begin + duration_s[op]
        start_s[op], end_s[op] = begin, end
        order[done] = op
        done += 1
        for k in range(op_ptr[op], op_ptr[op + 1]):
            lane = lanes[k]
            free_s[lane] = end
            place[lane] += 1
            if place[lane] < fifo_ptr[lane + 1]:
                other = fifo[place[lane]]
                heads[other] += 1
                if heads[other] == op_ptr[other + 1] - op_ptr[other]:
                    stack[top] = other
                    top += 1
        other = waiter[op]
        while other >= 0:
            following = also[other]
            stack[top] = other
            top += 1
            other = following
    return done


@jit
def _replay_many(
    op_ptr: Ints,
    lanes: Ints,
    lane_count: int,
    dep_ptr: Ints,
    dep: Ints,
    lag_s: Floats,
    order: Ints,
    scale: Floats,
    ends: Floats,
) -> None:
    """Turn every row of durations in ``ends`` into ends, visiting operations in ``order``."""
    # NOTE: the start of an operation is worked out here as in _visit; one function for both took a third longer.
    for which in range(len(ends)):
        free_s = np.zeros(lane_count)
        end_s, stretch = ends[which], scale[which]
        for op in order:
            begin = 0.0
            for k in range(op_ptr[op], op_ptr[op + 1]):
                begin = max(begin, free_s[lanes[k]])
            for k in range(dep_ptr[op], dep_ptr[op + 1]):
                begin = max(begin, end_s[dep[k]] + stretch * lag_s[k])
            end_s[op] += begin
            for k in range(op_ptr[op], op_ptr[op + 1]):
                free_s[lanes[k]] = end_s[op]
