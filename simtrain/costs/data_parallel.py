"""Gradients and weights that data parallel ranks share: buckets, reductions, gathers.

Layers are merged into buckets in the order backward finishes them.  A bucket is reduced by one collective, and with
ZeRO 1 and 2 its updated weights are gathered by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from simtrain.costs.memory import (
    EMBEDDING,
    HEAD,
    element_bytes,
    gradient_bytes,
    stage_layers,
    stage_parameters,
)
from simtrain.costs.prices import Priced, PriceList
from simtrain.layout.parallel import Parallel
from simtrain.model.operators import Collective
from simtrain.model.tensors import layer_tensors
from simtrain.scenario.layout import Layout
from simtrain.scenario.model import Model
from simtrain.scenario.software import Software

__all__ = ["BucketPrices", "buckets", "shared_parameters", "shared_tensors"]

ByLayer = dict[int, tuple[Priced, ...]]

_CUT = {"dp": ("shard", "replicate"), "edp": ("edp_shard", "edp_replicate")}
"""Axes of a dp and of an expert's dp group that is cut into shard groups."""


def shared_parameters(model: Model, parallel: Parallel, stage: int, layer: int) -> dict[str, float]:
    """Parameters of one layer on one GPU by the group that shares them, dp or edp, before ZeRO sharding."""
    held = stage_parameters(model, parallel, stage, layer)
    apart = parallel.experts_apart
    counts = {"dp": held.dense, "edp": held.experts} if apart else {"dp": held.dense + held.experts}
    return {axis: count for axis, count in counts.items() if count}


