"""Speed of one simulated step, part by part, in one run.

LLaMA-2 70B, tp 8, pp 8, 32 micro batches on 2048 H100: every kernel and every collective is an operation, symmetric
ranks are folded. Targets: the whole under 5 s, ``simtrain --help`` under 0.3 s of CPU.

    python benchmarks/bench_step.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import simtrain as st
from simtrain.cluster.build import build
from simtrain.engines import compiled, des
from simtrain.scenario.load import load_cluster
from simtrain.step.simulate import plan_step, report_step

T = TypeVar("T")
LAYOUT = ("layout.tp=8", "layout.pp=8", "layout.vpp=1", "layout.schedule=1f1b", "layout.micro_batch=1", "engine=des")
WHOLE_TARGET_S = 5.0
HELP_TARGET_S = 0.3
REPEATS = 3


def best(work: Callable[[], T]) -> tuple[float, T]:
    """Shortest of several runs, in seconds, and what the last one gave."""
    found = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        result = work()
        found.append(time.perf_counter() - begin)
    return min(found), result


def help_cpu_s() -> float:
    """CPU seconds of ``simtrain --help`` in a process of its own, the shortest of several."""
    command = [sys.executable, "-c", "from simtrain.cli.main import main; main()", "--help"]
    found = []
    for _ in range(REPEATS):
        before = os.times()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        found.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(found)


def main() -> None:
    begin = time.perf_counter()
    scenario = st.load("llama2-70b-on-2048-h100", *LAYOUT)
    whole_s = time.perf_counter()
    st.simulate_step(scenario)
    whole_s = time.perf_counter() - whole_s
    load_s = time.perf_counter() - begin - whole_s
    plan_s, plan = best(lambda: plan_step(scenario))
    program = plan.lowered.program
    engine_s, timeline = best(lambda: des.simulate(program))
    compiled_s, _ = best(lambda: compiled.simulate(program))
    report_s, step = best(lambda: report_step(plan, timeline))
    cluster = load_cluster("256x-hgx-h100")
    build_s, topology = best(lambda: build(cluster))
    graph_s, graph = best(lambda: build(cluster).graph)

    n, total_s, micro_batches = program.size, plan_s + engine_s + report_s, plan.parallel.micro_batches
    print(f"LLaMA-2 70B, tp 8, pp 8, {micro_batches} micro batches: {n:,} operations on {program.ranks} ranks")
    print(f"{'part':28}{'seconds':>10}{'share':>8}{'operations/s':>15}")
    for name, seconds in (("plan (price and lower)", plan_s), ("SimPy engine", engine_s), ("report", report_s)):
        print(f"{name:28}{seconds:10.3f}{seconds / total_s:8.0%}{n / seconds:15,.0f}")
    print(f"{'compiled engine instead':28}{compiled_s:10.3f}{'':8}{n / compiled_s:15,.0f}")
    print(f"{'together':28}{total_s:10.3f}{1:8.0%}{n / total_s:15,.0f}")
    print(f"first call in this process: load {load_s:.3f} s, step {whole_s:.2f} s, {_against(whole_s, WHOLE_TARGET_S)}")
    print(f"simulated step {step.time_s:.3f} s: simulated {step.time_s / total_s:.2f} times as fast as it would run")
    print(
        f"topology of {topology.gpus} GPUs: {build_s:.4f} s for {len(topology.ends):,} links; "
        f"with the networkx graph ({graph.number_of_nodes():,} vertices) {graph_s:.3f} s, {graph_s / build_s:.0f} times"
    )
    cpu_s = help_cpu_s()
    print(f"simtrain --help: {cpu_s:.3f} s of CPU, {_against(cpu_s, HELP_TARGET_S)}")


def _against(seconds: float, target_s: float) -> str:
    return f"{seconds / target_s:.2f} of the target {target_s:g} s"


if __name__ == "__main__":
    main()
