"""A job with cold spares where one event may take several nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import numpy as np

from simtrain.reliability import availability, intervals
from simtrain.reliability.cases.base import Answer, Case
from simtrain.reliability.cases.params import Params
from simtrain.reliability.cases.repairs import Repairs
from simtrain.reliability.intervals import Estimate
from simtrain.reliability.job import FailureClass, Job, Law, RunResult

__all__ = ["CASE"]


class Batch(NamedTuple):
    """Events that each take ``nodes_lost`` nodes."""

    name: str
    events_per_s: float
    nodes_lost: int


@dataclass(frozen=True, slots=True)
class BatchFailures(Case):
    """Availability and the mean number of nodes down."""

    kind: ClassVar[str] = "spare_pool_batch_failures_longrun"
    active: int
    spares: int
    classes: tuple[Batch, ...]
    repairs: Repairs

    @classmethod
    def read(cls, params: Params) -> Self:
        """See :class:`~simtrain.reliability.cases.base.Case`."""
        active, spares = params.count("active_nodes", 1), params.count("cold_spares")
        classes: list[Batch] = []
        for each in params.each("classes"):
            name = each.get("name", "a name")
            if not isinstance(name, str) or name in [known.name for known in classes]:
                raise each.error("name", "text that no other class has")
            classes.append(Batch(name, each.positive("events_per_s"), each.count("nodes_lost", 1, active)))
        return cls(active, spares, tuple(classes), Repairs.read(params))

    def closed_form(self) -> Answer:
        """Stationary vector of the Markov chain on nodes down."""
        repairs = self.repairs
        if repairs.law != "exponential" or repairs.crews or repairs.swap_s or repairs.stopped_ages:
            raise self.no_closed_form("repair is not exponential, crews are limited, or swaps take time")
        rates, lost = [c.events_per_s for c in self.classes], [c.nodes_lost for c in self.classes]
        down = availability.nodes_down(self.active, self.spares, rates, lost, repairs.mttr_s)
        return {
            "availability": float(down[: self.spares + 1].sum()),
            "mean_nodes_down": float(down @ np.arange(len(down))),
        }

    def jobs(self) -> tuple[Job, ...]:
        """The fleet to its horizon, and to the end of its warm-up: the same run cut short."""
        classes = tuple(
            FailureClass(name=c.name, law=Law("exponential", 1 / c.events_per_s), nodes_lost=c.nodes_lost)
            for c in self.classes
        )
        return self.repairs.jobs(self.active, self.spares, classes)

    def sampled(self, *results: RunResult) -> dict[str, Estimate]:
        """Time with all nodes; nodes down, over the time after the warm-up."""
        down = [result.nodes_down * result.wall_s for result in results]
        return {
            "availability": self.repairs.availability(*results),
            "mean_nodes_down": intervals.ratio(down[0] - down[1], results[0].wall_s - results[1].wall_s),
        }


CASE = BatchFailures
