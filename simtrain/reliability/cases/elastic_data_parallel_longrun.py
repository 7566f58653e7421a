"""A data-parallel job that shrinks to the replicas healthy nodes can form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from simtrain.reliability import availability
from simtrain.reliability.cases.base import Answer, Case
from simtrain.reliability.cases.params import Params

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


CASE = Elastic
