"""Work between two checkpoints by the rule that a scenario names."""

from __future__ import annotations

import math
from collections.abc import Sequence

from simtrain.reliability.closed_form import daly_segment_s, optimal_segment_s, young_segment_s
from simtrain.reliability.job import FailureClass

__all__ = ["best_interval", "fallback_rate"]

_RULES = {"young": young_segment_s, "daly": daly_segment_s, "exact": optimal_segment_s}


def best_interval(rule: str, mtbf_s: float, stall_s: float) -> float:
    """Seconds of work between two checkpoints by young, daly or exact; infinite without failures, 0 without a stall."""
    if math.isinf(mtbf_s):
        return math.inf
    return _RULES[rule](mtbf_s, stall_s) or 0.0


def fallback_rate(classes: Sequence[FailureClass], *, in_memory: bool) -> float:
    """Events per second after which work goes back to a durable checkpoint.

    With checkpoints in memory only those that these do not survive, and silent corruption, which is in them too.
    """
    stops = [c for c in classes if c.effect in ("stop", "hang")]
    rate = sum(c.rate_per_s * (1.0 - c.survives_memory if in_memory else 1.0) for c in stops)
    return rate + sum(c.rate_per_s for c in classes if c.effect == "corrupt")
