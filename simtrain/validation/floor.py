"""What a simulator has to beat: one constant a GPU and precision, fitted on the very rows that it is scored on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Baseline", "floor"]


@dataclass(frozen=True, slots=True)
class Baseline:
    """A measured row: its device and precision, FLOPs per GPU as each baseline counts them, and seconds of a step."""

    device: str
    flops: tuple[float, ...]
    step_s: float


def floor(rows: Sequence[Baseline]) -> float | None:
    """Mean absolute error of the best baseline, None without rows.

    Each baseline divides the FLOPs of a row (parameters alone or with attention, without or with recomputation) by one
    rate per device and precision: the rate that makes its own mean absolute error least.
    """
    if not rows:
        return None
    kinds = range(len(rows[0].flops))
    return min(_error([(row.device, row.flops[kind] / row.step_s) for row in rows]) for kind in kinds)


def _error(rates: Sequence[tuple[str, float]]) -> float:
    """Mean of |achieved rate / constant - 1| with the best constant for each device."""
    grouped: dict[str, list[float]] = defaultdict(list)
    for device, rate in rates:
        grouped[device].append(rate)
    return sum(_best(np.array(found)) for found in grouped.values()) / len(rates)


def _best(achieved: np.ndarray) -> float:
    """Least sum of errors: piecewise linear in the inverse of the constant, so least at one of the rates."""
    return float(min(np.abs(achieved / constant - 1).sum() for constant in achieved))
