"""1F1B with overlap: the forward of one micro batch hides the communication of another one's backward."""

from __future__ import annotations

from typing import ClassVar

from simtrain.schedules.script import Scripted, paired

__all__ = ["SCHEDULE", "OneFOneBOverlap"]


class OneFOneBOverlap(Scripted):
    """1F1B whose steady pairs run as one overlapped slot, as in PP-Schedule-Visualization's ``1f1b_overlap``.

    Forward and backward of a pair start together, so rank r needs 2(P-r-1) + 1 warm-up forwards and holds
    min(M, 2(P-r)) micro batches, about twice as many as 1F1B.
    """

    name: ClassVar[str] = "1f1b_overlap"
    summary: ClassVar[str] = "1F1B with each steady pair as one overlapped slot (Victarry/PP-Schedule-Visualization)"
    several_chunks: ClassVar[str] = "interleaved_1f1b_ep_overlap"

    def script(self, rank: int, ranks: int, microbatches: int, chunks: int, **options: int | None) -> str:
        """2(P - rank) - 1 warm-up forwards, overlapped pairs, then the backwards left."""
        return paired(microbatches, 2 * (ranks - rank) - 1, "X")


SCHEDULE = OneFOneBOverlap()
