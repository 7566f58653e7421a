"""Blocking checkpoints, Poisson failures, a finite amount of work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from simtrain.reliability import closed_form as formula
from simtrain.reliability import intervals
from simtrain.reliability.cases import jobs
from simtrain.reliability.cases.base import Answer, Case
from simtrain.reliability.cases.params import Params
from simtrain.reliability.cases.segments import Segments
from simtrain.reliability.intervals import Estimate
from simtrain.reliability.job import Job, RunResult

__all__ = ["CASE"]


@dataclass(frozen=True, slots=True)
class BlockingExponential(Case):
    """Wall time, goodput and failures, with the best segments beside them."""

    kind: ClassVar[str] = "blocking_exponential"
    mtbf_s: float
    segments: Segments
    recovery_s: float
    restarts: bool

    @classmethod
    def read(cls, params: Params) -> Self:
        """See :class:`~simtrain.reliability.cases.base.Case`."""
        return cls(
            params.positive("system_mtbf_s"),
            Segments.read(params),
            params.not_negative("recovery_s"),
            params.restarts(),
        )

    def formulas(self) -> Answer:
        """Young's, Daly's and the exact best segment; None where the checkpoint is free."""
        checkpoint_s = self.segments.checkpoint_s
        return {
            "young_segment_s": formula.young_segment_s(self.mtbf_s, checkpoint_s),
            "daly_segment_s": formula.daly_segment_s(self.mtbf_s, checkpoint_s),
            "exact_optimal_segment_s": formula.optimal_segment_s(self.mtbf_s, checkpoint_s),
        }

    def closed_form(self) -> Answer:
        """Exact mean and standard deviation."""
        run = self.segments.blocking(self.mtbf_s, self.recovery_s, restarts=self.restarts)
        return {
            "mean_wall_s": run.mean_wall_s,
            "sd_wall_s": run.sd_wall_s,
            "goodput": run.goodput,
            "expected_failures": run.expected_failures,
        }

    def jobs(self) -> tuple[Job, ...]:
        """The run itself."""
        jobs.affordable(self.closed_form()["expected_failures"])
        after = jobs.recovery(self.recovery_s, restarts=self.restarts)
        return (jobs.finite_run(self.segments, (jobs.poisson(self.mtbf_s),), after),)

    def sampled(self, *results: RunResult) -> dict[str, Estimate]:
        """Moments of wall time and failures."""
        return jobs.wall_and_goodput(results[0]) | {
            "sd_wall_s": intervals.deviation(results[0].wall_s),
            "expected_failures": intervals.mean(results[0].failures.sum(axis=1)),
        }


CASE = BlockingExponential
