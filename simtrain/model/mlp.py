"""The dense MLP of one layer, gated or plain."""

from __future__ import annotations

from dataclasses import replace

from simtrain.model.operators import KernelClass, Shard
from simtrain.model.pieces import BYTE_AND_SCALE, Piece, column_parallel, eager, memory_bound, row_parallel, tokens
from simtrain.model.recompute import within
from simtrain.scenario.model import Model

__all__ = ["activation", "inner_width", "mlp_pieces"]


def inner_width(model: Model, ffn: int) -> int:
    """Columns before the activation: gate and up side by side, or up alone."""
    return 2 * ffn if model.gated_mlp else ffn


def mlp_pieces(
    model: Model, shard: Shard, ffn: int, name: str = "mlp", keep_input: bool = True, part: str = "mlp"
) -> list[Piece]:
    """Up (and gate), activation, down; ``ffn`` is the width before tensor parallelism cuts it.

    Kept: the input (unless another operator keeps it), what the activation reads, and what it writes.  ``part`` is
    what of the layer these pieces are where that runs again as a whole.
    """
    width = ffn // shard.tp
    inner = inner_width(model, width)
    up = column_parallel(f"{name}_up", shard, model.hidden, inner, keep_input=keep_input)
    return within(
        part,
        [
            replace(up, kept_of=("mlp_norm",)),
            replace(activation(f"{name}_activation", shard, tokens(shard), inner, width), parts=("mlp_act",)),
            replace(row_parallel(f"{name}_down", shard, width, model.hidden), kept_of=("mlp_act",)),
        ],
    )


def activation(name: str, shard: Shard, rows: int, inner: int, width: int) -> Piece:
    """GELU or SwiGLU from ``inner`` to ``width`` columns; its input is kept."""
    before, after = shard.act_bytes * rows * inner, shard.act_bytes * rows * width
    element_bytes = BYTE_AND_SCALE if "activation_input" in shard.compress_saved else shard.act_bytes
    if inner > width and "activation" in shard.eager:  # the function, then the product; backward joins two gradients
        kept = element_bytes * rows * inner + after
        return eager(name, (2 * after, 3 * after), (3 * after, 3 * after, 3 * after, 4 * after), kept, after)
    kind: KernelClass = "activation" if inner > width else "plain_activation"
    return memory_bound(name, kind, before + after, 2 * before + after, element_bytes * rows * inner)
