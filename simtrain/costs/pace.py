"""How much slower the slowest of many GPUs is: what all that work in step wait for."""

from __future__ import annotations

from statistics import NormalDist

__all__ = ["slowest_of"]


def slowest_of(gpus: int) -> float:
    """Expected largest of ``gpus`` standard normal values; 0 for one.

    Blom, Statistical Estimates and Transformed Beta-Variables, 1958: the quantile at (n - 0.375) / (n + 0.25).
    """
    return NormalDist().inv_cdf((gpus - 0.375) / (gpus + 0.25)) if gpus > 1 else 0.0
