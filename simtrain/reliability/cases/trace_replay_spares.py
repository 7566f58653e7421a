"""Recorded faults over a job with spares: nothing is random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from simtrain.errors import InputError
from simtrain.reliability.cases.base import Answer, Case
from simtrain.reliability.cases.params import Params
from simtrain.reliability.job import FailureClass, Fleet, Job, Law, RunResult
from simtrain.reliability.traces import DAY_S, FaultTrace

__all__ = ["CASE"]


@dataclass(frozen=True, slots=True)
class TraceSpares(Case):
    """Nodes down and how much of the time enough are healthy, counted over the trace."""

    kind: ClassVar[str] = "trace_replay_spares"
    exact: ClassVar[bool] = True
    counted: ClassVar[bool] = True
    active: int
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
        return cls(active, spares, params.trace)

    def formulas(self) -> Answer:
        """What the trace alone says."""
        return {
            "horizon_days": self.trace.horizon_s / DAY_S,
            "mean_nodes_down": self.trace.mean_down(),
            "max_nodes_down": self.trace.most_down(),
        }

    def closed_form(self) -> Answer:
        """Exact integral over the trace."""
        return {"fraction_time_job_can_run": self.trace.share(self.spares)}

    def jobs(self) -> tuple[Job, ...]:
        """Faults at their instants, each node back after its own time; stopped or not, nodes go on failing."""
        spans = sorted(span for spans in self.trace.down.values() for span in spans)
        faults = FailureClass(
            name="fault",
            law=Law("instants", table=tuple(start for start, _ in spans)),
            nodes_lost=1,
            repair=Law("instants", table=tuple(end - start for start, end in spans)),
        )
        fleet = Fleet(nodes=self.active, spares=self.spares, failures_while_stopped=True)
        return (Job(horizon_s=self.trace.horizon_s, classes=(faults,), fleet=fleet),)

    def replayed(self, result: RunResult) -> Answer:
        """Time not spent waiting for nodes."""
        return {"fraction_time_job_can_run": float(result.availability[0])}


CASE = TraceSpares
