"""A third of the memory of 1F1B on a V of stages."""

from __future__ import annotations

from typing import ClassVar

from simtrain.schedules.cost_driven import CostDriven
from simtrain.schedules.order import Placement

__all__ = ["SCHEDULE", "VMin"]


class VMin(CostDriven):
    """Qi et al. 2024, arXiv 2405.15362, section 3; (P + 4) // 3 full stages are alive."""

    name: ClassVar[str] = "v_min"
    summary: ClassVar[str] = (
        "V of stages, searched with the costs, a third of the memory of 1F1B (Qi et al. 2024, arXiv 2405.15362)"
    )
    placement: ClassVar[Placement] = "v"
    default_chunks: ClassVar[int] = 2
    span_weight: ClassVar[float] = 0.5

    def limit(self, ranks: int) -> int:
        """(P + 4) // 3 full stages."""
        return 2 * ((ranks + 4) // 3)


SCHEDULE = VMin()
