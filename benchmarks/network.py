"""Prices of collectives over 64 to 2048 H100, against what an event simulator takes for the same.

The simulator is ASTRA-sim 2 (C++, analytical backend, -O3), measured on two x86-64 cores: CPU seconds for a 1 GiB
all-reduce on 8 x N / 8 GPUs.  Here a price covers the choice among all algorithms and protocols, and the bytes that
every group moves over every link; nothing is kept from one to the next.  The first all-reduce over 2048 GPUs is aimed
at 100 times less than the simulator, building the cluster included.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from simtrain.cluster.build import build
from simtrain.costs.collectives import price
from simtrain.costs.collectives.price import algorithms_for
from simtrain.scenario.load import load_cluster

SIMULATOR_CPU_S = {64: 0.02, 256: 0.10, 1024: 2.11, 2048: 16.31}
SIZE_BYTES, REPEAT, AIM = 2.0**30, 5, 100.0
GROUPS = (8, 64, 256)


def fastest(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the fastest of some runs, and what the last came to."""
    best = float("inf")
    for _ in range(REPEAT):
        begin = time.perf_counter()
        result = run()
        best = min(best, time.perf_counter() - begin)
    return best, result


def main() -> None:
    cluster = load_cluster("256x-hgx-h100")
    algorithms_for("all_reduce")  # the modules of the algorithms are imported
    print("1 GiB over all GPUs at once")
    print("GPUs  build ms  all_reduce ms  all_gather ms  all_to_all ms  simulator s  ratio with build")
    for gpus, simulator_s in SIMULATOR_CPU_S.items():
        shape = cluster.model_copy(update={"nodes": gpus // 8})
        build_s, _ = fastest(lambda shape=shape: build(shape))
        whole = np.arange(gpus)[None]
        times = [
            fastest(lambda kind=kind, shape=shape, whole=whole: price(build(shape), kind, whole, SIZE_BYTES))[0]
            - build_s
            for kind in ("all_reduce", "all_gather", "all_to_all")
        ]
        ratio = simulator_s / (times[0] + build_s)
        cells = "".join(f"{1e3 * seconds:>15.2f}" for seconds in times)
        print(f"{gpus:>4}  {1e3 * build_s:>8.2f}{cells}{simulator_s:>13.2f}{ratio:>18.0f}")
    print(f"aim at 2048: {AIM:.0f}, reached: {ratio:.0f}" + ("" if ratio >= AIM else "  MISSED"))
    print("\n1 GiB in all groups of 2048 GPUs at once, ms")
    print("GPUs of a group  all_reduce  all_gather  all_to_all")
    graph, ranks = build(cluster), np.arange(2048)
    for size in GROUPS:
        cells = ""
        for kind in ("all_reduce", "all_gather", "all_to_all"):

            def fresh(kind: str = kind, size: int = size) -> Any:
                graph.cache.clear()
                return price(graph, kind, ranks.reshape(-1, size), SIZE_BYTES)  # type: ignore[arg-type]

            cells += f"{1e3 * fastest(fresh)[0]:>12.2f}"
        print(f"{size:>15}{cells}")


if __name__ == "__main__":
    main()
