"""A job with cold spares in the long run: how much of the time it can run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from simtrain.reliability import availability as down_nodes
from simtrain.reliability.cases.base import Answer, Case
from simtrain.reliability.cases.params import Params
from simtrain.reliability.cases.repairs import Repairs
from simtrain.reliability.intervals import Estimate
from simtrain.reliability.job import FailureClass, Job, Law, RunResult

__all__ = ["CASE"]


@dataclass(frozen=True, slots=True)
class SparePool(Case):
    """Offered load, share of the time stopped, availability."""

    kind: ClassVar[str] = "spare_pool_longrun"
    active: int
    spares: int
    mtbf_s: float
    repairs: Repairs

    @classmethod
    def read(cls, params: Params) -> Self:
        """See :class:`~simtrain.reliability.cases.base.Case`."""
        active, spares = params.count("active_nodes", 1), params.count("cold_spares")
        return cls(active, spares, params.positive("node_mtbf_s"), Repairs.read(params))

    def formulas(self) -> Answer:
        """Nodes in repair if there were always enough spares."""
        return {"offered_load_erlang": self.active * self.repairs.mttr_s / self.mtbf_s}

    def closed_form(self) -> Answer:
        """Erlang-B(spares + 1) or, with crews or ageing while stopped, the birth-and-death chain behind it."""
        repairs = self.repairs
        if repairs.swap_s:
            raise self.no_closed_form("swap_s is above 0")
        if repairs.crews and repairs.law != "exponential":
            raise self.no_closed_form("repair_crews is limited and repair is not exponential")
        down = down_nodes.spare_pool(
            self.active,
            self.spares,
            self.mtbf_s,
            repairs.mttr_s,
            crews=repairs.crews,
            stopped_ages=repairs.stopped_ages,
        )
        stopped = float(down[self.spares + 1 :].sum())
        return {"fraction_time_stopped": stopped, "availability": 1 - stopped}

    def jobs(self) -> tuple[Job, ...]:
        """The fleet to its horizon, and to the end of its warm-up: the same run cut short."""
        law = Law("exponential", self.mtbf_s)
        nodes = FailureClass(name="node", components=self.active, law=law, nodes_lost=1)
        return self.repairs.jobs(self.active, self.spares, (nodes,))

    def sampled(self, *results: RunResult) -> dict[str, Estimate]:
        """Time with all nodes, after the warm-up."""
        availability = self.repairs.availability(*results)
        stopped = Estimate(1 - availability.value, availability.error, availability.runs)
        return {"availability": availability, "fraction_time_stopped": stopped}


CASE = SparePool
