"""GPipe: all forwards, then all backwards."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from simtrain.schedules.base import Actions, Schedule, interleave, rows
from simtrain.schedules.order import Action

__all__ = ["SCHEDULE", "GPipe"]


class GPipe(Schedule):
    """Huang et al. 2019, arXiv 1811.06965, section 2.3; bubble (P-1)(F+B), all M micro batches alive."""

    name: ClassVar[str] = "gpipe"
    summary: ClassVar[str] = "all forwards, then all backwards (Huang et al. 2019, arXiv 1811.06965)"

    def actions(self, rank: int, ranks: int, microbatches: int, chunks: int, **options: int | None) -> Actions:
        """Every forward of the rank's stage, then every backward."""
        order = np.arange(microbatches, dtype=np.int32)
        return interleave(rows(Action.F, rank, order), rows(Action.B, rank, order), warmup=microbatches)


SCHEDULE = GPipe()
