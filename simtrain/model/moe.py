"""Experts of one layer, perfectly balanced.

With expert parallelism an expert is whole on its rank (expert tensor parallelism is 1) and every rank
dispatches its own local tokens; tensor parallelism without sequence parallelism then repeats the work of the
experts on each of its ranks.  Without expert parallelism experts are cut over the tensor parallel group like
a dense MLP.  Routing weights are applied by the activation kernel, so expert outputs are not kept.
"""

from __future__ import annotations

from simtrain.model.mlp import activation, inner_width, mlp_pieces
from simtrain.model.operators import Exchange, Kernel, Shard
from simtrain.model.pieces import Piece, gemm, local_tokens, memory_bound, tokens
from simtrain.scenario.model import MixtureOfExperts, Model

__all__ = ["moe_pieces"]

FP32_BYTES = 4


def moe_pieces(model: Model, moe: MixtureOfExperts, shard: Shard) -> list[Piece]:
    """Router, dispatch, experts, combine, and shared experts, in forward order."""
    source = local_tokens(shard) if shard.ep > 1 else tokens(shard)
    return [
        *_router(model.hidden, moe, shard),
        *_enter(model.hidden, shard),
        _permute("permute", shard, source, source * moe.top_k, model.hidden),
        *_exchange("dispatch", shard, source * moe.top_k, model.hidden),
        *_experts(model, moe, shard, source * moe.top_k),
        *_exchange("combine", shard, source * moe.top_k, model.hidden),
        _permute("unpermute", shard, source * moe.top_k, source, model.hidden),
        *_leave(model.hidden, shard),
        *_shared(model, moe, shard),
    ]


def _router(hidden: int, moe: MixtureOfExperts, shard: Shard) -> list[Piece]:
    """Scores of all experts, and the choice among them; keeps the input and the fp32 probabilities."""
    rows = local_tokens(shard)
    forward, dgrad, wgrad = gemm(
        "router", shard, rows, hidden, moe.experts, saved_bytes=shard.act_bytes * rows * hidden
    )
    scores, probabilities = shard.act_bytes * rows * moe.experts, float(FP32_BYTES * rows * moe.experts)
    choice = memory_bound("top_k", "elementwise", scores + probabilities, scores + probabilities, probabilities)
    return [Piece((forward,), (dgrad, wgrad)), choice]


def _experts(model: Model, moe: MixtureOfExperts, shard: Shard, rows: int) -> list[Piece]:
    width = moe.expert_ffn_hidden // (1 if shard.ep > 1 else shard.tp)
    inner, groups = inner_width(model, width), max(1, moe.experts // shard.ep)
    return [
        _grouped("expert_up", shard, rows, model.hidden, inner, groups),
        activation("expert_activation", shard, rows, inner, width),
        _grouped("expert_down", shard, rows, width, model.hidden, groups),
    ]


def _grouped(name: str, shard: Shard, rows: int, k: int, n: int, groups: int) -> Piece:
    saved_bytes = shard.act_bytes * rows * k
    forward, dgrad, wgrad = gemm(name, shard, rows, k, n, saved_bytes=saved_bytes, kind="grouped_gemm", groups=groups)
    return Piece((forward,), (dgrad, wgrad))


def _permute(name: str, shard: Shard, rows_in: int, rows_out: int, hidden: int) -> Piece:
    moved = shard.act_bytes * (rows_in + rows_out) * hidden
    return memory_bound(name, "permute", moved, moved)


def _exchange(name: str, shard: Shard, rows: int, hidden: int) -> list[Piece]:
    if shard.ep == 1:
        return []
    size = shard.act_bytes * rows * hidden
    forward = Exchange(name, "ep", "all_to_all", size)
    return [Piece((forward,), (Exchange(f"{name}_backward", "ep", "all_to_all", size, "I"),))]


def _enter(hidden: int, shard: Shard) -> list[Piece]:
    """Into experts that are cut over the tensor parallel group."""
    if shard.tp == 1 or shard.ep > 1:
        return []
    size = shard.act_bytes * tokens(shard) * hidden
    if not shard.sp:
        return [Piece((), (Exchange("experts_all_reduce", "tp", "all_reduce", size, "I"),))]
    gather = Exchange("experts_all_gather", "tp", "all_gather", size)
    return [Piece((gather,), (Exchange("experts_reduce_scatter", "tp", "reduce_scatter", size, "I"),))]


def _leave(hidden: int, shard: Shard) -> list[Piece]:
    """Out of experts that are cut over the tensor parallel group: their partial outputs are summed."""
    if shard.tp == 1 or shard.ep > 1:
        return []
    size = shard.act_bytes * tokens(shard) * hidden
    if not shard.sp:
        return [Piece((Exchange("experts_all_reduce", "tp", "all_reduce", size),), ())]
    scatter = Exchange("experts_reduce_scatter", "tp", "reduce_scatter", size)
    return [Piece((scatter,), (Exchange("experts_all_gather", "tp", "all_gather", size, "I"),))]


def _shared(model: Model, moe: MixtureOfExperts, shard: Shard) -> list[Piece]:
    """Shared experts: a dense MLP on the same input, added to the routed output."""
    if not moe.shared_ffn_hidden:
        return []
    moved = 3 * shard.act_bytes * local_tokens(shard) * model.hidden
    add = Piece((Kernel("shared_add", "elementwise", 0.0, moved),), ())
    return [*mlp_pieces(model, shard, moe.shared_ffn_hidden, "shared_expert", keep_input=False), add]
