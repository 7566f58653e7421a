"""Where two scenarios differ, in seconds and bucket by bucket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simtrain.scenario.scenario import Scenario
from simtrain.step.report import StepReport
from simtrain.timeline.ledger import BUCKETS

__all__ = ["Difference", "differences", "step_key"]

_REASONS = {
    "matmul at peak": ("useful",),
    "matmuls below peak": ("kernel_inefficiency",),
    "memory-bound kernels": ("non_matmul",),
    "recomputation": ("recompute",),
    "exposed tensor-parallel traffic": ("exposed_tp",),
    "exposed context-parallel traffic": ("exposed_cp",),
    "exposed expert-parallel traffic": ("exposed_ep",),
    "exposed pipeline sends": ("exposed_pp",),
    "exposed data-parallel traffic": ("exposed_dp",),
    "SMs lent to communication": ("comm_sms",),
    "pipeline bubble": ("bubble_warmup", "bubble_steady", "bubble_cooldown"),
    "optimizer": ("optimizer",),
    "host overhead": ("host",),
    "waiting for stragglers": ("straggler",),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """What makes ``name`` slower (positive) or faster (negative) than ``baseline``.

    Attributes:
        total_s: seconds per step of the baseline's tokens.
        seconds: the same by bucket of the waterfall; they add up to ``total_s``.
        reasons: the two causes that contribute most in the direction of the difference (bubbles count together).
    """

    baseline: str
    name: str
    total_s: float
    seconds: Mapping[str, float]
    reasons: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "baseline": self.baseline,
            "name": self.name,
            "total_s": self.total_s,
            "seconds": dict(self.seconds),
            "reasons": list(self.reasons),
        }


def step_key(scenario: Scenario) -> str:
    """What decides the step of a scenario: equal for those that differ by name or reliability alone."""
    apart = {"name": "", "title": "", "notes": "", "reliability": None}
    return scenario.model_copy(update=apart).model_dump_json()


def differences(steps: Sequence[StepReport]) -> list[Difference]:
    """Every scenario against the first; batches of other sizes are scaled to the first one's tokens."""
    first = steps[0]
    return [_difference(first, other) for other in steps[1:]]


def bucket_seconds(step: StepReport, scale: float = 1.0) -> dict[str, float]:
    """Seconds of a mean GPU in each bucket of one step, times ``scale``."""
    return {key: step.waterfall[key] * step.time_s * scale for key in BUCKETS}


def _tokens(step: StepReport) -> float:
    return step.tokens_per_s * step.time_s


def _difference(first: StepReport, other: StepReport) -> Difference:
    base, changed = bucket_seconds(first), bucket_seconds(other, _tokens(first) / _tokens(other))
    seconds = {key: changed[key] - base[key] for key in BUCKETS}
    total = sum(seconds.values())
    causes = {reason: sum(seconds[key] for key in keys) for reason, keys in _REASONS.items()}
    sign = 1.0 if total >= 0 else -1.0
    largest = sorted(causes, key=lambda reason: -sign * causes[reason])[:2]
    reasons = tuple(f"{reason} {_signed(causes[reason])} s" for reason in largest if sign * causes[reason] > 0)
    return Difference(first.scenario.name, other.scenario.name, total, seconds, reasons)


def _signed(seconds: float) -> str:
    """Hundredths of a second; of less than a tenth two digits."""
    return f"{seconds:+.2f}" if abs(seconds) >= 0.1 else f"{seconds:+.2g}"
