"""Experts of one layer, on the busiest rank (perfectly balanced unless the shard says otherwise).

With expert parallelism every rank dispatches its own local tokens, and an expert is whole on its rank or cut over the
ranks of an expert tensor parallel group: each of them then gathers what the others were sent, and their partial outputs
are summed and handed back (Megatron-Core's ``--expert-tensor-parallel-size``, arXiv 2504.14960).  Tensor
parallelism without sequence parallelism would repeat the work of the experts on each of its ranks.  Without expert
parallelism experts are cut over the tensor parallel group like a dense MLP, unless told otherwise.  Routing weights are
applied by the activation kernel, so expert outputs are not kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from simtrain.model.flow import chain
from simtrain.model.mlp import activation, inner_width, mlp_pieces
from simtrain.model.operators import Collective, Exchange, Kernel, Operator, Shard
from simtrain.model.pieces import (
    FP32_BYTES,
    Piece,
    gemm,
    local_tokens,
    matmul_input_bytes,
    memory_bound,
    quantised,
    tokens,
)
from simtrain.model.recompute import again, within
from simtrain.model.routing import Routing
from simtrain.scenario.model import MixtureOfExperts, Model

__all__ = ["moe_pieces"]


def moe_pieces(model: Model, moe: MixtureOfExperts, shard: Shard) -> list[Piece]:
    """Router, dispatch, experts, combine, and shared experts, in forward order."""
    source, sources = (local_tokens(shard), shard.expert_tp) if shard.experts_apart else (tokens(shard), 1)
    sent, rows = source * moe.top_k, round(source * sources * moe.top_k * shard.expert_load)
    experts, shared = _experts(model, moe, shard, rows), _shared(model, moe, shard)
    if sources > 1:
        experts = _gathered(experts, shard, rows, model.hidden)
    enter = [
        *_router(model.hidden, moe, shard),
        *_enter(model.hidden, shard),
        _permute("permute", shard, source, sent, model.hidden),
    ]
    leave = [_permute("unpermute", shard, sent, source, model.hidden), *_leave(model.hidden, shard)]
    add = [_shared_add(model.hidden, shard)] if shared else []
    if shard.ep == 1:
        return within("moe", [*enter, *experts, *leave, *shared, *add])
    carried = round(sent * shard.traffic_load)
    dispatch, combine = (make(moe, shard, carried, model.hidden) for make in (_dispatch, _combine))
    early, late = (_under_the_dispatch(shared, shard), []) if shared and shard.shared_expert_overlap else ([], shared)
    away = _away(again(experts, shard.again), shard.ep_overlap_wgrad)
    return within("moe", [*enter, dispatch, *early, away, combine, *leave, *late, *add])


def _away(experts: Sequence[Piece], wgrad_last: bool) -> Piece:
    """Experts that wait for the dispatch alone, in backward with the gradients of weights last where asked for."""
    backward = [op for piece in reversed(experts) for op in piece.backward]
    if wgrad_last:  # the gradients of tokens need not wait for them, which is why their sum stands behind
        backward.sort(key=lambda op: op.part == "W" or op.name == "expert_gather_backward")
    return Piece(chain((p.forward for p in experts), ("dispatch",)), chain([backward], ("combine_backward",)))


def _under_the_dispatch(shared: Sequence[Piece], shard: Shard) -> list[Piece]:
    """Shared experts while tokens are on their way, in backward while their gradients are on their way back.

    What Megatron-LM's ``--moe-shared-expert-overlap`` does: they need the layer's input and nothing of the others.
    """
    pieces = again(shared, shard.again)
    backward = chain((p.backward for p in reversed(pieces)), ("mlp_residual_backward",))
    reads_the_norm = Piece((), (), kept_of=shared[0].kept_of)
    return [Piece(chain((p.forward for p in pieces), ("top_k",)), backward), reads_the_norm]


def _router(hidden: int, moe: MixtureOfExperts, shard: Shard) -> list[Piece]:
    """Scores of all experts, and the choice among them; keeps the input and the fp32 probabilities."""
    rows = local_tokens(shard)
    forward, dgrad, wgrad = gemm(
        "router", shard, rows, hidden, moe.experts, saved_bytes=shard.act_bytes * rows * hidden, plain=True
    )
    scores, probabilities = shard.act_bytes * rows * moe.experts, float(FP32_BYTES * rows * moe.experts)
    choice = memory_bound("top_k", "elementwise", scores + probabilities, scores + probabilities, probabilities)
    score = Piece((forward,), (dgrad, wgrad), kept_of=("mlp_norm",))
    return [score, replace(choice, inner_bytes=probabilities)]


def _experts(model: Model, moe: MixtureOfExperts, shard: Shard, rows: int) -> list[Piece]:
    width = moe.expert_ffn_hidden // shard.expert_tp
    inner, groups = inner_width(model, width), max(1, moe.experts // shard.ep)
    pieces = (
        _grouped("expert_up", shard, rows, model.hidden, inner, groups),
        activation("expert_activation", shard, rows, inner, width),
        _grouped("expert_down", shard, rows, width, model.hidden, groups),
    )
    up, act, down = (Piece(_routed(piece.forward), _routed(piece.backward)) for piece in pieces)
    return [up, replace(act, parts=("moe_act",)), replace(down, kept_of=("moe_act",))]


def _gathered(experts: Sequence[Piece], shard: Shard, rows: int, hidden: int) -> list[Piece]:
    """Experts cut over their tensor parallel group, between the gather of its rows and the sum of its outputs.

    The ``rows`` of all its ranks travel as they were dispatched; outputs, and gradients of inputs, in 16 bits.
    """
    summed = shard.act_bytes * rows * hidden
    inputs, gradients = (rows * _row_bytes(hidden, shard, gradient=back) for back in (False, True))
    gather = Exchange("expert_gather", "etp", "all_gather", inputs)
    after = _input_gradients(shard)
    gather_backward = Exchange("expert_gather_backward", "etp", "reduce_scatter", summed, "I", after=after)
    scatter = Exchange("expert_scatter", "etp", "reduce_scatter", summed)
    scatter_backward = Exchange("expert_scatter_backward", "etp", "all_gather", gradients, "I")
    return [Piece((gather,), (gather_backward,)), *experts, Piece((scatter,), (scatter_backward,))]


def _input_gradients(shard: Shard) -> tuple[str, ...]:
    """What the gradients of an expert's inputs wait for on their way back."""
    return ("expert_up_dgrad",) if shard.ep_overlap_wgrad else ("expert_up_dgrad", "expert_up_wgrad")


