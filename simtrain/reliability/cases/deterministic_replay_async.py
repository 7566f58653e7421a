"""Failures at given instants, asynchronous checkpoints: nothing is random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from simtrain.reliability.cases.base import Case
from simtrain.reliability.cases.params import Params

__all__ = ["CASE"]


@dataclass(frozen=True, slots=True)
class ReplayAsync(Case):
    """Wall time, failures that struck, goodput and the ledger; the last persist is not awaited."""

    kind: ClassVar[str] = "deterministic_replay_async"
    exact: ClassVar[bool] = True
    instants_s: tuple[float, ...]
    work_s: float
    segment_work_s: float
    stall_s: float
    persist_s: float
    recovery_s: float
    restarts: bool

    @classmethod
    def read(cls, params: Params) -> Self:
        """See :class:`~simtrain.reliability.cases.base.Case`."""
        return cls(
            params.instants("failure_instants_s"),
            params.positive("work_s"),
            params.positive("segment_work_s"),
            params.not_negative("snapshot_stall_s"),
            params.not_negative("persist_delay_s"),
            params.not_negative("recovery_s"),
            params.restarts("ignored"),
        )


CASE = ReplayAsync
