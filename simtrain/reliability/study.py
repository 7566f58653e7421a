"""A what-if study of one job: every analysis of :mod:`simtrain.reliability.what_if` at values around its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import InputError, UnsupportedError
from simtrain.quantities import format_quantity
from simtrain.reliability.alone import classes_of_preset, fleet_of
from simtrain.reliability.engines import simulate
from simtrain.reliability.intervals import Estimate
from simtrain.reliability.job import Job
from simtrain.reliability.outlook import Setup
from simtrain.reliability.subject import Subject
from simtrain.reliability.what_if import (
    GoodputMap,
    IntervalCurve,
    SensitivityBar,
    SizeCurve,
    SpareCurve,
    difference,
    goodput_map,
    goodput_of,
    interval_curve,
    long_run,
    recovery_s,
    repair_load,
    scaled,
    sensitivities,
    size_lines,
    spare_curve,
)
from simtrain.scenario.reliability import Reliability, Spares
from simtrain.step.money import job_report
from simtrain.step.report import StepReport

__all__ = ["RUNS", "STAGES", "CostLine", "Policy", "RateLine", "Study", "study_of"]

Floats = NDArray[np.float64]

RUNS = 20
"""Replicates of each point with an interval of confidence; points of maps and lines take a fifth and a half of them."""
STAGES = 6
"""Times that ``advance`` is called."""
SIZES = tuple(2**k for k in range(10, 18))
"""GPUs on the lines of cluster size: 1,024 to 131,072."""
RECOVERIES_S = (60.0, 180.0, 600.0, 1800.0)
"""Recovery times of these lines."""
FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Failure rates of a map, as multiples of the GPU time between failures."""
ROUND_S = (10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400, 172800, 604800)
"""Intervals of a map: seven of these."""
POINTS = 17
"""Intervals of the curve."""


@dataclass(frozen=True, slots=True)
class RateLine:
    """A failure rate by name: ``gpu_days`` between two failures that stop a job, times its GPUs."""

    name: str
    gpu_days: float


@dataclass(frozen=True, slots=True)
class Policy:
    """What a way to save or to go on is worth, on the same failures as all others.

    Attributes:
        name: what differs; group: checkpoints | nodes.
        goodput: useful over wall time; change: against the job as it is, paired.
        spares: nodes beyond those of the job.
        usd_per_million_tokens: spare nodes included; None without prices.
    """

    name: str
    group: str
    goodput: Estimate
    change: Estimate
    spares: int
    usd_per_million_tokens: float | None


@dataclass(frozen=True, slots=True)
class CostLine:
    """USD per million useful tokens at the best interval: (n,) ``usd`` at (n,) ``gpu_days`` between failures."""

    recovery_s: float
    gpu_days: Floats
    usd: Floats


@dataclass(frozen=True, slots=True)
class Study:
    """All analyses of one job.

    Attributes:
        gpus, nodes: of the job.
        job: at its interval; its work does not matter.
        left_out: policies that this job cannot have, and why.
        usd_without_failures: per million tokens; None without prices.
    """

    gpus: int
    nodes: int
    job: Job
    interval: IntervalCurve
    maps: tuple[GoodputMap, ...]
    sensitivities: tuple[SensitivityBar, ...]
    sizes: tuple[SizeCurve, ...]
    rates: tuple[RateLine, ...]
    spares: SpareCurve
    policies: tuple[Policy, ...]
    left_out: tuple[str, ...]
    costs: tuple[CostLine, ...]
    usd_without_failures: float | None

    @property
    def gpu_days(self) -> float:
        """GPU-days between two failures that stop the job."""
        return self.gpus / (self.job.rate_per_s * 86400.0)

    @property
    def recovery_s(self) -> float:
        """Mean time from a failure to the first useful step."""
        return recovery_s(self.job)

    @property
    def approximations(self) -> tuple[str, ...]:
        """What the formula leaves out."""
        return Setup(self.gpus, self.job, self.job.checkpoint.interval_s).approximations()

    def document(self) -> dict[str, Any]:
        """As JSON; estimates are value, error and runs, None what has no formula."""
        parts = ("interval", "maps", "sensitivities", "sizes", "rates", "spares", "policies", "costs")
        document = {
            "gpus": self.gpus,
            "nodes": self.nodes,
            "gpu_days_per_failure": self.gpu_days,
            "mtbf_s": 1 / self.job.rate_per_s,
            "recovery_s": self.recovery_s,
            "recovery_can_fail": self.job.recovery.interruptible,
            "interval_s": self.job.checkpoint.interval_s,
            "usd_per_million_tokens_without_failures": self.usd_without_failures,
            "formula_leaves_out": list(self.approximations),
            "left_out": list(self.left_out),
        }
        return document | {part: _plain(_dictionary(getattr(self, part))) for part in parts}


