"""Everything one step runs, priced: stages, sends, gradient reduction, optimizer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from simtrain.costs.data_parallel import BucketPrices
from simtrain.costs.host_memory import OffloadedUpdate, offloaded_update
from simtrain.costs.memory import (
    EMBEDDING,
    HEAD,
    away_bytes,
    element_bytes,
    gradient_bytes,
    optimizer_traffic_bytes,
    parameter_bytes,
    stage_layers,
    weight_bytes,
)
from simtrain.costs.prices import Priced, PriceList
from simtrain.layout.parallel import Parallel
from simtrain.layout.placement import place
from simtrain.model.layers import embedding_operators, head_operators, layer_kind, layer_operators
from simtrain.model.operators import EAGER, Kernel, LayerOperators, Shard
from simtrain.model.pieces import in_low_precision, matmul_input_bytes
from simtrain.scenario.cluster import Node
from simtrain.scenario.layout import Layout
from simtrain.scenario.model import Model
from simtrain.scenario.scenario import Scenario
from simtrain.scenario.software import Software
from simtrain.schedules.order import Order, stage_rank
from simtrain.schedules.slot_costs import SlotCosts

__all__ = ["StepPrices", "price_step", "send_bytes", "shard_of", "slot_costs", "stage_operators"]


@dataclass(frozen=True, slots=True)
class StepPrices:
    """Priced work of one step.

    Attributes:
        forward, backward: per stage, operators in single-stream order.
        send_bytes: activations (and their gradients) between two stages, of one rank.
        send_gather: what the receiving ranks do to have them whole; None where they are.
        reduce: per stage, gradient reductions by the layer that completes their bucket in backward.
        gather: per stage and layer, weight gathers of ZeRO-3 (empty otherwise).
        parameter_gather: per stage, gathers of updated weights under ZeRO-1 and 2 (empty otherwise) by the layer of
            their bucket that comes first in forward.
        optimizer: per pipeline rank, Adam.
        mirror: per rank of the first half, the sum of its gradients with the mirrored rank's, which holds the same
            stages in a bidirectional pipeline (empty otherwise).
        tied: reduction of the shared embedding between first and last stage; None when there is none.
        grad_norm: the small all-reduce of the gradient norm over all ranks.
        unused_algorithms: asked for by the scenario, and of no use to any collective of the step.
        offloaded: per pipeline rank, Adam in pieces around which state comes from host memory and goes back (empty
            where it lies with the GPU).
        one_stream, regather: ``zero_one_stream`` and ``zero_regather`` of :class:`simtrain.scenario.software.Software`.
    """

    forward: tuple[tuple[Priced, ...], ...]
    backward: tuple[tuple[Priced, ...], ...]
    send_bytes: float
    send_gather: Priced | None
    reduce: tuple[dict[int, tuple[Priced, ...]], ...]
    gather: tuple[dict[int, tuple[Priced, ...]], ...]
    parameter_gather: tuple[dict[int, tuple[Priced, ...]], ...]
    optimizer: tuple[Priced, ...]
    tied: Priced | None
    mirror: tuple[Priced, ...]
    grad_norm: Priced
    unused_algorithms: tuple[str, ...]
    one_stream: bool = False
    regather: bool = False
    offloaded: tuple[OffloadedUpdate, ...] = ()


def shard_of(scenario: Scenario, parallel: Parallel) -> Shard:
    """How one layer of a resolved scenario is cut."""
    layout, workload = scenario.layout, scenario.workload
    moe = workload.model.moe if isinstance(workload.model, Model) else None
    limited = moe is not None and moe.max_nodes_per_token is not None
    dispatcher = layout.dispatcher or scenario.software.dispatcher or ("deepep" if limited else "alltoall")
    return Shard(
        micro_batch=layout.micro_batch,
        sequence=workload.sequence_length,
        tp=layout.tp,
        cp=layout.cp,
        cp_comm=layout.cp_comm,
        ep=layout.ep,
        etp=parallel.etp,
        sp=parallel.sp,
        act_bytes=element_bytes(layout.precision),
        weight_bytes=element_bytes(layout.precision),
        grad_bytes=gradient_bytes(layout),
        recompute=layout.recompute,
        recompute_modules=layout.recompute_modules or ("core_attn",),
        compress_saved=layout.compress_saved,
        attention=layout.attention,
        precision=layout.precision,
        tp_overlap=layout.tp_overlap or "backward",
        tp_overlap_chunks=layout.tp_overlap_chunks,
        dispatcher=dispatcher,
        shared_expert_overlap=layout.shared_expert_overlap,
        ep_overlap_wgrad=layout.ep_overlap_wgrad,
        routing=workload.routing,
        eager=frozenset(key for key in EAGER if getattr(scenario.software, key) == "eager"),
        copies=scenario.software.copies,
        scatter_sends=scenario.software.scatter_sends,
        recompute_stops=scenario.software.recompute_stops,
        ep_per_link=_ranks_per_link(scenario, parallel, dispatcher),
        dummy_gradients=scenario.software.dummy_gradients and layout.zero < 2,
        logits=scenario.software.logits,
        loss=scenario.software.loss,
        head_chunks=layout.head_chunks,
    )


def _ranks_per_link(scenario: Scenario, parallel: Parallel, dispatcher: str) -> int:
    """Ranks of an expert parallel group whose rows share a link: those of a NIC, or of a node that gets a row once."""
    node = scenario.cluster.node
    group = place(parallel, scenario.layout.rank_order).groups("ep")[0]
    if not isinstance(node, Node) or group[0] // node.gpus == group[-1] // node.gpus:
        return 1  # every rank has a link of its own to the others of its node
    in_node = int(np.bincount(group // node.gpus).max())
    if dispatcher == "deepep" and node.links.kind != "pcie":
        return in_node
    return max(1, in_node // max(node.nics, 1))


def send_bytes(model: Model, shard: Shard) -> float:
    """Activations between two stages, of one rank; with sequence parallelism every tp rank sends its own part."""
    return _activations(model, shard) / (shard.tp if shard.sp or shard.scatter_sends else 1)


def _activations(model: Model, shard: Shard) -> float:
    return shard.micro_batch * shard.sequence / shard.cp * model.hidden * shard.act_bytes


def stage_operators(model: Model, shard: Shard, parallel: Parallel) -> list[list[tuple[int, LayerOperators]]]:
    """Layers of each stage with their operators; the embedding opens the first, the head closes the last."""
    alike = shard.routing.kind == "balanced"
    kinds = {layer_kind(model, i) if alike else i: i for i in range(model.layers)}
    found = {kind: layer_operators(model, i, shard) for kind, i in kinds.items()}
    stages = [[(i, found[layer_kind(model, i) if alike else i]) for i in layers] for layers in parallel.stage_layers]
    stages[0].insert(0, (EMBEDDING, embedding_operators(model, shard)))
    stages[-1].append((HEAD, head_operators(model, shard)))
    return stages


def slot_costs(
    prices: PriceList, stages: list[list[tuple[int, LayerOperators]]], send_bytes: float, parallel: Parallel
) -> SlotCosts:
    """Seconds of every stage's slots if nothing overlapped: what a cost-driven schedule searches with."""
    seconds = np.zeros((3, len(stages)))
    for stage, layers in enumerate(stages):
        for layer, operators in layers:
            for op in prices.operators((*operators.forward, *operators.backward), layer):
                seconds["FIW".index(op.part), stage] += op.latency_s + op.work_s
    send = prices.send("send activations", 0, 1, send_bytes) if parallel.pp > 1 else None
    f, i, w = seconds
    return SlotCosts(f, i, w, comm=send.latency_s + send.work_s if send else 0.0)


