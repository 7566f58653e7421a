"""One small order of every schedule there is."""

from __future__ import annotations

from simtrain import schedules
from simtrain.schedules.order import Order


def small_order(name: str, ranks: int = 4, microbatches: int = 8) -> Order:
    """The order of a schedule, with two chunks where one would make it another schedule."""
    chunks = 2 if name.startswith(("interleaved", "looped")) else None
    return schedules.get(name).order(ranks, microbatches, chunks)
