"""Laws of times: inverse distribution functions, for one number or many, in compiled code."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from simtrain.jit import jit, jit_in_place

__all__ = ["EXPONENTIAL", "FIXED", "HAZARD", "INSTANTS", "KINDS", "LOGNORMAL", "WEIBULL", "quantile", "quantiles"]

Floats = NDArray[np.float64]

KINDS = ("fixed", "exponential", "weibull", "lognormal", "hazard", "instants")
FIXED, EXPONENTIAL, WEIBULL, LOGNORMAL, HAZARD, INSTANTS = range(len(KINDS))

_LOW = 0.02425
"""Below this the tail's rational approximation holds (Acklam)."""


@jit_in_place
def quantile(kind: int, a: float, b: float, table: Floats, first: int, last: int, u: float) -> float:
    """Time in s that is exceeded with probability 1 - u, 0 <= u < 1.

    ``a`` and ``b``: fixed: the time, -; exponential: mean, -; weibull: scale, shape; lognormal: median, sigma;
    hazard: -, -, ``table[first:last]`` holding starts of pieces in s, then as many rates per s.
    """
    if kind == FIXED:
        return a
    if kind == LOGNORMAL:
        return a * math.exp(b * _normal(u))
    hazard = -math.log1p(-u)
    if kind == EXPONENTIAL:
        return a * hazard
    if kind == WEIBULL:
        return a * math.exp(math.log(hazard) / b) if hazard > 0.0 else 0.0
    pieces = (last - first) // 2
    for i in range(first, first + pieces - 1):
        step = (table[i + 1] - table[i]) * table[i + pieces]
        if hazard < step:
            return float(table[i] + hazard / table[i + pieces])
        hazard -= step
    return float(table[first + pieces - 1] + hazard / table[last - 1])


@jit_in_place
def _normal(u: float) -> float:
    """Inverse of the standard normal distribution function.

    Acklam's rational approximation (relative error 1.2e-9) and one step of Halley's method against erfc.
    """
    p = min(max(u, 1e-300), 1.0 - 1e-16)
    if p < _LOW or p > 1.0 - _LOW:
        q = math.sqrt(-2.0 * math.log(min(p, 1.0 - p)))
        x = (
            (
                (((-7.784894002430293e-03 * q - 3.223964580411365e-01) * q - 2.400758277161838) * q - 2.549732539343734)
                * q
                + 4.374664141464968
            )
            * q
            + 2.938163982698783
        ) / (
            (((7.784695709041462e-03 * q + 3.224671290700398e-01) * q + 2.445134137142996) * q + 3.754408661907416) * q
            + 1.0
        )
        if p > 0.5:
            x = -x
    else:
        q = p - 0.5
        r = q * q
        x = (
            q
            * (
                (
                    (
                        ((-3.969683028665376e01 * r + 2.209460984245205e02) * r - 2.759285104469687e02) * r
                        + 1.383577518672690e02
                    )
                    * r
                    - 3.066479806614716e01
                )
                * r
                + 2.506628277459239
            )
            / (
                (
                    (
                        ((-5.447609879822406e01 * r + 1.615858368580409e02) * r - 1.556989798598866e02) * r
                        + 6.680131188771972e01
                    )
                    * r
                    - 1.328068155288572e01
                )
                * r
                + 1.0
            )
        )
    e = 0.5 * math.erfc(-x / math.sqrt(2.0)) - p
    step = e * math.sqrt(2.0 * math.pi) * math.exp(0.5 * x * x)
    return x - step / (1.0 + 0.5 * x * step)


@jit
def quantiles(kind: int, a: float, b: float, table: Floats, u: Floats) -> Floats:
    """:func:`quantile` of many u at once, (n,) each."""
    times = np.empty(len(u))
    for i in range(len(u)):
        times[i] = quantile(kind, a, b, table, 0, len(table), u[i])
    return times
