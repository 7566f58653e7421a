"""Failures at given instants, asynchronous checkpoints: nothing is random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from simtrain.reliability.cases import jobs
from simtrain.reliability.cases.base import Answer, Case
from simtrain.reliability.cases.params import Params
from simtrain.reliability.job import Checkpoint, Job, RunResult

__all__ = ["CASE"]


@dataclass(frozen=True, slots=True)
class ReplayAsync(Case):
    """Wall time, failures that struck, goodput and the ledger; the last persist is not awaited."""

    kind: ClassVar[str] = "deterministic_replay_async"
    exact: ClassVar[bool] = True
    instants_s: tuple[float, ...]
    work_s: float
    checkpoint: Checkpoint
    recovery_s: float
    restarts: bool

    @classmethod
    def read(cls, params: Params) -> Self:
        """See :class:`~simtrain.reliability.cases.base.Case`."""
        return cls(
            params.instants("failure_instants_s"),
            params.positive("work_s"),
            jobs.async_checkpoint(params),
            params.not_negative("recovery_s"),
            params.restarts("ignored"),
        )

    def jobs(self) -> tuple[Job, ...]:
        """The run itself."""
        after = jobs.recovery(self.recovery_s, restarts=self.restarts)
        classes = (jobs.replay(self.instants_s),)
        return (Job(work_s=self.work_s, classes=classes, recovery=after, checkpoint=self.checkpoint),)

    def replayed(self, result: RunResult) -> Answer:
        """The run as it went."""
        stalls = {"checkpoint": "stall", "lost_checkpoint": "lost_stall"}
        kept = {bucket: bucket for bucket in ("useful", "lost_work", "recovery")}
        return jobs.replayed_run(result, kept | stalls)


CASE = ReplayAsync