def _routed(operators: Sequence[Operator]) -> tuple[Operator, ...]:
    return tuple(replace(op, routed=True) if isinstance(op, Kernel) else op for op in operators)


def _grouped(name: str, shard: Shard, rows: int, k: int, n: int, groups: int) -> Piece:
    saved_bytes = matmul_input_bytes(shard) * rows * k
    forward, dgrad, wgrad = gemm(name, shard, rows, k, n, saved_bytes=saved_bytes, kind="grouped_gemm", groups=groups)
    return quantised(Piece((forward,), (dgrad, wgrad)), name, shard, rows * k, rows * n)


def _permute(name: str, shard: Shard, rows_in: int, rows_out: int, hidden: int) -> Piece:
    moved = shard.act_bytes * (rows_in + rows_out) * hidden
    return memory_bound(name, "permute", moved, moved)


def _dispatch(moe: MixtureOfExperts, shard: Shard, rows: int, hidden: int) -> Piece:
    """Tokens to the ranks of their experts; their gradients come back in 16 bits."""
    forward = _sent("dispatch", "dispatch", moe, shard, rows * _row_bytes(hidden, shard, gradient=False))
    backward = _sent("dispatch_backward", "combine", moe, shard, rows * hidden * shard.act_bytes)
    after = ("expert_gather_backward",) if shard.expert_tp > 1 else _input_gradients(shard)
    return Piece((forward,), (replace(backward, part="I", after=after),))


def _combine(moe: MixtureOfExperts, shard: Shard, rows: int, hidden: int) -> Piece:
    """Outputs of experts back to where their tokens came from; gradients of them go the way of a dispatch."""
    forward = _sent("combine", "combine", moe, shard, rows * hidden * shard.act_bytes)
    backward = _sent("combine_backward", "dispatch", moe, shard, rows * _row_bytes(hidden, shard, gradient=True))
    after = ("expert_scatter" if shard.expert_tp > 1 else "expert_down",)
    return Piece((replace(forward, after=after),), (replace(backward, part="I"),))


def _sent(name: str, collective: Collective, moe: MixtureOfExperts, shard: Shard, size_bytes: float) -> Exchange:
    if shard.dispatcher == "alltoall":
        return Exchange(name, "ep", "all_to_all", size_bytes)
    routing = Routing(moe.experts, moe.top_k, moe.max_nodes_per_token)
    return Exchange(name, "ep", collective, size_bytes, routing=routing)


def _row_bytes(hidden: int, shard: Shard, *, gradient: bool) -> float:
    """Bytes of one dispatched token, or of the gradient of one expert output.

    Inputs of matmuls travel as the matmul reads them, in fp8 gradients too (DeepSeek-V3, arXiv 2412.19437, section
    3.3.3).  All else keeps its 16 bits.
    """
    if gradient and shard.precision == "nvfp4":
        return hidden * shard.act_bytes
    return hidden * matmul_input_bytes(shard)


def _enter(hidden: int, shard: Shard) -> list[Piece]:
    """Into experts that are cut over the tensor parallel group."""
    if shard.tp == 1 or shard.experts_apart:
        return []
    size = shard.act_bytes * tokens(shard) * hidden
    if not shard.sp:
        return [Piece((), (Exchange("experts_all_reduce", "tp", "all_reduce", size, "I"),))]
    gather = Exchange("experts_all_gather", "tp", "all_gather", size)
    return [Piece((gather,), (Exchange("experts_reduce_scatter", "tp", "reduce_scatter", size, "I"),))]


def _leave(hidden: int, shard: Shard) -> list[Piece]:
    """Out of experts that are cut over the tensor parallel group: their partial outputs are summed."""
    if shard.tp == 1 or shard.experts_apart:
        return []
    size = shard.act_bytes * tokens(shard) * hidden
    if not shard.sp:
        return [Piece((Exchange("experts_all_reduce", "tp", "all_reduce", size),), ())]
    scatter = Exchange("experts_reduce_scatter", "tp", "reduce_scatter", size)
    return [Piece((scatter,), (Exchange("experts_all_gather", "tp", "all_gather", size, "I"),))]


def _shared(model: Model, moe: MixtureOfExperts, shard: Shard) -> list[Piece]:
    """Shared experts: a dense MLP on the same input."""
    if not moe.shared_ffn_hidden:
        return []
    return mlp_pieces(model, shard, moe.shared_ffn_hidden, "shared_expert", keep_input=False, part="shared_experts")


def _shared_add(hidden: int, shard: Shard) -> Piece:
    """Sum of the outputs of shared and routed experts."""
    return Piece((Kernel("shared_add", "elementwise", 0.0, 3 * shard.act_bytes * local_tokens(shard) * hidden),), ())
