"""The reliability model alone: goodput by formula beside Monte Carlo, and the best checkpoint interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from simtrain.errors import InputError
from simtrain.reliability import availability, intervals
from simtrain.reliability import closed_form as formula
from simtrain.reliability.job import Checkpoint, FailureClass, Fleet, Job, Law, Recovery
from simtrain.reliability.many import simulate_many

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
        gpus: of the job; nodes: that hold them.
        classes: failure classes of the whole job; a class without a recovery takes ``recovery``.
        work_s: useful work of the run.
        interval_s: useful work between checkpoints, or the name of a formula in :data:`BEST`.
        checkpoint_s: blocking stall of each.
        spares: cold spare nodes; None: nodes are replaced at once and nobody waits for repairs.
    """

    gpus: int
    nodes: int
    classes: tuple[FailureClass, ...]
    work_s: float
    interval_s: float | str
    checkpoint_s: float
    recovery: Recovery
    spares: int | None = None
    repair: Law | None = None

    def mix(self) -> formula.FailureMix:
        """All classes that stop the job as one Poisson class, detection counted as recovery.

        Raises:
            InputError: no class stops the job.
        """
        stops = [c for c in self.classes if c.effect in ("stop", "hang") and c.rate_per_s > 0]
        if not stops:
            raise InputError("no failure class stops the job, so there is nothing to work out")
        recoveries = [c.detection.mean + (c.recovery or self.recovery).mean_s for c in stops]
        return formula.failure_mix([c.rate_per_s for c in stops], recoveries, restarts=self.recovery.interruptible)

    def best(self) -> dict[str, float | None]:
        """Young's, Daly's and the exact best interval in s; None where checkpoints are free."""
        mtbf_s = self.mix().mtbf_s
        return {
            "exact": formula.optimal_segment_s(mtbf_s, self.checkpoint_s),
            "young": formula.young_segment_s(mtbf_s, self.checkpoint_s),
            "daly": formula.daly_segment_s(mtbf_s, self.checkpoint_s),
        }

    def resolved(self) -> Setup:
        """With the interval as a number, at most all of the work.

        Raises:
            InputError: a formula is asked for, but checkpoints are free.
        """
        if not isinstance(self.interval_s, str):
            return self
        best = self.best()[self.interval_s]
        if best is None:
            raise InputError(
                f"interval = {self.interval_s}: the checkpoint is free, so the shorter the better; "
                "give an interval, for example 10 min, or a checkpoint that takes time"
            )
        return replace(self, interval_s=min(best, self.work_s))

    def job(self) -> Job:
        """What the engines run; nodes go to repair only where there are spares to speak of."""
        fleet = None
        classes = self.classes
        if self.spares is not None:
            fleet = Fleet(nodes=self.nodes, spares=self.spares, repair=self.repair or Law())
            classes = tuple(replace(c, nodes_lost=max(1, c.nodes_lost)) if _takes_a_node(c) else c for c in classes)
        checkpoint = Checkpoint(kind="blocking", interval_s=float(self.interval_s), stall_s=self.checkpoint_s)
        return Job(work_s=self.work_s, classes=classes, recovery=self.recovery, checkpoint=checkpoint, fleet=fleet)

    def closed_form(self) -> formula.Blocking:
        """Exact where all classes are exponential and nobody waits for nodes; otherwise what Poisson failures give."""
        mix = self.mix()
        return formula.blocking(
            mix.mtbf_s, self.work_s, float(self.interval_s), self.checkpoint_s, mix.recovery_s, restarts=False
        )

    def approximations(self) -> tuple[str, ...]:
        """What the closed form leaves out."""
        left = []
        if any(c.law.kind != "exponential" and c.law.mean for c in self.classes):
            left.append("failures that are not exponential")
        if any(c.effect not in ("stop", "hang") for c in self.classes):
            left.append("failures that do not stop the job")
        if self.spares is not None:
            left.append("waiting for nodes")
        return tuple(left)

    def waiting_share(self) -> float | None:
        """Share of the time without enough nodes if failures came at their full rate, by Erlang-B; None: no fleet."""
        if self.spares is None or self.repair is None:
            return None
        rate = sum(c.rate_per_s * max(1, c.nodes_lost) for c in self.classes if _takes_a_node(c))
        return availability.erlang_b(self.spares + 1, rate * self.repair.mean)


