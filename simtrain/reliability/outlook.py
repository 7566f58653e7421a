"""The reliability model alone: goodput by formula beside Monte Carlo, and the best checkpoint interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from simtrain.errors import InputError, UnsupportedError
from simtrain.quantities import format_quantity
from simtrain.reliability import availability, intervals
from simtrain.reliability import closed_form as formula
from simtrain.reliability.cases.jobs import MOST_FAILURES, affordable
from simtrain.reliability.headway import headway, stops
from simtrain.reliability.job import FailureClass, Job
from simtrain.reliability.many import simulate_many
from simtrain.reliability.optimum import fallback_rate
from simtrain.reliability.solve import PILOT_RUNS, enough_runs

__all__ = ["BEST", "CurvePoint", "Outlook", "Setup", "curve_intervals", "look", "sweep_intervals"]

How = Literal["auto", "des", "compiled", "closed_form"]
BEST = ("exact", "young", "daly")
"""Names of the formulas for the best interval."""
CURVE_FACTORS = (0.125, 0.25, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0, 8.0)
"""Intervals of a curve, as multiples of the best."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What fails, what it costs, and how often state is saved.

    Attributes:
        gpus: of the job.
        job: failures, recovery, checkpoints and spares, with a finite amount of work.
        interval: useful work between checkpoints in s, or the name of a formula in :data:`BEST`.
    """

    gpus: int
    job: Job
    interval: float | str

    @property
    def interval_s(self) -> float:
        """The interval in s, at most all of the work, and for a formula not so short that snapshots would queue.

        Raises:
            InputError: a formula is asked for, but checkpoints are free.
        """
        if not isinstance(self.interval, str):
            return min(self.interval, self.job.work_s)
        best_s, checkpoint = self.best()[self.interval], self.job.checkpoint
        soonest_s = checkpoint.persist_s - checkpoint.stall_s
        if best_s is None and soonest_s <= 0:
            raise InputError(
                f"interval = {self.interval}: the checkpoint is free, so the shorter the better; "
                "give an interval, for example 10 min, or a checkpoint that takes time"
            )
        return min(max(best_s or 0.0, soonest_s), self.job.work_s)

    def mix(self) -> formula.FailureMix:
        """All classes that stop the job as one Poisson class, detection counted as recovery.

        Raises:
            InputError: no class stops the job.
        """
        stops = [c for c in self.job.classes if _stops(c) and c.rate_per_s > 0]
        if not stops:
            raise InputError("no failure class stops the job, so there is nothing to work out")
        recoveries = [c.detection.mean + (c.recovery or self.job.recovery).mean_s for c in stops]
        restarts = self.job.recovery.interruptible
        return formula.failure_mix([c.rate_per_s for c in stops], recoveries, restarts=restarts)

    def best(self) -> dict[str, float | None]:
        """Young's, Daly's and the exact best interval in s; None where checkpoints are free.

        Of checkpoints in two tiers the durable one, needed where those in memory are lost. Empty without checkpoints.
        """
        saved = self.job.checkpoint
        in_memory, stall_s = saved.kind in ("tiered", "just_in_time"), saved.stall_s
        if saved.kind == "none":
            return {}
        rate = fallback_rate(self.job.classes, in_memory=in_memory)
        if not rate:  # whatever happens, what is in memory is left
            return dict.fromkeys(BEST, self.job.work_s)
        mtbf_s = 1 / rate
        return {
            "exact": formula.optimal_segment_s(mtbf_s, stall_s),
            "young": formula.young_segment_s(mtbf_s, stall_s),
            "daly": formula.daly_segment_s(mtbf_s, stall_s),
        }

    def run(self) -> Job:
        """What the engines run."""
        saved, every_s = self.job.checkpoint, self.interval_s
        memory_s = min(saved.memory_interval_s, every_s)
        return replace(self.job, checkpoint=replace(saved, interval_s=every_s, memory_interval_s=memory_s))

    def closed_form(self) -> formula.Blocking | None:
        """Exact where :meth:`approximations` names nothing; None where checkpoints of this kind have no formula."""
        mix, job, every_s = self.mix(), self.job, self.interval_s
        checkpoint = job.checkpoint
        if checkpoint.kind == "async":
            run = formula.asynchronous(
                mix.mtbf_s,
                job.work_s,
                every_s,
                checkpoint.stall_s,
                checkpoint.persist_s,
                mix.recovery_s,
                persist_speed=checkpoint.persist_speed,
                checkpoint_last=checkpoint.after_last_segment,
            )
        elif checkpoint.kind == "blocking":
            run = formula.blocking(
                mix.mtbf_s,
                job.work_s,
                every_s,
                checkpoint.stall_s,
                mix.recovery_s,
                restarts=False,
                checkpoint_last=checkpoint.after_last_segment,
            )
        else:
            return None
        return replace(run, expected_failures=run.expected_failures * mix.strikes)

    def approximations(self) -> tuple[str, ...]:
        """What the closed form leaves out."""
        job = self.job
        left = {
            "failures that are not exponential": any(c.law.kind != "exponential" for c in job.classes),
            "failures that do not stop the job": not all(map(_stops, job.classes)),
            "waiting for nodes, spares and repair": job.fleet is not None,
            "recoveries of some classes that failures can strike while they cannot strike others": any(
                c.recovery is not None and c.recovery.interruptible != job.recovery.interruptible for c in job.classes
            ),
            "notice before a stop": any(c.notice_s > 0 for c in job.classes),
            "an end before all work is done": (run := self.closed_form()) is not None
            and run.mean_wall_s > job.horizon_s,
            "recoveries that fail or vary": job.recovery.failure_probability > 0
            or (job.recovery.interruptible and any(law.kind != "fixed" for _, law in job.recovery.phases)),
        }
        return tuple(what for what, holds in left.items() if holds)

    def waiting_share(self) -> float | None:
        """Share of the time without enough nodes if failures came at their full rate, by Erlang-B; None: no fleet."""
        fleet = self.job.fleet
        if fleet is None:
            return None
        load = sum(c.rate_per_s * c.nodes_lost * (c.repair or fleet.repair).mean for c in self.job.classes if _stops(c))
        return availability.erlang_b(fleet.spares + fleet.hot_spares + 1, load)


def _stops(failures: FailureClass) -> bool:
    return failures.effect in ("stop", "hang")


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Goodput at one interval; ``sampled`` is None where nothing was run."""

    interval_s: float
    closed_form: float | None
    sampled: intervals.Estimate | None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        sampled = {} if self.sampled is None else _document(self.sampled, share=True)
        return {"interval_s": self.interval_s, "closed_form": self.closed_form} | sampled


