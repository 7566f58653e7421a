"""How long some operations of a Timeline are under way, alone and beside others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simtrain.program.timeline import Timeline

__all__ = ["covered_s", "overlap_s"]

Ints = NDArray[np.int32]


def covered_s(timeline: Timeline, ops: Ints, begin_s: float = 0.0, end_s: float = np.inf) -> float:
    """Seconds between ``begin_s`` and ``end_s`` in which any of ``ops`` is under way."""
    start = np.clip(timeline.start_s[ops], begin_s, end_s)
    end = np.clip(timeline.end_s[ops], begin_s, end_s)
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    reached = np.maximum.accumulate(np.concatenate([[begin_s], end]))[:-1]
    return float(np.maximum(end - np.maximum(start, reached), 0.0).sum())


def overlap_s(timeline: Timeline, first: Ints, second: Ints, begin_s: float = 0.0, end_s: float = np.inf) -> float:
    """Seconds in which one of ``first`` and one of ``second`` are under way at once."""
    apart = covered_s(timeline, first, begin_s, end_s) + covered_s(timeline, second, begin_s, end_s)
    return apart - covered_s(timeline, np.concatenate([first, second]), begin_s, end_s)
