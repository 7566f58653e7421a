"""Logits and loss: what software makes of them, and the memory that takes.

e logits of a GPU are the tokens of a micro batch times its part of the vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from simtrain.model.operators import Exchange, Kernel, Operator, Shard
from simtrain.model.pieces import FP32_BYTES, Piece, memory_bound, needing, tokens, working

__all__ = ["head_pieces"]


class _Loss(NamedTuple):
    """Bytes for each logit of ``act`` bytes: moved each way, kept, and needed beside that each way."""

    forward: float
    backward: float
    kept: float
    forward_working: float
    backward_working: float


def _loss(shard: Shard) -> _Loss:
    """fused: the fp32 copy becomes the softmax; beside it stand the logits, and in backward their gradient.

    eager: a copy in fp32 and its log-softmax, which is kept beside the logits; in backward the gradients of both.
    in_place: read twice, written once; the gradient stands where the logits stood.
    """
    act, full = shard.act_bytes, FP32_BYTES
    if shard.loss == "in_place":
        return _Loss(2 * act, act, act, 0.0, 0.0)
    if shard.loss == "eager":
        return _Loss(act + 3 * full, 5 * full + act, act + full, full, 2 * full)
    return _Loss(act + full, act + full, full, act, act)


def head_pieces(logits: Piece, vocab: int, hidden: int, shard: Shard) -> list[Piece]:
    """The output matmul, the gather of its output where the loss needs all of it, and the loss."""
    gathered = shard.logits == "gathered" and shard.tp > 1
    width = vocab if gathered else -(-vocab // shard.tp)
    loss, count = _loss(shard), tokens(shard) * width
    held = count / shard.head_chunks
    piece = memory_bound(
        "cross_entropy", "cross_entropy", loss.forward * count, loss.backward * count, loss.kept * held
    )
    piece = working(piece, loss.forward_working * held, loss.backward_working * held)
    output = _dummy_gradient(logits, hidden, shard, (loss.kept - shard.act_bytes) * held)
    if gathered:
        gather = Exchange("logits_all_gather", "tp", "all_gather", shard.act_bytes * count)
        return [output, Piece((gather,), ()), piece]
    return [output, piece if shard.tp == 1 else _agreeing(piece, shard)]


def _dummy_gradient(logits: Piece, hidden: int, shard: Shard, freed_bytes: float) -> Piece:
    """The tensor of the weight's shape that autograd gets, once the loss has freed what it kept but the gradient."""
    if not shard.dummy_gradients:
        return logits

    def with_dummy(op: Operator) -> Operator:
        if not (isinstance(op, Kernel) and op.part == "W"):
            return op
        gradient_bytes = shard.act_bytes * (op.m * op.n + tokens(shard) * hidden)
        return needing(op, max(0.0, gradient_bytes - freed_bytes))

    return replace(logits, backward=tuple(map(with_dummy, logits.backward)))


def _agreeing(piece: Piece, shard: Shard) -> Piece:
    """Over a vocabulary cut in tp parts, which agree on maximum, target and sum of each token."""
    scalars = (
        Exchange(f"cross_entropy_{what}", "tp", "all_reduce", float(FP32_BYTES * tokens(shard)))
        for what in ("maximum", "target", "sum")
    )
    return Piece((*piece.forward, *scalars), piece.backward)