@dataclass(frozen=True, slots=True)
class Outlook:
    """What :func:`look` finds; the figures hold for recoveries that failures can strike, or not, as the Job says.

    ``completed`` is the share of the runs that did all of the work before the horizon.
    """

    setup: Setup
    best_s: dict[str, float | None]
    closed_form: formula.Blocking | None
    engine: str
    goodput: intervals.Estimate | None
    wall: intervals.Estimate | None
    failures: intervals.Estimate | None
    ledger: dict[str, float]
    completed: float | None

    def warnings(self) -> tuple[str, ...]:
        """What to know before the figures are believed."""
        job = self.setup.job
        goodput = self.goodput.value if self.goodput else self.closed_form.goodput if self.closed_form else 1.0
        said, best_s = headway(self.setup.run(), goodput, self.ledger), self.best_s.get("exact")
        if said and best_s and job.checkpoint.kind != "none":
            said += f"; best would be {_time(best_s)}"
        found = [said] if said else []
        if self.completed is not None and self.completed < 1:
            found.append(
                f"{self.completed:.0%} of the runs did all of the work within {_time(job.horizon_s)}; the others end "
                "there, and so do the wall time and failures shown"
            )
        return tuple(found)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        closed, setup, mix = self.closed_form, self.setup, self.setup.mix()
        return {
            "gpus": setup.gpus,
            "system_mtbf_s": mix.mtbf_s,
            "mean_recovery_s": mix.mean_recovery_s,
            "recovery_can_fail": setup.job.recovery.interruptible,
            "work_s": setup.job.work_s,
            "interval_s": setup.interval_s,
            "checkpoint_s": setup.job.checkpoint.stall_s,
            "best_interval_s": self.best_s,
            "closed_form": closed
            and {
                "goodput": closed.goodput,
                "wall_s": closed.mean_wall_s,
                "failures": closed.expected_failures,
                "left_out": list(setup.approximations()),
            },
            "waiting_share_erlang_b": setup.waiting_share(),
            "engine": self.engine,
            "runs": self.goodput.runs if self.goodput else 0,
            "goodput": _document(self.goodput, share=True) if self.goodput else None,
            "wall_s": _document(self.wall) if self.wall else None,
            "failures": _document(self.failures) if self.failures else None,
            "completed": self.completed,
            "warnings": list(self.warnings()),
            "ledger": self.ledger,
        }


