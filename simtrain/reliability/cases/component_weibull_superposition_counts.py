"""Failures of many new Weibull parts, each replaced by a new one, the others keeping their age."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from simtrain.reliability import availability, intervals
from simtrain.reliability import closed_form as formula
from simtrain.reliability.cases import jobs
from simtrain.reliability.cases.base import Answer, Case
from simtrain.reliability.cases.params import Params
from simtrain.reliability.cases.system_weibull_renewal_longrun import check_scale
from simtrain.reliability.intervals import Estimate
from simtrain.reliability.job import FailureClass, Job, Law, RunResult

__all__ = ["CASE"]


@dataclass(frozen=True, slots=True)
class ComponentWeibull(Case):
    """Expected failures up to the horizon, beside those of exponential parts with the same mean."""

    kind: ClassVar[str] = "component_weibull_superposition_counts"
    components: int
    mtbf_s: float
    shape: float
    horizon_s: float

    @classmethod
    def read(cls, params: Params) -> Self:
        """See :class:`~simtrain.reliability.cases.base.Case`."""
        mtbf_s, shape = params.positive("component_mtbf_s"), params.shape("weibull_shape")
        check_scale(params, mtbf_s, shape)
        return cls(params.count("components", 1), mtbf_s, shape, params.positive("horizon_s"))

    def formulas(self) -> Answer:
        """The exponential law beside it, and how far off the numerical renewal function may be."""
        return {
            "expected_if_exponential": self.components * self.horizon_s / self.mtbf_s,
            "numerical_error_estimate": self.components * self._renewals()[1],
        }

    def closed_form(self) -> Answer:
        """Components times the renewal function."""
        return {"expected_failures": self.components * self._renewals()[0]}

    def _renewals(self) -> tuple[float, float]:
        scale_s = formula.weibull_scale_s(self.mtbf_s, self.shape)
        return availability.renewal_function(self.horizon_s, self.shape, scale_s)

    def jobs(self) -> tuple[Job, ...]:
        """Parts that age in wall time; each failure is over at once."""
        jobs.affordable(self.components * self.horizon_s / self.mtbf_s)
        law = Law("weibull", self.mtbf_s, self.shape)
        parts = FailureClass(name="part", components=self.components, law=law)
        return (Job(horizon_s=self.horizon_s, classes=(parts,)),)

    def sampled(self, *results: RunResult) -> dict[str, Estimate]:
        """Failures counted."""
        return {"expected_failures": intervals.mean(results[0].failures.sum(axis=1))}


CASE = ComponentWeibull
