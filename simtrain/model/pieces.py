"""Pieces from which layers are put together: a forward and the backward that answers it.

Sizes are those of one rank.  Only matmuls have FLOPs; the other kernels are bound by the bytes they move.
Of saved tensors, those that grow with tokens * hidden (or with the square of the sequence) are counted; token
indices and the statistics of norms are not.
"""

from __future__ import annotations

from dataclasses import dataclass

from simtrain.model.operators import Collective, Exchange, Kernel, KernelClass, Operator, Part, Shard

__all__ = [
    "MASK_BYTES",
    "Piece",
    "column_parallel",
    "gemm",
    "local_tokens",
    "memory_bound",
    "norm",
    "residual_add",
    "row_parallel",
    "tokens",
]

MASK_BYTES = 1
"""One element of a dropout mask."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A module of a layer.

    Attributes:
        forward, backward: its operators, each in running order.
        inner_bytes: set on pieces of the attention core, what selective recomputation does not keep of
            their saved bytes; None elsewhere.
    """

    forward: tuple[Operator, ...]
    backward: tuple[Operator, ...]
    inner_bytes: float | None = None


def tokens(shard: Shard) -> int:
    """Tokens of a micro batch inside tensor parallel regions."""
    return shard.micro_batch * shard.sequence // shard.cp


def local_tokens(shard: Shard) -> int:
    """Tokens of a micro batch outside tensor parallel regions: sequence parallelism cuts them."""
    return tokens(shard) // shard.tp if shard.sp else tokens(shard)


def gemm(
    name: str,
    shard: Shard,
    rows: int,
    k: int,
    n: int,
    *,
    saved_bytes: float = 0.0,
    kind: KernelClass = "gemm",
    groups: int = 1,
) -> tuple[Kernel, Kernel, Kernel]:
    """Forward, gradient of the input and gradient of the weight of (rows, k) times ``groups`` of (k, n).

    The gradient of the weight is added to what earlier micro batches left, hence read and written.
    """
    flops, m = 2.0 * rows * k * n, max(1, rows // groups)
    moved = shard.act_bytes * rows * (k + n)
    weight = float(groups * k * n)
    used, accumulated = moved + shard.weight_bytes * weight, moved + 2 * shard.grad_bytes * weight
    return (
        Kernel(name, kind, flops, used, "F", m, n, k, groups, saved_bytes),
        Kernel(f"{name}_dgrad", kind, flops, used, "I", m, k, n, groups),
        Kernel(f"{name}_wgrad", kind, flops, accumulated, "W", k, n, m, groups),
    )


def column_parallel(
    name: str, shard: Shard, k: int, n: int, *, keep_input: bool = True, gathered: int | None = None
) -> Piece:
    """A matmul whose output (n columns on this rank) is cut over the tensor parallel group.

    With sequence parallelism the input is gathered before it, kept as a shard, and gathered again for the
    gradient of the weight (Korthikanti et al. 2022, arXiv 2205.05198, section 4.2.2).

    Args:
        name: of the forward kernel.
        shard: how the layer is cut.
        k: columns of the input.
        n: columns of this rank's output.
        keep_input: whether this matmul is the one that keeps the input for backward.
        gathered: columns exchanged, where more than the k that are multiplied need it.
    """
    size = shard.act_bytes * tokens(shard)
    saved_bytes = shard.act_bytes * local_tokens(shard) * k if keep_input else 0.0
    forward, dgrad, wgrad = gemm(name, shard, tokens(shard), k, n, saved_bytes=saved_bytes)
    if shard.tp == 1:
        return Piece((forward,), (dgrad, wgrad))
    whole = size * (gathered or k)
    if not shard.sp:
        return Piece((forward,), (dgrad, _tp(name, "all_reduce", whole, "I"), wgrad))
    regather, scatter = _tp(name, "all_gather", size * k, "W"), _tp(name, "reduce_scatter", whole, "I")
    return Piece((_tp(name, "all_gather", whole, "F"), forward), (regather, dgrad, scatter, wgrad))


def row_parallel(name: str, shard: Shard, k: int, n: int) -> Piece:
    """A matmul whose input (k columns on this rank) is cut over the tensor parallel group; its output is summed."""
    saved_bytes = shard.act_bytes * tokens(shard) * k
    forward, dgrad, wgrad = gemm(name, shard, tokens(shard), k, n, saved_bytes=saved_bytes)
    if shard.tp == 1:
        return Piece((forward,), (dgrad, wgrad))
    whole = shard.act_bytes * tokens(shard) * n
    if not shard.sp:
        return Piece((forward, _tp(name, "all_reduce", whole, "F")), (dgrad, wgrad))
    gather, scatter = _tp(name, "all_gather", whole, "I"), _tp(name, "reduce_scatter", whole, "F")
    return Piece((forward, scatter), (gather, dgrad, wgrad))


def memory_bound(
    name: str, kind: KernelClass, forward_bytes: float, backward_bytes: float, saved_bytes: float = 0.0
) -> Piece:
    """A kernel without matmuls, and its backward."""
    return Piece(
        (Kernel(name, kind, 0.0, forward_bytes, "F", saved_bytes=saved_bytes),),
        (Kernel(f"{name}_backward", kind, 0.0, backward_bytes, "I"),),
    )


def norm(name: str, shard: Shard, width: int) -> Piece:
    """Normalisation of the local tokens; its input is kept."""
    one = shard.act_bytes * local_tokens(shard) * width
    return memory_bound(name, "norm", 2 * one, 3 * one, one)


def residual_add(name: str, shard: Shard, width: int, dropout: bool) -> Piece:
    """Sum of a branch (after dropout) and the residual stream; backward sums the gradients of the two."""
    elements = local_tokens(shard) * width
    mask = MASK_BYTES * elements if dropout else 0
    moved = 3 * shard.act_bytes * elements + mask
    return memory_bound(name, "elementwise", moved, moved, mask)


def _tp(name: str, collective: Collective, size_bytes: float, part: Part) -> Exchange:
    return Exchange(f"{name}_{collective}", "tp", collective, size_bytes, part)
