"""How sure a Monte Carlo answer is: standard errors, and intervals of confidence for a fixed number of runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "deviation", "mean", "ratio", "student_t"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its standard error; ``runs`` replicates stand behind both."""

    value: float
    error: float
    runs: int

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Symmetric interval of confidence by Student's t with ``runs`` − 1 degrees of freedom."""
        reach = self.error * student_t(confidence, self.runs - 1)
        return self.value - reach, self.value + reach

    def share_interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The interval of a figure that lies between 0 and 1: cut off there."""
        low, high = self.interval(confidence)
        return max(low, 0.0), min(high, 1.0)


def mean(samples: Floats) -> Estimate:
    """Mean of independent samples (n,), n of at least 2."""
    return Estimate(float(samples.mean()), float(samples.std(ddof=1)) / math.sqrt(len(samples)), len(samples))


def deviation(samples: Floats) -> Estimate:
    """Standard deviation of samples (n,); its error by the delta method from the fourth moment, for any law."""
    n = len(samples)
    variance = float(samples.var(ddof=1))
    if variance == 0:
        return Estimate(0.0, 0.0, n)
    fourth = float(((samples - samples.mean()) ** 4).mean())
    spread = max(fourth - variance**2 * (n - 3) / (n - 1), 0.0) / n
    return Estimate(math.sqrt(variance), math.sqrt(spread / variance) / 2, n)


def ratio(above: Floats, below: Floats) -> Estimate:
    """Mean(above) / mean(below) over pairs (n,), by the delta method: a goodput is a ratio of expectations.

    The mean of the ratios of single runs would be biased upwards (Jensen).
    """
    value = float(above.mean() / below.mean())
    rest = above - value * below
    return Estimate(value, float(rest.std(ddof=1)) / math.sqrt(len(rest)) / float(below.mean()), len(rest))


def student_t(confidence: float, freedom: int) -> float:
    """Two-sided quantile of Student's t: 12.706 for 0.95 and 1 degree of freedom, 1.96 for many.

    Beyond 30 degrees by expansion (Abramowitz and Stegun 26.7.5), below by bisection on the exact sum (26.7.3, 26.7.4).
    """
    if freedom > 30:
        x = NormalDist().inv_cdf((1 + confidence) / 2)
        terms = (
            (x**3 + x) / 4,
            (5 * x**5 + 16 * x**3 + 3 * x) / 96,
            (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
            (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
        )
        return float(x + sum(term / freedom**power for power, term in enumerate(terms, 1)))
    low, high = 0.0, 1.0
    while _between(high, freedom) < confidence:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _between(middle, freedom) < confidence else (low, middle)
    return high


def _between(t: float, freedom: int) -> float:
    """P(|T| < t)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, odd = math.cos(angle), freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(odd + 1, freedom, 2):
        total += term
        term *= cosine**2 * k / (k + 1)
    share = math.sin(angle) * total
    return 2 / math.pi * (angle + share) if odd else share