def shared_tensors(model: Model, parallel: Parallel, stage: int, layer: int) -> dict[str, list[float]]:
    """The same tensor by tensor, each cut in the same way."""
    shared = shared_parameters(model, parallel, stage, layer)
    if layer in (EMBEDDING, HEAD):
        return {axis: [count] for axis, count in shared.items()}
    found = layer_tensors(model, layer)
    experts = found.expert * (model.moe.experts // parallel.ep if model.moe else 0)
    if parallel.experts_apart:
        return {axis: _cut({"dp": found.dense, "edp": experts}[axis], count) for axis, count in shared.items()}
    return {axis: _cut((*found.dense, *experts), count) for axis, count in shared.items()}


def _cut(tensors: Sequence[int], total: float) -> list[float]:
    """Whole tensors in proportion, so that they make up ``total``."""
    share = total / sum(tensors)
    return [size * share for size in tensors]


def bucket_bytes(layout: Layout, parallel: Parallel) -> float:
    """Bytes of gradients that close a bucket.

    ZeRO 2 and 3 reduce each layer, the unit that PyTorch's FSDP is told to wrap, since whole gradients are in their
    way; gradients that go to host memory likewise.  Otherwise Megatron-LM's rule, max(40e6, 1e6 * dp * cp) parameters
    (``core/distributed/distributed_data_parallel.py``), cut at whole layers here.
    """
    if layout.grad_bucket is not None:
        return float(layout.grad_bucket)
    if layout.zero >= 2 or "gradients" in layout.offload:
        return 0.0
    return max(40e6, 1e6 * parallel.shared_by["dp"]) * gradient_bytes(layout)


def buckets(model: Model, layout: Layout, parallel: Parallel, stage: int) -> dict[str, list[tuple[int, float]]]:
    """Buckets of a stage in the order backward completes them, by axis: (layer that completes it, parameters)."""
    full = bucket_bytes(layout, parallel) / gradient_bytes(layout)
    found: dict[str, list[tuple[int, float]]] = {}
    filling: dict[str, tuple[int, float]] = {}
    for layer in reversed(stage_layers(parallel, stage)):
        for axis, count in shared_parameters(model, parallel, stage, layer).items():
            filling[axis] = layer, filling.get(axis, (layer, 0.0))[1] + count
            if filling[axis][1] >= full:
                found.setdefault(axis, []).append(filling.pop(axis))
    for axis, bucket in filling.items():
        found.setdefault(axis, []).append(bucket)
    return found


@dataclass(frozen=True, slots=True)
class BucketPrices:
    """Prices what data parallel ranks exchange; exchanges within a group of one GPU are left out."""

    prices: PriceList
    model: Model
    layout: Layout
    parallel: Parallel
    software: Software

    def reductions(self, stage: int) -> ByLayer:
        """Gradient reductions of a stage, each at the layer that completes its bucket in backward."""
        size = gradient_bytes(self.layout)
        return self._priced(
            (layer, one)
            for axis, layer, count in self._reduced(stage)
            for one in self._reduction(axis, count * size, layer)
        )

    def parameter_gathers(self, stage: int) -> ByLayer:
        """Gathers of a stage's updated weights, each at the layer of its bucket that comes first in forward."""
        if self.layout.zero not in (1, 2):
            return {}
        size = element_bytes(self.layout.precision)
        return self._priced(
            (layer, one)
            for axis, layer, count in self._buckets(stage)
            for one in self._gather("parameter gather", axis, count * size, layer)
        )

    def weight_gathers(self, stage: int) -> ByLayer:
        """ZeRO 3: gathers of each layer's weights before it runs."""
        if self.layout.zero != 3:
            return {}
        size = element_bytes(self.layout.precision)
        return self._priced(
            (layer, one)
            for layer in stage_layers(self.parallel, stage)
            for axis, count in self._gathered(stage, layer)
            for one in self._gather("weight gather", axis, count * size, layer)
        )

    def _reduced(self, stage: int) -> Iterator[tuple[str, int, float]]:
        """Axis, layer and parameters of what is reduced at once."""
        if not self._each_tensor:
            yield from self._buckets(stage)
            return
        for layer in reversed(stage_layers(self.parallel, stage)):
            for axis, tensors in shared_tensors(self.model, self.parallel, stage, layer).items():
                yield from ((axis, layer, count) for count in tensors)

    def _gathered(self, stage: int, layer: int) -> Iterator[tuple[str, float]]:
        """Axis and parameters of what ZeRO 3 gathers at once before a layer."""
        if not self._each_tensor:
            yield from shared_parameters(self.model, self.parallel, stage, layer).items()
            return
        for axis, tensors in shared_tensors(self.model, self.parallel, stage, layer).items():
            yield from ((axis, count) for count in tensors if count >= self.software.zero_persistent)

    @property
    def _each_tensor(self) -> bool:
        return self.layout.zero >= 2 and self.software.zero_unit == "parameter"

    def _buckets(self, stage: int) -> Iterator[tuple[str, int, float]]:
        for axis, found in buckets(self.model, self.layout, self.parallel, stage).items():
            for layer, count in found:
                yield axis, layer, count

    def _reduction(self, axis: str, size_bytes: float, layer: int) -> Iterator[Priced]:
        """A reduce-scatter over the shard group, then the sum of the shards across groups."""
        shared, sharded = self.parallel.shared_by[axis], self.parallel.sharded_over[axis]
        if self.layout.zero == 0 or sharded == 1:
            yield from self._exchange("gradient reduction", axis, shared, "all_reduce", size_bytes, layer)
            return
        whole = sharded == shared
        shard, replicate = (axis, "") if whole else _CUT[axis]
        yield from self._exchange("gradient reduction", shard, sharded, "reduce_scatter", size_bytes, layer)
        if not whole:
            name, groups = "gradient all-reduce across shard groups", shared // sharded
            yield from self._exchange(name, replicate, groups, "all_reduce", size_bytes / sharded, layer)

    def _gather(self, name: str, axis: str, size_bytes: float, layer: int) -> Iterator[Priced]:
        sharded = self.parallel.sharded_over[axis]
        within = axis if sharded == self.parallel.shared_by[axis] else _CUT[axis][0]
        return self._exchange(name, within, sharded, "all_gather", size_bytes, layer)

    def _exchange(
        self, name: str, axis: str, group: int, collective: Collective, size_bytes: float, layer: int
    ) -> Iterator[Priced]:
        if group > 1:
            priced = self.prices.exchange(name, axis, collective, size_bytes, layer)
            parts_s = self.software.zero_part_time * group if self.layout.zero >= 2 else 0.0
            yield self.prices.handled(priced, parts_s) if parts_s else priced

    @staticmethod
    def _priced(found: Iterator[tuple[int, Priced]]) -> ByLayer:
        by_layer: ByLayer = {}
        for layer, one in found:
            by_layer[layer] = (*by_layer.get(layer, ()), one)
        return by_layer
