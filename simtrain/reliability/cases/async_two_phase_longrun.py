"""Asynchronous checkpoints in the long run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from simtrain.reliability import closed_form as formula
from simtrain.reliability import intervals
from simtrain.reliability.cases import jobs
from simtrain.reliability.cases.base import Answer, Case
from simtrain.reliability.cases.jobs import LONG_RUN_FAILURES
from simtrain.reliability.cases.params import Params
from simtrain.reliability.intervals import Estimate
from simtrain.reliability.job import Checkpoint, Job, RunResult

__all__ = ["CASE"]


@dataclass(frozen=True, slots=True)
class AsyncLongrun(Case):
    """Goodput, and work and stall lost per failure."""

    kind: ClassVar[str] = "async_two_phase_longrun"
    mtbf_s: float
    checkpoint: Checkpoint
    recovery_s: float
    restarts: bool

    @classmethod
    def read(cls, params: Params) -> Self:
        """See :class:`~simtrain.reliability.cases.base.Case`."""
        return cls(
            params.positive("system_mtbf_s"),
            jobs.async_checkpoint(params),
            params.not_negative("recovery_s"),
            params.restarts("ignored"),
        )

    def closed_form(self) -> Answer:
        """Exact in the limit of an endless run; failures that strike a recovery lose nothing more."""
        mix, saved = self._mix(), self.checkpoint
        goodput, lost_s = formula.async_goodput(
            self.mtbf_s,
            saved.interval_s,
            saved.stall_s,
            saved.persist_s,
            mix.recovery_s,
            persist_speed=saved.persist_speed,
        )
        return {"goodput": goodput, "mean_lost_work_and_stall_per_failure_s": lost_s / mix.strikes}

    def _mix(self) -> formula.FailureMix:
        return formula.failure_mix([1 / self.mtbf_s], [self.recovery_s], restarts=self.restarts)

    def jobs(self) -> tuple[Job, ...]:
        """Work for so many failures that the ends of a run do not show."""
        length = self.checkpoint.interval_s + self.checkpoint.stall_s
        work_s = self.checkpoint.interval_s * math.ceil(
            LONG_RUN_FAILURES / formula.expected_failures(length, self.mtbf_s)
        )
        saved_s = self.closed_form()["goodput"] * (self.mtbf_s + self._mix().recovery_s)  # per failure
        jobs.affordable(work_s / saved_s if saved_s else math.inf)
        run = Job(
            work_s=work_s,
            classes=(jobs.poisson(self.mtbf_s),),
            recovery=jobs.recovery(self.recovery_s, restarts=self.restarts),
            checkpoint=self.checkpoint,
        )
        return (run,)

    def sampled(self, *results: RunResult) -> dict[str, Estimate]:
        """Ratios over runs."""
        (result,) = results
        ledger = result.ledger
        lost_s = ledger["lost_work"] + ledger["checkpoint"] + ledger["lost_checkpoint"]
        strikes = result.failures.sum(axis=1).astype(np.float64)
        return {
            "goodput": intervals.ratio(result.useful_s, result.wall_s),
            "mean_lost_work_and_stall_per_failure_s": intervals.ratio(lost_s, strikes),
        }


CASE = AsyncLongrun
