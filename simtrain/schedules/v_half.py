"""Half the memory of 1F1B on a V of stages."""

from __future__ import annotations

from typing import ClassVar

from simtrain.schedules.cost_driven import CostDriven
from simtrain.schedules.order import Placement

__all__ = ["SCHEDULE", "VHalf"]


class VHalf(CostDriven):
    """Qi et al. 2024, arXiv 2405.15362, section 3; (P + 2) // 2 full stages are alive.

    With equal costs and even P of at least 4 the bubble is 3P - 7 chunk slots.
    """

    name: ClassVar[str] = "v_half"
    summary: ClassVar[str] = (
        "V of stages, searched with the costs, half the memory of 1F1B (Qi et al. 2024, arXiv 2405.15362)"
    )
    placement: ClassVar[Placement] = "v"
    default_chunks: ClassVar[int] = 2
    span_weight: ClassVar[float] = 0.5

    def limit(self, ranks: int) -> int:
        """(P + 2) // 2 full stages."""
        return 2 * ((ranks + 2) // 2)


SCHEDULE = VHalf()
