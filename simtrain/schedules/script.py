"""Schedules by hand: what a rank does is a text, one letter per slot.

Letters name a kind and the stream that the slot takes its stage and micro batch from:

=======  ===================================================================================
``F f``  next forward of the first, of the second stream
``I i``  backward for inputs of its next backward
``B b``  full backward of its next backward
``X``    next forward and next backward of the first stream, overlapped
``Y y``  forward of the first (second) stream overlapped with backward of the second (first)
``W w``  weights of the oldest ``I`` (``i``) that still waits for them
``D``    weights of the oldest of both
=======  ===================================================================================

A stream is an order of (stage, micro batch); most schedules have one, those of V shape or with two directions have
one per chunk or direction.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import ScheduleError
from simtrain.schedules.base import Actions, Schedule
from simtrain.schedules.order import Action, Placement
from simtrain.schedules.slot_costs import SlotCosts

__all__ = ["Scripted", "Stream", "VShaped", "lagged", "paired"]

Codes = NDArray[np.uint8]
Ints = NDArray[np.integer[Any]]


class Stream(NamedTuple):
    """Stages and micro batches of every rank, in the order they run: arrays that broadcast to (ranks, n)."""

    stage: Ints
    microbatch: Ints


class Scripted(Schedule):
    """A schedule whose ranks each follow a script."""

    @abstractmethod
    def script(self, rank: int, ranks: int, microbatches: int, chunks: int, **options: int | None) -> str:
        """Letters of one rank, see the module; every letter of a stream as often as the stream is long."""

    def streams(
        self, ranks: int, microbatches: int, chunks: int, **options: int | None
    ) -> tuple[Sequence[Stream], Sequence[Stream]]:
        """The streams of forwards and those of backwards; unless told one stage per rank, micro batches in order."""
        rank, order = np.ogrid[:ranks, :microbatches]
        stream = (Stream(rank, order),)
        return stream, stream

    def padded(self, ranks: int, microbatches: int) -> int:
        """Micro batches that the script is written for; those beyond ``microbatches`` are struck out."""
        return microbatches

    def all_actions(
        self, ranks: int, microbatches: int, chunks: int, costs: SlotCosts, **options: int | None
    ) -> tuple[Actions, ...]:
        """Actions of every rank, views of one table."""
        padded = self.padded(ranks, microbatches)
        scripts = [self.script(rank, ranks, padded, chunks, **options) for rank in range(ranks)]
        table = _performed("".join(scripts), ranks, *self.streams(ranks, padded, chunks, **options))
        if padded != microbatches:  # no slot depends on another micro batch, so what is left still runs
            table = table[table[:, 2] < microbatches]
            return tuple(table.reshape(ranks, -1, 5))
        bounds = np.cumsum([0, *map(len, scripts)]).tolist()
        return tuple(table[start:end] for start, end in pairwise(bounds))


class VShaped(Scripted):
    """A schedule on two chunks per rank, stages 0..P-1 down the ranks and P..2P-1 back up."""

    placement: ClassVar[Placement] = "v"
    default_chunks: ClassVar[int] = 2

    def check_settings(self, ranks: int, microbatches: int, chunks: int, **options: int | None) -> None:
        """Two chunks per rank."""
        if chunks != 2:
            raise ScheduleError(f"{self.name} has two model chunks per rank (its stages form a V), not {chunks}")

    def streams(
        self, ranks: int, microbatches: int, chunks: int, **options: int | None
    ) -> tuple[Sequence[Stream], Sequence[Stream]]:
        """One stream for each chunk, micro batches in order."""
        rank, order = np.ogrid[:ranks, :microbatches]
        both = Stream(rank, order), Stream(2 * ranks - 1 - rank, order)
        return both, both


def paired(slots: int, warmup: int, pair: str) -> str:
    """``warmup`` forwards, then pairs of forward and backward, then the backwards that are left.

    Args:
        slots: forwards of the rank.
        warmup: forwards before the first pair.
        pair: ``FB``, or ``X`` where both run as one.
    """
    warmup = min(warmup, slots)
    return "F" * warmup + pair * (slots - warmup) + "B" * warmup


def lagged(slots: int, warmup: int, lag: int) -> str:
    """``warmup`` forwards, then pairs of forward and backward; weights follow ``lag`` backwards behind.

    Args:
        slots: forwards of the rank.
        warmup: forwards before the first backward.
        lag: backwards whose weights wait at any time once there are that many.
    """
    warmup, lag = min(warmup, slots), min(lag, slots)
    pairs = slots - warmup
    early = min(lag, pairs)
    steady = "F" * warmup + "FI" * early + "FIW" * (pairs - early)
    return steady + "I" * (lag - early) + "IW" * (slots - pairs - lag + early) + "W" * lag


def _table(values: dict[str, int]) -> bytes:
    """Translation of every letter to a small number, 0 where there is none."""
    table = bytearray(256)
    for letters, value in values.items():
        for letter in letters.encode():
            table[letter] |= value
    return bytes(table)


_KIND = _table({"Ff": Action.F, "Ii": Action.I, "WwD": Action.W, "Bb": Action.B, "XYy": Action.X})
_FORWARDS = _table({"FXY": 1, "fy": 2, "I": 4, "i": 8})
_BACKWARDS = _table({"IBXy": 1, "ibY": 2, "W": 4, "w": 8, "D": 12})


def _performed(script: str, ranks: int, forwards: Sequence[Stream], backwards: Sequence[Stream]) -> Actions:
    """The slots of all ranks, (len(script), 5): the n-th letter of a stream takes its n-th stage and micro batch."""
    letters = script.encode()
    kinds = np.frombuffer(letters.translate(_KIND), dtype=np.uint8)
    table = np.full((len(letters), 5), -1, dtype=np.int32)
    table[:, 0] = kinds
    flat = table.reshape(-1)  # a flat index is several times faster than one per axis
    used = np.frombuffer(letters.translate(_FORWARDS), dtype=np.uint8)
    for bit, stream in enumerate(forwards):
        _fill(flat, _where(used, 1 << bit) * 5 + 1, ranks, stream)
    taken = np.frombuffer(letters.translate(_BACKWARDS), dtype=np.uint8)
    for bit, stream in enumerate(backwards):
        at = _where(taken, 1 << bit)
        _fill(flat, at * 5 + 1 + 2 * (kinds[at] == Action.X), ranks, stream)
    for pending in (4, 8, 12):
        weights = np.flatnonzero(taken & 12 == pending) * 5
        inputs = _where(used, pending) * 5 if len(weights) else weights
        for column in (1, 2):
            flat[weights + column] = flat[inputs + column]
    return table


def _where(codes: Codes, bits: int) -> NDArray[np.intp]:
    return np.flatnonzero((codes & bits) != 0)  # much faster on booleans than on bytes


def _fill(flat: Actions, at: NDArray[np.intp], ranks: int, stream: Stream) -> None:
    """Write the stages of a stream to the places ``at``, its micro batches to those behind them."""
    shape = (ranks, len(at) // ranks)
    for offset, values in enumerate(stream):
        flat[at + offset] = np.broadcast_to(values, shape).astype(np.int32).reshape(-1)
