"""ZB-H1: 1F1B with split backwards, a third of the bubble at the same memory."""

from __future__ import annotations

from typing import ClassVar

from simtrain.schedules.script import Scripted, lagged

__all__ = ["SCHEDULE", "ZB1P"]


class ZB1P(Scripted):
    """Qi et al. 2023, arXiv 2401.10241, section 2.2; bubble (P-1)(F+I-W), P micro batches alive, both for M >= P.

    Rank r starts P - r forwards and lets r backwards for weights wait, as PyTorch's
    ``ScheduleInterleavedZeroBubble`` does on one chunk.
    """

    name: ClassVar[str] = "zb1p"
    aliases: ClassVar[tuple[str, ...]] = ("zb_h1",)
    summary: ClassVar[str] = "1F1B with split backwards, bubble (P-1)(F+I-W) (ZB-H1, Qi et al. 2023, arXiv 2401.10241)"
    several_chunks: ClassVar[str] = "interleaved_zb"

    def script(self, rank: int, ranks: int, microbatches: int, chunks: int, **options: int | None) -> str:
        """P - rank - 1 warm-up forwards; weights ``rank`` backwards behind."""
        return lagged(microbatches, warmup=ranks - rank - 1, lag=rank)


SCHEDULE = ZB1P()
