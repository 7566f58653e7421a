"""Failures at given instants, blocking checkpoints: nothing is random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from simtrain.reliability.cases import jobs
from simtrain.reliability.cases.base import Answer, Case
from simtrain.reliability.cases.params import Params
from simtrain.reliability.cases.segments import Segments
from simtrain.reliability.job import Job, RunResult

__all__ = ["CASE"]


@dataclass(frozen=True, slots=True)
class ReplayBlocking(Case):
    """Wall time, failures that struck, goodput and the ledger."""

    kind: ClassVar[str] = "deterministic_replay_blocking"
    exact: ClassVar[bool] = True
    instants_s: tuple[float, ...]
    segments: Segments
    recovery_s: float
    restarts: bool

    @classmethod
    def read(cls, params: Params) -> Self:
        """See :class:`~simtrain.reliability.cases.base.Case`."""
        instants_s, segments = params.instants("failure_instants_s"), Segments.read(params)
        return cls(instants_s, segments, params.not_negative("recovery_s"), params.restarts())

    def jobs(self) -> tuple[Job, ...]:
        """The run itself."""
        after = jobs.recovery(self.recovery_s, restarts=self.restarts)
        return (jobs.finite_run(self.segments, (jobs.replay(self.instants_s),), after),)

    def replayed(self, result: RunResult) -> Answer:
        """The run as it went."""
        buckets = ("useful", "checkpoint", "lost_work", "lost_checkpoint", "recovery")
        return jobs.replayed_run(result, {bucket: bucket for bucket in buckets})


CASE = ReplayBlocking
