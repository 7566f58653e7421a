"""Speed of the reliability engines, beside the 14 simulated days a second of a public failure simulator.

AIReSim (SimPy, one core) takes 28.5 s for 411 days and 11,175 failures of 4,096 servers: 14 days and 392 failures a
second.
"""

from __future__ import annotations

import time

from simtrain.reliability.engines import simulate
from simtrain.reliability.job import Checkpoint, FailureClass, Fleet, Job, Law, Recovery

DAY = 86400.0
PUBLIC_DAYS_PER_S, PUBLIC_FAILURES_PER_S = 14.0, 392.0
LLAMA_GPU_DAYS = {"gpu": 5978, "memory": 12288, "other": 21065, "network": 25278, "host": 63195, "software": 6500}


def job(gpus: int, days: float, mtbf_days: dict[str, float], fleet: Fleet | None = None) -> Job:
    classes = tuple(
        FailureClass(
            name=name, owner="gpu", components=gpus, law=Law("exponential", mtbf * DAY), detection=Law("fixed", 30.0),
            nodes_lost=1 if fleet else 0,
        )
        for name, mtbf in mtbf_days.items()
    )  # fmt: skip
    return Job(
        horizon_s=days * DAY,
        classes=classes,
        recovery=Recovery(phases=(("start", Law("fixed", 300.0)), ("load", Law("fixed", 120.0)))),
        checkpoint=Checkpoint(kind="blocking", interval_s=1800.0, stall_s=20.0),
        fleet=fleet,
    )


def timed(what: str, task: Job, engine: str, runs: int = 1) -> None:
    simulate(task, 1, engine=engine)  # compiled code is loaded
    start = time.perf_counter()
    result = simulate(task, runs, engine=engine)
    spent = time.perf_counter() - start
    days, failures = result.wall_s.sum() / DAY / spent, result.failures.sum() / spent
    print(
        f"{what:<58} {engine:<9} {spent:7.2f} s {days:>12,.0f} days/s = {days / PUBLIC_DAYS_PER_S:>8,.0f}x "
        f"{failures:>10,.0f} failures/s = {failures / PUBLIC_FAILURES_PER_S:>6,.0f}x"
    )


def main() -> None:
    llama = job(16384, 54.0, LLAMA_GPU_DAYS)
    timed("16,384 GPUs at Llama 3's rates, 54 days, 1,000 runs", llama, "compiled", 1000)
    timed("16,384 GPUs at Llama 3's rates, 54 days", llama, "des", 20)
    servers = job(8 * 4096, 400.0, LLAMA_GPU_DAYS)
    timed("4,096 servers of 8 GPUs at these rates, 400 days", servers, "des")
    timed("4,096 servers of 8 GPUs at these rates, 400 days", servers, "compiled")
    spares = Fleet(nodes=4096, spares=128, swap_s=180.0, repair=Law("lognormal", 2 * DAY, 1.0))
    public = job(4096, 400.0, {"server": 150.0}, spares)
    timed("4,096 servers, 27 failures a day, spares and repair", public, "des")
    timed("4,096 servers, 27 failures a day, spares and repair", public, "compiled")


if __name__ == "__main__":
    main()
