"""A whole cluster, nothing folded: 2048 ranks (tp 8, pp 8, dp 32), every rank its own lanes.

16 micro batches, 10 layers a stage (forward 2 ms, backward 4 ms each), a 64 MiB tensor-parallel all-reduce per layer
and direction, 64 MiB between stages, and one data-parallel all-reduce of 2.19 GB.  Prints building, simulating and
accounting for it, unfolded and folded, and the peak memory of the process.

    python benchmarks/bench_cluster.py         # the above
    python benchmarks/bench_cluster.py full    # LLaMA-2 70B, every kernel on every GPU: 18 million operations, 4 GiB
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

import simtrain as st
from simtrain.cluster.build import build
from simtrain.costs.kernels import KernelModel
from simtrain.costs.prices import Priced, PriceList
from simtrain.costs.step import StepPrices
from simtrain.engines import compiled
from simtrain.layout.parallel import Parallel
from simtrain.layout.placement import Placement, place
from simtrain.program.lower import Lowered, lower
from simtrain.program.program import Program
from simtrain.program.timeline import Timeline
from simtrain.program.unfold import unfold
from simtrain.scenario.cluster import Device
from simtrain.scenario.layout import Layout
from simtrain.scenario.load import load_cluster
from simtrain.schedules import get
from simtrain.step.simulate import plan_step
from simtrain.timeline.ledger import account

LAYERS, MICROBATCHES, MIB = 10, 16, 2.0**20
LAYOUT = ("layout.tp=8", "layout.pp=8", "layout.vpp=1", "layout.schedule=1f1b")
FULL_STEP = ("llama2-70b-on-2048-h100", *LAYOUT)


def prices_of(parallel: Parallel) -> tuple[PriceList, StepPrices]:
    cluster = load_cluster("256x-hgx-h100")
    assert not isinstance(cluster.node, str)
    assert isinstance(cluster.node.device, Device)
    kernels = KernelModel(cluster.node.device, "dense", "bf16")
    prices = PriceList(kernels, build(cluster), place(parallel, "tp-cp-dp-pp"), cluster)

    def compute(name: str, part: str, layer: int, work_s: float) -> Priced:
        return Priced(name, "compute", part, False, layer, 0.0, work_s, 0.0, 0.0, 0.0, None, "gemm")

    def stage(part: str, work_s: float) -> tuple[Priced, ...]:
        return tuple(
            op
            for layer in range(LAYERS)
            for op in (
                compute("layer", part, layer, work_s),
                prices.exchange("tp all-reduce", "tp", "all_reduce", 64 * MIB, layer, part=part),
            )
        )

    reduction = prices.exchange("gradient reduction", "dp", "all_reduce", 2.19e9, 0)
    return prices, StepPrices(
        forward=(stage("F", 2e-3),) * parallel.pp,
        backward=(stage("I", 4e-3),) * parallel.pp,
        send_bytes=64 * MIB,
        reduce=({0: (reduction,)},) * parallel.pp,
        gather=({},) * parallel.pp,
        parameter_gather=({},) * parallel.pp,
        optimizer=(compute("Adam", "O", -1, 0.0),) * parallel.pp,
        tied=None,
        mirror=(),
        grad_norm=prices.exchange("gradient norm", "all", "all_reduce", 4.0),
    )


def main() -> None:
    parallel = Parallel(2048, 8, 1, 1, 8, 1, 32, False, MICROBATCHES, ((),) * 8)
    account(compiled.simulate(folded(parallel)[1].program))  # warm: compiled code is loaded
    begin = time.perf_counter()
    if sys.argv[1:] == ["full"]:
        plan = plan_step(st.load(*FULL_STEP))
        measure(plan.lowered, plan.placement, begin)
        return
    prices, lowered = folded(parallel)
    total_s = measure(lowered, prices.placement, begin)
    print(f"total {total_s:.2f} s, building included (target 3 s and 1 GB; a C++ simulator: 162 CPU s, 2.1 GB)")


def measure(lowered: Lowered, placement: Placement, begin: float) -> float:
    """Print what a folded program, built since ``begin``, and its copies take; seconds of the unfolded, all in all."""
    build_s = time.perf_counter() - begin
    timeline = run("folded:", lowered.program, build_s)
    begin = time.perf_counter()
    whole = unfold(lowered, placement)
    every = run("unfolded:", whole.program, build_s + time.perf_counter() - begin)
    total_s = build_s + time.perf_counter() - begin
    difference = np.abs(every.end_s - timeline.end_s[whole.source]).max()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"step {every.makespan_s:.4f} s, folded and unfolded differ by {difference:.1e} s, peak memory {memory:.2f} GiB"
    )
    return total_s


def run(name: str, program: Program, build_s: float) -> Timeline:
    begin = time.perf_counter()
    timeline = compiled.simulate(program)
    simulated = time.perf_counter()
    account(timeline)
    done = time.perf_counter()
    print(
        f"{name:9} {program.size:>10,} operations, build {build_s:.3f} s, simulate {simulated - begin:.4f} s "
        f"({(simulated - begin) / program.size * 1e6:.2f} us each), account {done - simulated:.4f} s"
    )
    return timeline


def folded(parallel: Parallel) -> tuple[PriceList, Lowered]:
    prices, step = prices_of(parallel)
    order = get("1f1b").order(parallel.pp, MICROBATCHES)
    return prices, lower(order, step, prices, Layout(tp=8, pp=8, zero=0), parallel)


if __name__ == "__main__":
    main()
