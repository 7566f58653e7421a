"""A Timeline: when every operation of a Program started and ended.  All results are read from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simtrain.program.program import STREAMS, Program, Stream

__all__ = ["Timeline"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Start and end of every operation.

    Attributes:
        program: what was run.
        start_s, end_s: (n,) seconds from the start of the step; a start is when the operation headed all its
            lanes and its dependencies had ended.
        engine: the engine that ran it.
    """

    program: Program
    start_s: Floats
    end_s: Floats
    engine: str

    @property
    def makespan_s(self) -> float:
        """Time from 0 to the last end."""
        return float(self.end_s.max()) if self.end_s.size else 0.0

    def lane(self, rank: int, stream: Stream) -> NDArray[np.int32]:
        """Operations of one lane in the order they ran."""
        number = rank * STREAMS + stream
        return self.program.fifo[self.program.fifo_ptr[number] : self.program.fifo_ptr[number + 1]]
