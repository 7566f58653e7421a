"""From a scenario to a RunReport: the step becomes the clock of a long run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import ScenarioError
from simtrain.reliability.cases.jobs import MOST_FAILURES
from simtrain.reliability.couple import job_of
from simtrain.reliability.engines import simulate
from simtrain.reliability.headway import headway, stops
from simtrain.reliability.job import Job
from simtrain.reliability.result import Event, RunResult
from simtrain.scenario.scenario import Scenario
from simtrain.step.money import job_report
from simtrain.step.report import JobReport, StepReport
from simtrain.step.simulate import simulate_step

__all__ = ["RunReport", "RunTimeline", "run_of", "simulate_run"]

Floats = NDArray[np.float64]

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class RunTimeline:
    """One replicate over time.

    Attributes:
        time_s: (n,) when speed changes, from 0 to the end; speed: (n,) from then on, 1 is full and 0 stopped.
        mfu, tokens_per_s: (n,) likewise, checkpoint stalls left out.
        useful_s: (n,) work done until then that no failure undoes later than this.
        events: what happened.
    """

    time_s: Floats
    speed: Floats
    mfu: Floats
    tokens_per_s: Floats
    useful_s: Floats
    events: tuple[Event, ...]

    def cumulative(self, at_s: Floats) -> Floats:
        """(m,) effective training time ratio from the start to each time: useful over wall time."""
        return np.interp(at_s, self.time_s, self.useful_s) / np.maximum(at_s, 1e-9)

    def sliding(self, at_s: Floats, window_s: float = 3600.0) -> Floats:
        """(m,) the same over the ``window_s`` before each time (shorter at the start)."""
        since = np.maximum(at_s - window_s, 0.0)
        gained = np.interp(at_s, self.time_s, self.useful_s) - np.interp(since, self.time_s, self.useful_s)
        ratio: Floats = gained / np.maximum(at_s - since, 1e-9)
        return ratio


@dataclass(frozen=True, slots=True)
class RunReport:
    """A training run with failures: many replicates of a Job whose clock is a simulated step.

    ``bill`` is the job of the step at the speed that is left, spare nodes included: all are bought or rented for the
    whole run, and cold ones draw no power.
    """

    step: StepReport
    job: Job
    result: RunResult
    bill: JobReport
    timeline: RunTimeline = field(repr=False)

    @property
    def goodput(self) -> float:
        """Useful over wall time."""
        return self.result.goodput

    @property
    def standard_error(self) -> float:
        """Of the goodput."""
        return self.result.standard_error

    @property
    def effective_mfu(self) -> float:
        """MFU of the step times goodput."""
        return self.step.mfu * self.goodput

    @property
    def days(self) -> float:
        """Expected days until all tokens are trained."""
        return self.bill.days

    @property
    def cost_usd(self) -> float | None:
        """Cost of the run with failures; None where a price is not known."""
        return self.bill.cost_usd

    @property
    def usd_per_million_tokens(self) -> float | None:
        """Per useful token."""
        return self.bill.usd_per_million_tokens

    @property
    def ledger(self) -> dict[str, float]:
        """Shares of wall time by bucket; they add up to 1."""
        return self.result.shares()

    @property
    def failures(self) -> dict[str, float]:
        """Mean number of events in a run by class."""
        return dict(zip(self.result.classes, self.result.failures.mean(axis=0).tolist(), strict=True))

    @property
    def stops(self) -> NDArray[np.int64]:
        """(runs,) events that stopped a run or undid work of it, hardware that was only slow left out."""
        return stops(self.job, self.result)

    @property
    def completed(self) -> bool:
        """Whether every replicate trained all its tokens before the horizon."""
        return bool(self.result.completed.all())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before the figures are believed: that a run makes hardly any headway."""
        said = headway(self.job, self.goodput, self.ledger)
        return (said,) if said else ()

    def days_quantiles(self, *shares: float) -> tuple[float | None, ...]:
        """Days after which that share of runs is done; None where fewer are by the horizon."""
        days = np.where(self.result.completed, self.result.wall_s / DAY, np.inf)
        found = np.quantile(days, shares, method="higher") if shares else np.empty(0)
        return tuple(float(x) if np.isfinite(x) else None for x in found)

    def chance_by(self, days: float) -> float:
        """Share of runs that are done after so many days."""
        return float(np.mean(self.result.completed & (self.result.wall_s <= days * DAY)))

    def document(self) -> dict[str, Any]:
        """As ``run`` in the JSON of ``simtrain run``."""
        p5, p50, p95 = self.days_quantiles(0.05, 0.5, 0.95)
        checkpoint = asdict(self.job.checkpoint)
        return {
            "goodput": self.goodput,
            "effective_mfu": self.effective_mfu,
            "days": self.days,
            "cost_usd": self.cost_usd,
            "usd_per_million_tokens": self.usd_per_million_tokens,
            "ledger": self.ledger,
            "standard_error": self.standard_error if self.result.runs > 1 else None,
            "recovery_can_fail": self.result.recovery_can_fail,
            "engine": self.result.engine,
            "seed": self.result.seed,
            "runs": self.result.runs,
            "completed": self.completed,
            "warnings": list(self.warnings),
            "days_p5": p5,
            "days_p50": p50,
            "days_p95": p95,
            "mtbf_s": 1.0 / self.job.rate_per_s if self.job.rate_per_s else None,
            "failures": self.failures,
            "availability": float(self.result.availability.mean()),
            "checkpoint": {key: checkpoint[key] for key in ("kind", "interval_s", "stall_s", "persist_s")},
            "recovery_s": self.job.recovery.mean_s,
        }


