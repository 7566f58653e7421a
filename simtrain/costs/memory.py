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
from simtrain.model.operators import Kernel, LayerOperators
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
    "optimizer_traffic_bytes",
    "parameter_bytes",
    "stage_activations",
    "stage_layers",
    "stage_parameters",
]

_MASTER_BYTES = 4.0
"""The fp32 master of a 16-bit weight (ZeRO, arXiv 1910.02054, section 3.1)."""


EMBEDDING, HEAD = -1, -2
"""Layer numbers of what comes before the first and after the last transformer layer."""


def element_bytes(precision: Precision) -> float:
    """Bytes of a weight, activation or gradient: tf32 rounds fp32 numbers as a matmul reads them; fp8 keeps 16 bits."""
    return 4.0 if precision in ("fp32", "tf32") else 2.0


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
    """

    saved: float
    backward_extra: float
    input_extra: float
    remade: float


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


def parameter_bytes(model: Model, layout: Layout, parallel: Parallel, stages: Iterable[int]) -> HeldBytes:
    """Model state of a GPU that holds ``stages``, sharded as the ZeRO stage says."""
    total = StageParameters(0.0, 0.0)
    for stage in stages:
        for layer in stage_layers(parallel, stage):
            total = total + stage_parameters(model, parallel, stage, layer)
    over = parallel.sharded_over
    full = total.dense + total.experts
    sharded = total.dense / over["dp"] + total.experts / over.get("edp", over["dp"])
    weight, gradient = element_bytes(layout.precision), element_bytes(layout.grad_precision)
    adam = adam_bytes(layout) - away_bytes(layout)
    return HeldBytes(
        weights=weight * (sharded if layout.zero == 3 else full),
        gradients=gradient * (sharded if layout.zero >= 2 and not layout.reduce_once else full),
        optimizer=adam * (sharded if layout.zero >= 1 else full),
        updated=sharded if layout.zero >= 1 else full,
    )


def optimizer_traffic_bytes(layout: Layout) -> float:
    """Bytes that Adam moves per parameter: reads the gradient, reads and writes its state, writes the weight.

    Without a master the weight itself is read too.
    """
    weight, state = element_bytes(layout.precision), adam_bytes(layout)
    return element_bytes(layout.grad_precision) + 2 * state + weight * (1 if weight < _MASTER_BYTES else 2)


def adam_bytes(layout: Layout) -> float:
    """Two moments of a parameter, and its master where the weight is not fp32 itself."""
    master = _MASTER_BYTES if element_bytes(layout.precision) < _MASTER_BYTES else 0.0
    return 2 * element_bytes(layout.moment_precision) + master


def away_bytes(layout: Layout) -> float:
    """Of :func:`adam_bytes`, what lies in host memory."""
    moment = element_bytes(layout.moment_precision)
    sizes = {"first_moment": moment, "second_moment": moment, "master": adam_bytes(layout) - 2 * moment}
    return sum(sizes[name] for name in set(layout.offload))


def stage_activations(stages: Sequence[Sequence[tuple[int, LayerOperators]]]) -> list[StageActivations]:
    """Activation bytes of one micro batch, by stage.

    Backward holds what it recomputes for one layer at a time, beside what forward saved.  Where it is split, the
    recomputed inputs of matmuls stay for the weight gradients.
    """
    found = []
    for stage in stages:
        again = [_recomputed_bytes(operators) for _, operators in stage]
        found.append(
            StageActivations(
                saved=sum(operators.saved_bytes for _, operators in stage),
                backward_extra=max((total for total, _ in again), default=0.0),
                input_extra=max((total - kept for total, kept in again), default=0.0),
                remade=sum(kept for _, kept in again),
            )
        )
    return found


def _recomputed_bytes(operators: LayerOperators) -> tuple[float, float]:
    """What a layer's backward recomputes: all of it, and what the gradients of weights need of that."""
    again = [op for op in operators.backward if isinstance(op, Kernel) and op.recompute]
    return sum(op.saved_bytes for op in again), sum(op.remade_bytes for op in again)
