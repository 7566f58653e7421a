"""Several Poisson failure classes, each with its own recovery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

from simtrain.reliability import closed_form as formula
from simtrain.reliability import intervals
from simtrain.reliability.cases import jobs
from simtrain.reliability.cases.base import Answer, Case
from simtrain.reliability.cases.params import Params
from simtrain.reliability.cases.segments import Segments
from simtrain.reliability.intervals import Estimate
from simtrain.reliability.job import FailureClass, Job, Law, RunResult

__all__ = ["CASE"]


class MixedClass(NamedTuple):
    """``components`` parts of one class."""

    name: str
    components: int
    mtbf_s: float
    recovery_s: float


@dataclass(frozen=True, slots=True)
class Mixture(Case):
    """Wall time, goodput, failures, and what the classes come to together."""

    kind: ClassVar[str] = "failure_class_mixture"
    classes: tuple[MixedClass, ...]
    segments: Segments
    restarts: bool

    @classmethod
    def read(cls, params: Params) -> Self:
        """See :class:`~simtrain.reliability.cases.base.Case`."""
        classes: list[MixedClass] = []
        for each in params.each("classes"):
            name = each.get("name", "a name")
            if not isinstance(name, str) or name in [known.name for known in classes]:
                raise each.error("name", "text that no other class has")
            mtbf_s, recovery_s = each.positive("mtbf_s"), each.not_negative("recovery_s")
            classes.append(MixedClass(name, each.count("count", 1), mtbf_s, recovery_s))
        return cls(tuple(classes), Segments.read(params), params.restarts())

    def mix(self) -> formula.FailureMix:
        """The classes as one."""
        rates = [each.components / each.mtbf_s for each in self.classes]
        return formula.failure_mix(rates, [each.recovery_s for each in self.classes], restarts=self.restarts)

    def formulas(self) -> Answer:
        """MTBF of the system, shares of the classes, mean recovery of one failure."""
        mix = self.mix()
        shares = {each.name: share for each, share in zip(self.classes, mix.shares, strict=True)}
        return {"system_mtbf_s": mix.mtbf_s, "mean_recovery_s": mix.mean_recovery_s, "class_shares": shares}

    def closed_form(self) -> Answer:
        """Only the mean of what follows a failure matters."""
        mix = self.mix()
        run = self.segments.blocking(mix.mtbf_s, mix.recovery_s, restarts=False)
        return {
            "mean_wall_s": run.mean_wall_s,
            "goodput": run.goodput,
            "expected_failures": run.expected_failures * mix.strikes,
        }

    def jobs(self) -> tuple[Job, ...]:
        """One source of failures for each class; each has one stream whatever its count."""
        jobs.affordable(self.closed_form()["expected_failures"])
        classes = tuple(
            FailureClass(
                name=each.name,
                owner="job",
                components=each.components,
                law=Law("exponential", each.mtbf_s),
                recovery=jobs.recovery(each.recovery_s, restarts=self.restarts),
            )
            for each in self.classes
        )
        return (jobs.finite_run(self.segments, classes, jobs.recovery(0.0, restarts=self.restarts)),)

    def sampled(self, *results: RunResult) -> dict[str, Estimate]:
        """Wall time, goodput and failures."""
        failures = intervals.mean(results[0].failures.sum(axis=1))
        return jobs.wall_and_goodput(results[0]) | {"expected_failures": failures}


CASE = Mixture
