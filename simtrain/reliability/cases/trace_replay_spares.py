"""Recorded faults over a job with spares: nothing is random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from simtrain.errors import InputError
from simtrain.reliability.cases.base import Answer, Case
from simtrain.reliability.cases.params import Params
from simtrain.reliability.traces import DAY_S, FaultTrace

__all__ = ["CASE"]


@dataclass(frozen=True, slots=True)
class TraceSpares(Case):
    """Nodes down and how much of the time enough are healthy, counted over the trace."""

    kind: ClassVar[str] = "trace_replay_spares"
    exact: ClassVar[bool] = True
    simulated: ClassVar[bool] = False
    spares: int
    trace: FaultTrace

    @classmethod
    def read(cls, params: Params) -> Self:
        """See :class:`~simtrain.reliability.cases.base.Case`."""
        servers, active = params.count("servers", 1), params.count("active", 1)
        spares = servers - active
        if params.count("spares", default=spares) != spares or spares < 0:
            raise params.error("spares", f"servers - active = {spares}, at least 0")
        if params.trace is None:
            raise InputError(f"{params.where}: kind {cls.kind} replays a trace; give it with --trace FILE")
        if len(params.trace.down) > servers:
            raise params.error("servers", f"at least {len(params.trace.down)}, the nodes that fail in the trace")
        return cls(spares, params.trace)

    def closed_form(self) -> Answer:
        """Exact integrals over the trace."""
        return {
            "horizon_days": self.trace.horizon_s / DAY_S,
            "mean_nodes_down": self.trace.mean_down(),
            "max_nodes_down": self.trace.most_down(),
            "fraction_time_job_can_run": self.trace.share(self.spares),
        }


CASE = TraceSpares
