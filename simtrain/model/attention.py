"""Attention of one layer: grouped-query or latent projections around a fused or unfused core.

Context parallelism gathers keys and values before the core, keeps only the own part, and gathers them again
in backward, whose gradients it scatters; or it exchanges tokens for heads before the core and back after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from simtrain.model.operators import Exchange, Kernel, KernelClass, Shard
from simtrain.model.pieces import (
    FP32_BYTES,
    MASK_BYTES,
    Piece,
    column_parallel,
    eager,
    gemm,
    local_tokens,
    matmul_input_bytes,
    memory_bound,
    norm,
    quantised,
    row_parallel,
    tokens,
    working,
)
from simtrain.model.recompute import within
from simtrain.scenario.model import GroupedQueryAttention, LatentAttention, Model

__all__ = ["attention_pieces"]


E5M6_BYTES = 12 / 8 + 4 / 128
"""One element in 12 bits with its share of a scale (DeepSeek-V3, arXiv 2412.19437, section 3.3.3)."""
_ALIGNMENT_BYTES = 16
"""Of operands that tensor cores take (NVIDIA, Matrix Multiplication Background User's Guide)."""


@dataclass(frozen=True, slots=True)
class _Heads:
    """Heads of one rank: query heads, key-value heads, head sizes, window in tokens (0: none), dropout."""

    queries: int
    keys: int
    qk_dim: int
    v_dim: int
    window: int
    dropout: bool

    @property
    def key_value_width(self) -> int:
        return self.keys * (self.qk_dim + self.v_dim)


def attention_pieces(model: Model, shard: Shard) -> list[Piece]:
    """Projections, rotary positions, core and output projection, in forward order."""
    if isinstance(model.attention, LatentAttention):
        projections, heads = _latent(model, model.attention, shard)
    else:
        projections, heads = _grouped(model, model.attention, shard)
    return [
        *projections,
        *_rotary(model, heads, shard),
        *_context_parallel_core(heads, shard),
        row_parallel("attention_output", shard, heads.queries * heads.v_dim, model.hidden, _output_bytes(shard)),
    ]


def _output_bytes(shard: Shard) -> float:
    """One element of the kept output, which the backward of a fused core reads too, and in 16 bits.

    Megatron-Core makes the projection keep that one tensor (``save_original_input``) instead of another in 8 bits.
    """
    plain = shard.act_bytes if shard.attention == "flash" else matmul_input_bytes(shard)
    return min(plain, E5M6_BYTES) if "attention_output" in shard.compress_saved else plain


def _grouped(model: Model, attention: GroupedQueryAttention, shard: Shard) -> tuple[list[Piece], _Heads]:
    """Queries, keys and values by one matmul; key-value heads fewer than ranks are replicated."""
    dim = attention.head_dim or model.hidden // attention.heads
    keys = max((attention.kv_heads or attention.heads) // shard.tp, 1)
    heads = _Heads(attention.heads // shard.tp, keys, dim, dim, attention.window or 0, model.dropout)
    width = (heads.queries + 2 * heads.keys) * dim
    return [_after_norm(column_parallel("qkv", shard, model.hidden, width))], heads


def _after_norm(piece: Piece) -> Piece:
    return replace(piece, kept_of=("attention_norm",))


def _latent(model: Model, mla: LatentAttention, shard: Shard) -> tuple[list[Piece], _Heads]:
    """Compressions (whole on every tensor parallel rank, on its local tokens), then expansions cut by heads.

    DeepSeek-V2, arXiv 2405.04434, section 2.1.
    """
    qk_dim = mla.qk_nope_head_dim + mla.qk_rope_head_dim
    count = mla.heads // shard.tp
    heads = _Heads(count, count, qk_dim, mla.v_head_dim, 0, model.dropout)
    rank, rope = mla.kv_lora_rank, mla.qk_rope_head_dim
    expanded = count * (mla.qk_nope_head_dim + mla.v_head_dim)
    # what is expanded again needs the rotary part of the keys too
    beside = rope if "mla_up_proj" in shard.again else 0
    down, up = _latent_queries(model.hidden, mla.q_lora_rank, count * qk_dim, shard)
    pieces = [
        *down,
        *within("mla_up_proj", up),
        _after_norm(_replicated("kv_down", shard, model.hidden, rank + rope, keep_input=False)),
        *within(
            "mla_up_proj",
            [
                norm("kv_norm", shard, rank, beside, plain=True),
                column_parallel("kv_up", shard, rank, expanded, gathered=rank + rope),
            ],
        ),
    ]
    return pieces, heads


def _latent_queries(hidden: int, rank: int | None, width: int, shard: Shard) -> tuple[list[Piece], list[Piece]]:
    """Compression, and expansion with the norm before it; without compression all of it is one matmul."""
    if not rank:
        return [], [_after_norm(column_parallel("q", shard, hidden, width))]
    down = _after_norm(_replicated("q_down", shard, hidden, rank, keep_input=True))
    return [down], [norm("q_norm", shard, rank, plain=True), column_parallel("q_up", shard, rank, width)]


def _replicated(name: str, shard: Shard, k: int, n: int, *, keep_input: bool) -> Piece:
    """A matmul that every tensor parallel rank holds whole, on its local tokens."""
    rows = local_tokens(shard)
    saved_bytes = matmul_input_bytes(shard) * rows * k if keep_input else 0.0
    forward, dgrad, wgrad = gemm(name, shard, rows, k, n, saved_bytes=saved_bytes)
    # without ``keep_input`` another matmul reads the same input, and has cast it
    return quantised(Piece((forward,), (dgrad, wgrad)), name, shard, rows * k if keep_input else 0, rows * n)


def _rotary(model: Model, heads: _Heads, shard: Shard) -> Iterator[Piece]:
    """Rotation of queries and keys; models with learned positions have none."""
    if model.learned_positions == 0:
        latent = isinstance(model.attention, LatentAttention)
        for piece in _rotation(heads, shard):
            yield replace(piece, parts=("mla_up_proj",)) if latent else piece


def _rotation(heads: _Heads, shard: Shard) -> list[Piece]:
    """One kernel, or for queries and keys apart: negate half, join, multiply by cosine and sine, add."""
    one = shard.act_bytes * tokens(shard) * heads.qk_dim
    if "rotary" not in shard.eager:
        moved = 2 * one * (heads.queries + heads.keys)
        return [memory_bound("rotary", "elementwise", moved, moved)]
    passes = (1.0, 2.0, 2.0, 2.0, 3.0)
    return [
        eager(f"rotary_{name}", [one * count * p for p in passes], [one * count * p for p in passes[::-1]], 0.0)
        for name, count in (("queries", heads.queries), ("keys", heads.keys))
    ]


def _context_parallel_core(heads: _Heads, shard: Shard) -> Iterator[Piece]:
    """The part ``core_attn``.  Queries, keys and values are kept; latent attention can make them again."""
    if shard.cp > 1 and shard.cp_comm == "all_to_all":
        core = _exchanged_core(heads, shard)
    else:
        core = _gathered_core(heads, shard)
    for piece in core:
        yield replace(piece, parts=("core_attn",), kept_of=("mla_up_proj",))


def _core_pieces(heads: _Heads, shard: Shard) -> list[Piece]:
    return [_flash(heads, shard)] if shard.attention == "flash" else list(_unfused(heads, shard))


def _gathered_core(heads: _Heads, shard: Shard) -> list[Piece]:
    """Own queries over the keys and values of all ranks."""
    core = _core_pieces(heads, shard)
    if shard.cp > 1:
        size = shard.act_bytes * shard.micro_batch * shard.sequence * heads.key_value_width
        gather = Exchange("kv_all_gather", "cp", "all_gather", size)
        scatter = Exchange("kv_reduce_scatter", "cp", "reduce_scatter", size, "I")
        regather = Exchange("kv_regather", "cp", "all_gather", size, "I")
        core = [Piece((gather,), (scatter,)), *core, Piece((), (regather,))]
    return core


def _exchanged_core(heads: _Heads, shard: Shard) -> list[Piece]:
    """All tokens of a part of the heads.

    The backward of a fused core reads the output as the core made it, kept beside the one that the projection reads.
    """
    inner = replace(heads, queries=heads.queries // shard.cp, keys=heads.keys // shard.cp)
    core = _core_pieces(inner, replace(shard, cp=1))
    row = shard.act_bytes * tokens(shard)
    output = row * heads.queries * heads.v_dim
    if shard.attention == "flash":
        (flash,) = core
        (kernel,) = (op for op in flash.forward if isinstance(op, Kernel))
        kept = replace(kernel, saved_bytes=kernel.saved_bytes + output)
        core = [replace(flash, forward=(kept,), inner_bytes=flash.inner_bytes + output)]
    return [
        *_tokens_for_heads("qkv", row * (heads.queries * heads.qk_dim + heads.key_value_width)),
        *core,
        *_tokens_for_heads("attention_output", output),
    ]


def _tokens_for_heads(name: str, size: float) -> tuple[Piece, Piece, Piece]:
    """An all-to-all of tensors of ``size`` bytes, each way.

    What goes to one rank is copied together before it, and sorted by tokens after it (Transformer Engine's
    ``flash_attn_a2a_communicate``, from memory).
    """
    forward = Exchange(f"{name}_all_to_all", "cp", "all_to_all", size)
    backward = Exchange(f"{name}_gradient_all_to_all", "cp", "all_to_all", size, "I")
    pack, unpack = (memory_bound(f"{name}_{what}", "elementwise", 2 * size, 2 * size) for what in ("pack", "unpack"))
    return pack, Piece((forward,), (backward,)), unpack


def _attended_pairs(sequence: int, window: int) -> float:
    """Query-key pairs of a causal sequence: the lower triangle, or a band of it."""
    width = min(window or sequence, sequence)
    return sequence * width - width**2 / 2


def _flash(heads: _Heads, shard: Shard) -> Piece:
    """Fused attention: two matmuls forward, five backward (FlashAttention-2, arXiv 2307.08691, section 3).

    Kept: queries, keys, values and the logarithm of the softmax sums (fp32); the output is kept by the
    projection that reads it.  For equal head sizes backward is 2.5 times forward.
    """
    act, rows, whole = shard.act_bytes, tokens(shard), shard.micro_batch * shard.sequence
    pair_flops = 2.0 * shard.micro_batch * heads.queries * _attended_pairs(shard.sequence, heads.window) / shard.cp
    query, output = act * rows * heads.queries * heads.qk_dim, act * rows * heads.queries * heads.v_dim
    key_value = act * whole * heads.key_value_width
    sums = float(FP32_BYTES * rows * heads.queries)
    shape = (shard.sequence // shard.cp, shard.sequence, heads.qk_dim, shard.micro_batch * heads.queries)
    forward = Kernel(
        "attention",
        "attention_forward",
        pair_flops * (heads.qk_dim + heads.v_dim),
        query + key_value + output + sums,
        "F",
        *shape,
        saved_bytes=query + key_value / shard.cp + sums,
        v=heads.v_dim,
    )
    backward = Kernel(
        "attention_backward",
        "attention_backward",
        pair_flops * (3 * heads.qk_dim + 2 * heads.v_dim),
        2 * (query + key_value + output) + sums,
        "I",
        *shape,
        v=heads.v_dim,
    )
    return Piece((forward,), (backward,), inner_bytes=sums)


def _unfused(heads: _Heads, shard: Shard) -> Iterator[Piece]:
    """Scores, softmax, dropout and weighted values, each over the whole square in memory.

    Beside the softmax stand the scores it is made of, in backward the gradients of both.
    """
    act, rows = shard.act_bytes, tokens(shard)
    square = shard.micro_batch * heads.queries * shard.sequence * (shard.sequence // shard.cp)
    query, output = act * rows * heads.queries * heads.qk_dim, act * rows * heads.queries * heads.v_dim
    keys, values = (act * shard.micro_batch * shard.sequence * heads.keys * d for d in (heads.qk_dim, heads.v_dim))
    kept = query + keys / shard.cp
    yield _square_matmul("scores", heads, shard, heads.qk_dim, query + keys + act * square, kept, 0.0)
    softmax = act * square
    if "softmax" in shard.eager:  # scale, mask, cast, softmax, cast back; backward the same way back
        full = FP32_BYTES / act * softmax
        ahead = (2 * softmax, 2 * softmax, softmax + full, 2 * full, full + softmax)
        back = (softmax + full, 3 * full, full + softmax, 2 * softmax, 2 * softmax)
        piece = eager("softmax", ahead, back, softmax + full, softmax + full)
        yield working(piece, 2 * softmax + full, softmax + 2 * full)
    else:
        yield working(_core("softmax", "norm", 2 * softmax, 3 * softmax, softmax), softmax, 2 * softmax)
    if heads.dropout:
        mask = float(MASK_BYTES * square)
        yield _core("attention_dropout", "elementwise", 2 * softmax + mask, 2 * softmax + mask, mask)
    dropped = softmax if heads.dropout else 0.0
    moved, kept = output + values + act * square, values / shard.cp
    yield _square_matmul("weighted_values", heads, shard, heads.v_dim, moved, kept, dropped)


def _square_matmul(
    name: str, heads: _Heads, shard: Shard, dim: int, moved: float, kept_bytes: float, inner_bytes: float
) -> Piece:
    """A batched matmul of the square with queries, keys or values; backward has one for each of its inputs.

    Each head starts where the one before it ends, so that only heads of a multiple of 16 bytes are aligned.
    """
    groups, m, n = shard.micro_batch * heads.queries, shard.sequence // shard.cp, shard.sequence
    flops = 2.0 * groups * m * n * dim
    aligned = shard.act_bytes * dim % _ALIGNMENT_BYTES == 0
    forward = Kernel(name, "gemm", flops, moved, m=m, n=n, k=dim, groups=groups, plain=True, aligned=aligned)
    backward = tuple(replace(forward, name=f"{name}_{side}", part="I") for side in ("dleft", "dright"))
    return Piece((replace(forward, saved_bytes=kept_bytes + inner_bytes),), backward, inner_bytes=inner_bytes)


def _core(name: str, kind: KernelClass, forward_bytes: float, backward_bytes: float, inner_bytes: float) -> Piece:
    return replace(memory_bound(name, kind, forward_bytes, backward_bytes, inner_bytes), inner_bytes=inner_bytes)
