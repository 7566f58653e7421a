"""Figures of how far predictions lie from measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ErrorFigures", "error_figures", "rank_correlation"]


@dataclass(frozen=True, slots=True)
class ErrorFigures:
    """Errors (predicted / measured - 1) of one group; None where nothing was both predicted and measured.

    Attributes:
        rows: of the group; predicted: those with a prediction; measured: those with a measurement too.
        mean_abs, median_abs, p90_abs, worst_abs: of absolute errors. bias: mean of signed ones.
        spearman: rank correlation of predictions and measurements, None below three rows.
    """

    rows: int
    predicted: int
    measured: int
    mean_abs: float | None
    median_abs: float | None
    p90_abs: float | None
    worst_abs: float | None
    bias: float | None
    spearman: float | None


def error_figures(rows: int, predicted: int, pairs: Sequence[tuple[float, float]]) -> ErrorFigures:
    """Figures of ``pairs`` of a prediction and a measurement."""
    if not pairs:
        return ErrorFigures(rows, predicted, 0, *[None] * 6)
    guess, truth = np.array(pairs).T
    error = guess / truth - 1
    size = np.abs(error)
    return ErrorFigures(
        rows,
        predicted,
        len(pairs),
        float(size.mean()),
        float(np.median(size)),
        float(np.quantile(size, 0.9)),
        float(size.max()),
        float(error.mean()),
        rank_correlation(guess, truth),
    )


def rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Spearman's coefficient: the correlation of ranks, equal values sharing their mean rank; None below three."""
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts).astype(np.float64)
    return (last - (counts - 1) / 2)[inverse]
