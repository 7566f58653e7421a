"""Checkpoints in memory after each micro segment, persistent ones after several."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from simtrain.reliability import closed_form as formula
from simtrain.reliability.cases import jobs
from simtrain.reliability.cases.base import Answer, Case
from simtrain.reliability.cases.params import Params
from simtrain.reliability.intervals import Estimate
from simtrain.reliability.job import Checkpoint, Job, RunResult

__all__ = ["CASE"]


@dataclass(frozen=True, slots=True)
class TwoTier(Case):
    """Wall time and goodput of whole macro segments."""

    kind: ClassVar[str] = "two_tier_exponential"
    mtbf_s: float
    memory_share: float
    micro_work_s: float
    micro_per_macro: int
    memory_checkpoint_s: float
    persistent_checkpoint_s: float
    recovery_memory_s: float
    recovery_persistent_s: float
    macro_segments: int
    restarts: bool

    @classmethod
    def read(cls, params: Params) -> Self:
        """See :class:`~simtrain.reliability.cases.base.Case`."""
        micro_s, micros = params.positive("micro_segment_work_s"), params.count("micro_per_macro", 1)
        macros = params.count("macro_segments", 1)
        work_s = micro_s * micros * macros
        if abs(params.positive("work_s", default=work_s) - work_s) > 1e-9 * work_s:
            raise params.error("work_s", f"micro_segment_work_s * micro_per_macro * macro_segments = {work_s:g}")
        return cls(
            params.positive("system_mtbf_s"),
            params.share("prob_recover_from_memory"),
            micro_s,
            micros,
            params.not_negative("memory_ckpt_s"),
            params.not_negative("persistent_ckpt_s"),
            params.not_negative("recovery_memory_s"),
            params.not_negative("recovery_persistent_s"),
            macros,
            params.restarts("ignored"),
        )

    @property
    def work_s(self) -> float:
        """Useful work of the run."""
        return self.micro_work_s * self.micro_per_macro * self.macro_segments

    def closed_form(self) -> Answer:
        """Exact, recovery immune."""
        if self.restarts:
            raise self.no_closed_form("failures can strike recovery")
        micro_s = self.micro_work_s + self.memory_checkpoint_s
        lengths = [micro_s] * (self.micro_per_macro - 1) + [micro_s + self.persistent_checkpoint_s]
        wall_s = self.macro_segments * formula.two_tier_wall_s(
            self.mtbf_s, self.memory_share, lengths, self.recovery_memory_s, self.recovery_persistent_s
        )
        return {"mean_wall_s": wall_s, "goodput": self.work_s / wall_s}

    def jobs(self) -> tuple[Job, ...]:
        """The run itself."""
        wall_s = float(replace(self, restarts=False).closed_form()["mean_wall_s"])
        jobs.affordable(wall_s / self.mtbf_s)
        checkpoint = Checkpoint(
            kind="tiered",
            interval_s=self.micro_work_s * self.micro_per_macro,
            stall_s=self.persistent_checkpoint_s,
            memory_interval_s=self.micro_work_s,
            memory_stall_s=self.memory_checkpoint_s,
            memory_recovery=jobs.recovery(self.recovery_memory_s, restarts=self.restarts),
        )
        after = jobs.recovery(self.recovery_persistent_s, restarts=self.restarts)
        failures = replace(jobs.poisson(self.mtbf_s), survives_memory=self.memory_share)
        return (Job(work_s=self.work_s, classes=(failures,), recovery=after, checkpoint=checkpoint),)

    def sampled(self, *results: RunResult) -> dict[str, Estimate]:
        """Wall time and goodput."""
        return jobs.wall_and_goodput(results[0])


CASE = TwoTier
