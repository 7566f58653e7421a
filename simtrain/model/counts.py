"""Parameter counts of a model, by what they belong to.

The split matters for memory: experts are cut over the expert parallel group, everything else over tensor
parallelism.  Symbols in the formulas: h hidden size, a heads, g key-value heads, d head size, f MLP width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simtrain.scenario.model import GroupedQueryAttention, LatentAttention, MixtureOfExperts, Model

__all__ = [
    "LayerKind",
    "LayerParameters",
    "active_parameters",
    "attention_parameters_of_rank",
    "embedding_parameters",
    "final_norm_parameters",
    "head_parameters",
    "layer_kind",
    "layer_kinds",
    "layer_parameters",
    "non_matmul_parameters",
    "router_parameters",
    "total_parameters",
]

LayerKind = Literal["dense", "moe"]


@dataclass(frozen=True, slots=True)
class LayerParameters:
    """Parameters of one layer, biases included.

    Attributes:
        attention: projections of attention.
        mlp: dense MLP (0 in a layer with experts).
        experts: all routed experts together; active_experts: those that one token uses.
        router: scores of the experts; shared: shared experts; norms: every normalisation of the layer.
    """

    attention: int
    mlp: int = 0
    experts: int = 0
    active_experts: int = 0
    router: int = 0
    shared: int = 0
    norms: int = 0

    @property
    def total(self) -> int:
        """All parameters of the layer."""
        return self.attention + self.mlp + self.experts + self.router + self.shared + self.norms

    @property
    def active(self) -> int:
        """Parameters that work on one token, the router left out."""
        return self.total - self.experts + self.active_experts - self.router


def layer_kind(model: Model, layer: int) -> LayerKind:
    """Whether a layer (0-based) has experts; layers of one kind have equal operators and parameters.

    With experts in every n-th layer, the last of each group of n has them.
    """
    moe = model.moe
    if moe is None or layer < moe.first_dense_layers:
        return "dense"
    return "moe" if (layer - moe.first_dense_layers + 1) % moe.every == 0 else "dense"


def layer_kinds(model: Model) -> dict[int, int]:
    """One layer of each kind, and how many layers are like it."""
    kinds = [layer_kind(model, layer) for layer in range(model.layers)]
    return {kinds.index(kind): kinds.count(kind) for kind in dict.fromkeys(kinds)}


def layer_parameters(model: Model, layer: int) -> LayerParameters:
    """Parameters of one layer (0-based)."""
    attention, norms = _attention(model), _norms(model)
    if model.moe is None or layer_kind(model, layer) == "dense":
        return LayerParameters(attention=attention, mlp=_mlp(model, model.ffn_hidden), norms=norms)
    return _moe(model, model.moe, attention, norms)


def attention_parameters_of_rank(model: Model, tp: int) -> float:
    """Attention parameters of one layer on one of ``tp`` tensor parallel ranks.

    Compressions of latent attention are whole on every rank, and key-value heads fewer than ranks are repeated.
    """
    attention = model.attention
    if isinstance(attention, LatentAttention):
        down = (attention.q_lora_rank or 0) + attention.kv_lora_rank + attention.qk_rope_head_dim
        repeated = (tp - 1) * model.hidden * down
    else:
        keys = attention.kv_heads or attention.heads
        columns = 2 * keys * (attention.head_dim or model.hidden // attention.heads)
        repeated = (max(tp // keys, 1) - 1) * columns * (model.hidden + attention.bias)
    return (_attention(model) + repeated) / tp


def embedding_parameters(model: Model) -> int:
    """Token table and learned positions: (vocab + positions) * h."""
    return (model.vocab + model.learned_positions) * model.hidden


def head_parameters(model: Model) -> int:
    """Matrix that yields the logits: vocab * h, or 0 where it is the token table itself."""
    return 0 if model.tied_embeddings else model.vocab * model.hidden


def final_norm_parameters(model: Model) -> int:
    """Normalisation before the logits."""
    return _norm_width(model) * model.hidden


def total_parameters(model: Model) -> int:
    """All parameters, with embedding, head, norms, biases and routers."""
    return _ends(model) + sum(n * layer_parameters(model, layer).total for layer, n in layer_kinds(model).items())


def active_parameters(model: Model) -> int:
    """Parameters that work on one token: N in 6*N, both embedding tables included.

    Routers are left out, as in published active counts: they choose the experts and are not among those chosen.
    """
    return _ends(model) + sum(n * layer_parameters(model, layer).active for layer, n in layer_kinds(model).items())


def router_parameters(model: Model) -> int:
    """Parameters of all routers together."""
    return sum(n * layer_parameters(model, layer).router for layer, n in layer_kinds(model).items())


def non_matmul_parameters(model: Model) -> dict[str, int]:
    """Active parameters that are not multiplied as a matrix, by name.

    6*N counts them, adding up the matmuls does not: the input table where the head has its own, learned
    positions, norms and biases.
    """
    norms = sum(n * layer_parameters(model, layer).norms for layer, n in layer_kinds(model).items())
    return {
        "input_embedding": 0 if model.tied_embeddings else model.vocab * model.hidden,
        "positions": model.learned_positions * model.hidden,
        "norms": norms + final_norm_parameters(model),
        "biases": active_parameters(model) - active_parameters(_without_biases(model)),
    }


def _ends(model: Model) -> int:
    return embedding_parameters(model) + head_parameters(model) + final_norm_parameters(model)


def _without_biases(model: Model) -> Model:
    attention = model.attention
    if isinstance(attention, GroupedQueryAttention):
        attention = attention.model_copy(update={"bias": False})
    return model.model_copy(update={"linear_bias": False, "attention": attention})


def _norm_width(model: Model) -> int:
    """Vectors of one norm: a scale, and a shift for layernorm."""
    return 2 if model.norm == "layernorm" else 1


def _norms(model: Model) -> int:
    latent = 0
    if isinstance(model.attention, LatentAttention):
        latent = (model.attention.q_lora_rank or 0) + model.attention.kv_lora_rank
    return _norm_width(model) * (2 * model.hidden + latent)


def _attention(model: Model) -> int:
    bias = model.hidden if model.linear_bias else 0
    if isinstance(model.attention, LatentAttention):
        return _latent(model.hidden, model.attention) + bias
    return _grouped(model.hidden, model.attention) + bias


def _grouped(h: int, attention: GroupedQueryAttention) -> int:
    """h*(a + 2*g)*d + a*d*h, and (a + 2*g)*d biases."""
    a, d = attention.heads, attention.head_dim or h // attention.heads
    qkv = (a + 2 * (attention.kv_heads or a)) * d
    return h * qkv + a * d * h + (qkv if attention.bias else 0)


def _latent(h: int, mla: LatentAttention) -> int:
    """Projections of multi-head latent attention (arXiv 2405.04434, equations 9 to 19)."""
    q = mla.heads * (mla.qk_nope_head_dim + mla.qk_rope_head_dim)
    queries = mla.q_lora_rank * (h + q) if mla.q_lora_rank else h * q
    compress = h * (mla.kv_lora_rank + mla.qk_rope_head_dim)
    expand = mla.kv_lora_rank * mla.heads * (mla.qk_nope_head_dim + mla.v_head_dim)
    return queries + compress + expand + mla.heads * mla.v_head_dim * h


def _mlp(model: Model, width: int) -> int:
    """3*h*f gated, 2*h*f plain, and its biases."""
    inner = width * (2 if model.gated_mlp else 1)
    weights = model.hidden * (inner + width)
    return weights + (inner + model.hidden if model.linear_bias and width else 0)


def _moe(model: Model, moe: MixtureOfExperts, attention: int, norms: int) -> LayerParameters:
    expert = _mlp(model, moe.expert_ffn_hidden)
    return LayerParameters(
        attention=attention,
        experts=moe.experts * expert,
        active_experts=moe.top_k * expert,
        router=moe.experts * model.hidden,
        shared=_mlp(model, moe.shared_ffn_hidden),
        norms=norms,
    )
