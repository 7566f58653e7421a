"""1F1B on a V of stages: about two thirds of the memory of 1F1B."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from simtrain.errors import ScheduleError
from simtrain.schedules import kernels
from simtrain.schedules.base import Actions, Schedule
from simtrain.schedules.order import Action, Placement
from simtrain.schedules.search import actions_of, slots_of
from simtrain.schedules.slot_costs import SlotCosts

__all__ = ["SCHEDULE", "OneFOneBV"]

PERIOD = 6.0


class OneFOneBV(Schedule):
    """Qi et al. 2024, arXiv 2405.15362, section 3: a building block of F and B, with B as long as two F.

    Forwards follow each other without delay, every backward takes the first free place of its rank's period.  The
    warm-up then moves slots to the front as far as the memory of the repeated block allows.
    """

    name: ClassVar[str] = "1f1b_v"
    summary: ClassVar[str] = "1F1B on a V of stages, about 2/3 of its memory (Qi et al. 2024, arXiv 2405.15362)"
    placement: ClassVar[Placement] = "v"
    default_chunks: ClassVar[int] = 2

    def check_settings(self, ranks: int, microbatches: int, chunks: int, **options: int | None) -> None:
        """Two chunks per rank."""
        if chunks != 2:
            raise ScheduleError(f"{self.name} has two model chunks per rank (its stages form a V), not {chunks}")

    def all_actions(
        self, ranks: int, microbatches: int, chunks: int, costs: SlotCosts, **options: int | None
    ) -> tuple[Actions, ...]:
        """Actions of every rank; the costs do not matter."""
        stages = 2 * ranks
        durations = np.repeat([[1.0], [2.0]], stages, axis=1)
        block = slots_of(ranks, 1, 2, "v", durations, 0.0, microbatches)
        targets = kernels.pattern(block, 1, np.zeros(2 * stages), PERIOD)
        slots = slots_of(ranks, microbatches, 2, "v", durations, 0.0, _peak(targets, ranks))
        _, order, first = kernels.insert(targets, PERIOD, microbatches, slots)
        return actions_of(order, first, stages, microbatches, kinds=(Action.F, Action.B))


def _peak(targets: kernels.Floats, ranks: int) -> int:
    """Most chunk activations alive on a rank of the block repeated for ever."""
    forward, backward = targets.reshape(2, 2, ranks)
    forward, backward = (np.stack((leg[0], leg[1][::-1])) for leg in (forward, backward))
    now = forward[:, None, :]
    begun, ended = np.floor((now - forward) / PERIOD), np.floor((now - backward) / PERIOD)
    return int((begun - ended).sum(axis=1).max())


SCHEDULE = OneFOneBV()
