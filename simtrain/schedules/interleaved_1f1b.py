"""Interleaved 1F1B: several model chunks per rank shrink the bubble by their number."""

from __future__ import annotations

from typing import ClassVar

from simtrain.schedules.grouped import Grouped
from simtrain.schedules.script import paired

__all__ = ["SCHEDULE", "Interleaved1F1B"]


class Interleaved1F1B(Grouped):
    """Narayanan et al. 2021, arXiv 2104.04473, section 2.2; bubble (P-1)(F+B)/V."""

    name: ClassVar[str] = "interleaved_1f1b"
    aliases: ClassVar[tuple[str, ...]] = ("interleaved_1f1b_group",)
    summary: ClassVar[str] = "1F1B over V model chunks per rank (Narayanan et al. 2021, arXiv 2104.04473)"
    options: ClassVar[tuple[str, ...]] = ("group",)

    def script(self, rank: int, ranks: int, microbatches: int, chunks: int, **options: int | None) -> str:
        """2(P - rank - 1) + (V - 1) group warm-up forwards, then pairs, then the backwards left."""
        group = self.group(ranks, microbatches, **options)
        return paired(microbatches * chunks, 2 * (ranks - rank - 1) + (chunks - 1) * group, "FB")


SCHEDULE = Interleaved1F1B()
