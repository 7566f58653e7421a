"""Repair of nodes, as the long-run kinds with spares have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, cast

from simtrain.reliability import intervals
from simtrain.reliability.cases.jobs import affordable
from simtrain.reliability.cases.params import Params
from simtrain.reliability.intervals import Estimate
from simtrain.reliability.job import FailureClass, Fleet, Job, Law, RunResult

__all__ = ["Repairs"]

RepairLaw = Literal["exponential", "lognormal", "fixed"]
SHORTEST_S = 1e-9
"""Stands for a warm-up of no length: a Job needs a horizon above 0."""


@dataclass(frozen=True, slots=True)
class Repairs:
    """Law of repair times, swap, crews (None: unlimited), and how long the fleet is watched.

    Attributes:
        law: ``exponential``, ``lognormal`` (with ``sigma``) or ``fixed``.
        stopped_ages: whether nodes fail while the job is stopped.
        warmup: share of the horizon that is not counted.
    """

    mttr_s: float
    law: RepairLaw
    sigma: float
    swap_s: float
    crews: int | None
    stopped_ages: bool
    horizon_s: float
    warmup: float

    @classmethod
    def read(cls, params: Params) -> Self:
        """Keys of repair, swaps, crews and the horizon; only ``node_mttr_s`` must be there."""
        mttr_s = params.positive("node_mttr_s")
        law = params.choice("repair_distribution", ("exponential", "lognormal", "fixed"), "exponential")
        unlimited = "repair_crews" not in params or params.get("repair_crews", "") in ("unlimited", None)
        crews = None if unlimited else params.count("repair_crews", 1)
        warmup = params.not_negative("warmup_fraction", default=0.1)
        if warmup >= 1:
            raise params.error("warmup_fraction", "a number from 0 to below 1")
        return cls(
            mttr_s,
            cast(RepairLaw, law),
            params.positive("lognormal_sigma") if law == "lognormal" else 0.0,
            params.not_negative("swap_s", default=0.0),
            crews,
            params.switch("failures_while_stopped", False),
            params.positive("horizon_s", default=1000 * mttr_s),
            warmup,
        )

    def jobs(self, active: int, spares: int, classes: tuple[FailureClass, ...]) -> tuple[Job, ...]:
        """A fleet to its horizon, and the same cut off after the warm-up, which the same seed makes its beginning."""
        affordable(self.horizon_s * sum(c.rate_per_s for c in classes))
        fleet = Fleet(
            nodes=active,
            spares=spares,
            swap_s=self.swap_s,
            repair=Law(self.law, self.mttr_s, self.sigma or 1.0),
            crews=self.crews,
            failures_while_stopped=self.stopped_ages,
        )
        ends = (self.horizon_s, self.warmup * self.horizon_s or SHORTEST_S)
        return tuple(Job(horizon_s=end, classes=classes, fleet=fleet) for end in ends)

    def availability(self, whole: RunResult, warmup: RunResult) -> Estimate:
        """Share of the time after the warm-up in which the job does not wait for nodes."""
        up = [result.availability * result.wall_s for result in (whole, warmup)]
        return intervals.ratio(up[0] - up[1], whole.wall_s - warmup.wall_s)