def _dictionary(value: Any) -> Any:
    return [asdict(each) for each in value] if isinstance(value, tuple) else asdict(value)


def _plain(value: Any) -> Any:
    """JSON of nested dictionaries, arrays and numbers."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def study_of(subject: Subject, runs: int = RUNS, seed: int = 0, advance: Callable[[], object] = lambda: None) -> Study:
    """Study a job at values around its own.

    Args:
        subject: the job; with a step there are prices too.
        runs: of points with an interval of confidence.
        seed: of the failures.
        advance: called after each of :data:`STAGES`.

    Raises:
        InputError: nothing stops the job, or it saves nothing.
    """
    setup, nodes, step = subject.setup, subject.nodes, subject.step
    if setup.job.checkpoint.kind == "none":
        raise InputError("checkpoint.kind = 'none' leaves no interval to vary; allowed: blocking, async, tiered")
    job = setup.run()
    long_run(job)  # refuses what never fails

    def done(result: Any) -> Any:
        advance()
        return result

    pool = _with_nodes(job, nodes)
    curve = done(interval_curve(job, _intervals(setup), runs, seed))
    maps = done(_maps(job, setup, max(2, runs // 5), seed))
    bars = done(sensitivities(job, runs, seed))
    sizes = done(size_lines(job, setup.gpus, SIZES, RECOVERIES_S, max(2, runs // 2), seed))
    spares = done(spare_curve(pool, _spare_counts(pool), max(runs, 100), seed))
    policies, left_out = done(_policies(job, subject, spares.down_at_most(0.99), runs, seed))
    free = _usd(step, 1.0)
    return Study(
        gpus=setup.gpus,
        nodes=nodes,
        job=job,
        interval=curve,
        maps=maps,
        sensitivities=bars,
        sizes=sizes,
        rates=(RateLine("this job", setup.gpus / (job.rate_per_s * 86400.0)), *_published()),
        spares=spares,
        policies=policies,
        left_out=left_out,
        costs=() if free is None else tuple(_costs(found, step) for found in maps),
        usd_without_failures=free,
    )


def _with_nodes(job: Job, nodes: int) -> Job:
    """The job with a fleet that waits for nodes; its own repair, or that of a scenario that says nothing."""
    fleet = job.fleet or fleet_of(Spares(), nodes)
    return replace(job, fleet=replace(fleet, policy="spare", nodes_per_replica=1, min_replicas=1))


def _intervals(setup: Setup) -> list[float]:
    middle = setup.best()["exact"] or setup.interval_s
    steps = np.linspace(-1, 1, POINTS)
    reach = max(16.0, 2 * setup.interval_s / middle, 2 * middle / setup.interval_s)
    saved = setup.job.checkpoint
    soonest_s = saved.persist_s - saved.stall_s  # sooner a checkpoint only waits for the one before
    times = middle * reach ** (np.sign(steps) * np.abs(steps) ** 1.5)  # closer together around the middle
    return sorted({float(t) for t in np.maximum(times, soonest_s)})


def _maps(job: Job, setup: Setup, runs: int, seed: int) -> tuple[GoodputMap, ...]:
    """Rates around the job's own against round intervals, at a third of its recovery time, at that, and thrice it."""
    own_days, best_s = setup.gpus / (job.rate_per_s * 86400.0), setup.best()["exact"]
    every_s = math.sqrt(setup.interval_s * (best_s or setup.interval_s))
    nearest = min(range(len(ROUND_S)), key=lambda i: abs(math.log(ROUND_S[i] / every_s)))
    first = min(max(nearest - 3, 0), len(ROUND_S) - 7)
    days = [own_days * factor for factor in FACTORS]
    jobs = [scaled(job, recovery=factor) for factor in ((1 / 3, 1, 3) if recovery_s(job) else (1,))]
    return tuple(goodput_map(each, setup.gpus, days, ROUND_S[first : first + 7], runs, seed) for each in jobs)


def _spare_counts(pool: Job) -> list[int]:
    """From none to more than are ever away."""
    load, _ = repair_load(pool)
    most = max(4, math.ceil(load + 4 * math.sqrt(load) + 2))
    return sorted({round(most * k / 8) for k in range(9)})


