"""What keeps operations from starting: the deadlock report that every engine gives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import DeadlockError
from simtrain.program.program import STREAMS, Program, Stream

__all__ = ["deadlock"]


def deadlock(program: Program, ended: NDArray[np.bool_]) -> DeadlockError:
    """Report, sorted by operation, what each operation at the head of a lane waits for.

    Args:
        program: the program that got stuck.
        ended: (n,) operations that ended.
    """
    heads = _heads(program, ended)
    waits = [
        f"{program.label(op)} waits for {_reasons(program, ended, heads, op)}" for op in sorted(set(heads.values()))
    ]
    return DeadlockError(waits)


def _heads(program: Program, ended: NDArray[np.bool_]) -> dict[int, int]:
    """First operation that has not ended, of every lane that still has one."""
    heads = {}
    for lane in range(program.ranks * STREAMS):
        queue = program.fifo[program.fifo_ptr[lane] : program.fifo_ptr[lane + 1]]
        left = queue[~ended[queue]]
        if left.size:
            heads[lane] = int(left[0])
    return heads


def _reasons(program: Program, ended: NDArray[np.bool_], heads: dict[int, int], op: int) -> str:
    waits = program.dep[program.dep_ptr[op] : program.dep_ptr[op + 1]]
    reasons = [f"the end of [{program.label(dep)}]" for dep in dict.fromkeys(waits[~ended[waits]].tolist())]
    for lane in program.lanes[program.op_ptr[op] : program.op_ptr[op + 1]]:
        head = heads[int(lane)]
        if head != op:
            where = f"rank {lane // STREAMS} {Stream(int(lane) % STREAMS).name.lower()}"
            reasons.append(f"{where}, which is held by [{program.label(head)}]")
    return " and ".join(reasons)
