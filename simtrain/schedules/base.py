"""What every pipeline schedule is: a name, a sentence, a check, and the actions of one rank."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import ScheduleError, UnsupportedError, nearest
from simtrain.schedules.order import Order, Placement
from simtrain.schedules.slot_costs import SlotCosts

__all__ = ["Actions", "Schedule", "rows"]

Actions = NDArray[np.int32]


class Schedule(ABC):
    """A pipeline schedule.

    A module of this package (or of an entry point in the group ``simtrain.schedules``) offers one as ``SCHEDULE``.

    Attributes:
        name: what users write.
        aliases: other names it answers to.
        summary: one sentence, with the source.
        placement: where stages live, see :func:`simtrain.schedules.order.stage_rank`.
        options: names of the keyword options that :meth:`order` takes beyond the common ones.
        default_chunks: model chunks per rank unless told (2 for V-shaped schedules).
        several_chunks: the schedule to use instead of one that has a single chunk per rank.
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    summary: ClassVar[str]
    placement: ClassVar[Placement] = "loop"
    options: ClassVar[tuple[str, ...]] = ()
    default_chunks: ClassVar[int] = 1
    several_chunks: ClassVar[str] = "interleaved_1f1b"

    def order(
        self,
        ranks: int,
        microbatches: int,
        chunks: int | None = None,
        costs: SlotCosts | None = None,
        **options: int | None,
    ) -> Order:
        """The order of ``microbatches`` over ``ranks`` pipeline ranks with ``chunks`` model chunks each.

        Args:
            ranks: pipeline ranks P.
            microbatches: micro batches M (of both directions together where the schedule has two).
            chunks: model chunks per rank V; absent: the schedule's own default.
            costs: durations that a cost-driven schedule searches with; others do not look at them.
            **options: what this schedule alone takes, see ``options``.

        Raises:
            ScheduleError: the schedule does not exist for these settings.
        """
        chunks = self.default_chunks if chunks is None else chunks
        self.check(ranks, microbatches, chunks, **options)
        actions = self.all_actions(ranks, microbatches, chunks, costs or SlotCosts(), **options)
        return Order(self.name, ranks, chunks, microbatches, self.placement, actions)

    def all_actions(
        self, ranks: int, microbatches: int, chunks: int, costs: SlotCosts, **options: int | None
    ) -> tuple[Actions, ...]:
        """Actions of every rank; cost-driven schedules, which decide for all ranks at once, override this."""
        return tuple(self.actions(rank, ranks, microbatches, chunks, **options) for rank in range(ranks))

    def check(self, ranks: int, microbatches: int, chunks: int = 1, **options: int | None) -> None:
        """Raise :class:`ScheduleError` with one clear message where the schedule does not exist."""
        for label, value in (("ranks", ranks), ("microbatches", microbatches), ("chunks", chunks)):
            if value < 1:
                raise ScheduleError(f"{self.name}: {label} = {value}, but at least 1 is needed")
        for option in options:
            if option not in self.options:
                close = nearest(option, self.options)
                hint = f"; did you mean {close!r}?" if close else ""
                raise ScheduleError(f"{self.name} takes no option {option!r}{hint} (it takes: {self._taken()})")
        self.check_settings(ranks, microbatches, chunks, **options)

    def check_settings(self, ranks: int, microbatches: int, chunks: int, **options: int | None) -> None:
        """The schedule's own conditions; positive sizes and option names are already checked."""
        if chunks != 1:
            raise ScheduleError(f"{self.name} has one model chunk per rank, not {chunks}; use {self.several_chunks}")

    def actions(self, rank: int, ranks: int, microbatches: int, chunks: int, **options: int | None) -> Actions:
        """Actions of one rank, an array of shape (slots, 5) as :class:`Order` describes."""
        raise UnsupportedError(f"{self.name} orders all ranks at once, not one by one")

    def _taken(self) -> str:
        return ", ".join(self.options) or "none"


def rows(kind: int, stage: Actions | int, microbatch: Actions) -> Actions:
    """Actions of one kind: an array of shape (len(microbatch), 5)."""
    table = np.full((len(microbatch), 5), -1, dtype=np.int32)
    table[:, 0], table[:, 1], table[:, 2] = kind, stage, microbatch
    return table
