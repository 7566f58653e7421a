"""DualPipeV: DualPipe folded in the middle, each parameter held once."""

from __future__ import annotations

from typing import ClassVar

from simtrain.errors import ScheduleError
from simtrain.schedules.bidirectional import both_ways
from simtrain.schedules.script import VShaped

__all__ = ["SCHEDULE", "DualPipeV"]


class DualPipeV(VShaped):
    """Half of DualPipe on a V of stages (Qi et al. 2025, "cut-in-half"), in the order of deepseek-ai/DualPipe.

    2P + 1 chunks are alive on every rank.  With F = I >= W the last rank waits (P-1)(x+b-3w), in chunk slots.
    """

    name: ClassVar[str] = "dualpipev"
    summary: ClassVar[str] = "DualPipe folded to a V, each parameter held once (deepseek-ai/DualPipe)"

    def check_settings(self, ranks: int, microbatches: int, chunks: int, **options: int | None) -> None:
        """Two chunks and at least one micro batch per stage."""
        super().check_settings(ranks, microbatches, chunks, **options)
        if microbatches < 2 * ranks:
            raise ScheduleError(
                f"{self.name}: microbatches = {microbatches}, but {ranks} ranks need at least {2 * ranks}, "
                "one per stage"
            )

    def script(self, rank: int, ranks: int, microbatches: int, chunks: int, **options: int | None) -> str:
        """The V is the way to the meeting point, and back."""
        return both_ways(ranks, rank, microbatches)


SCHEDULE = DualPipeV()
