"""Work between two checkpoints by the rule that a scenario names."""

from __future__ import annotations

import math

from simtrain.reliability.closed_form import daly_segment_s, optimal_segment_s, young_segment_s

__all__ = ["best_interval"]

_RULES = {"young": young_segment_s, "daly": daly_segment_s, "exact": optimal_segment_s}


def best_interval(rule: str, mtbf_s: float, stall_s: float) -> float:
    """Seconds of work between two checkpoints by young, daly or exact; infinite without failures, 0 without a stall."""
    if math.isinf(mtbf_s):
        return math.inf
    return _RULES[rule](mtbf_s, stall_s) or 0.0
