"""A plain evaluator of Programs, independent of the engines."""

from __future__ import annotations

import itertools
import math

from simtrain.program.program import Program


def conditions(program: Program) -> list[list[tuple[int, float]]]:
    """Per operation what it waits for, (operation, lag): its dependencies and its predecessor on each lane."""
    found: list[list[tuple[int, float]]] = []
    for op in range(program.size):
        mine = range(program.dep_ptr[op], program.dep_ptr[op + 1])
        found.append([(int(program.dep[i]), float(program.lag_s[i])) for i in mine])
    for lane in range(len(program.fifo_ptr) - 1):
        queue = program.fifo[program.fifo_ptr[lane] : program.fifo_ptr[lane + 1]].tolist()
        for before, op in itertools.pairwise(queue):
            found[op].append((before, 0.0))
    return found


def spans(program: Program) -> tuple[list[float], list[float]]:
    """(start, end) of every operation, the longest path to it; NaN where it can never start."""
    waits = conditions(program)
    start = [math.nan] * program.size
    end = [math.nan] * program.size
    progress = True
    while progress:
        progress = False
        for op in range(program.size):
            if math.isnan(end[op]) and not any(math.isnan(end[before]) for before, _ in waits[op]):
                start[op] = max((end[before] + lag for before, lag in waits[op]), default=0.0)
                end[op] = start[op] + float(program.latency_s[op] + program.work_s[op])
                progress = True
    return start, end


def heads(program: Program, end: list[float]) -> dict[int, int]:
    """First operation without an end, of every lane that has one."""
    found = {}
    for lane in range(len(program.fifo_ptr) - 1):
        for op in program.fifo[program.fifo_ptr[lane] : program.fifo_ptr[lane + 1]].tolist():
            if math.isnan(end[op]):
                found[lane] = op
                break
    return found
