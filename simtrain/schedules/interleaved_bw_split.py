"""Interleaved 1F1B with split backwards: stages behind wait for the backward for inputs alone."""

from __future__ import annotations

from typing import ClassVar

from simtrain.schedules.grouped import Grouped
from simtrain.schedules.script import lagged

__all__ = ["SCHEDULE", "InterleavedBWSplit"]


class InterleavedBWSplit(Grouped):
    """The grouped interleaved schedule of sail-sg/zero-bubble-pipeline-parallelism; bubble (P-1)(F+I)/V.

    Weights follow their backward for inputs at once.  Groups have P micro batches; the last one keeps the places of
    those it lacks.
    """

    name: ClassVar[str] = "interleaved_bw_split"
    summary: ClassVar[str] = "interleaved 1F1B, backward as I then W (sail-sg/zero-bubble-pipeline-parallelism)"

    def check_settings(self, ranks: int, microbatches: int, chunks: int, **options: int | None) -> None:
        """Any number of micro batches and chunks will do."""

    def padded(self, ranks: int, microbatches: int) -> int:
        """Whole groups."""
        return -(-microbatches // ranks) * ranks

    def script(self, rank: int, ranks: int, microbatches: int, chunks: int, **options: int | None) -> str:
        """P - rank - 1 + (V - 1) P warm-up forwards; weights right behind."""
        return lagged(microbatches * chunks, warmup=chunks * ranks - rank - 1, lag=0)


SCHEDULE = InterleavedBWSplit()
