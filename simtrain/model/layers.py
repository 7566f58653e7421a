"""Operators of a layer, of the embedding and of the head, for one rank and one micro batch.

The residual stream enters and leaves a layer as (tokens, hidden), cut over the tensor parallel group where
sequence parallelism is on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from simtrain.model.attention import attention_pieces
from simtrain.model.counts import LayerKind, layer_kind
from simtrain.model.expert_loads import rank_loads
from simtrain.model.flow import flow
from simtrain.model.head import head_pieces
from simtrain.model.mlp import mlp_pieces
from simtrain.model.moe import moe_pieces
from simtrain.model.operators import NORMS, Exchange, Kernel, LayerOperators, Shard
from simtrain.model.pieces import (
    MASK_BYTES,
    Piece,
    column_parallel,
    local_tokens,
    memory_bound,
    norm,
    residual_add,
    tokens,
)
from simtrain.model.recompute import WHOLE, again, within
from simtrain.scenario.model import MixtureOfExperts, Model

__all__ = ["LayerKind", "embedding_operators", "head_operators", "layer_kind", "layer_operators", "recompute_places"]


def layer_operators(model: Model, layer_index: int, shard: Shard) -> LayerOperators:
    """Operators of one layer (0-based) on the busiest rank; equal for all layers of one :func:`layer_kind`.

    Under natural routing each layer has its own busiest rank and load.
    Full recomputation keeps the layer's input and runs its whole forward again; selective recomputation does so with
    parts of it: unless others are named with the attention core, whose queries, keys and values are kept (Korthikanti
    et al. 2022, arXiv 2205.05198, section 5).
    """
    kind = layer_kind(model, layer_index)
    if kind == "moe" and model.moe is not None:
        shard = _loaded(model.moe, layer_index, shard)
    pieces = _layer_pieces(model, kind, shard)
    if shard.recompute == "full":
        return _assemble(again(within(WHOLE, pieces), (WHOLE,), to_the_end=not shard.recompute_stops), shard)
    return _assemble(again(pieces, shard.again), shard)


def recompute_places(model: Model) -> frozenset[tuple[str, ...]]:
    """What of the model's layers can run again: a name of ``layout.recompute_modules`` after those around it."""
    kinds = {layer_kind(model, i) for i in range(model.layers)}
    pieces = (piece for kind in kinds for piece in _layer_pieces(model, kind, Shard(micro_batch=1, sequence=1)))
    return frozenset(tuple("layernorm" if part in NORMS else part for part in piece.parts) for piece in pieces)


def _loaded(moe: MixtureOfExperts, layer_index: int, shard: Shard) -> Shard:
    """What the busiest rank of a group computes in a layer, and what the busiest link to it carries.

    Ranks that share a NIC, or whose node gets each row once, share what the busiest of them gets.
    """
    loads = rank_loads(moe, shard.ep, layer_index, shard.routing)
    links = loads.reshape(-1, shard.ep_per_link).mean(axis=1) if shard.ep % shard.ep_per_link == 0 else loads
    return replace(shard, expert_load=float(loads.max()), traffic_load=float(links.max()))


def embedding_operators(model: Model, shard: Shard) -> LayerOperators:
    """Look-up in the table cut by vocabulary, positions and dropout."""
    pieces = [_look_up(model, shard)]
    one = shard.act_bytes * local_tokens(shard) * model.hidden
    if model.learned_positions:
        pieces.append(memory_bound("positions", "elementwise", 3 * one, one))
    if model.dropout:
        mask = MASK_BYTES * local_tokens(shard) * model.hidden
        pieces.append(memory_bound("embedding_dropout", "elementwise", 2 * one + mask, 2 * one + mask, mask))
    return _assemble(pieces, shard)


def head_operators(model: Model, shard: Shard) -> LayerOperators:
    """Final norm, logits cut by vocabulary, and cross entropy.

    The matmul is not cut into chunks: that is Transformer Engine's, and it has no vocabulary-parallel output layer.
    """
    logits = column_parallel("logits", shard, model.hidden, -(-model.vocab // shard.tp), plain=True)
    pieces = [
        norm("final_norm", shard, model.hidden, plain=model.norm == "rmsnorm"),
        *head_pieces(logits, model.vocab, model.hidden, shard),
    ]
    return _assemble(pieces, shard)


def _layer_pieces(model: Model, kind: LayerKind, shard: Shard) -> list[Piece]:
    moe = model.moe if kind == "moe" else None
    return [
        replace(norm("attention_norm", shard, model.hidden, plain=model.norm == "rmsnorm"), parts=("attention_norm",)),
        *attention_pieces(model, shard),
        *_copies(model, shard),
        residual_add("attention_residual", shard, model.hidden, model.dropout),
        replace(norm("mlp_norm", shard, model.hidden, plain=model.norm == "rmsnorm"), parts=("mlp_norm",)),
        *(moe_pieces(model, moe, shard) if moe else mlp_pieces(model, shard, model.ffn_hidden)),
        residual_add("mlp_residual", shard, model.hidden, model.dropout),
    ]


def _look_up(model: Model, shard: Shard) -> Piece:
    elements = tokens(shard) * model.hidden
    written, rows = shard.act_bytes * elements, elements / shard.tp
    forward = Kernel("embedding", "embedding", 0.0, written + shard.weight_bytes * rows)
    backward = Kernel("embedding_wgrad", "embedding", 0.0, written + 2 * shard.grad_bytes * rows, "W")
    if shard.tp == 1:
        return Piece((forward,), (backward,))
    if not shard.sp:
        return Piece((forward, Exchange("embedding_all_reduce", "tp", "all_reduce", written)), (backward,))
    scatter = Exchange("embedding_reduce_scatter", "tp", "reduce_scatter", written)
    return Piece((forward, scatter), (Exchange("embedding_all_gather", "tp", "all_gather", written, "W"), backward))


def _copies(model: Model, shard: Shard) -> list[Piece]:
    """Tensors as large as the residual stream that are copied once more: casts, views made dense, buffers."""
    moved = 2.0 * shard.copies * shard.act_bytes * local_tokens(shard) * model.hidden
    return [memory_bound("copies", "elementwise", moved, moved)] if moved else []


def _accumulation(pieces: Sequence[Piece], shard: Shard) -> list[Piece]:
    """Gradients of weights added to those of earlier micro batches by a kernel of their own, last in backward."""
    weights = [op for piece in pieces for op in piece.backward if isinstance(op, Kernel) and op.part == "W" and op.k]
    elements = float(sum(op.m * op.n * op.groups for op in weights))
    if "grad_accumulation" not in shard.eager or not elements:
        return []
    moved = (shard.act_bytes + 2 * shard.grad_bytes) * elements
    return [Piece((), (Kernel("grad_accumulation", "elementwise", 0.0, moved, "W"),))]


def _assemble(pieces: Sequence[Piece], shard: Shard) -> LayerOperators:
    pieces = [*_accumulation(pieces, shard), *pieces]
    return LayerOperators(
        flow(p.forward for p in pieces),
        flow(p.backward for p in reversed(pieces)),
    )
