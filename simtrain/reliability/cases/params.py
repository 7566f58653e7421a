"""Reading the parameters of a case: each value checked where it is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from simtrain.errors import InputError, nearest
from simtrain.reliability.traces import FaultTrace

__all__ = ["Params"]

MOST = 1e12
"""Largest number: 30,000 years in seconds. Times far beyond it would swallow the small ones added to them."""


class Params:
    """A mapping from a case file; ``where`` leads messages, e.g. ``case.json: params``; ``trace`` goes with it.

    Every method raises :class:`~simtrain.errors.InputError` naming file, key, value and what is allowed.
    """

    def __init__(self, values: Any, where: str, trace: FaultTrace | None = None) -> None:
        if not isinstance(values, dict):
            raise InputError(f"{where} = {values!r} must be a mapping of keys")
        self._values = values
        self.where = where
        self.trace = trace

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str, allowed: str) -> Any:
        """The value of a key that must be there."""
        if key in self._values:
            return self._values[key]
        close = nearest(key, self._values)
        hint = f"; there is {close!r}" if close else ""
        raise InputError(f"{self.where}.{key} is missing; it must be {allowed}{hint}")

    def error(self, key: str, allowed: str) -> InputError:
        """The error for a value that is not allowed."""
        return InputError(f"{self.where}.{key} = {self._values.get(key)!r} is not allowed; it must be {allowed}")

    def number(self, key: str, allowed: str = "a finite number", default: float | None = None) -> float:
        """A finite number; ``default`` where the key is absent or null."""
        if default is not None and self._values.get(key) is None:
            return default
        value = self.get(key, allowed)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.error(key, allowed)
        if abs(value) > MOST:
            raise self.error(key, f"at most {MOST:g}")
        return float(value)

    def positive(self, key: str, default: float | None = None) -> float:
        """A finite number above 0."""
        allowed = "a finite number above 0"
        value = self.number(key, allowed, default)
        if value <= 0:
            raise self.error(key, allowed)
        return value

    def not_negative(self, key: str, default: float | None = None) -> float:
        """A finite number of at least 0."""
        allowed = "a finite number of at least 0"
        value = self.number(key, allowed, default)
        if value < 0:
            raise self.error(key, allowed)
        return value

    def shape(self, key: str) -> float:
        """Shape of a Weibull law, from 0.05 to 100: beyond, its mean and its scale are no longer of one world."""
        value = self.positive(key)
        if not 0.05 <= value <= 100:
            raise self.error(key, "a number from 0.05 to 100")
        return value

    def share(self, key: str) -> float:
        """A number from 0 to 1."""
        value = self.not_negative(key)
        if value > 1:
            raise self.error(key, "a number from 0 to 1")
        return value

    def count(self, key: str, least: int = 0, most: float = math.inf, default: int | None = None) -> int:
        """A whole number from ``least`` to ``most``."""
        allowed = f"a whole number of at least {least}" + (f" and at most {most:g}" if most < math.inf else "")
        value = self.number(key, allowed, default)
        if value != int(value) or not least <= value <= most:
            raise self.error(key, allowed)
        return int(value)

    def switch(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "true or false")
        return value

    def choice(self, key: str, allowed: Sequence[str], default: str | None = None) -> str:
        """One of some words."""
        words = " or ".join(allowed)
        value = self._values.get(key, default) if default is not None else self.get(key, words)
        if value not in allowed:
            close = nearest(str(value), allowed)
            raise self.error(key, words + (f" (did you mean {close!r}?)" if close else ""))
        return str(value)

    def instants(self, key: str) -> tuple[float, ...]:
        """Finite times of at least 0, in order."""
        allowed = "a list of finite times of at least 0, none below the one before"
        values = self.get(key, allowed)
        if not isinstance(values, list):
            raise self.error(key, allowed)
        last = 0.0
        for place, value in enumerate(values):
            if isinstance(value, bool) or not isinstance(value, int | float) or not last <= value <= MOST:
                raise InputError(f"{self.where}.{key}[{place}] = {value!r} is not allowed; it must be {allowed}")
            last = float(value)
        return tuple(map(float, values))

    def each(self, key: str) -> Iterator[Params]:
        """The mappings of a list that is not empty."""
        allowed = "a list of at least one mapping"
        values = self.get(key, allowed)
        if not isinstance(values, list) or not values:
            raise self.error(key, allowed)
        for place, value in enumerate(values):
            yield Params(value, f"{self.where}.{key}[{place}]")

    def restarts(self, default: str | None = None) -> bool:
        """Whether failures strike recovery and start it again."""
        return self.choice("failure_during_recovery", ("restarts_recovery", "ignored"), default) != "ignored"
