"""FLOPs of one trained token: by the formula behind MFU, and by adding up operators."""

from __future__ import annotations

from simtrain.model.counts import active_parameters, layer_kinds
from simtrain.model.layers import embedding_operators, head_operators, layer_operators
from simtrain.model.operators import Kernel, LayerOperators, Shard
from simtrain.scenario.model import LatentAttention, Model

__all__ = [
    "attention_flops_per_token",
    "attention_head_dim",
    "model_flops_per_token",
    "model_flops_utilisation",
    "operator_flops_per_token",
]


def attention_head_dim(model: Model) -> float:
    """Q of the attention term: the head size; for latent attention the mean of query-key and value sizes."""
    attention = model.attention
    if isinstance(attention, LatentAttention):
        return (attention.qk_nope_head_dim + attention.qk_rope_head_dim + attention.v_head_dim) / 2
    return attention.head_dim or model.hidden // attention.heads


def attention_flops_per_token(model: Model, sequence_length: int, causal: bool = False) -> float:
    """12*L*H*Q*T: scores and weighted values, forward and backward, of a token in a sequence of T.

    The whole square is counted, sliding windows or not; ``causal`` counts half (PaLM, arXiv 2204.02311, appendix B).
    """
    full = 12.0 * model.layers * model.attention.heads * attention_head_dim(model) * sequence_length
    return full / 2 if causal else full


def model_flops_per_token(model: Model, sequence_length: int, causal: bool = False) -> float:
    """6*N_active + 12*L*H*Q*T, the FLOPs that model FLOPs utilisation counts.

    N_active includes both embedding tables, see :func:`simtrain.model.counts.active_parameters`.
    """
    return 6.0 * active_parameters(model) + attention_flops_per_token(model, sequence_length, causal)


def operator_flops_per_token(model: Model, sequence_length: int) -> float:
    """FLOPs of a token by adding up the matmuls of every operator, forward and backward.

    Attention is taken unfused, which executes the whole square and nothing twice; so this equals
    :func:`model_flops_per_token` less 6 times :func:`simtrain.model.counts.non_matmul_parameters` plus 6 times
    the routers.
    """
    shard = Shard(micro_batch=1, sequence=sequence_length, attention="unfused")
    layers = sum(n * _flops(layer_operators(model, layer, shard)) for layer, n in layer_kinds(model).items())
    ends = _flops(embedding_operators(model, shard)) + _flops(head_operators(model, shard))
    return (layers + ends) / sequence_length


def model_flops_utilisation(tokens_per_s_per_gpu: float, flops_per_token: float, peak_flops_per_s: float) -> float:
    """MFU: the FLOPs of the model that one GPU gets through, over its dense bf16 peak."""
    return tokens_per_s_per_gpu * flops_per_token / peak_flops_per_s


def _flops(operators: LayerOperators) -> float:
    return sum(op.flops for op in (*operators.forward, *operators.backward) if isinstance(op, Kernel))
