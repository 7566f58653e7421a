"""ZB-H2: more warm-up forwards than 1F1B, no bubble inside a rank's span, twice the memory."""

from __future__ import annotations

from typing import ClassVar

from simtrain.schedules.script import Scripted, lagged

__all__ = ["SCHEDULE", "ZBH2"]


class ZBH2(Scripted):
    """Qi et al. 2023, arXiv 2401.10241, section 2.3 and figure 3; 2P - 1 micro batches alive.

    With F = I = W rank 0 never waits between its first and its last slot; the makespan keeps the start ramp (P-1)F.
    """

    name: ClassVar[str] = "zb_h2"
    summary: ClassVar[str] = (
        "no bubble within a rank's span, twice the memory (ZB-H2, Qi et al. 2023, arXiv 2401.10241)"
    )
    several_chunks: ClassVar[str] = "interleaved_zb"

    def script(self, rank: int, ranks: int, microbatches: int, chunks: int, **options: int | None) -> str:
        """2(P - rank) - 1 warm-up forwards; weights 2 rank backwards behind."""
        # The last warm-up forward is the one of the first pair.
        return lagged(microbatches, warmup=2 * (ranks - rank - 1), lag=2 * rank)


SCHEDULE = ZBH2()
