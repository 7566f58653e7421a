"""What changes if a run fails less, recovers sooner, saves more often, has spares: points for figures.

Everything that is compared meets the same failures: the same seed, the same classes, replicate by replicate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import InputError
from simtrain.reliability import availability, intervals
from simtrain.reliability import closed_form as formula
from simtrain.reliability.engines import simulate
from simtrain.reliability.job import FailureClass, Job, Law, Recovery
from simtrain.reliability.outlook import Setup
from simtrain.reliability.result import RunResult

__all__ = [
    "KNOBS",
    "GoodputMap",
    "IntervalCurve",
    "SensitivityBar",
    "SizeCurve",
    "SpareCurve",
    "blocking_goodput",
    "goodput_map",
    "interval_curve",
    "long_run",
    "scaled",
    "sensitivities",
    "size_curve",
    "spare_curve",
]

Floats = NDArray[np.float64]

EVENTS = 300
"""Mean number of failures in one replicate of a long run: the ends of the run are below 1 % of it."""


def long_run(job: Job, events: float = EVENTS) -> Job:
    """The Job without an end to its work, for the time in which it fails ``events`` times on average.

    The cost of simulating it does not depend on how well it does.

    Raises:
        InputError: nothing stops the job.
    """
    if not job.rate_per_s:
        raise InputError("no failure class stops the job, so there is nothing to compare")
    return replace(job, work_s=np.inf, horizon_s=events / job.rate_per_s)


def scaled(
    job: Job, *, mtbf: float = 1, recovery: float = 1, interval: float = 1, checkpoint: float = 1, spares: float = 1
) -> Job:
    """The Job with some of its times multiplied; ``spares`` multiplies cold spares, rounded.

    ``recovery`` covers detection and every phase, from storage and from memory; ``checkpoint`` the stalls and the time
    until a checkpoint is durable.
    """
    saved = job.checkpoint
    memory = _recovery(saved.memory_recovery, recovery) if saved.memory_recovery else None
    policy = replace(
        saved,
        interval_s=saved.interval_s * interval,
        memory_interval_s=saved.memory_interval_s * interval,
        stall_s=saved.stall_s * checkpoint,
        memory_stall_s=saved.memory_stall_s * checkpoint,
        persist_s=saved.persist_s * checkpoint,
        memory_recovery=memory,
    )
    fleet = job.fleet and replace(job.fleet, spares=round(job.fleet.spares * spares))
    classes = tuple(_class(c, mtbf, recovery) for c in job.classes)
    return replace(job, classes=classes, recovery=_recovery(job.recovery, recovery), checkpoint=policy, fleet=fleet)


def _law(law: Law, factor: float) -> Law:
    table = tuple(t * factor for t in law.table)
    return replace(law, mean_s=law.mean_s * factor, table=table, rates_per_s=tuple(r / factor for r in law.rates_per_s))


def _recovery(recovery: Recovery, factor: float) -> Recovery:
    return replace(recovery, phases=tuple((bucket, _law(law, factor)) for bucket, law in recovery.phases))


def _class(c: FailureClass, mtbf: float, recovery: float) -> FailureClass:
    own = c.recovery and _recovery(c.recovery, recovery)
    return replace(c, law=_law(c.law, mtbf), detection=_law(c.detection, recovery), recovery=own)


def _goodput(result: RunResult) -> intervals.Estimate:
    return intervals.ratio(result.useful_s, result.wall_s)


@dataclass(frozen=True, slots=True)
class IntervalCurve:
    """Goodput against useful work between checkpoints.

    Attributes:
        interval_s: (n,) rising; sampled: n estimates; closed_form: (n,), NaN where there is no formula.
        best_s: interval by young, daly, exact and simulated (the best of those that were run); None: no such optimum.
        recovery_can_fail: whether failures strike during recovery.
    """

    interval_s: Floats
    sampled: tuple[intervals.Estimate, ...]
    closed_form: Floats
    best_s: dict[str, float | None]
    recovery_can_fail: bool


def interval_curve(job: Job, interval_s: Sequence[float], runs: int = 20, seed: int = 0) -> IntervalCurve:
    """Goodput of long runs at each interval.

    Raises:
        InputError: nothing stops the job.
    """
    points = np.sort(np.asarray(interval_s, dtype=np.float64))
    setup = Setup(1, replace(job, work_s=1e9), float(points[0]))
    sampled = tuple(_goodput(simulate(long_run(_at(job, t)), runs, seed)) for t in points)
    closed = np.array([_closed(setup, t) for t in points])
    best = setup.best() | {"simulated": float(points[np.argmax([e.value for e in sampled])])}
    return IntervalCurve(points, sampled, closed, best, job.recovery.interruptible)


def _at(job: Job, interval_s: float) -> Job:
    saved = job.checkpoint
    return replace(
        job,
        checkpoint=replace(saved, interval_s=interval_s, memory_interval_s=min(saved.memory_interval_s, interval_s)),
    )


def _closed(setup: Setup, interval_s: float) -> float:
    mix, saved = setup.mix(), setup.job.checkpoint
    if saved.kind == "async":
        return formula.async_goodput(
            mix.mtbf_s, interval_s, saved.stall_s, saved.persist_s, mix.recovery_s, persist_speed=saved.persist_speed
        )[0]
    if saved.kind != "blocking":
        return np.nan
    return blocking_goodput(mix.mtbf_s, mix.recovery_s, saved.stall_s, interval_s)


def blocking_goodput(mtbf_s: float, down_s: float, stall_s: float, interval_s: float) -> float:
    """Goodput of an endless run: tau / ((M + D)(e^((tau + C)/M) - 1)), ``down_s`` = D seconds lost per failure."""
    exponent = (interval_s + stall_s) / mtbf_s
    return float(interval_s / ((mtbf_s + down_s) * np.expm1(exponent))) if exponent < 700 else 0.0


@dataclass(frozen=True, slots=True)
class SizeCurve:
    """Goodput at the best interval of each size: ``goodput`` is (n,) for (n,) ``gpus``."""

    name: str
    gpus: NDArray[np.int64]
    goodput: Floats
    interval_s: Floats


def size_curve(
    name: str, gpu_days: float, recovery_s: float, stall_s: float, gpus: Sequence[int], restarts: bool = True
) -> SizeCurve:
    """Goodput of blocking checkpoints at their best interval, by formula, as failures grow with the cluster.

    Args:
        name: of the line.
        gpu_days: days between two failures that stop the job, times its GPUs.
        recovery_s: detection included.
        stall_s: of a checkpoint, the same at every size; above 0.
        gpus: sizes.
        restarts: whether failures strike recovery.
    """
    goodput, best = np.empty(len(gpus)), np.empty(len(gpus))
    for i, count in enumerate(gpus):
        mtbf_s = gpu_days * 86400.0 / count
        best[i] = formula.optimal_segment_s(mtbf_s, stall_s) or 0.0
        down_s = formula.failure_mix([1 / mtbf_s], [recovery_s], restarts=restarts).recovery_s
        goodput[i] = blocking_goodput(mtbf_s, down_s, stall_s, best[i])
    return SizeCurve(name, np.asarray(gpus, dtype=np.int64), goodput, best)


KNOBS = ("mtbf", "recovery", "interval", "checkpoint", "spares")
"""What :func:`sensitivities` halves and doubles."""


@dataclass(frozen=True, slots=True)
class SensitivityBar:
    """Change of goodput with one knob at half and at twice its value, each with its standard error (paired runs)."""

    knob: str
    half: intervals.Estimate
    twice: intervals.Estimate

    @property
    def swing(self) -> float:
        """From the lower to the upper end, the Job itself included."""
        ends = (0.0, self.half.value, self.twice.value)
        return max(ends) - min(ends)


def sensitivities(job: Job, runs: int = 40, seed: int = 0) -> tuple[SensitivityBar, ...]:
    """One bar per knob, the longest first, over the same time and the same random numbers; spares with a fleet only.

    Raises:
        InputError: nothing stops the job.
    """
    endless = long_run(job)
    base = simulate(endless, runs, seed)
    knobs = [knob for knob in KNOBS if knob != "spares" or job.fleet]

    def change(knob: str, factor: float) -> intervals.Estimate:
        other = simulate(scaled(endless, **{knob: factor}), runs, seed)
        return _difference(other, base)

    bars = [SensitivityBar(knob, change(knob, 0.5), change(knob, 2.0)) for knob in knobs]
    return tuple(sorted(bars, key=lambda bar: -bar.swing))


def _difference(other: RunResult, base: RunResult) -> intervals.Estimate:
    """Difference of two goodputs, and its error from paired replicates by the delta method."""
    one, two = _goodput(other), _goodput(base)
    rests = [(r.useful_s - e.value * r.wall_s) / float(r.wall_s.mean()) for r, e in ((other, one), (base, two))]
    error = float((rests[0] - rests[1]).std(ddof=1) / np.sqrt(base.runs))
    return intervals.Estimate(one.value - two.value, error, base.runs)


@dataclass(frozen=True, slots=True)
class GoodputMap:
    """Goodput over failure rate and interval: ``goodput[i, j]`` at ``gpu_days[i]`` and ``interval_s[j]``."""

    gpu_days: Floats
    interval_s: Floats
    goodput: Floats


def goodput_map(
    job: Job, gpus: int, gpu_days: Sequence[float], interval_s: Sequence[float], runs: int = 4, seed: int = 0
) -> GoodputMap:
    """Simulated goodput of long runs of a Job of ``gpus`` GPUs as its classes are scaled to each rate together."""
    days, times = np.asarray(gpu_days, dtype=np.float64), np.asarray(interval_s, dtype=np.float64)
    now = gpus / (job.rate_per_s * 86400.0)

    def at(rate: float, interval: float) -> float:
        return simulate(long_run(_at(scaled(job, mtbf=rate / now), interval)), runs, seed).goodput

    return GoodputMap(days, times, np.array([[at(rate, interval) for interval in times] for rate in days]))


@dataclass(frozen=True, slots=True)
class SpareCurve:
    """Share of time with enough nodes, simulated and by Erlang-B, for (n,) numbers of cold spares."""

    spares: NDArray[np.int64]
    sampled: tuple[intervals.Estimate, ...]
    erlang_b: Floats


def spare_curve(job: Job, spares: Sequence[int], runs: int = 20, seed: int = 0) -> SpareCurve:
    """Availability with each number of spares.

    Erlang-B holds for cold spares at a swap of no time, any number of crews, single nodes, and failures that come at
    their full rate whenever nodes suffice; time in recovery, when none strikes, makes it pessimistic.

    Raises:
        InputError: the Job has no fleet, or nothing stops it.
    """
    if job.fleet is None:
        raise InputError("the job has no fleet; give it one, for example reliability.spares.cold = 4")
    jobs = [replace(job, fleet=replace(job.fleet, spares=s)) for s in spares]
    stops = [c for c in job.classes if c.effect in ("stop", "hang")]
    repairs_s = [(c.repair or job.fleet.repair).mean for c in stops]
    load = sum(c.rate_per_s * c.nodes_lost * repair_s for c, repair_s in zip(stops, repairs_s, strict=True))
    events = max(EVENTS, 50 * job.rate_per_s * max(repairs_s, default=0.0))  # long enough to forget that all were whole
    sampled = tuple(intervals.mean(simulate(long_run(j, events), runs, seed).availability) for j in jobs)
    erlang = np.array([1 - availability.erlang_b(s + job.fleet.hot_spares + 1, load) for s in spares])
    return SpareCurve(np.asarray(spares, dtype=np.int64), sampled, erlang)
