"""Minimising a loss over a few positive coefficients, the same way on every machine.

Coordinates are tried in turn, up and down by factors that shrink from 30 % to 1 %; every point is rounded to three
digits, so that what is written is what was judged.  There is no randomness, and a start is a given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Range", "minimise", "rounded"]

Point = dict[str, float]

_FACTORS = (1.3, 1.1, 1.03, 1.01)
_DIGITS = 3
_GAIN = 1e-6
"""Least fall of the loss that counts, far above what differences between machines could make."""


@dataclass(frozen=True, slots=True)
class Range:
    """Where a coefficient may lie, and where searches start."""

    low: float
    high: float
    starts: tuple[float, ...]


def minimise(loss: Callable[[Mapping[str, float]], float], ranges: Mapping[str, Range]) -> tuple[Point, float]:
    """The best point found from every start (the i-th of each coefficient, or its last), and its loss."""
    count = max(len(each.starts) for each in ranges.values())
    found = []
    for i in range(count):
        start = {name: each.starts[min(i, len(each.starts) - 1)] for name, each in ranges.items()}
        found.append(_descend(loss, ranges, start))
    return min(found, key=lambda each: each[1])


def rounded(value: float) -> float:
    """The value at three significant digits."""
    return float(f"{value:.{_DIGITS}g}")


def _descend(
    loss: Callable[[Mapping[str, float]], float], ranges: Mapping[str, Range], start: Point
) -> tuple[Point, float]:
    point = {name: rounded(value) for name, value in start.items()}
    least = loss(point)
    for factor in _FACTORS:
        moved = True
        while moved:
            moved = False
            for name in ranges:
                for candidate in _neighbours(point[name], factor, ranges[name]):
                    tried = point | {name: candidate}
                    value = loss(tried)
                    if value < least - _GAIN:
                        point, least, moved = tried, value, True
                        break
    return point, least


def _neighbours(value: float, factor: float, within: Range) -> Sequence[float]:
    up = min(rounded(value * factor), within.high)
    down = max(rounded(value / factor), within.low)
    return [each for each in (up, down) if each != value]