def price_step(
    prices: PriceList,
    model: Model,
    layout: Layout,
    shard: Shard,
    parallel: Parallel,
    order: Order,
    software: Software,
) -> StepPrices:
    """Price every operator of a step under ``order``."""
    return _StepPricer(prices, model, layout, shard, parallel, order, software).priced()


@dataclass
class _StepPricer:
    prices: PriceList
    model: Model
    layout: Layout
    shard: Shard
    parallel: Parallel
    order: Order
    software: Software

    def priced(self) -> StepPrices:
        """Everything the step runs."""
        stages = stage_operators(self.model, self.shard, self.parallel)
        price = self.prices.operators
        ranks = range(self.parallel.pp)
        shared = BucketPrices(self.prices, self.model, self.layout, self.parallel, self.software)
        return StepPrices(
            forward=tuple(tuple(p for i, ops in stage for p in price(ops.forward, i)) for stage in stages),
            backward=tuple(tuple(p for i, ops in reversed(stage) for p in price(ops.backward, i)) for stage in stages),
            send_bytes=send_bytes(self.model, self.shard),
            send_gather=self._send_gather(),
            reduce=tuple(map(shared.reductions, range(len(stages)))),
            gather=tuple(map(shared.weight_gathers, range(len(stages)))),
            parameter_gather=tuple(map(shared.parameter_gathers, range(len(stages)))),
            optimizer=tuple(map(self._optimizer, ranks)),
            offloaded=tuple(map(self._offloaded, ranks)) if self.layout.offload else (),
            tied=self._tied(),
            mirror=tuple(map(self._mirror, range(self.parallel.pp // 2))) if self.order.placement == "bidir" else (),
            grad_norm=self.prices.exchange("gradient norm", "all", "all_reduce", 4.0),
            unused_algorithms=self.prices.unused_algorithms,
            one_stream=self.software.zero_one_stream and self.layout.zero >= 2,
            regather=self.software.zero_regather,
        )

    def _send_gather(self) -> Priced | None:
        """Parts of activations that tensor parallel ranks received, put together."""
        if not self.shard.scatter_sends or self.shard.sp or self.parallel.tp == 1 or self.parallel.pp == 1:
            return None
        return self.prices.exchange("gather received", "tp", "all_gather", _activations(self.model, self.shard))

    def _rank_stages(self, rank: int) -> list[int]:
        """Stages whose parameters a rank holds (both directions of a bidirectional pipeline)."""
        order = self.order
        ends = (0, order.microbatches - 1)
        return [
            stage
            for stage in range(order.stages)
            if rank in {stage_rank(order.placement, stage, order.ranks, mb, order.microbatches) for mb in ends}
        ]

    def _optimizer(self, rank: int) -> Priced:
        held = parameter_bytes(self.model, self.layout, self.parallel, self._rank_stages(rank))
        moved = held.updated * optimizer_traffic_bytes(self.layout)
        if in_low_precision(self.shard):  # weights are cast once a step, to two copies
            element = element_bytes(self.layout.precision)
            moved += held.weights / weight_bytes(self.layout) * (element + 2 * matmul_input_bytes(self.shard))
        kernel = Kernel("Adam", "optimizer", flops=0.0, bytes=moved)
        return replace(self.prices.kernel(kernel), part="O")

    def _offloaded(self, rank: int) -> OffloadedUpdate:
        stages = self._rank_stages(rank)
        held = parameter_bytes(self.model, self.layout, self.parallel, stages)
        pieces = sum(len(stage_layers(self.parallel, stage)) for stage in stages)
        away = held.updated * away_bytes(self.layout)
        return offloaded_update(self.prices.node, self._optimizer(rank), away, max(1, pieces))

    def _mirror(self, rank: int) -> Priced:
        held = parameter_bytes(self.model, self.layout, self.parallel, self._rank_stages(rank))
        pairs = self.prices.placement.pairs(rank, self.parallel.pp - 1 - rank)
        size = held.updated * self.shard.grad_bytes
        return self.prices.over("mirror reduction", f"mirror {rank}", "all_reduce", pairs, size)

    def _tied(self) -> Priced | None:
        """Tied embeddings live on the first and the last pipeline rank; their gradients are added up."""
        if not (self.model.tied_embeddings and self.parallel.ends_apart):
            return None
        size = self.model.vocab / self.parallel.tp * self.model.hidden * self.shard.grad_bytes
        pairs = self.prices.placement.pairs(0, self.parallel.pp - 1)
        return self.prices.over("embedding reduction", "tied", "all_reduce", pairs, size)
