"""Searched zero bubble at the memory of 1F1B."""

from __future__ import annotations

from typing import ClassVar

from simtrain.schedules.base import Schedule
from simtrain.schedules.cost_driven import CostDriven
from simtrain.schedules.zb1p import SCHEDULE as ZB1P

__all__ = ["SCHEDULE", "ZBAuto1P"]


class ZBAuto1P(CostDriven):
    """Qi et al. 2023, arXiv 2401.10241, section 3; P micro batches are alive.

    With equal costs the bubble is P - 1 slots.
    """

    name: ClassVar[str] = "zb_auto_1p"
    summary: ClassVar[str] = (
        "split backwards, searched with the costs, memory of 1F1B (ZB-1p, Qi et al. 2023, arXiv 2401.10241)"
    )
    rivals: ClassVar[tuple[Schedule, ...]] = (ZB1P,)
    span_weight: ClassVar[float] = 4.0

    def limit(self, ranks: int) -> int:
        """P micro batches."""
        return ranks


SCHEDULE = ZBAuto1P()
