"""Searched zero bubble on a V of stages, at the memory of 1F1B."""

from __future__ import annotations

from typing import ClassVar

from simtrain.schedules.base import Schedule
from simtrain.schedules.cost_driven import CostDriven
from simtrain.schedules.order import Placement
from simtrain.schedules.zbv import SCHEDULE as ZBV

__all__ = ["SCHEDULE", "ZBVAuto"]


class ZBVAuto(CostDriven):
    """Qi et al. 2024, arXiv 2405.15362, section 4; P full stages are alive.

    With equal costs and M of at least 2P - 1 no rank waits within its span.
    """

    name: ClassVar[str] = "zbv_auto"
    summary: ClassVar[str] = (
        "V of stages, searched with the costs, memory of 1F1B (ZB-V, Qi et al. 2024, arXiv 2405.15362)"
    )
    placement: ClassVar[Placement] = "v"
    default_chunks: ClassVar[int] = 2
    rivals: ClassVar[tuple[Schedule, ...]] = (ZBV,)
    span_weight: ClassVar[float] = 4.0

    def limit(self, ranks: int) -> int:
        """P full stages."""
        return 2 * ranks


SCHEDULE = ZBVAuto()
