"""Repair of nodes, as the long-run kinds with spares have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from simtrain.reliability.cases.params import Params

__all__ = ["Repairs"]


@dataclass(frozen=True, slots=True)
class Repairs:
    """Law of repair times, swap, crews (None: unlimited), and how long the fleet is watched.

    Attributes:
        law: ``exponential``, ``lognormal`` (with ``sigma``) or ``fixed``.
        stopped_ages: whether nodes fail while the job is stopped.
        warmup: share of the horizon that is not counted.
    """

    mttr_s: float
    law: str
    sigma: float
    swap_s: float
    crews: int | None
    stopped_ages: bool
    horizon_s: float
    warmup: float

    @classmethod
    def read(cls, params: Params) -> Self:
        """``node_mttr_s repair_distribution lognormal_sigma swap_s repair_crews failures_while_stopped`` and horizon."""
        mttr_s = params.positive("node_mttr_s")
        law = params.choice("repair_distribution", ("exponential", "lognormal", "fixed"), "exponential")
        unlimited = "repair_crews" not in params or params.get("repair_crews", "") in ("unlimited", None)
        crews = None if unlimited else params.count("repair_crews", 1)
        warmup = params.not_negative("warmup_fraction", default=0.1)
        if warmup >= 1:
            raise params.error("warmup_fraction", "a number from 0 to below 1")
        return cls(
            mttr_s,
            law,
            params.positive("lognormal_sigma") if law == "lognormal" else 0.0,
            params.not_negative("swap_s", default=0.0),
            crews,
            params.switch("failures_while_stopped", False),
            params.positive("horizon_s", default=1000 * mttr_s),
            warmup,
        )
