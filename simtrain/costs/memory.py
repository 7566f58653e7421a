"""Bytes on a GPU that do not change during a step, and bytes each action keeps or needs for a while."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from simtrain.layout.parallel import Parallel
from simtrain.model.counts import (
    attention_parameters_of_rank,
    embedding_parameters,
    final_norm_parameters,
    head_parameters,
    layer_parameters,
)
from simtrain.model.operators import Kernel, LayerOperators, Operator
from simtrain.scenario.layout import Layout
from simtrain.scenario.model import Model
from simtrain.scenario.part import Precision

__all__ = [
    "EMBEDDING",
    "HEAD",
    "HeldBytes",
    "StageActivations",
    "StageParameters",
    "adam_bytes",
    "away_bytes",
    "element_bytes",
    "gradient_bytes",
    "optimizer_traffic_bytes",
    "parameter_bytes",
    "stage_activations",
    "stage_layers",
    "stage_parameters",
    "weight_bytes",
]

_MASTER_BYTES = {"fp32": 4.0, "bf16": 0.0, "remainder": 2.0, "none": 0.0}
"""Kept of a 16-bit weight beside it: an fp32 copy (ZeRO, arXiv 1910.02054, section 3.1), or the 16 bits it lacks."""
_LOW = ("fp8", "mxfp8", "nvfp4")

EMBEDDING, HEAD = -1, -2
"""Layer numbers of what comes before the first and after the last transformer layer."""


def element_bytes(precision: Precision) -> float:
    """Bytes of a weight, activation or gradient: tf32 rounds fp32 numbers as a matmul reads them; fp8 keeps 16 bits."""
    return 4.0 if precision in ("fp32", "tf32") else 2.0


def weight_bytes(layout: Layout) -> float:
    """Bytes of a weight as the GPU holds it for its matmuls: 8 bits where the 16-bit weight is the master."""
    return 1.0 if _apart(layout) else element_bytes(layout.precision)


def _apart(layout: Layout) -> bool:
    """Whether matmuls read weights in fewer bits and those of 16 bits lie with the optimizer."""
    return layout.master == "bf16" and layout.precision in _LOW


def gradient_bytes(layout: Layout) -> float:
    """Bytes of a gradient as it is added up and reduced; of a layout that leaves it to the software, fp32."""
    return element_bytes(layout.grad_precision or "fp32")


def stage_layers(parallel: Parallel, stage: int) -> tuple[int, ...]:
    """Layers of a stage in order, embedding and head included."""
    first = (EMBEDDING,) if stage == 0 else ()
    last = (HEAD,) if stage == len(parallel.stage_layers) - 1 else ()
    return (*first, *parallel.stage_layers[stage], *last)


@dataclass(frozen=True, slots=True)
class StageParameters:
    """Parameters on one rank before ZeRO sharding: dense ones and experts (sharded over another group)."""

    dense: float
    experts: float

    def __add__(self, other: StageParameters) -> StageParameters:
        return StageParameters(self.dense + other.dense, self.experts + other.experts)


@dataclass(frozen=True, slots=True)
class HeldBytes:
    """Bytes of model state on one GPU, and the number of parameters its optimizer updates."""

    weights: float
    gradients: float
    optimizer: float
    updated: float


@dataclass(frozen=True, slots=True)
class StageActivations:
    """Bytes that one micro batch needs on a stage.

    Attributes:
        saved: from its forward to the end of its weight gradients.
        backward_extra: on top while a full backward runs.
        input_extra: on top while a backward for inputs runs alone.
        remade: recomputed by that, and kept until the weight gradients have used it.
        forward_extra: on top while a forward runs.
        weight_shapes: of the stage's layers.
    """

    saved: float
    backward_extra: float
    input_extra: float
    remade: float
    forward_extra: float = 0.0
    weight_shapes: frozenset[tuple[int, int]] = frozenset()


def stage_parameters(model: Model, parallel: Parallel, stage: int, layer: int) -> StageParameters:
    """Parameters of one layer of a stage on one GPU; ``layer`` may be EMBEDDING or HEAD."""
    if layer == EMBEDDING:
        return StageParameters(embedding_parameters(model) / parallel.tp, 0.0)
    if layer == HEAD:
        return StageParameters(
            _head(model, alone=parallel.ends_apart) / parallel.tp + final_norm_parameters(model), 0.0
        )
    counts = layer_parameters(model, layer)
    attention = attention_parameters_of_rank(model, parallel.tp)
    dense = attention + (counts.mlp + counts.shared) / parallel.tp + counts.router + counts.norms
    return StageParameters(dense, counts.experts / parallel.expert_ranks)


def _head(model: Model, *, alone: bool) -> float:
    """Parameters of the output layer; a tied one is a copy of the embedding where the two lie apart."""
    if model.tied_embeddings:
        return model.vocab * model.hidden if alone else 0.0
    return head_parameters(model)


def parameter_bytes(
    model: Model, layout: Layout, parallel: Parallel, stages: Iterable[int], *, both_gradients: bool = False
) -> HeldBytes:
    """Model state of a GPU that holds ``stages``, sharded as the ZeRO stage says, without what lies in host memory.

    ``both_gradients``: 16-bit gradients are kept beside fp32 sums.
    """
    total = StageParameters(0.0, 0.0)
    for stage in stages:
        for layer in stage_layers(parallel, stage):
            total = total + stage_parameters(model, parallel, stage, layer)
    over = parallel.sharded_over
    full = total.dense + total.experts
    sharded = total.dense / over["dp"] + total.experts / over.get("edp", over["dp"])
    weight, gradient = weight_bytes(layout), gradient_bytes(layout)
    if both_gradients and gradient > element_bytes(layout.precision):
        gradient += element_bytes(layout.precision)
    whole = layout.zero < 2 or layout.reduce_once
    return HeldBytes(
        weights=0.0 if "weights" in layout.offload else weight * (sharded if layout.zero == 3 else full),
        gradients=0.0 if "gradients" in layout.offload else gradient * (full if whole else sharded),
        optimizer=(adam_bytes(layout) - away_bytes(layout)) * (sharded if layout.zero >= 1 else full),
        updated=sharded if layout.zero >= 1 else full,
    )


def optimizer_traffic_bytes(layout: Layout) -> float:
    """Bytes that Adam moves per parameter: reads the gradient, reads and writes its state, writes the weight.

    Without a whole master the weight itself is read too.
    """
    weight, state = element_bytes(layout.precision), adam_bytes(layout)
    whole = _apart(layout) or _master_bytes(layout) > weight
    return gradient_bytes(layout) + 2 * state + weight * (1 if whole else 2)


def adam_bytes(layout: Layout) -> float:
    """Two moments of a parameter, and what is kept of its master, wherever they lie."""
    return 2 * element_bytes(layout.moment_precision) + _master_bytes(layout)


def _master_bytes(layout: Layout) -> float:
    """The weight itself is the master where it is fp32."""
    if _apart(layout):
        return element_bytes(layout.precision)
    return _MASTER_BYTES[layout.master or "fp32"] if element_bytes(layout.precision) < 4 else 0.0


def away_bytes(layout: Layout) -> float:
    """Of :func:`adam_bytes`, what lies in host memory."""
    moment = element_bytes(layout.moment_precision)
    sizes = {"first_moment": moment, "second_moment": moment, "master": _master_bytes(layout)}
    return sum(size for name, size in sizes.items() if name in layout.offload)


def stage_activations(
    stages: Sequence[Sequence[tuple[int, LayerOperators]]], *, fragmentation: float = 0.0, residual_bytes: float = 0.0
) -> list[StageActivations]:
    """Activation bytes of one micro batch, by stage.

    A forward holds what its kernels need for themselves on top of what the layers so far have saved; a backward what
    it recomputes and needs for one layer at a time, while the layers behind have freed theirs.  Where it is split
    nothing is freed before the weight gradients, and the recomputed inputs of matmuls stay for them.

    Args:
        stages: layers of each stage with their operators.
        fragmentation: share that the allocator reserves on top.
        residual_bytes: what enters a layer, where that lies in host memory for all layers but the one at work and
            the next.
    """
    return [_stage_activations(stage, 1 + fragmentation, residual_bytes) for stage in stages]


def _stage_activations(
    stage: Sequence[tuple[int, LayerOperators]], reserved: float, residual_bytes: float
) -> StageActivations:
    layers = [operators for _, operators in stage]
    again = [_recomputed_bytes(operators) for operators in layers]
    ahead = [_working_bytes(operators.forward) for operators in layers]
    back = [_working_bytes(operators.backward) for operators in layers]
    behind = [sum(operators.saved_bytes for operators in layers[i + 1 :]) for i in range(len(layers))]
    away = residual_bytes * max(0, sum(layer >= 0 for layer, _ in stage) - 2)
    saved = sum(operators.saved_bytes for operators in layers) - away
    return StageActivations(
        saved=reserved * saved,
        backward_extra=reserved * _most(a + w - gone for (a, _), w, gone in zip(again, back, behind, strict=True)),
        input_extra=reserved * _most(a - kept + w for (a, kept), w in zip(again, back, strict=True)),
        remade=reserved * sum(kept for _, kept in again),
        forward_extra=reserved * _most(w - gone for w, gone in zip(ahead, behind, strict=True)),
        weight_shapes=frozenset().union(*(operators.weight_shapes for layer, operators in stage if layer >= 0)),
    )


def _most(sizes: Iterable[float]) -> float:
    return max(0.0, *sizes)


def _working_bytes(operators: Iterable[Operator]) -> float:
    return max((op.working_bytes for op in operators if isinstance(op, Kernel)), default=0.0)


def _recomputed_bytes(operators: LayerOperators) -> tuple[float, float]:
    """What a layer's backward recomputes: all of it, and what the gradients of weights need of that."""
    again = [op for op in operators.backward if isinstance(op, Kernel) and op.recompute]
    return sum(op.saved_bytes for op in again), sum(op.remade_bytes for op in again)
