"""Interleaved 1F1B with expert-parallel overlap: a forward hides the all-to-all of a backward."""

from __future__ import annotations

from typing import ClassVar

from simtrain.errors import ScheduleError
from simtrain.schedules.grouped import Grouped
from simtrain.schedules.script import paired

__all__ = ["SCHEDULE", "Interleaved1F1BEPOverlap"]


class Interleaved1F1BEPOverlap(Grouped):
    """Megatron-LM's ``overlap_moe_expert_parallel_comm``: interleaved 1F1B whose steady pairs overlap.

    Both halves of a pair start together, which takes one warm-up forward, and one chunk of memory, more.
    """

    name: ClassVar[str] = "interleaved_1f1b_ep_overlap"
    summary: ClassVar[str] = "interleaved 1F1B with each steady pair as one overlapped slot (Megatron-LM MoE overlap)"
    options: ClassVar[tuple[str, ...]] = ("group",)
    default_chunks: ClassVar[int] = 2

    def check_settings(self, ranks: int, microbatches: int, chunks: int, **options: int | None) -> None:
        """Several chunks per rank, as Megatron-LM demands; groups as in interleaved 1F1B."""
        if chunks == 1 and ranks > 1:
            raise ScheduleError(f"{self.name} needs at least 2 model chunks per rank, not 1; use 1f1b_overlap")
        super().check_settings(ranks, microbatches, chunks, **options)

    def script(self, rank: int, ranks: int, microbatches: int, chunks: int, **options: int | None) -> str:
        """2(P - rank - 1) + (V - 1) group + 1 warm-up forwards, overlapped pairs, then the backwards left."""
        group = self.group(ranks, microbatches, **options)
        return paired(microbatches * chunks, 2 * (ranks - rank - 1) + (chunks - 1) * group + 1, "X")


SCHEDULE = Interleaved1F1BEPOverlap()
