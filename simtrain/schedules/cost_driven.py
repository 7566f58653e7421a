"""Schedules that are searched for: the best order found with given costs within a given memory."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from simtrain.errors import ScheduleError
from simtrain.schedules.base import Actions, Schedule
from simtrain.schedules.search import Problem, search
from simtrain.schedules.slot_costs import SlotCosts

__all__ = ["CostDriven"]


class CostDriven(Schedule):
    """A schedule of F, I and W found by :func:`simtrain.schedules.search.search`.

    Attributes:
        rivals: schedules within the same memory, which the search starts from and never does worse than.
        span_weight: how much the longest span of a rank counts beside the makespan.
    """

    rivals: ClassVar[tuple[Schedule, ...]] = ()
    span_weight: ClassVar[float]

    @abstractmethod
    def limit(self, ranks: int) -> int:
        """Most chunk activations alive on a rank, each from the start of F to the end of W."""

    def check_settings(self, ranks: int, microbatches: int, chunks: int, **options: int | None) -> None:
        """The schedule's own number of chunks."""
        if chunks != self.default_chunks:
            raise ScheduleError(f"{self.name} has {self.default_chunks} model chunk(s) per rank, not {chunks}")

    def all_actions(
        self, ranks: int, microbatches: int, chunks: int, costs: SlotCosts, **options: int | None
    ) -> tuple[Actions, ...]:
        """Actions of every rank, the best found with these costs."""
        known = [rival.all_actions(ranks, microbatches, chunks, costs) for rival in self.rivals]
        problem = Problem(ranks, microbatches, chunks, self.placement, costs, self.limit(ranks), self.span_weight)
        return search(problem, known)
