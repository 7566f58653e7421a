"""The tensors of a layer, for software that handles each by itself."""

from __future__ import annotations

from dataclasses import dataclass

from simtrain.model.counts import layer_kind
from simtrain.scenario.model import LatentAttention, Model

__all__ = ["LayerTensors", "layer_tensors"]


@dataclass(frozen=True, slots=True)
class LayerTensors:
    """Elements of each tensor of a layer, norms and biases included.

    Gate and up projection are one matrix, and so are queries, keys and values.

    Attributes:
        dense: of attention, norms, dense MLP, router and shared experts; expert: of one routed expert.
    """

    dense: tuple[int, ...]
    expert: tuple[int, ...]


def layer_tensors(model: Model, layer: int) -> LayerTensors:
    """Whole tensors of one layer (0-based)."""
    moe = model.moe if layer_kind(model, layer) == "moe" else None
    if moe is None:
        return LayerTensors((*_norms(model), *_attention(model), *_mlp(model, model.ffn_hidden)), ())
    router = moe.experts * model.hidden
    dense = (*_norms(model), *_attention(model), router, *_mlp(model, moe.shared_ffn_hidden))
    return LayerTensors(dense, _mlp(model, moe.expert_ffn_hidden))


def _norms(model: Model) -> tuple[int, ...]:
    latent: tuple[int, ...] = ()
    if isinstance(model.attention, LatentAttention):
        latent = (model.attention.q_lora_rank or 0, model.attention.kv_lora_rank)
    widths = tuple(filter(None, (model.hidden, model.hidden, *latent)))
    return widths * (2 if model.norm == "layernorm" else 1)


def _attention(model: Model) -> tuple[int, ...]:
    h, attention = model.hidden, model.attention
    output_bias = (h,) if model.linear_bias else ()
    if isinstance(attention, LatentAttention):
        q = attention.heads * (attention.qk_nope_head_dim + attention.qk_rope_head_dim)
        rank = attention.q_lora_rank
        queries = (h * rank, rank * q) if rank else (h * q,)
        compress = h * (attention.kv_lora_rank + attention.qk_rope_head_dim)
        expand = attention.kv_lora_rank * attention.heads * (attention.qk_nope_head_dim + attention.v_head_dim)
        return (*queries, compress, expand, attention.heads * attention.v_head_dim * h, *output_bias)
    d = attention.head_dim or h // attention.heads
    qkv = (attention.heads + 2 * (attention.kv_heads or attention.heads)) * d
    return (h * qkv, attention.heads * d * h, *((qkv,) if attention.bias else ()), *output_bias)


def _mlp(model: Model, width: int) -> tuple[int, ...]:
    if not width:
        return ()
    inner = width * (2 if model.gated_mlp else 1)
    biases = (inner, model.hidden) if model.linear_bias else ()
    return (model.hidden * inner, model.hidden * width, *biases)
