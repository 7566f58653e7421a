"""Weibull time to failure of the whole system, its clock restarting after each recovery."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

from simtrain.reliability import closed_form as formula
from simtrain.reliability import intervals
from simtrain.reliability.cases import jobs
from simtrain.reliability.cases.base import Answer, Case
from simtrain.reliability.cases.jobs import LONG_RUN_FAILURES
from simtrain.reliability.cases.params import Params
from simtrain.reliability.cases.segments import Segments
from simtrain.reliability.intervals import Estimate
from simtrain.reliability.job import FailureClass, Job, Law, RunResult

__all__ = ["CASE"]


def check_scale(params: Params, mean_s: float, shape: float) -> None:
    """``weibull_scale_s`` follows from mean and shape; where it is given it must agree.

    Raises:
        InputError: it does not.
    """
    scale_s = formula.weibull_scale_s(mean_s, shape)
    if abs(params.positive("weibull_scale_s", default=scale_s) / scale_s - 1) > 1e-6:
        raise params.error("weibull_scale_s", f"mean / Γ(1 + 1/weibull_shape) = {scale_s!r}, or absent")


@dataclass(frozen=True, slots=True)
class SystemWeibull(Case):
    """Long-run goodput, beside that of exponential failures with the same mean."""

    kind: ClassVar[str] = "system_weibull_renewal_longrun"
    mean_s: float
    shape: float
    segment_work_s: float
    checkpoint_s: float
    recovery_s: float

    @classmethod
    def read(cls, params: Params) -> Self:
        """See :class:`~simtrain.reliability.cases.base.Case`."""
        mean_s, shape = params.positive("mean_uptime_s"), params.shape("weibull_shape")
        check_scale(params, mean_s, shape)
        params.choice("failure_during_recovery", ("ignored",), "ignored")
        segment_work_s, checkpoint_s = params.positive("segment_work_s"), params.not_negative("checkpoint_s")
        return cls(mean_s, shape, segment_work_s, checkpoint_s, params.not_negative("recovery_s"))

    def formulas(self) -> Answer:
        """The exponential law beside it."""
        return {"goodput_if_exponential_same_mean": self._goodput(1.0)}

    def closed_form(self) -> Answer:
        """Renewal reward."""
        return {"goodput": self._goodput(self.shape)}

    def _goodput(self, shape: float) -> float:
        return formula.weibull_goodput(self.mean_s, shape, self.segment_work_s, self.checkpoint_s, self.recovery_s)

    def jobs(self) -> tuple[Job, ...]:
        """Work for so many failures that the ends of a run do not show."""
        saved_s = self._goodput(self.shape) * (self.mean_s + self.recovery_s)  # per failure
        jobs.affordable(self.segment_work_s / saved_s if saved_s else math.inf)
        work_s = LONG_RUN_FAILURES * saved_s
        segments = Segments(
            math.ceil(work_s / self.segment_work_s) * self.segment_work_s, self.segment_work_s, self.checkpoint_s, True
        )
        failures = FailureClass(
            name="system", owner="job", law=Law("weibull", self.mean_s, self.shape), renewal="system"
        )
        return (jobs.finite_run(segments, (failures,), jobs.recovery(self.recovery_s, restarts=False)),)

    def sampled(self, *results: RunResult) -> dict[str, Estimate]:
        """Ratio over runs."""
        return {"goodput": intervals.ratio(results[0].useful_s, results[0].wall_s)}


CASE = SystemWeibull
