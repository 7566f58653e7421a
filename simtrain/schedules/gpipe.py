"""GPipe: all forwards, then all backwards."""

from __future__ import annotations

from typing import ClassVar

from simtrain.schedules.script import Scripted

__all__ = ["SCHEDULE", "GPipe"]


class GPipe(Scripted):
    """Huang et al. 2019, arXiv 1811.06965, section 2.3; bubble (P-1)(F+B), all M micro batches alive."""

    name: ClassVar[str] = "gpipe"
    summary: ClassVar[str] = "all forwards, then all backwards (Huang et al. 2019, arXiv 1811.06965)"

    def script(self, rank: int, ranks: int, microbatches: int, chunks: int, **options: int | None) -> str:
        """Every forward of the rank's stage, then every backward."""
        return "F" * microbatches + "B" * microbatches


SCHEDULE = GPipe()
