"""1F1B: one forward, one backward in turn, as soon as the first backward can run."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from simtrain.schedules.base import Actions, Schedule, interleave, rows
from simtrain.schedules.order import Action

__all__ = ["SCHEDULE", "OneFOneB"]


class OneFOneB(Schedule):
    """Narayanan et al. 2021, arXiv 2104.04473, section 2.2; bubble (P-1)(F+B), min(M, P-r) micro batches alive."""

    name: ClassVar[str] = "1f1b"
    summary: ClassVar[str] = "one forward, one backward in turn (Narayanan et al. 2021, arXiv 2104.04473)"

    def actions(self, rank: int, ranks: int, microbatches: int, chunks: int, **options: int | None) -> Actions:
        """P - rank - 1 warm-up forwards, then pairs, then the backwards left."""
        order = np.arange(microbatches, dtype=np.int32)
        warmup = min(ranks - rank - 1, microbatches)
        return interleave(rows(Action.F, rank, order), rows(Action.B, rank, order), warmup)


SCHEDULE = OneFOneB()