def _time(value_s: float) -> str:
    return format_quantity(value_s, "time")


def _document(estimate: intervals.Estimate, *, share: bool = False) -> dict[str, Any]:
    low, high = estimate.share_interval() if share else estimate.interval()
    return {"value": estimate.value, "standard_error": estimate.error, "interval_95": [low, high]}


def look(
    setup: Setup,
    engine: How = "auto",
    runs: int | None = None,
    seed: int = 0,
    done: Callable[[float], None] = lambda share: None,
) -> Outlook:
    """Work out one setup; ``engine="closed_form"`` runs nothing, ``done`` hears each share of the runs.

    ``runs`` are by default as many as keep the standard error of goodput below 1 % of it.

    Raises:
        InputError: the setup is impossible.
        UnsupportedError: it never gets anywhere, or its formula is asked for and there is none.
    """
    closed = setup.closed_form()
    if engine == "closed_form":
        if closed is None:
            raise UnsupportedError(
                f"checkpoints of kind {setup.job.checkpoint.kind} have no closed form; allowed: --engine des, compiled"
            )
        return Outlook(setup, setup.best(), closed, "closed_form", None, None, None, {}, None)
    longest_s = min(setup.job.horizon_s, closed.mean_wall_s if closed else math.inf)
    affordable(setup.job.rate_per_s * longest_s)
    job = setup.run()
    result = simulate_many(job, runs or PILOT_RUNS, seed, engine, done=done)
    if runs is None:
        pilot = {"goodput": intervals.ratio(result.useful_s, result.wall_s)}
        result = simulate_many(job, enough_runs(pilot), seed, engine, result)
    goodput = intervals.ratio(result.useful_s, result.wall_s)
    wall, failures = intervals.mean(result.wall_s), intervals.mean(stops(job, result).astype(np.float64))
    completed = float(result.completed.mean())
    return Outlook(setup, setup.best(), closed, result.engine, goodput, wall, failures, result.shares(), completed)


def curve_intervals(setup: Setup) -> tuple[float, ...]:
    """Intervals around the best one (around the setup's own where checkpoints are free), at most all of the work.

    Raises:
        InputError: there are no checkpoints.
    """
    if setup.job.checkpoint.kind == "none":
        raise InputError(
            "checkpoint.kind = 'none' has no interval to vary; allowed with --curve: blocking, async, tiered"
        )
    middle = setup.best()["exact"] or setup.interval_s
    return tuple(sorted({min(middle * factor, setup.job.work_s) for factor in CURVE_FACTORS}))


def sweep_intervals(
    setup: Setup,
    intervals_s: Sequence[float],
    engine: How = "auto",
    runs: int | None = None,
    seed: int = 0,
    done: Callable[[float], None] = lambda share: None,
) -> tuple[CurvePoint, ...]:
    """Goodput at each interval, all on the same failures.

    An interval at which a segment is hardly ever done has a formula but no runs.
    """
    points = []
    for interval_s in intervals_s:
        at = replace(setup, interval=interval_s)
        closed = at.closed_form()
        hopeless = closed is not None and closed.expected_failures > MOST_FAILURES / 10
        found = look(at, "closed_form" if hopeless else engine, runs, seed, done)
        points.append(CurvePoint(interval_s, closed.goodput if closed else None, found.goodput))
    return tuple(points)
