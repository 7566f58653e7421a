"""Bytes alive over time, from allocations and frees at the times a Timeline gives."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["live_bytes"]

Floats = NDArray[np.float64]


def live_bytes(time_s: ArrayLike, delta_bytes: ArrayLike, base_bytes: float = 0.0) -> tuple[Floats, Floats]:
    """Step function of the bytes alive.

    Args:
        time_s: (n,) when each change happens, in any order.
        delta_bytes: (n,) bytes allocated (positive) or freed (negative).
        base_bytes: alive all the time.

    Returns:
        times_s (k,), from 0, and bytes (k,) alive from each time on.  At equal times frees come before
        allocations, so that the peak is the one a caching allocator would reach.
    """
    times, deltas = np.asarray(time_s, dtype=np.float64), np.asarray(delta_bytes, dtype=np.float64)
    order = np.lexsort((deltas, times))
    return (
        np.concatenate([[0.0], times[order]]),
        base_bytes + np.concatenate([[0.0], np.cumsum(deltas[order])]),
    )