def simulate_run(scenario: Scenario, seed: int | None = None, runs: int | None = None) -> RunReport:
    """Simulate one step of a resolved scenario, and the run of all its tokens under its ``reliability``.

    Args:
        scenario: with ``reliability``.
        seed: of the failures; absent: the scenario's.
        runs: replicates; absent: the scenario's.

    Raises:
        SimtrainError: as :func:`simtrain.simulate_step`; ScenarioError without reliability.
    """
    if scenario.reliability is None:
        raise ScenarioError("the scenario has no reliability; set reliability, for example to the preset h100")
    return run_of(simulate_step(scenario), seed, runs)


def run_of(step: StepReport, seed: int | None = None, runs: int | None = None) -> RunReport:
    """As :func:`simulate_run`, from a step that is there already."""
    scenario, job = step.scenario, job_of(step)
    part = scenario.reliability
    most = job.rate_per_s * job.horizon_s
    if most > MOST_FAILURES:
        raise ScenarioError(
            f"reliability: a failure each {1 / job.rate_per_s:.3g} s makes up to {most:.2g} in one run, and up to "
            f"{MOST_FAILURES:.0e} are simulated; allowed: a longer mtbf, or a shorter reliability.horizon"
        )
    count = runs if runs is not None else part.runs if part else 1
    result = simulate(job, count, scenario.seed if seed is None else seed, scenario.engine, events=1)
    if result.goodput == 0.0:
        rate, between = job.rate_per_s, job.checkpoint.interval_s
        stops = f"a failure each {1.0 / rate:.3g} s" if rate else "what happens to it"
        raise ScenarioError(
            f"reliability: no work outlives {stops}; allowed: a shorter checkpoint.interval "
            f"(it is {between:.3g} s) or recovery (it is {job.recovery.mean_s:.3g} s)"
        )
    hot, cold = (part.spares.hot, part.spares.cold) if part and part.spares else (0, 0)
    cluster = scenario.cluster.model_copy(update={"nodes": scenario.cluster.nodes + hot + cold})
    bill = job_report(scenario.model_copy(update={"cluster": cluster}), step.tokens_per_s * result.goodput, off=cold)
    return RunReport(step, job, result, bill, _timeline(step, result))


def _timeline(step: StepReport, result: RunResult) -> RunTimeline:
    """Speed and useful work at every event of the first replicate."""
    time, speed, useful = [0.0], [1.0], [0.0]
    stops = ("failure", "waiting", "found", "planned")
    for event in result.events[0]:
        now = speed[-1]
        if event.kind == "rate":
            now = event.value
        elif event.kind in stops:
            now = 0.0
        time.append(event.time_s)
        speed.append(now)
        useful.append(event.useful_s)
    time.append(float(result.wall_s[0]))
    speed.append(0.0)
    useful.append(float(result.useful_s[0]))
    speeds = np.array(speed)
    kept = np.minimum.accumulate(useful[::-1])[::-1]  # without what is undone later
    return RunTimeline(np.array(time), speeds, step.mfu * speeds, step.tokens_per_s * speeds, kept, result.events[0])
