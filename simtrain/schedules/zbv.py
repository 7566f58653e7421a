"""ZBV: zero bubble on a V of stages, at the memory of 1F1B."""

from __future__ import annotations

from typing import ClassVar

from simtrain.schedules.script import VShaped

__all__ = ["SCHEDULE", "ZBV"]


class ZBV(VShaped):
    """Qi et al. 2024, arXiv 2405.15362, section 4, in the order of PyTorch's ``ScheduleZBVZeroBubble``.

    With F = I = W and M of at least 2P - 1 no rank waits between its first and its last slot, and 2P chunks are
    alive.  Fewer micro batches take the order of 2P - 1 without those that are missing.
    """

    name: ClassVar[str] = "zbv"
    summary: ClassVar[str] = "zero bubble on a V of stages, memory of 1F1B (Qi et al. 2024, arXiv 2405.15362)"

    def padded(self, ranks: int, microbatches: int) -> int:
        """At least 2P - 1."""
        return max(microbatches, 2 * ranks - 1)

    def script(self, rank: int, ranks: int, microbatches: int, chunks: int, **options: int | None) -> str:
        """Fill the V, forwards of the first chunk while there are any, drain it."""
        below = ranks - rank
        full = microbatches - 2 * ranks + 1 + rank
        fill = "F" * (2 * below - 1) + "fF" * rank + "fiw" * below
        steady = "FIWfiw" * full + "IWfiw" * (below - 1)
        return fill + steady + "Ii" * rank + "IW" * below + "w" * rank + "W" * rank


SCHEDULE = ZBV()
