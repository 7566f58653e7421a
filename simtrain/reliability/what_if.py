"""What changes if a run fails less, recovers sooner, saves more often, has spares: points for figures.

Everything that is compared meets the same failures: the same seed, the same classes, replicate by replicate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import InputError
from simtrain.quantities import format_quantity
from simtrain.reliability import availability, intervals
from simtrain.reliability import closed_form as formula
from simtrain.reliability.engines import simulate
from simtrain.reliability.job import FailureClass, Fleet, Job, Law, Recovery
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
    "nodes_away",
    "recovery_s",
    "repair_load",
    "scaled",
    "sensitivities",
    "size_curve",
    "size_lines",
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


def goodput_of(result: RunResult) -> intervals.Estimate:
    return intervals.ratio(result.useful_s, result.wall_s)


@dataclass(frozen=True, slots=True)
class IntervalCurve:
    """Goodput against useful work between checkpoints.

    Attributes:
        interval_s: (n,) rising; sampled: n estimates; closed_form: (n,), NaN where there is no formula.
        best_s: interval by young, daly, exact and simulated (the best of those run); None: no such optimum.
        near_best_s: shortest and longest interval whose goodput cannot be told from the best (95 %, paired).
        recovery_can_fail: whether failures strike during recovery.
    """

    interval_s: Floats
    sampled: tuple[intervals.Estimate, ...]
    closed_form: Floats
    best_s: dict[str, float | None]
    near_best_s: tuple[float, float]
    recovery_can_fail: bool


def interval_curve(job: Job, interval_s: Sequence[float], runs: int = 20, seed: int = 0) -> IntervalCurve:
    """Goodput of long runs at each interval.

    Raises:
        InputError: nothing stops the job.
    """
    points = np.sort(np.asarray(interval_s, dtype=np.float64))
    setup = Setup(1, replace(job, work_s=1e9), float(points[0]))
    results = [simulate(long_run(_at(job, t)), runs, seed) for t in points]
    sampled = tuple(map(goodput_of, results))
    top = int(np.argmax([e.value for e in sampled]))
    near = [t for t, r in zip(points, results, strict=True) if difference(r, results[top]).interval()[1] >= 0]
    closed = np.array([_closed(setup, t) for t in points])
    best = setup.best() | {"simulated": float(points[top])}
    return IntervalCurve(points, sampled, closed, best, (near[0], near[-1]), job.recovery.interruptible)


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
        return difference(other, base)

    bars = [SensitivityBar(knob, change(knob, 0.5), change(knob, 2.0)) for knob in knobs]
    return tuple(sorted(bars, key=lambda bar: -bar.swing))


def difference(other: RunResult, base: RunResult) -> intervals.Estimate:
    """Difference of two goodputs, and its error from paired replicates by the delta method."""
    one, two = goodput_of(other), goodput_of(base)
    rests = [(r.useful_s - e.value * r.wall_s) / float(r.wall_s.mean()) for r, e in ((other, one), (base, two))]
    error = float((rests[0] - rests[1]).std(ddof=1) / np.sqrt(base.runs))
    return intervals.Estimate(one.value - two.value, error, base.runs)


@dataclass(frozen=True, slots=True)
class GoodputMap:
    """Goodput over failure rate and interval: ``goodput[i, j]`` at ``gpu_days[i]`` and ``interval_s[j]``.

    ``recovery_s`` is the mean time from a failure to the first useful step.
    """

    gpu_days: Floats
    interval_s: Floats
    goodput: Floats
    recovery_s: float


def goodput_map(
    job: Job, gpus: int, gpu_days: Sequence[float], interval_s: Sequence[float], runs: int = 4, seed: int = 0
) -> GoodputMap:
    """Simulated goodput of long runs of a Job of ``gpus`` GPUs as its classes are scaled to each rate together."""
    days, times = np.asarray(gpu_days, dtype=np.float64), np.asarray(interval_s, dtype=np.float64)
    now = gpus / (job.rate_per_s * 86400.0)

    def at(rate: float, interval: float) -> float:
        return simulate(long_run(_at(scaled(job, mtbf=rate / now), interval)), runs, seed).goodput

    goodput = np.array([[at(rate, interval) for interval in times] for rate in days])
    return GoodputMap(days, times, goodput, recovery_s(job))


def recovery_s(job: Job) -> float:
    """Mean time from a failure that stops the job to its first useful step, detection included, in s."""
    return Setup(1, replace(job, work_s=1e9), "exact").mix().mean_recovery_s


def size_lines(
    job: Job, gpus: int, sizes: Sequence[int], recoveries_s: Sequence[float], runs: int = 8, seed: int = 0
) -> tuple[SizeCurve, ...]:
    """Simulated goodput of a Job of ``gpus`` GPUs as failures grow with its size, one line per recovery time.

    State is saved at the best interval of each size (at the Job's own where checkpoints are free), with the same stall;
    there are always enough nodes.

    Raises:
        InputError: nothing stops the job.
    """
    now_s, own = recovery_s(job), replace(job, fleet=None, work_s=1e9)
    lines = []
    for wanted_s in recoveries_s if now_s else (0.0,):
        goodput, interval = np.empty(len(sizes)), np.empty(len(sizes))
        for i, size in enumerate(sizes):
            there = scaled(own, mtbf=gpus / size, recovery=wanted_s / now_s if now_s else 1)
            best_s = Setup(size, there, own.checkpoint.interval_s).best()["exact"]
            rule = "exact" if best_s else own.checkpoint.interval_s
            interval[i] = Setup(size, there, rule).interval_s
            goodput[i] = simulate(long_run(_at(there, interval[i])), runs, seed).goodput
        name = f"{format_quantity(wanted_s, 'time')} to recover"
        lines.append(SizeCurve(name, np.asarray(sizes, dtype=np.int64), goodput, interval))
    return tuple(lines)


@dataclass(frozen=True, slots=True)
class SpareCurve:
    """Share of time with enough nodes, simulated and by Erlang-B, for (n,) numbers of cold spares.

    Attributes:
        spares: (n,) rising.
        sampled: n means; quantiles: (n, 2), what half of the runs and 99 of 100 reach at least.
        erlang_b: (n,).
        run_s: length of a run, over which the share is taken.
        down: (k,) chance that 0, 1, ... nodes are away at once, if enough spares keep the job going and repair has any
            number of crews.
    """

    spares: NDArray[np.int64]
    sampled: tuple[intervals.Estimate, ...]
    quantiles: Floats
    erlang_b: Floats
    run_s: float
    down: Floats

    def down_at_most(self, chance: float) -> int:
        """Nodes away that are not exceeded with this chance at a random time."""
        return int(np.searchsorted(np.cumsum(self.down), chance))


def spare_curve(job: Job, spares: Sequence[int], runs: int = 20, seed: int = 0) -> SpareCurve:
    """Availability with each number of spares.

    Erlang-B holds for cold spares at a swap of no time, any number of crews, single nodes, and failures that come at
    their full rate whenever nodes suffice; time in recovery, when none strikes, makes it pessimistic.

    Raises:
        InputError: the Job has no fleet, or nothing stops it.
    """
    fleet, (load, longest_s) = _fleet(job), repair_load(job)
    events = max(EVENTS, 50 * job.rate_per_s * longest_s)  # long enough to forget that all were whole
    jobs = [long_run(replace(job, fleet=replace(fleet, spares=s)), events) for s in spares]
    shares = [simulate(each, runs, seed).availability for each in jobs]
    erlang = np.array([1 - availability.erlang_b(s + fleet.hot_spares + 1, load) for s in spares])
    return SpareCurve(
        spares=np.asarray(spares, dtype=np.int64),
        sampled=tuple(map(intervals.mean, shares)),
        quantiles=np.array([np.quantile(s, (0.5, 0.01), method="lower") for s in shares]),
        erlang_b=erlang,
        run_s=jobs[0].horizon_s,
        down=nodes_away(job),
    )


def repair_load(job: Job) -> tuple[float, float]:
    """Nodes in repair on average if failures come at their full rate, and the longest mean time of a repair in s.

    Raises:
        InputError: the Job has no fleet.
    """
    stops = [(c, mean_s) for c, mean_s in _repairs(job) if c.nodes_lost]
    load = sum(c.rate_per_s * c.nodes_lost * mean_s for c, mean_s in stops)
    return load, max((mean_s for _, mean_s in stops), default=0.0)


def _fleet(job: Job) -> Fleet:
    if job.fleet is None:
        raise InputError("the job has no fleet; give it one, for example reliability.spares.cold = 4")
    return job.fleet


def _repairs(job: Job) -> list[tuple[FailureClass, float]]:
    return [(c, (c.repair or _fleet(job).repair).mean) for c in job.classes if c.effect in ("stop", "hang")]


def nodes_away(job: Job) -> Floats:
    """(k,) chance of 0, 1, ... nodes in repair, at full failure rates and with any number of crews.

    Events in repair are Poisson with mean rate * repair for any law of repair (Palm's theorem, M/G/infinity); the nodes
    of an event come back together.

    Raises:
        InputError: the Job has no fleet.
    """
    chances = np.ones(1)
    for failures, mean_s in _repairs(job):
        mean = failures.rate_per_s * mean_s
        if not failures.nodes_lost or not mean:
            continue
        counts = np.arange(int(mean + 10 * np.sqrt(mean) + 10))
        logs = counts * np.log(mean) - mean - np.cumsum(np.log(np.maximum(counts, 1)))
        one = np.zeros((len(counts) - 1) * failures.nodes_lost + 1)
        one[:: failures.nodes_lost] = np.exp(logs)
        chances = np.convolve(chances, one)
    return chances
