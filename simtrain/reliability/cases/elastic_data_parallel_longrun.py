"""A data-parallel job that shrinks to the replicas healthy nodes can form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from simtrain.reliability import availability, intervals
from simtrain.reliability.cases import jobs
from simtrain.reliability.cases.base import Answer, Case
from simtrain.reliability.cases.params import Params
from simtrain.reliability.intervals import Estimate
from simtrain.reliability.job import FailureClass, Fleet, Job, Law, Recovery, RunResult

__all__ = ["CASE"]


@dataclass(frozen=True, slots=True)
class Elastic(Case):
    """Mean throughput relative to full width, the time at full width, and what a rigid job would have.

    ``lost_work_s`` is the work, in seconds at full width, that each failure of a node at work undoes (at most all work
    done so far). With ``idle_nodes_fail_too`` false only nodes in a running replica fail, and so no node of a rigid job
    that stands still.
    """

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
        """Birth and death of nodes: binomial where idle ones fail too, and Erlang-B for the rigid job where not."""
        if self.reconfiguration_s:
            raise self.no_closed_form("reconfiguring takes time")
        mean, full = availability.elastic(
            self.nodes,
            self.data_parallel,
            self.nodes_per_replica,
            self.mtbf_s,
            self.mttr_s,
            idle_fail=self.idle_fail,
            lost_work_s=self.lost_work_s,
        )
        used, rigid = self._used, full
        if not self.idle_fail:
            rigid = 1 - availability.erlang_b(self.nodes - used + 1, used * self.mttr_s / self.mtbf_s)
        return {
            "mean_relative_throughput": mean,
            "fraction_time_full_width": full,
            "rigid_job_availability_same_hardware": rigid,
        }

    @property
    def _used(self) -> int:
        return self.data_parallel * self.nodes_per_replica

    def jobs(self) -> tuple[Job, ...]:
        """The job to its horizon and, the same run cut short, to the end of its warm-up: all nodes start healthy.

        Where idle nodes do not fail a rigid job has failures of its own: it follows, likewise.
        """
        jobs.affordable(self.nodes * self.horizon_s / self.mtbf_s)
        nodes = FailureClass(name="node", components=self.nodes, law=Law("exponential", self.mtbf_s), nodes_lost=1)
        shrinks = Fleet(
            nodes=self._used,
            hot_spares=self.nodes - self._used,
            repair=Law("exponential", self.mttr_s),
            failures_while_stopped=self.idle_fail,
            idle_nodes_fail=self.idle_fail,
            policy="shrink",
            nodes_per_replica=self.nodes_per_replica,
            reconfigure_s=self.reconfiguration_s,
        )
        fleets = (shrinks,) if self.idle_fail else (shrinks, replace(shrinks, policy="spare"))
        after = Recovery(phases=(("communicator", Law("fixed", self.reconfiguration_s)),))
        ends = (self.horizon_s, min(WARMUP_REPAIRS * self.mttr_s, self.horizon_s / 10))
        return tuple(
            Job(horizon_s=end, classes=(nodes,), recovery=after, fleet=fleet) for fleet in fleets for end in ends
        )

    def sampled(self, *results: RunResult) -> dict[str, Estimate]:
        """Work done less what failures undo, over time; time at full width, and time the rigid job does not wait."""
        whole, warmup = results[:2]
        span = whole.wall_s - warmup.wall_s
        done = [
            result.useful_s + result.ledger["lost_work"] - self.lost_work_s * result.restarts for result in results[:2]
        ]
        full = [result.full_width * result.wall_s for result in results[:2]]
        up = [result.availability * result.wall_s for result in results[2:]] or full
        return {
            "mean_relative_throughput": intervals.ratio(np.maximum(done[0] - done[1], 0.0), span),
            "fraction_time_full_width": intervals.ratio(full[0] - full[1], span),
            "rigid_job_availability_same_hardware": intervals.ratio(up[0] - up[1], span),
        }


WARMUP_REPAIRS = 20
"""Mean repair times after which the start, with all nodes healthy, is forgotten (e^-20 of it is left)."""

CASE = Elastic
