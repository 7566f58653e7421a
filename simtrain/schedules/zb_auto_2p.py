"""Searched zero bubble at twice the memory of 1F1B."""

from __future__ import annotations

from typing import ClassVar

from simtrain.schedules.base import Schedule
from simtrain.schedules.cost_driven import CostDriven
from simtrain.schedules.zb1p import SCHEDULE as ZB1P
from simtrain.schedules.zb_h2 import SCHEDULE as ZBH2

__all__ = ["SCHEDULE", "ZBAuto2P"]


class ZBAuto2P(CostDriven):
    """Qi et al. 2023, arXiv 2401.10241, section 3; 2P micro batches are alive.

    With equal costs no rank waits within its span.
    """

    name: ClassVar[str] = "zb_auto_2p"
    summary: ClassVar[str] = (
        "split backwards, searched with the costs, twice the memory of 1F1B (ZB-2p, Qi et al. 2023, arXiv 2401.10241)"
    )
    rivals: ClassVar[tuple[Schedule, ...]] = (
        ZB1P,
        ZBH2,
    )
    span_weight: ClassVar[float] = 4.0

    def limit(self, ranks: int) -> int:
        """2P micro batches."""
        return 2 * ranks


SCHEDULE = ZBAuto2P()
