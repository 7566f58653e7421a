"""Work between two checkpoints that maximises goodput under exponential failures."""

from __future__ import annotations

import math

__all__ = ["best_interval"]


def best_interval(rule: str, mtbf_s: float, stall_s: float) -> float:
    """Seconds of work between two checkpoints.

    young: sqrt(2 C M) (CACM 17(9), 1974).  daly: sqrt(2 C M) (1 + sqrt(x) / 3 + x / 9) - C with x = C / 2M, or M
    from C = 2M on (FGCS 22(3), 2006).  exact: the root t of (1 - t/M) e^(t/M) = e^(-C/M), whatever the recovery takes;
    it maximises t / (e^((t + C)/M) - 1).

    Without failures it is infinite, without a stall 0.
    """
    if math.isinf(mtbf_s):
        return math.inf
    young = math.sqrt(2.0 * stall_s * mtbf_s)
    if rule == "young":
        return young
    if rule == "daly":
        x = stall_s / (2.0 * mtbf_s)
        return young * (1.0 + math.sqrt(x) / 3.0 + x / 9.0) - stall_s if x < 1.0 else mtbf_s
    low, high = 0.0, 1.0
    for _ in range(100):
        x = 0.5 * (low + high)
        if math.log1p(-x) + x > -stall_s / mtbf_s:
            low = x
        else:
            high = x
    return high * mtbf_s if stall_s > 0.0 else 0.0
