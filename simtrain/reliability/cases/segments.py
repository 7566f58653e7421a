"""Work cut into segments by blocking checkpoints, as several kinds of case have it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from simtrain.reliability import closed_form as formula
from simtrain.reliability.cases.params import Params

__all__ = ["Segments"]


@dataclass(frozen=True, slots=True)
class Segments:
    """``work_s`` of useful work, a checkpoint after each ``segment_work_s`` of it."""

    work_s: float
    segment_work_s: float
    checkpoint_s: float
    checkpoint_last: bool

    @classmethod
    def read(cls, params: Params) -> Self:
        """``work_s segment_work_s checkpoint_s checkpoint_after_last_segment`` and, as a check, ``segments``."""
        work_s, segment_work_s = params.positive("work_s"), params.positive("segment_work_s")
        segments = math.ceil(work_s / segment_work_s * (1 - 1e-12))
        if params.count("segments", default=segments) != segments:
            raise params.error("segments", f"work_s / segment_work_s = {segments}")
        last = params.switch("checkpoint_after_last_segment", True)
        return cls(work_s, segment_work_s, params.not_negative("checkpoint_s"), last)

    def blocking(self, mtbf_s: float, recovery_s: float, *, restarts: bool) -> formula.Blocking:
        """The closed form of such a run under Poisson failures."""
        return formula.blocking(
            mtbf_s,
            self.work_s,
            self.segment_work_s,
            self.checkpoint_s,
            recovery_s,
            restarts=restarts,
            checkpoint_last=self.checkpoint_last,
        )
