"""Model architectures as documents (``workloads/models/``)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from simtrain.scenario.part import Part

__all__ = ["Attention", "GroupedQueryAttention", "LatentAttention", "MixtureOfExperts", "Model"]

Positive = Annotated[int, Field(ge=1)]


def _refuse(message: str) -> None:
    raise PydanticCustomError("impossible", "{message}", {"message": message})


class GroupedQueryAttention(Part):
    """Multi-head attention; fewer key-value heads than heads make it grouped-query or multi-query."""

    kind: Literal["gqa"] = "gqa"
    heads: Positive
    kv_heads: Positive | None = None
    """Absent: as many as heads."""
    head_dim: Positive | None = None
    """Absent: hidden / heads."""
    bias: bool = False
    """Biases on the query, key and value projections."""
    window: Positive | None = None
    """Sliding window in tokens."""

    @model_validator(mode="after")
    def _groups_are_equal(self) -> GroupedQueryAttention:
        if self.heads % (self.kv_heads or self.heads):
            _refuse(f"kv_heads = {self.kv_heads} does not divide heads = {self.heads}")
        return self


class LatentAttention(Part):
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1)."""

    kind: Literal["mla"] = "mla"
    heads: Positive
    q_lora_rank: int | None = None
    """Rank of the query compression; absent: queries are projected directly."""
    kv_lora_rank: Positive
    qk_nope_head_dim: Positive
    qk_rope_head_dim: Positive
    v_head_dim: Positive


Attention = Annotated[GroupedQueryAttention | LatentAttention, Field(discriminator="kind")]


class MixtureOfExperts(Part):
    """Routed experts in place of the MLP."""

    experts: Positive
    top_k: Positive
    expert_ffn_hidden: Positive
    shared_ffn_hidden: int = Field(0, ge=0)
    """Width of all shared experts together."""
    first_dense_layers: int = Field(0, ge=0)
    """Leading layers that keep a dense MLP."""
    every: Positive = 1
    """Experts in every n-th layer, a dense MLP in the others."""
    max_nodes_per_token: Positive | None = None
    """Node-limited routing: a token's experts lie on at most this many nodes; absent: anywhere."""

    @model_validator(mode="after")
    def _enough_experts(self) -> MixtureOfExperts:
        if self.top_k > self.experts:
            _refuse(f"top_k = {self.top_k} is more than experts = {self.experts}")
        return self


class Model(Part):
    """A decoder-only transformer."""

    title: str
    layers: Positive
    hidden: Positive
    attention: Attention
    ffn_hidden: Positive
    vocab: Positive
    gated_mlp: bool = True
    """Gate and up projection (SwiGLU) instead of one up projection (GELU)."""
    linear_bias: bool = False
    """Biases on the linear layers outside attention's q, k, v."""
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    tied_embeddings: bool = False
    learned_positions: int = Field(0, ge=0)
    """Length of a learned position table; 0: rotary or ALiBi."""
    dropout: bool = False
    """Dropout masks are kept for backward (GPT-3 and Megatron models of 2019 to 2022)."""
    moe: MixtureOfExperts | None = None
    source: str

    @model_validator(mode="after")
    def _heads_are_whole(self) -> Model:
        attention = self.attention
        if isinstance(attention, GroupedQueryAttention) and not attention.head_dim and self.hidden % attention.heads:
            _refuse(
                f"attention.heads = {attention.heads} does not divide hidden = {self.hidden}; "
                "give attention.head_dim, or another number of heads"
            )
        return self
