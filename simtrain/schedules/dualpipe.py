"""DualPipe: micro batches enter at both ends of the pipeline, and forwards overlap with backwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from simtrain.errors import ScheduleError
from simtrain.schedules.bidirectional import both_ways
from simtrain.schedules.order import Placement
from simtrain.schedules.script import Scripted, Stream

__all__ = ["SCHEDULE", "DualPipe"]


class DualPipe(Scripted):
    """DeepSeek-V3 2024, arXiv 2412.19437, section 3.2.1, in the order of deepseek-ai/DualPipe.

    Micro batches 0..M/2-1 run stage s on rank s, the others on rank P-1-s, so every rank holds the parameters of
    two stages and P + 1 micro batches.  With F = I >= W the most idle ranks wait (P/2-1)(X+B-3W).
    """

    name: ClassVar[str] = "dualpipe"
    summary: ClassVar[str] = "two directions, forwards overlapped with backwards (DeepSeek-V3 2024, arXiv 2412.19437)"
    placement: ClassVar[Placement] = "bidir"

    def check_settings(self, ranks: int, microbatches: int, chunks: int, **options: int | None) -> None:
        """One chunk, an even pipeline, and as many micro batches each way as there are ranks."""
        if chunks != 1:
            raise ScheduleError(f"{self.name} has one model chunk per rank and direction, not {chunks}; use dualpipev")
        if ranks % 2:
            raise ScheduleError(f"{self.name}: ranks = {ranks}, but the two directions need an even number")
        if microbatches % 2 or microbatches < 2 * ranks:
            raise ScheduleError(
                f"{self.name}: microbatches = {microbatches}, but {ranks} ranks need an even number of at least "
                f"{2 * ranks} (half of them in each direction)"
            )

    def script(self, rank: int, ranks: int, microbatches: int, chunks: int, **options: int | None) -> str:
        """The same on ranks that mirror each other."""
        return both_ways(ranks // 2, min(rank, ranks - 1 - rank), microbatches // 2)

    def streams(
        self, ranks: int, microbatches: int, chunks: int, **options: int | None
    ) -> tuple[Sequence[Stream], Sequence[Stream]]:
        """The direction that enters at this rank's end of the pipeline, then the other."""
        half = microbatches // 2
        rank, order = np.ogrid[:ranks, :half]
        far = rank >= ranks // 2
        near_stage = np.where(far, ranks - 1 - rank, rank)
        both = Stream(near_stage, order + half * far), Stream(ranks - 1 - near_stage, order + half * ~far)
        return both, both


SCHEDULE = DualPipe()
