"""The ledger: every second of every GPU in exactly one named bucket.

Busy time is counted by what the compute stream runs.  Idle time of the compute stream is blamed by walking
back from the operation that ended the idleness along whatever held it: its own rank's transfers are exposed
communication, work of another pipeline rank is bubble, a late member of the same group is a straggler.
No bucket is what the others leave over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simtrain.program.timeline import Timeline
from simtrain.timeline.blame import BUCKETS, open_books, write

__all__ = ["BUCKETS", "Ledger", "account"]


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
    program, books = timeline.program, open_books(timeline)
    late = write(books, program.op_ptr[:-1].copy(), timeline.makespan_s)
    if late >= 0:
        raise AssertionError(f"{program.label(late)} starts late without a cause")
    seconds = books.multiplicity @ books.accounts
    gpu_seconds = timeline.makespan_s * float(program.multiplicity.sum())
    return Ledger(gpu_seconds, dict(zip(BUCKETS, seconds.tolist(), strict=True)), books.held_s)
