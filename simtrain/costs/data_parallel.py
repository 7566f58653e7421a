"""Gradients and weights that data parallel ranks share: buckets, reductions, gathers.

Layers are merged into buckets in the order backward finishes them.  A bucket is reduced by one collective, and with
ZeRO 1 and 2 its updated weights are gathered by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from simtrain.costs.memory import element_bytes, gradient_bytes, stage_layers, stage_parameters
from simtrain.costs.prices import Priced, PriceList
from simtrain.layout.parallel import Parallel
from simtrain.model.operators import Collective
from simtrain.scenario.layout import Layout
from simtrain.scenario.model import Model

__all__ = ["BucketPrices", "buckets", "shared_parameters"]

ByLayer = dict[int, tuple[Priced, ...]]

_CUT = {"dp": ("shard", "replicate"), "edp": ("edp_shard", "edp_replicate")}
"""Axes of a dp and of an expert's dp group that is cut into shard groups."""


def shared_parameters(model: Model, parallel: Parallel, stage: int, layer: int) -> dict[str, float]:
    """Parameters of one layer on one GPU by the group that shares them, dp or edp, before ZeRO sharding."""
    held = stage_parameters(model, parallel, stage, layer)
    apart = parallel.experts_apart
    counts = {"dp": held.dense, "edp": held.experts} if apart else {"dp": held.dense + held.experts}
    return {axis: count for axis, count in counts.items() if count}


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

    def reductions(self, stage: int) -> ByLayer:
        """Gradient reductions of a stage, each at the layer that completes its bucket in backward."""
        size = gradient_bytes(self.layout)
        return self._priced(
            (layer, one)
            for axis, layer, count in self._buckets(stage)
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
            for axis, count in shared_parameters(self.model, self.parallel, stage, layer).items()
            for one in self._gather("weight gather", axis, count * size, layer)
        )

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
            yield self.prices.exchange(name, axis, collective, size_bytes, layer)

    @staticmethod
    def _priced(found: Iterator[tuple[int, Priced]]) -> ByLayer:
        by_layer: ByLayer = {}
        for layer, one in found:
            by_layer[layer] = (*by_layer.get(layer, ()), one)
        return by_layer
