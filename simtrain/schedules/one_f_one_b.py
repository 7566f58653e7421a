"""1F1B: one forward, one backward in turn, as soon as the first backward can run."""

from __future__ import annotations

from typing import ClassVar

from simtrain.schedules.script import Scripted, paired

__all__ = ["SCHEDULE", "OneFOneB"]


class OneFOneB(Scripted):
    """Narayanan et al. 2021, arXiv 2104.04473, section 2.2; bubble (P-1)(F+B), min(M, P-r) micro batches alive."""

    name: ClassVar[str] = "1f1b"
    summary: ClassVar[str] = "one forward, one backward in turn (Narayanan et al. 2021, arXiv 2104.04473)"

    def script(self, rank: int, ranks: int, microbatches: int, chunks: int, **options: int | None) -> str:
        """P - rank - 1 warm-up forwards, then pairs, then the backwards left."""
        return paired(microbatches, ranks - rank - 1, "FB")


SCHEDULE = OneFOneB()
