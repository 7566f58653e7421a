"""An Order out of slots that somebody else wrote: every action once, on the rank that holds its stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from simtrain.errors import ScheduleError
from simtrain.schedules.order import Order, Placement, Slot, stage_rank

__all__ = ["Words", "checked_order"]

_Done = dict[tuple[str, int, int], tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Words:
    """How messages name things of a file.

    Attributes:
        path: the file.
        row: what holds the slots of a rank there, ``row`` or ``rank``, and ``first``, the number of the first one.
        slot: how a slot is written there.
    """

    path: str
    row: str
    first: int
    slot: Callable[[Slot], str]

    def place(self, rank: int, slot: str) -> str:
        """Where a slot stands."""
        return f"{self.row} {rank + self.first}, {slot}"


def checked_order(schedule: str, ranks: Sequence[Sequence[Slot]], words: Words) -> Order:
    """The order of these slots; sizes and placement are read off them.

    Args:
        schedule: name of the order.
        ranks: slots per rank as :meth:`Order.slots` gives them; no rank is without.
        words: how messages name things.

    Raises:
        ScheduleError: an action is missing, stands twice, or is on a rank that no placement (loop, v, bidir) gives it.
    """
    done = _once(ranks, words)
    stages, microbatches = 1 + max(stage for _, stage, _ in done), 1 + max(microbatch for *_, microbatch in done)
    _complete(done, stages, microbatches, words)
    placement = _placement(done, stages, microbatches, words)
    chunks = 1 if placement == "bidir" else stages // len(ranks)
    return Order.from_slots(schedule, microbatches, ranks, chunks=chunks, placement=placement)


def _once(ranks: Sequence[Sequence[Slot]], words: Words) -> _Done:
    """Rank and slot of every action; a full backward counts as both its halves."""
    done: _Done = {}
    for rank, slots in enumerate(ranks):
        for slot in slots:
            for action in _actions(slot):
                if action in done:
                    kind, stage, microbatch = action
                    raise ScheduleError(
                        f"{words.path}, {words.place(rank, words.slot(slot))}: {kind} of stage {stage}, micro batch "
                        f"{microbatch} stands twice; it is already in {words.place(*done[action])}"
                    )
                done[action] = rank, words.slot(slot)
    return done


def _actions(slot: Slot) -> Iterator[tuple[str, int, int]]:
    kind, stage, microbatch = str(slot[0]), int(slot[1]), int(slot[2])
    if kind == "X":
        yield "F", stage, microbatch
        kind, stage, microbatch = "B", int(slot[3]), int(slot[4])
    for half in "IW" if kind == "B" else kind:
        yield half, stage, microbatch


def _complete(done: _Done, stages: int, microbatches: int, words: Words) -> None:
    if len(done) == 3 * stages * microbatches:
        return
    every = ((kind, stage, mb) for stage in range(stages) for mb in range(microbatches) for kind in "FIW")
    kind, stage, microbatch = next(action for action in every if action not in done)
    raise ScheduleError(
        f"{words.path}: {words.slot([kind, stage, microbatch])} is missing; each of the {stages} stages runs F and B "
        f"(or F, I and W) of each of the {microbatches} micro batches once"
    )


def _placement(done: _Done, stages: int, microbatches: int, words: Words) -> Placement:
    """The placement that puts every action where it is."""
    ranks = 1 + max(rank for rank, _ in done.values())
    exists = {"loop": stages % ranks == 0, "v": stages == 2 * ranks, "bidir": stages == ranks and microbatches % 2 == 0}
    for placement in get_args(Placement):
        if exists[placement] and all(
            stage_rank(placement, stage, ranks, microbatch, microbatches) == rank
            for (_, stage, microbatch), (rank, _) in done.items()
        ):
            return placement  # type: ignore[no-any-return]
    raise ScheduleError(
        f"{words.path}: {stages} stages lie on {ranks} ranks in no known way; allowed: stage s on rank s mod {ranks}, "
        f"a V (stages 0..{ranks - 1} down the ranks, then as many back up), or two directions (micro batches of the "
        f"first half run stage s on rank s, the others on rank {ranks - 1} - s)"
    )
