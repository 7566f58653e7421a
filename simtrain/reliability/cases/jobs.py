"""Pieces of a Job that several kinds of case need, and figures several read from its runs."""

from __future__ import annotations

from simtrain.errors import UnsupportedError
from simtrain.reliability import intervals
from simtrain.reliability.cases.base import Answer
from simtrain.reliability.cases.params import Params
from simtrain.reliability.cases.segments import Segments
from simtrain.reliability.intervals import Estimate
from simtrain.reliability.job import Checkpoint, FailureClass, Job, Law, Recovery, RunResult

__all__ = [
    "LONG_RUN_FAILURES",
    "affordable",
    "async_checkpoint",
    "blocking_checkpoint",
    "finite_run",
    "poisson",
    "recovery",
    "replay",
    "replayed_run",
    "wall_and_goodput",
]


MOST_FAILURES = 1e6
"""Failures in one run that engines are asked for at most: minutes of work for the usual number of runs."""
LONG_RUN_FAILURES = 2000
"""Failures in one run of a long-run kind: what its first and last minutes differ by is below its standard error."""


def recovery(seconds: float, *, restarts: bool) -> Recovery:
    """A recovery of fixed length that is not told apart."""
    return Recovery(phases=(("recovery", Law("fixed", seconds)),), interruptible=restarts)


def poisson(mtbf_s: float, name: str = "system") -> FailureClass:
    """One exponential source of failures that stop the job."""
    return FailureClass(name=name, owner="job", law=Law("exponential", mtbf_s))


def affordable(failures: float) -> None:
    """Refuse a run that fails so often that it would not end in a lifetime.

    Raises:
        UnsupportedError: more than :data:`MOST_FAILURES` in one run.
    """
    if failures > MOST_FAILURES:
        raise UnsupportedError(
            f"one run would fail {failures:.3g} times; engines take up to {MOST_FAILURES:.0e}: shorten the segment, "
            "the work or the horizon, or ask for --engine closed_form"
        )


def replay(instants_s: tuple[float, ...]) -> FailureClass:
    """Failures at given instants that stop the job."""
    return FailureClass(name="replay", owner="job", law=Law("instants", table=instants_s))


def blocking_checkpoint(segments: Segments) -> Checkpoint:
    """The blocking checkpoints of ``segments``."""
    return Checkpoint(
        kind="blocking",
        interval_s=segments.segment_work_s,
        stall_s=segments.checkpoint_s,
        after_last_segment=segments.checkpoint_last,
    )


def async_checkpoint(params: Params) -> Checkpoint:
    """``segment_work_s snapshot_stall_s persist_delay_s persist_slows_training``.

    The last is the share of its speed that training loses while a checkpoint is on its way to storage, from 0 (or
    false) to below 1. True says that it slows but not by how much, which neither formula nor run can do with.

    Raises:
        InputError: a key is missing or its value is not allowed.
    """
    slows = "persist_slows_training"
    allowed = "false, or the share of its speed that training loses meanwhile, a number from 0 to below 1"
    lost = 0.0 if slows in params and params.get(slows, allowed) is False else params.number(slows, allowed, 0.0)
    if not 0 <= lost < 1:
        raise params.error(slows, allowed)
    return Checkpoint(
        kind="async",
        interval_s=params.positive("segment_work_s"),
        stall_s=params.not_negative("snapshot_stall_s"),
        persist_s=params.not_negative("persist_delay_s"),
        persist_speed=1.0 - lost,
    )


def finite_run(segments: Segments, classes: tuple[FailureClass, ...], after: Recovery) -> Job:
    """All of the work of ``segments`` with blocking checkpoints."""
    return Job(work_s=segments.work_s, classes=classes, recovery=after, checkpoint=blocking_checkpoint(segments))


def wall_and_goodput(result: RunResult) -> dict[str, Estimate]:
    """``mean_wall_s goodput`` of runs of a fixed amount of work."""
    return {
        "mean_wall_s": intervals.mean(result.wall_s),
        "goodput": intervals.ratio(result.useful_s, result.wall_s),
    }


def replayed_run(result: RunResult, names: dict[str, str]) -> Answer:
    """Wall time, failures, goodput and the ledger (bucket -> name in the answer) of one run."""
    return {
        "wall_s": float(result.wall_s[0]),
        "failures_that_struck": int(result.failures[0].sum()),
        "goodput": float(result.useful_s[0] / result.wall_s[0]),
        "ledger": {name: float(result.ledger[bucket][0]) for bucket, name in names.items()},
    }