def _published() -> tuple[RateLine, ...]:
    """Rates of the shipped presets."""
    from simtrain.scenario import library
    from simtrain.scenario.load import load_preset

    lines = []
    for name in library.names("preset"):
        classes = classes_of_preset(load_preset(name), 8192, 1024)
        rate = sum(c.rate_per_s for c in classes if c.effect in ("stop", "hang"))
        lines.append(RateLine(name, 8192 / (rate * 86400.0)))
    return tuple(sorted(lines, key=lambda line: -line.gpu_days))


def _usd(step: StepReport | None, goodput: float, spares: int = 0) -> float | None:
    """USD per million useful tokens; None without a scenario, without prices, or without progress."""
    if step is None or goodput <= 0:
        return None
    cluster = step.scenario.cluster
    wider = step.scenario.model_copy(update={"cluster": cluster.model_copy(update={"nodes": cluster.nodes + spares})})
    return job_report(wider, step.tokens_per_s * goodput).usd_per_million_tokens


def _costs(found: GoodputMap, step: StepReport | None) -> CostLine:
    usd = [_usd(step, float(goodput)) for goodput in found.goodput.max(axis=1)]
    return CostLine(found.recovery_s, found.gpu_days, np.array([math.nan if u is None else u for u in usd]))


Variants = dict[str, Reliability]


def _policies(
    job: Job, subject: Subject, spares: int, runs: int, seed: int
) -> tuple[tuple[Policy, ...], tuple[str, ...]]:
    """Each way to save and each to go on, and those that cannot be."""
    endless, part, step = long_run(job), subject.part, subject.step
    base = simulate(endless, runs, seed)

    def measured(name: str, group: str, other: Job) -> Policy:
        result = simulate(replace(other, work_s=math.inf, horizon_s=endless.horizon_s), runs, seed)
        extra = other.fleet.spares + other.fleet.hot_spares if other.fleet else 0
        usd = _usd(step, result.goodput, extra)
        return Policy(name, group, goodput_of(result), difference(result, base), extra, usd)

    now = f"as it is: {job.checkpoint.kind}, each {format_quantity(job.checkpoint.interval_s, 'time', 2)}"
    found, left_out = [measured(now, "checkpoints", job)], []
    ways = {"checkpoints": _ways_to_save(job, part, alone=step is None), "nodes": _ways_to_go_on(part, spares)}
    for group, variants in ways.items():
        for name, other in variants.items():
            try:
                found.append(measured(name, group, subject.setup_of(other).run()))
            except (InputError, UnsupportedError) as error:
                left_out.append(f"{name}: {error}")
    return tuple(found), tuple(left_out)


def _ways_to_save(job: Job, part: Reliability, *, alone: bool) -> Variants:
    """Kinds of checkpoints, each at its best interval; without a model copies take no time and writing the stall."""
    written: dict[str, Any] = {"stall": None, "persist": None}
    if alone:
        saved = job.checkpoint
        written = {"stall": 0.0, "persist": saved.stall_s if saved.kind == "blocking" else saved.persist_s}
    kinds: dict[str, dict[str, Any]] = {
        "blocking": {"kind": "blocking", "stall": written["persist"], "persist": None},
        "asynchronous": {"kind": "async", **written},
        "and in memory each minute": {"kind": "tiered", **written, "memory_interval": "1 min"},
        "just in time": {"kind": "just_in_time", **written},
    }
    return {
        name: part.model_copy(update={"checkpoint": part.checkpoint.model_copy(update={"interval": "exact"} | keys)})
        for name, keys in kinds.items()
    }


def _ways_to_go_on(part: Reliability, spares: int) -> Variants:
    """Policies without enough nodes: none spare, as many as suffice 99 times in 100, replicas that do without."""
    own = part.spares or Spares()
    ways = {
        "no spare node, wait": {"policy": "wait", "cold": 0, "hot": 0},
        f"{spares} cold spare node{'' if spares == 1 else 's'}": {"policy": "spare", "cold": spares, "hot": 0},
        "shrink to whole replicas": {"policy": "shrink", "cold": 0, "hot": 0},
        "lose a replica, go on at once": {"policy": "replica", "cold": 0, "hot": 0},
    }
    return {
        name: part.model_copy(update={"spares": own.model_copy(update=keys)})  # the checkpoints stay as they are
        for name, keys in ways.items()
    }
