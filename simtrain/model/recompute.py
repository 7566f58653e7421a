"""Parts of a layer that run again in backward, and what need not be kept for that reason."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from simtrain.model.flow import flow
from simtrain.model.operators import Kernel, Operator
from simtrain.model.pieces import Piece

__all__ = ["WHOLE", "again", "within"]

WHOLE = "layer"
"""The part that full recomputation runs again."""


def within(part: str, pieces: Iterable[Piece]) -> list[Piece]:
    """Pieces as a part of the layer: the first keeps what enters it, the others what the part itself makes."""
    return [
        replace(piece, parts=(part, *piece.parts), kept_of=(*piece.kept_of, part) if i else piece.kept_of)
        for i, piece in enumerate(pieces)
    ]


def again(pieces: Sequence[Piece], chosen: Collection[str], *, to_the_end: bool = True) -> list[Piece]:
    """The same pieces, with the forward of the ``chosen`` parts repeated in backward.

    A part runs again right before the first backward that reads what it makes, or before its own.  What it makes is
    not kept from forward; the last kernel of the repetition holds that.  Unless ``to_the_end`` a repetition stops where
    everything that backward reads is made, so that a part whose output nothing reads may miss its last matmul.
    """
    parts = [_first(piece.parts, chosen) for piece in pieces]
    places = _places(pieces, parts)
    makers = [_first(piece.kept_of, places) for piece in pieces]
    repeated = {
        part: _repetition(
            _needed([piece for piece, own in zip(pieces, parts, strict=True) if own == part], to_the_end),
            *_held(part, pieces, parts, makers),
        )
        for part in places
    }
    result = []
    for i, piece in enumerate(pieces):
        result.append(_lighter(piece, bool(parts[i]), bool(makers[i])))
        result += [repeated[part] for part, place in reversed(places.items()) if place == i]
    return result


def _first(names: Iterable[str], among: Collection[str]) -> str:
    return next((name for name in names if name in among), "")


def _places(pieces: Sequence[Piece], parts: Sequence[str]) -> dict[str, int]:
    """The piece before whose backward each part runs again, parts in forward order.

    That is the last one in forward order that belongs to it or reads what it makes; one that itself runs again needs
    it where that happens.
    """
    places: dict[str, int] = {}
    for part in reversed(dict.fromkeys(filter(None, parts))):
        readers = [i for i, piece in enumerate(pieces) if parts[i] == part or part in piece.kept_of]
        places = {part: max(places.get(parts[i], i) for i in readers)} | places
    return places


def _held(part: str, pieces: Sequence[Piece], parts: Sequence[str], makers: Sequence[str]) -> tuple[float, float]:
    """Bytes that a part makes again: all of them, and those that gradients of weights read."""
    held = remade = 0.0
    for piece, own, maker in zip(pieces, parts, makers, strict=True):
        held += piece.inner_bytes if own == part else 0.0
        weights = {op.name for op in piece.backward if op.part == "W"}
        for op in piece.forward if maker == part else ():
            if isinstance(op, Kernel):
                held += op.saved_bytes - piece.inner_bytes if op.saved_bytes else 0.0
                remade += op.saved_bytes if f"{op.name}_wgrad" in weights else 0.0
    return held, remade


def _needed(pieces: Sequence[Piece], to_the_end: bool) -> Sequence[Piece]:
    """Pieces up to the last that keeps something; that one too where it keeps more than what enters it."""
    keeping = [i for i, piece in enumerate(pieces) if any(getattr(op, "saved_bytes", 0.0) for op in piece.forward)]
    if to_the_end or not keeping:
        return pieces
    last = keeping[-1]
    return pieces[: last + 1] if pieces[last].inner_bytes or not last else pieces[:last]


def _repetition(pieces: Sequence[Piece], held_bytes: float, remade_bytes: float) -> Piece:
    forward = flow(piece.forward for piece in pieces)
    operators = [replace(_keeping(op, 0.0), part="I", recompute=True) for op in forward]
    last = max(i for i, op in enumerate(operators) if isinstance(op, Kernel))
    operators[last] = _keeping(operators[last], held_bytes, remade_bytes)
    return Piece((), tuple(operators))


def _lighter(piece: Piece, runs_again: bool, input_made_again: bool) -> Piece:
    """The piece without the bytes that backward makes again."""

    def kept_bytes(saved_bytes: float) -> float:
        if not saved_bytes:
            return 0.0
        own = 0.0 if runs_again else piece.inner_bytes
        return own + (0.0 if input_made_again else saved_bytes - piece.inner_bytes)

    forward = (_keeping(op, kept_bytes(op.saved_bytes)) if isinstance(op, Kernel) else op for op in piece.forward)
    return replace(piece, forward=tuple(forward))


def _keeping(op: Operator, saved_bytes: float, remade_bytes: float = 0.0) -> Operator:
    if not isinstance(op, Kernel):
        return op
    return replace(op, saved_bytes=saved_bytes, remade_bytes=remade_bytes)
