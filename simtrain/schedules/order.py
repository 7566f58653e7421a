"""An Order: for every pipeline rank, the list of actions it runs, in order.

Notation (Qi et al. 2023, arXiv 2401.10241, section 2): F forward, I backward for inputs, W backward for
weights, B = I + W as one action, X a forward overlapped with a full backward of another micro batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import ScheduleError

__all__ = ["Action", "Order", "Placement", "Slot", "stage_rank", "stuck"]

Slot = list[str | int]

Placement = Literal["loop", "v", "bidir"]


class Action(IntEnum):
    """Kinds of pipeline actions."""

    F = 0
    I = 1  # noqa: E741  the field's name for the backward for inputs
    W = 2
    B = 3
    X = 4


@dataclass(frozen=True, slots=True)
class Order:
    """What every rank of a pipeline runs.

    Attributes:
        schedule: family name.
        ranks: pipeline ranks P.
        chunks: model chunks per rank V.
        microbatches: micro batches M.
        placement: where stage s lives; see :func:`stage_rank`.
        actions: per rank an int32 array of shape (slots, 5): kind, stage, micro batch, and for X the
            stage and micro batch of its backward (otherwise -1).
    """

    schedule: str
    ranks: int
    chunks: int
    microbatches: int
    placement: Placement
    actions: tuple[NDArray[np.int32], ...]

    @property
    def stages(self) -> int:
        """Length of the logical stage chain."""
        return self.ranks * self.chunks

    def slots(self) -> list[list[list[str | int]]]:
        """Slots as plain lists, e.g. ``["F", 0, 3]`` or ``["X", 1, 4, 2, 0]``, per rank."""
        width = {kind: 5 if kind is Action.X else 3 for kind in Action}
        return [
            [[Action(row[0]).name, *(int(v) for v in row[1 : width[Action(row[0])]])] for row in rank]
            for rank in self.actions
        ]

    @staticmethod
    def from_slots(
        schedule: str,
        microbatches: int,
        slots: Sequence[Sequence[Sequence[str | int]]],
        *,
        chunks: int = 1,
        placement: Placement = "loop",
    ) -> Order:
        """Build an Order from plain lists, the inverse of :meth:`slots`."""
        actions = []
        for rank in slots:
            array = np.full((len(rank), 5), -1, dtype=np.int32)
            for row, slot in zip(array, rank, strict=True):
                row[0] = Action[str(slot[0])]
                row[1 : len(slot)] = slot[1:]
            actions.append(array)
        return Order(schedule, len(slots), chunks, microbatches, placement, tuple(actions))


def stage_rank(placement: Placement, stage: int, ranks: int, microbatch: int = 0, microbatches: int = 1) -> int:
    """Rank that runs ``stage``: ``loop`` s mod P; ``v`` there and back; ``bidir`` mirrored for the second half."""
    if placement == "loop":
        return stage % ranks
    if placement == "v":
        return stage if stage < ranks else 2 * ranks - 1 - stage
    if placement == "bidir":
        return stage if microbatch < microbatches // 2 else ranks - 1 - stage
    raise ScheduleError(f"unknown placement {placement!r}; known: loop, v, bidir")


def stuck(order: Order) -> dict[int, Slot]:
    """Per rank the slot it waits at for ever; empty for an order that can run to its end.

    F of a stage waits for F of the stage before, a backward for F of its stage and the backward of the stage
    after, W for its backward for inputs; an X for both its halves.
    """
    slots, at = order.slots(), [0] * order.ranks
    done: set[tuple[str, int, int]] = set()
    moved = True
    while moved:
        moved = False
        for rank, todo in enumerate(slots):
            while at[rank] < len(todo) and _results(todo[at[rank]], order.stages, done):
                done |= _results(todo[at[rank]], order.stages, done)
                at[rank] += 1
                moved = True
    return {rank: todo[i] for rank, (i, todo) in enumerate(zip(at, slots, strict=True)) if i < len(todo)}


def _results(slot: Slot, stages: int, done: set[tuple[str, int, int]]) -> set[tuple[str, int, int]]:
    """What a slot yields, or nothing while something it needs is not in ``done``."""
    kind, stage, microbatch = str(slot[0]), int(slot[1]), int(slot[2])
    if kind == "X":
        forward = _results(["F", stage, microbatch], stages, done)
        backward = _results(["B", *slot[3:]], stages, done)
        return forward | backward if forward and backward else set()
    if kind == "W":
        return {("W", stage, microbatch)} if ("I", stage, microbatch) in done else set()
    if kind == "F":
        return {("F", stage, microbatch)} if stage == 0 or ("F", stage - 1, microbatch) in done else set()
    ready = ("F", stage, microbatch) in done and (stage == stages - 1 or ("I", stage + 1, microbatch) in done)
    return {("I", stage, microbatch)} if ready else set()
