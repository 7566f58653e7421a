"""Small programs and timelines made by hand, for everything that draws them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from simtrain import schedules
from simtrain.cluster.build import build
from simtrain.cluster.topology import Topology
from simtrain.costs.collectives import price
from simtrain.program.builder import ProgramBuilder
from simtrain.program.program import Bucket, Phase, Program, Stream
from simtrain.program.timeline import Timeline
from simtrain.scenario.cluster import Cluster
from simtrain.scenario.layout import Layout
from simtrain.scenario.scenario import Scenario
from simtrain.schedules.order import Order
from simtrain.step.network import NetworkReport
from simtrain.step.report import Contribution, Coverage, JobReport, MemoryReport, StepReport

LAYERS = 2
FORWARD = ((Phase.FORWARD, "qkv gemm"), (Phase.FORWARD, "mlp gemm"))
BACKWARD_INPUT = ((Phase.RECOMPUTE, "attention"), (Phase.BACKWARD_INPUT, "mlp dgrad"))
BACKWARD_WEIGHT = ((Phase.BACKWARD_WEIGHT, "mlp wgrad"),)
KERNELS = {
    "F": FORWARD,
    "I": BACKWARD_INPUT,
    "W": BACKWARD_WEIGHT,
    "B": BACKWARD_INPUT + BACKWARD_WEIGHT,
}


def run(program: Program) -> Timeline:
    """Start each operation once its lanes and dependencies are free; operations are in an order that can run."""
    start, end = np.zeros(program.size), np.zeros(program.size)
    free: dict[int, float] = {}
    for op in range(program.size):
        lanes = program.lanes[program.op_ptr[op] : program.op_ptr[op + 1]].tolist()
        span = slice(program.dep_ptr[op], program.dep_ptr[op + 1])
        ready = [end[d] + lag for d, lag in zip(program.dep[span], program.lag_s[span], strict=True)]
        start[op] = max([0.0, *ready, *(free.get(lane, 0.0) for lane in lanes)])
        end[op] = start[op] + program.latency_s[op] + program.work_s[op]
        free.update(dict.fromkeys(lanes, end[op]))
    return Timeline(program, start, end, "by hand")


class PipelineSample:
    """Lowers an order: kernels with a tensor parallel all-reduce per layer, sends, a reduction, an optimizer."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.builder = ProgramBuilder(order.ranks)
        self.ends: dict[tuple[str, int, int], tuple[int, int]] = {}

    def timeline(self, multiplicity: int = 8) -> Timeline:
        todo = [list(rank) for rank in self.order.slots()]
        while any(todo):
            for rank, slots in enumerate(todo):
                while slots and self._ready(slots[0]):
                    self._action(rank, slots.pop(0))
        for rank in range(self.order.ranks):
            reduce = self.builder.op(
                "dp all-reduce", [(rank, Stream.DP)], 2e-3, self._last(rank), phase=Phase.REDUCE,
                bucket=Bucket.COMMUNICATION, stage=rank,
            )  # fmt: skip
            self.builder.op(
                "adam", [(rank, Stream.COMPUTE)], 1e-3, [reduce], phase=Phase.OPTIMIZER, bucket=Bucket.OPTIMIZER
            )
        return run(self.builder.build([multiplicity] * self.order.ranks))

    def _last(self, rank: int) -> list[int]:
        return [max(op for op, owner in self.ends.values() if owner == rank)]

    def _needs(self, slot: list[str | int]) -> list[tuple[str, int, int]]:
        kind, stage, microbatch = str(slot[0]), int(slot[1]), int(slot[2])
        if kind == "F":
            return [("F", stage - 1, microbatch)] if stage else []
        if kind == "W":
            return [("I", stage, microbatch)]
        after = [("I", stage + 1, microbatch)] if stage < self.order.stages - 1 else []
        return [("F", stage, microbatch), *after]

    def _ready(self, slot: list[str | int]) -> bool:
        return all(need in self.ends for need in self._needs(slot))

    def _action(self, rank: int, slot: list[str | int]) -> None:
        kind, stage, microbatch = str(slot[0]), int(slot[1]), int(slot[2])
        after = [self._arrival(self.ends[need], rank, stage, microbatch) for need in self._needs(slot)]
        where = {"stage": stage, "microbatch": microbatch}
        for layer in range(LAYERS):
            for phase, name in KERNELS[kind]:
                op = self.builder.op(
                    name, [(rank, Stream.COMPUTE)], 1.1e-3, after, phase=phase, bucket=Bucket.MATMUL, layer=layer,
                    **where,
                )  # fmt: skip
                after = [op]
            if kind != "W":
                phase = Phase.FORWARD if kind == "F" else Phase.BACKWARD_INPUT
                after = [
                    self.builder.op(
                        "tp all-reduce", [(rank, Stream.TP)], 0.3e-3, after, phase=phase, bytes=4e6,
                        bucket=Bucket.COMMUNICATION, layer=layer, **where,
                    )
                ]  # fmt: skip
        self.ends["I" if kind == "B" else kind, stage, microbatch] = (after[0], rank)

    def _arrival(self, source: tuple[int, int], rank: int, stage: int, microbatch: int) -> int:
        """The operation that brings what another rank made; a send and a receive lane for each hop."""
        op, owner = source
        if owner == rank:
            return op
        forward = (owner + 1) % self.order.ranks == rank
        lanes = (
            [(owner, Stream.PP_SEND_NEXT), (rank, Stream.PP_RECV_PREV)]
            if forward
            else [(owner, Stream.PP_SEND_PREV), (rank, Stream.PP_RECV_NEXT)]
        )
        return self.builder.op(
            "send", lanes, 0.2e-3, [op], phase=Phase.SEND, bucket=Bucket.COMMUNICATION, bytes=1e6, stage=stage,
            microbatch=microbatch,
        )  # fmt: skip


