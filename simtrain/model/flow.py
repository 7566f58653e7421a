"""Data flow inside a layer: which operators each one waits for, by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from simtrain.model.operators import Operator

__all__ = ["START", "chain", "flow"]

START = "start"
"""In ``after``: whatever was under way before the piece that the operator belongs to."""


def flow(pieces: Iterable[Sequence[Operator]]) -> tuple[Operator, ...]:
    """The operators of ``pieces`` in their order, with START replaced by names."""
    return _named(pieces, (), explicit=False)


def chain(pieces: Iterable[Sequence[Operator]], after: tuple[str, ...]) -> tuple[Operator, ...]:
    """The same for pieces that start once ``after`` are done and wait for nothing but that and each other.

    Other operators of the layer that are under way meanwhile are joined by what comes after the chain.
    """
    return _named(pieces, after, explicit=True)


def _named(pieces: Iterable[Sequence[Operator]], ends: tuple[str, ...], *, explicit: bool) -> tuple[Operator, ...]:
    found = []
    for piece in pieces:
        start = ends
        for op in piece:
            after = tuple(name for given in op.after for name in (start if given == START else (given,)))
            waits = after or ends
            ends = (*(name for name in ends if name not in waits and name != op.name), op.name)
            found.append(replace(op, after=waits if explicit else after))
    return tuple(found)
