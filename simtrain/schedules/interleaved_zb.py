"""Interleaved ZB-H1: split backwards over several model chunks per rank."""

from __future__ import annotations

from typing import ClassVar

from simtrain.schedules.grouped import Grouped
from simtrain.schedules.script import lagged

__all__ = ["SCHEDULE", "InterleavedZB"]


class InterleavedZB(Grouped):
    """Qi et al. 2023, arXiv 2401.10241, as PyTorch's ``ScheduleInterleavedZeroBubble``; bubble (P-1)(F+I-W)/V."""

    name: ClassVar[str] = "interleaved_zb"
    summary: ClassVar[str] = "interleaved 1F1B with split backwards (PyTorch ScheduleInterleavedZeroBubble)"

    def script(self, rank: int, ranks: int, microbatches: int, chunks: int, **options: int | None) -> str:
        """P - rank - 1 + (V - 1) group warm-up forwards; weights ``rank`` backwards behind."""
        group = self.group(ranks, microbatches)
        return lagged(microbatches * chunks, warmup=ranks - rank - 1 + (chunks - 1) * group, lag=rank)


SCHEDULE = InterleavedZB()
