"""The dense MLP of one layer, gated or plain."""

from __future__ import annotations

from simtrain.model.operators import Shard
from simtrain.model.pieces import Piece, column_parallel, memory_bound, row_parallel, tokens
from simtrain.scenario.model import Model

__all__ = ["activation", "inner_width", "mlp_pieces"]


def inner_width(model: Model, ffn: int) -> int:
    """Columns before the activation: gate and up side by side, or up alone."""
    return 2 * ffn if model.gated_mlp else ffn


def mlp_pieces(model: Model, shard: Shard, ffn: int, name: str = "mlp", keep_input: bool = True) -> list[Piece]:
    """Up (and gate), activation, down; ``ffn`` is the width before tensor parallelism cuts it.

    Kept: the input (unless another operator keeps it), what the activation reads, and what it writes.
    """
    width = ffn // shard.tp
    inner = inner_width(model, width)
    return [
        column_parallel(f"{name}_up", shard, model.hidden, inner, keep_input=keep_input),
        activation(f"{name}_activation", shard, tokens(shard), inner, width),
        row_parallel(f"{name}_down", shard, width, model.hidden),
    ]


def activation(name: str, shard: Shard, rows: int, inner: int, width: int) -> Piece:
    """GELU or SwiGLU from ``inner`` to ``width`` columns; its input is kept."""
    before, after = shard.act_bytes * rows * inner, shard.act_bytes * rows * width
    return memory_bound(name, "activation", before + after, 2 * before + after, before)