def _takes_a_node(failures: FailureClass) -> bool:
    return failures.effect in ("stop", "hang") and failures.owner not in ("job", "storage", "operator")


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Goodput at one interval; ``sampled`` is None where nothing was run."""

    interval_s: float
    closed_form: float
    sampled: intervals.Estimate | None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        sampled = {} if self.sampled is None else _document(self.sampled)
        return {"interval_s": self.interval_s, "closed_form": self.closed_form} | sampled


@dataclass(frozen=True, slots=True)
class Outlook:
    """What :func:`look` finds; goodput carries its semantics: ``recovery_can_fail``."""

    setup: Setup
    best_s: dict[str, float | None]
    closed_form: formula.Blocking
    engine: str
    goodput: intervals.Estimate | None
    wall: intervals.Estimate | None
    failures: intervals.Estimate | None
    ledger: dict[str, float]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        closed, setup = self.closed_form, self.setup
        return {
            "gpus": setup.gpus,
            "system_mtbf_s": setup.mix().mtbf_s,
            "mean_recovery_s": setup.mix().mean_recovery_s,
            "recovery_can_fail": setup.recovery.interruptible,
            "work_s": setup.work_s,
            "interval_s": setup.interval_s,
            "checkpoint_s": setup.checkpoint_s,
            "best_interval_s": self.best_s,
            "closed_form": {
                "goodput": closed.goodput,
                "wall_s": closed.mean_wall_s,
                "failures": closed.expected_failures,
                "left_out": list(setup.approximations()),
                "waiting_share_erlang_b": setup.waiting_share(),
            },
            "engine": self.engine,
            "runs": self.goodput.runs if self.goodput else 0,
            "goodput": _document(self.goodput) if self.goodput else None,
            "wall_s": _document(self.wall) if self.wall else None,
            "failures": _document(self.failures) if self.failures else None,
            "ledger": self.ledger,
        }


def _document(estimate: intervals.Estimate) -> dict[str, Any]:
    return {
        "value": estimate.value,
        "standard_error": estimate.error,
        "interval_95": list(estimate.interval()),
    }


def look(
    setup: Setup,
    engine: How = "auto",
    runs: int = 400,
    seed: int = 0,
    done: Callable[[float], None] = lambda share: None,
) -> Outlook:
    """Work out one setup; ``engine="closed_form"`` runs nothing, ``done`` hears each share of the runs.

    Raises:
        InputError, UnsupportedError: the setup is impossible, or never gets anywhere.
    """
    setup = setup.resolved()
    closed = setup.closed_form()
    if engine == "closed_form":
        return Outlook(setup, setup.best(), closed, "closed_form", None, None, None, {})
    result = simulate_many(setup.job(), runs, seed, engine, done=done)
    goodput = intervals.ratio(result.useful_s, result.wall_s)
    wall, failures = intervals.mean(result.wall_s), intervals.mean(result.failures.sum(axis=1))
    return Outlook(setup, setup.best(), closed, result.engine, goodput, wall, failures, result.shares())


def curve_intervals(setup: Setup) -> tuple[float, ...]:
    """Intervals around the best one (around the setup's own where checkpoints are free), at most all of the work."""
    middle = setup.best()["exact"]
    if middle is None:
        middle = float(setup.resolved().interval_s)
    return tuple(sorted({min(middle * factor, setup.work_s) for factor in CURVE_FACTORS}))


def sweep_intervals(
    setup: Setup,
    intervals_s: Sequence[float],
    engine: How = "auto",
    runs: int = 400,
    seed: int = 0,
    done: Callable[[float], None] = lambda share: None,
) -> tuple[CurvePoint, ...]:
    """Goodput at each interval, all on the same failures."""
    points = []
    for interval_s in intervals_s:
        found = look(replace(setup, interval_s=interval_s), engine, runs, seed, done)
        points.append(CurvePoint(interval_s, found.closed_form.goodput, found.goodput))
    return tuple(points)
