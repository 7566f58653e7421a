"""Pieces from which layers are put together: a forward and the backward that answers it.

Sizes are those of one rank.  Only matmuls have FLOPs; the other kernels are bound by the bytes they move.
Of saved tensors, those that grow with tokens * hidden (or with the square of the sequence) are counted; token
indices and the statistics of norms are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from simtrain.model.flow import START
from simtrain.model.operators import Collective, Exchange, Kernel, KernelClass, Operator, Part, Shard

__all__ = [
    "BYTE_AND_SCALE",
    "FP32_BYTES",
    "MASK_BYTES",
    "Piece",
    "column_parallel",
    "eager",
    "gemm",
    "in_low_precision",
    "local_tokens",
    "matmul_input_bytes",
    "memory_bound",
    "needing",
    "norm",
    "quantised",
    "residual_add",
    "row_parallel",
    "tokens",
    "working",
]

FP32_BYTES = 4
MASK_BYTES = 1
"""One element of a dropout mask."""

BYTE_AND_SCALE = 1 + 1 / 32
"""One element in fp8 with its share of a scale: 4 bytes for 128 elements (DeepSeek-V3, arXiv 2412.19437, section 3.3.2;
Transformer Engine's Float8BlockScaling) or a byte for 32 (mxfp8, OCP Microscaling Formats 1.0)."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A module of a layer.

    Attributes:
        forward, backward: its operators, each in running order.
        parts: parts of the layer it belongs to that can run again in backward, outermost first.
        kept_of: parts that make what its backward reads: all that its kernels keep but ``inner_bytes``, or nothing
            where another piece keeps that.
        inner_bytes: of what its (only) kernel keeps, what that makes itself.
    """

    forward: tuple[Operator, ...]
    backward: tuple[Operator, ...]
    parts: tuple[str, ...] = ()
    kept_of: tuple[str, ...] = ()
    inner_bytes: float = 0.0


def tokens(shard: Shard) -> int:
    """Tokens of a micro batch inside tensor parallel regions."""
    return shard.micro_batch * shard.sequence // shard.cp


def local_tokens(shard: Shard) -> int:
    """Tokens of a micro batch outside tensor parallel regions: sequence parallelism cuts them."""
    return tokens(shard) // shard.tp if shard.sp else tokens(shard)


def matmul_input_bytes(shard: Shard) -> float:
    """One element of a matmul's input in the precision of the matmul, scales included.

    So is it kept for the gradient of the weight where that runs in 8 bits or in 4 (a byte for 16 elements in nvfp4,
    arXiv 2509.25149): Transformer Engine's Linear and GroupedLinear save the quantised copy, DeepSeek-V3 likewise.
    """
    if shard.precision in ("fp8", "mxfp8"):
        return BYTE_AND_SCALE
    return 1 / 2 + 1 / 16 if shard.precision == "nvfp4" else shard.act_bytes


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
    plain: bool = False,
) -> tuple[Kernel, Kernel, Kernel]:
    """Forward, gradient of the input and gradient of the weight of (rows, k) times ``groups`` of (k, n).

    The gradient of the weight is added to what earlier micro batches left, hence read and written.  Inputs are read in
    the precision of matmuls, unless ``plain``; outputs have that of activations.
    """
    flops, m = 2.0 * rows * k * n, max(1, rows // groups)
    low = not plain and in_low_precision(shard)
    read = matmul_input_bytes(shard) if low else shard.act_bytes
    weight, written = float(groups * k * n), shard.act_bytes * rows
    used = (read if low else shard.weight_bytes) * weight
    own = shard.act_bytes if "grad_accumulation" in shard.eager else 2 * shard.grad_bytes
    accumulated = read * rows * (k + n) + own * weight
    return (
        Kernel(name, kind, flops, read * rows * k + written * n + used, "F", m, n, k, groups, saved_bytes, plain=plain),
        Kernel(f"{name}_dgrad", kind, flops, read * rows * n + written * k + used, "I", m, k, n, groups, plain=plain),
        Kernel(f"{name}_wgrad", kind, flops, accumulated, "W", k, n, m, groups, plain=plain),
    )


def in_low_precision(shard: Shard) -> bool:
    """Whether inputs of matmuls have 8 bits or 4."""
    return shard.precision in ("fp8", "mxfp8", "nvfp4")


def quantised(piece: Piece, name: str, shard: Shard, inputs: float, outputs: float) -> Piece:
    """A matmul with the casts of its input (``inputs`` elements) and of the gradient of its output (``outputs``).

    Each writes two copies, since scales run along what is summed over: one as it is for the output and the gradient of
    the input, one transposed for the gradient of the weight (Transformer Engine; on Hopper 8-bit matmuls also read both
    operands along it alone).  The cast of the weight is part of the optimizer.
    """
    if not in_low_precision(shard):
        return piece
    element = shard.act_bytes + 2 * matmul_input_bytes(shard)
    before = Kernel(f"{name}_quantise", "quantise", 0.0, element * inputs)
    back = Kernel(f"{name}_quantise_backward", "quantise", 0.0, element * outputs, "I")
    return replace(
        piece,
        forward=_behind(before, piece.forward) if inputs else piece.forward,
        backward=_behind(back, piece.backward),
    )


def _behind(first: Kernel, others: tuple[Operator, ...]) -> tuple[Operator, ...]:
    """``first``, and what waited for the start of the piece for it instead."""
    waits = {START: first.name}
    return (first, *(replace(op, after=tuple(waits.get(name, name) for name in op.after)) for op in others))


def column_parallel(
    name: str,
    shard: Shard,
    k: int,
    n: int,
    *,
    keep_input: bool = True,
    gathered: int | None = None,
    plain: bool = False,
) -> Piece:
    """A matmul whose output (n columns on this rank) is cut over the tensor parallel group.

    With sequence parallelism the input is gathered before it, kept as a shard, and gathered again for the
    gradient of the weight (Korthikanti et al. 2022, arXiv 2205.05198, section 4.2.2).  Unless nothing overlaps,
    that gather runs beside the gradient of the input, and the exchange of that beside the gradient of the weight.

    Args:
        name: of the forward kernel.
        shard: how the layer is cut.
        k: columns of the input.
        n: columns of this rank's output.
        keep_input: whether this matmul is the one that keeps the input for backward.
        gathered: columns exchanged, where more than the k that are multiplied need it.
        plain: neither cut into chunks where the layout asks for that, nor its input kept in 8 bits.
    """
    size = shard.act_bytes * tokens(shard)
    element_bytes = shard.act_bytes if plain else matmul_input_bytes(shard)
    saved_bytes = element_bytes * local_tokens(shard) * k if keep_input else 0.0
    kernels = gemm(name, shard, tokens(shard), k, n, saved_bytes=saved_bytes, plain=plain)
    piece = _column_parallel(name, shard, kernels, size * k, size * (gathered or k), plain)
    return piece if plain else quantised(piece, name, shard, local_tokens(shard) * k, tokens(shard) * n)


def _column_parallel(
    name: str, shard: Shard, kernels: tuple[Kernel, Kernel, Kernel], input_bytes: float, whole: float, plain: bool
) -> Piece:
    """The exchanges around the ``kernels``: of the input, and of ``whole`` bytes."""
    forward, dgrad, wgrad = kernels
    if shard.tp == 1:
        return Piece((forward,), (dgrad, wgrad))
    if not shard.sp:
        return Piece((forward,), _beside(shard, dgrad, _tp(name, "all_reduce", whole, "I"), wgrad))
    regather, scatter = _tp(name, "all_gather", input_bytes, "W"), _tp(name, "reduce_scatter", whole, "I")
    gather = _tp(name, "all_gather", whole, "F")
    before = (gather, forward) if plain else _chunks(shard, gather, forward)
    return Piece(before, _beside(shard, dgrad, scatter, wgrad, regather))


def row_parallel(name: str, shard: Shard, k: int, n: int, element_bytes: float | None = None) -> Piece:
    """A matmul whose input (k columns on this rank) is cut over the tensor parallel group; its output is summed.

    Elements of the input are kept in ``element_bytes``, or in the precision of the matmul.
    """
    saved_bytes = (element_bytes or matmul_input_bytes(shard)) * tokens(shard) * k
    kernels = gemm(name, shard, tokens(shard), k, n, saved_bytes=saved_bytes)
    return quantised(_row_parallel(name, shard, kernels, n), name, shard, tokens(shard) * k, local_tokens(shard) * n)


def _row_parallel(name: str, shard: Shard, kernels: tuple[Kernel, Kernel, Kernel], n: int) -> Piece:
    """The exchanges around the ``kernels``: of the output, n columns wide."""
    forward, dgrad, wgrad = kernels
    if shard.tp == 1:
        return Piece((forward,), (dgrad, wgrad))
    whole = shard.act_bytes * tokens(shard) * n
    if not shard.sp:
        return Piece(_chunks(shard, forward, _tp(name, "all_reduce", whole, "F")), (dgrad, wgrad))
    gather, scatter = _tp(name, "all_gather", whole, "I"), _tp(name, "reduce_scatter", whole, "F")
    return Piece(_chunks(shard, forward, scatter), (*_chunks(shard, gather, dgrad), wgrad))


def _beside(
    shard: Shard, dgrad: Kernel, exchange: Exchange, wgrad: Kernel, regather: Exchange | None = None
) -> tuple[Operator, ...]:
    """Backward of a matmul whose input gradient is exchanged: Megatron-LM's asynchronous tensor parallelism.

    Nothing but the gradient of the weight needs the gathered input, and nothing in it needs the exchange.
    """
    first = (regather,) if regather else ()
    if shard.tp_overlap == "none":
        return (*first, dgrad, exchange, wgrad)
    return (
        *(replace(op, after=(START,)) for op in (*first, dgrad)),
        replace(exchange, after=(dgrad.name,)),
        replace(wgrad, after=(dgrad.name, *(op.name for op in first))),
    )


def _chunks(shard: Shard, first: Kernel | Exchange, second: Kernel | Exchange) -> tuple[Operator, ...]:
    """A matmul and the exchange before or after it, in pieces along the rows where the layout asks for that.

    One runs on a chunk while the other is at the next (Wang et al., ASPLOS 2023).  Each chunk is a kernel of its own
    that reads the whole weight; the exchange is one, handed over in pieces, as Transformer Engine's user buffers do.
    """
    if shard.tp_overlap != "chunked":
        return (first, second)
    count, rows = shard.tp_overlap_chunks, tokens(shard)
    bounds = [i * rows // count for i in range(count + 1)]
    cut = [(a, b) for a, b in pairwise(bounds) if b > a]
    return tuple(
        op
        for a, b in cut
        for op in (
            replace(_rows(first, shard, rows, a, b), after=(START,)),
            replace(_rows(second, shard, rows, a, b), after=(first.name,)),
        )
    )


def _rows(op: Kernel | Exchange, shard: Shard, rows: int, begin: int, end: int) -> Operator:
    """Rows ``begin`` to ``end`` of a matmul or an exchange; the first chunk stands for all that is kept."""
    share = (end - begin) / rows
    if isinstance(op, Exchange):
        return replace(op, bytes=op.bytes * share, of_bytes=op.bytes, first=begin == 0)
    weight_bytes = (matmul_input_bytes(shard) if in_low_precision(shard) else shard.weight_bytes) * op.k * op.n
    return replace(
        op,
        m=end - begin,
        flops=op.flops * share,
        bytes=(op.bytes - weight_bytes) * share + weight_bytes,
        saved_bytes=0.0 if begin else op.saved_bytes,
    )


def memory_bound(
    name: str,
    kind: KernelClass,
    forward_bytes: float,
    backward_bytes: float,
    saved_bytes: float = 0.0,
    backward_kind: KernelClass | None = None,
) -> Piece:
    """A kernel without matmuls, and its backward."""
    return Piece(
        (Kernel(name, kind, 0.0, forward_bytes, "F", saved_bytes=saved_bytes),),
        (Kernel(f"{name}_backward", backward_kind or kind, 0.0, backward_bytes, "I"),),
    )


def needing(op: Operator, working_bytes: float) -> Operator:
    """The operator with what it holds beside what is saved, if it is a kernel."""
    return replace(op, working_bytes=working_bytes) if isinstance(op, Kernel) else op


def working(piece: Piece, forward_bytes: float, backward_bytes: float) -> Piece:
    """The piece with what its kernels hold beside what is saved, each way."""
    return replace(
        piece,
        forward=tuple(needing(op, forward_bytes) for op in piece.forward),
        backward=tuple(needing(op, backward_bytes) for op in piece.backward),
    )


def eager(name: str, forward: Sequence[float], backward: Sequence[float], saved: float, inner: float = 0.0) -> Piece:
    """An operator that runs as elementwise kernels, one after the other, each over the bytes given.

    Of what is kept, it makes ``inner`` itself.
    """
    answer = f"{name}_backward"
    ahead, back = _steps(name, forward, "F"), _steps(answer, backward, "I")
    return Piece((*ahead[:-1], replace(ahead[-1], saved_bytes=saved)), back, inner_bytes=inner)


def _steps(name: str, sizes: Sequence[float], part: Part) -> tuple[Kernel, ...]:
    """The last has the name that others wait for."""
    names = [*(f"{name}_{i}" for i in range(1, len(sizes))), name]
    return tuple(Kernel(own, "elementwise", 0.0, size, part) for own, size in zip(names, sizes, strict=True))


def norm(name: str, shard: Shard, width: int, beside: int = 0, *, plain: bool = False) -> Piece:
    """Normalisation of the local tokens; its input is kept, and ``beside`` columns that enter next to it.

    ``plain``: RMSNorm, which eager software computes in fp32: cast, square, mean, scale, cast back, multiply by the
    weight; the fp32 copy and the normalised values are kept too.
    """
    column = shard.act_bytes * local_tokens(shard)
    one = column * width
    if plain and "norm" in shard.eager:
        full = FP32_BYTES * local_tokens(shard) * width
        ahead = (one + full, 2 * full, full, 2 * full, full + one, 2 * one)
        back = (2 * one, 3 * one, one, one + full, 2 * full, 3 * full, full, 2 * full, 3 * full, full + one)
        return eager(name, ahead, back, 2 * one + full + column * beside, one + full)
    return memory_bound(name, "norm", 2 * one, 3 * one, one + column * beside, "norm_backward")


def residual_add(name: str, shard: Shard, width: int, dropout: bool) -> Piece:
    """Sum of a branch (after dropout) and the residual stream; backward sums the gradients of the two."""
    elements = local_tokens(shard) * width
    mask = MASK_BYTES * elements if dropout else 0
    moved = 3 * shard.act_bytes * elements + mask
    return replace(memory_bound(name, "elementwise", moved, moved, mask), inner_bytes=mask)


def _tp(name: str, collective: Collective, size_bytes: float, part: Part) -> Exchange:
    return Exchange(f"{name}_{collective}", "tp", collective, size_bytes, part)
