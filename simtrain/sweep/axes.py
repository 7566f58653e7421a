"""Axes of a sweep: key paths and the values they take."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from simtrain.errors import ScenarioError
from simtrain.scenario.library import parse_yaml
from simtrain.scenario.load import validate
from simtrain.scenario.resolve import Document, Origin
from simtrain.scenario.scenario import Range, Sweep

__all__ = ["LABEL", "MOST", "Axis", "axes_of", "parse_axis"]

LABEL = "--axis"
MOST = 100_000
"""Points of one sweep; a slip such as a missing unit makes more, and nobody could wait for them."""
_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*")


@dataclass(frozen=True, slots=True)
class Axis:
    """One direction of the grid.

    Attributes:
        keys: key paths that change together; one, unless zipped.
        values: per position one value for each of ``keys``.
    """

    keys: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]

    @property
    def name(self) -> str:
        """The key path it goes by: its first."""
        return self.keys[0]


def parse_axis(text: str) -> tuple[str, Any]:
    """Split ``"layout.tp=1,2,4"`` into the key path and its values; ``key={from: 1, to: 8, steps: 4}`` is a Range.

    Raises:
        ScenarioError: there is no ``=``, or the values are not YAML.
    """
    key, equals, written = text.partition("=")
    if not equals:
        raise ScenarioError(f"{LABEL}: {text!r} is not of the form key=value,value, for example layout.tp=1,2,4")
    try:
        values = parse_yaml(f"[{written}]", LABEL)
    except ScenarioError as error:
        raise ScenarioError(f"{LABEL}: {key.strip()} = {written!r} is not a list of YAML values ({error})") from None
    is_range = len(values) == 1 and isinstance(values[0], Mapping) and {"from", "to", "steps"} & set(values[0])
    return key.strip(), values[0] if is_range else values


def axes_of(sweep: Sweep, label: str) -> tuple[Axis, ...]:
    """The axes of a sweep, in the order written: ``axes``, ``zip``, ``seeds``.

    Args:
        sweep: the document.
        label: what messages call it.

    Raises:
        ScenarioError: an axis without values, a value or key that stands twice, lists of a zip that differ in length.
    """
    axes = [*_single(sweep, label), *_zipped(sweep, label)]
    if sweep.seeds is not None:
        seeds = range(_few(sweep.seeds, f"{label}: seeds")) if isinstance(sweep.seeds, int) else sweep.seeds
        axes.append(_axis(("seed",), [(seed,) for seed in seeds], f"{label}: seeds"))
    if not axes:
        raise ScenarioError(f"{label}: axes is empty: a sweep needs at least one, for example layout.tp: [1, 2, 4]")
    keys = [key for axis in axes for key in axis.keys]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice:
        raise ScenarioError(f"{label}: {twice} is an axis twice")
    return tuple(axes)


def _single(sweep: Sweep, label: str) -> Iterator[Axis]:
    for key, written in sweep.axes.items():
        where = f"{label}: axes.{key}"
        yield _axis((key,), [(value,) for value in _values(written, where)], where)


def _zipped(sweep: Sweep, label: str) -> Iterator[Axis]:
    for number, group in enumerate(sweep.zip):
        where = f"{label}: zip.{number}"
        if not group:
            raise ScenarioError(f"{where} is empty: give it key paths with equally long lists of values")
        columns = {key: _values(written, f"{where}.{key}") for key, written in group.items()}
        lengths = {key: len(values) for key, values in columns.items()}
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{key} has {length}" for key, length in lengths.items())
            raise ScenarioError(f"{where}: lists that change together are equally long, but {said} values")
        yield _axis(tuple(columns), list(zip(*columns.values(), strict=True)), where)


def _axis(keys: tuple[str, ...], values: list[tuple[Any, ...]], where: str) -> Axis:
    if not values:
        raise ScenarioError(f"{where} has no values; give a list such as [1, 2, 4]")
    seen: set[str] = set()
    for value in values:
        if repr(value) in seen:  # as text: true is not 1, and lists have no hash
            raise ScenarioError(f"{where}: the value {value[0]!r} stands twice")
        seen.add(repr(value))
    return Axis(keys, tuple(values))


def _values(written: Any, where: str) -> list[Any]:
    if isinstance(written, list | tuple):
        return list(written)
    if not isinstance(written, Mapping):
        raise ScenarioError(f"{where} = {written!r} is not allowed; it must be a list, or a range {{from, to, steps}}")
    label = f"{where}: range"
    return _spread(validate(Range, Document.wrap(written, Origin(label))), label)


def _few(values: int, where: str) -> int:
    if values > MOST:  # said before they are made: they could fill the memory
        raise ScenarioError(f"{where}: {values} values are too many; at most {MOST} points are swept")
    return values


def _spread(values: Range, where: str) -> list[Any]:
    """The values of a range; those that round to the same whole number are one."""
    _few(values.steps, where)
    (first, unit), (last, unit_of_last) = (_number(end, where) for end in (values.from_, values.to))
    if unit != unit_of_last:
        raise ScenarioError(f"{where}: from = {values.from_!r} and to = {values.to!r} must have the same unit")
    if values.scale == "log" and (first <= 0 or last <= 0):
        raise ScenarioError(f"{where}: scale = log needs from and to above 0, not {values.from_!r} and {values.to!r}")
    shares = [step / (values.steps - 1) for step in range(values.steps)]
    if values.scale == "log":
        spread = [first * (last / first) ** share for share in shares]
    else:
        spread = [first + (last - first) * share for share in shares]
    spread[-1] = last
    if unit:
        return [f"{number} {unit}" for number in _texts(spread)]
    if isinstance(values.from_, int) and isinstance(values.to, int):
        return list(dict.fromkeys(round(value) for value in spread))
    return spread


def _texts(numbers: list[float]) -> list[str]:
    """With as few digits as keep both ends as they are and tell all numbers apart."""
    for digits in (6, 9, 12, 17):
        texts = [f"{number:.{digits}g}" for number in numbers]
        kept = all(float(texts[end]) == numbers[end] for end in (0, -1))
        if kept and len(set(texts)) == len(texts):
            break
    return texts


def _number(end: float | str, where: str) -> tuple[float, str]:
    if not isinstance(end, str):
        return float(end), ""
    found = _QUANTITY.fullmatch(end)
    if not found or not found[2]:
        raise ScenarioError(f"{where}: {end!r} is not a number, nor one with a unit such as '5 min'")
    return float(found[1]), found[2]
