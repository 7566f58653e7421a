"""A data-parallel job that shrinks to the replicas healthy nodes can form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from simtrain.errors import UnsupportedError
from simtrain.reliability import availability, intervals
from simtrain.reliability.cases import jobs
from simtrain.reliability.cases.base import Answer, Case
from simtrain.reliability.cases.params import Params
from simtrain.reliability.intervals import Estimate
from simtrain.reliability.job import FailureClass, Fleet, Job, Law, Recovery, RunResult

__all__ = ["CASE"]


@dataclass(frozen=True, slots=True)
class Elastic(Case):
    """Mean throughput relative to full width, the time at full width, and what a rigid job would have."""

    kind: ClassVar[str] = "elastic_data_parallel_longrun"
    nodes: int
    data_parallel: int
    nodes_per_replica: int
    mtbf_s: float
    mttr_s: float
    reconfiguration_s: float
    lost_work_s: float
    idle_fail: bool
    horizon_s: float

    @classmethod
    def read(cls, params: Params) -> Self:
        """See :class:`~simtrain.reliability.cases.base.Case`."""
        nodes, per_replica = params.count("nodes", 1), params.count("nodes_per_replica", 1)
        data_parallel = params.count("data_parallel", 1)
        if data_parallel * per_replica > nodes:
            raise params.error("data_parallel", f"at most nodes / nodes_per_replica = {nodes // per_replica}")
        mttr_s = params.positive("node_mttr_s")
        return cls(
            nodes,
            data_parallel,
            per_replica,
            params.positive("node_mtbf_s"),
            mttr_s,
            params.not_negative("reconfiguration_s", default=0.0),
            params.not_negative("lost_work_s", default=0.0),
            params.switch("idle_nodes_fail_too", True),
            params.positive("horizon_s", default=2000 * mttr_s),
        )

    def closed_form(self) -> Answer:
        """Binomial number of nodes down."""
        if self.reconfiguration_s or self.lost_work_s or not self.idle_fail:
            raise self.no_closed_form("reconfiguring takes time, work is lost, or idle nodes do not fail")
        mean, full = availability.elastic(
            self.nodes, self.data_parallel, self.nodes_per_replica, self.mtbf_s, self.mttr_s
        )
        return {
            "mean_relative_throughput": mean,
            "fraction_time_full_width": full,
            "rigid_job_availability_same_hardware": full,
        }

    def jobs(self) -> tuple[Job, ...]:
        """The job to its horizon and, the same run cut short, to the end of its warm-up: all nodes start healthy."""
        if self.lost_work_s or not self.idle_fail:
            raise UnsupportedError(
                f"kind {self.kind} is not simulated with lost_work_s above 0 or idle_nodes_fail_too = false"
            )
        jobs.affordable(self.nodes * self.horizon_s / self.mtbf_s)
        used = self.data_parallel * self.nodes_per_replica
        nodes = FailureClass(name="node", components=self.nodes, law=Law("exponential", self.mtbf_s), nodes_lost=1)
        fleet = Fleet(
            nodes=used,
            hot_spares=self.nodes - used,
            repair=Law("exponential", self.mttr_s),
            failures_while_stopped=True,
            policy="shrink",
            nodes_per_replica=self.nodes_per_replica,
            reconfigure_s=self.reconfiguration_s,
        )
        after = Recovery(phases=(("communicator", Law("fixed", self.reconfiguration_s)),))
        ends = (self.horizon_s, min(WARMUP_REPAIRS * self.mttr_s, self.horizon_s / 10))
        return tuple(Job(horizon_s=end, classes=(nodes,), recovery=after, fleet=fleet) for end in ends)

    def sampled(self, *results: RunResult) -> dict[str, Estimate]:
        """Work done, whether it counts in the end or not, over time; time at full width."""
        whole, warmup = results
        span = whole.wall_s - warmup.wall_s
        done = [result.useful_s + result.ledger["lost_work"] for result in results]
        full = [result.full_width * result.wall_s for result in results]
        width = intervals.ratio(full[0] - full[1], span)
        return {
            "mean_relative_throughput": intervals.ratio(done[0] - done[1], span),
            "fraction_time_full_width": width,
            "rigid_job_availability_same_hardware": width,
        }


WARMUP_REPAIRS = 20
"""Mean repair times after which the start, with all nodes healthy, is forgotten (e^-20 of it is left)."""

CASE = Elastic