def pipeline(name: str = "1f1b", ranks: int = 4, microbatches: int = 6, chunks: int = 1) -> Timeline:
    """A pipeline step as a Timeline: 2 layers per stage, 8 GPUs behind every rank."""
    return PipelineSample(schedules.get(name).order(ranks, microbatches, chunks)).timeline()


def split_pipeline() -> Timeline:
    """Two ranks with a backward for inputs and for weights apart, and no tensor parallelism between them."""
    first = [["F", 0, 0], ["F", 0, 1], ["I", 0, 0], ["I", 0, 1], ["W", 0, 0], ["W", 0, 1]]
    second = [["F", 1, 0], ["I", 1, 0], ["F", 1, 1], ["I", 1, 1], ["W", 1, 0], ["W", 1, 1]]
    return PipelineSample(Order.from_slots("split", 2, [first, second])).timeline()


def memory_report(ranks: int = 4, capacity_bytes: float = 80 * 2.0**30) -> MemoryReport:
    """Weights alike on every rank, activations fewer towards the last."""
    weights, activations = 20 * 2.0**30, [(ranks - r) * 12 * 2.0**30 for r in range(ranks)]
    times_s = np.array([0.0, 0.01, 0.03, 0.1])
    curve = tuple(
        (times_s + 0.002 * r, weights + a * np.array([0.0, 0.5, 1.0, 0.0])) for r, a in enumerate(activations)
    )
    return MemoryReport(
        capacity_bytes=capacity_bytes,
        peak_bytes=tuple(weights + a for a in activations),
        parts={"weights": (weights,) * ranks, "activations": tuple(activations), "buffers": (0.0,) * ranks},
        peak_time_s=tuple(0.03 + 0.002 * r for r in range(ranks)),
        curve=curve,
    )


WATERFALL = {
    "useful": 0.40, "kernel_inefficiency": 0.15, "non_matmul": 0.08, "recompute": 0.05, "exposed_tp": 0.10,
    "exposed_cp": 0.0, "exposed_ep": 0.0, "exposed_pp": 0.01, "exposed_dp": 0.03, "comm_sms": 0.0,
    "bubble_warmup": 0.05, "bubble_steady": 0.02, "bubble_cooldown": 0.06, "optimizer": 0.03, "host": 0.0,
    "straggler": 0.02,
}  # fmt: skip


def cluster(nodes: int = 4) -> Topology:
    """Nodes of two GPUs on PCIe under one socket, one NIC each, one switch."""
    link = {"bandwidth": "25 GB/s", "latency": "1 us"}
    node = {
        "title": "small", "device": "none", "gpus": 2, "nics": 1, "nic": link, "source": "made up",
        "links": {"kind": "pcie", "pcie": link, "sockets": 1, "host": link},
    }  # fmt: skip
    fabric = {"kind": "single_switch", "latency": "1 us"}
    return build(Cluster.model_validate({"node": node, "nodes": nodes, "fabric": fabric}))


def network(nodes: int = 4) -> NetworkReport:
    """All GPUs add up 1 GB, then the second GPU sends as much to the next node; a fifth of the step is idle."""
    graph, builder = cluster(nodes), ProgramBuilder(1)
    groups = {"all_reduce": np.arange(2 * nodes)[None], "send_recv": np.array([[1, 2]])}
    flows = []
    for (kind, members), stream in zip(groups.items(), (Stream.TP, Stream.PP_SEND_NEXT), strict=True):
        (phase,) = price(graph, cast("Any", kind), members, 1e9, mode="ideal").phases
        builder.op(kind, [(0, stream)], phase.transfer_s, range(len(flows)))
        flows.append(phase.flows)
    builder.op("kernel", [(0, Stream.COMPUTE)], run(builder.build()).makespan_s / 4, [1])
    table: Any = SimpleNamespace(flows=flows, protocols=["ideal"] * 2, links_shared=True)
    program = builder.build([2 * nodes])
    program.flow[2] = -1
    return NetworkReport(graph, run(program), program, table)


def step(title: str = "small model on a small cluster", time_s: float = 0.1146) -> StepReport:
    """A step with every part filled in; its figures are made up."""
    return StepReport(
        scenario=Scenario.model_construct(name=title.split()[0], title=title, layout=Layout(tp=2, pp=4)),
        engine="by hand",
        time_s=time_s,
        tokens_per_s=1.23e6,
        tokens_per_s_per_gpu=600.5,
        model_tflops_per_gpu=250.1,
        mfu=0.42,
        mfu_causal=0.40,
        hfu=0.46,
        bubble_fraction=0.13,
        waterfall=WATERFALL,
        memory=memory_report(),
        job=JobReport(21.5, 1.0e6, 1.5e6, 2.0e5, 9.9e6, 0.75, 1.5),
        coverage=Coverage(17, 3, ("gemm", "attention", "norm")),
        contributions=(
            Contribution(
                "mlp gemm", "gemm", 96, 1.1e-3, 0.05, 0.04, 0.35, "latency + flops / rate", "m=4096", "measured"
            ),
            Contribution("tp all-reduce", "tp", 192, 3e-4, 0.03, 0.05, 0.44, "2(n-1)/n bytes / rate", "n=8", "fitted"),
        ),
        timeline=pipeline(),
        topology=cluster(),
        network=network(),
    )
