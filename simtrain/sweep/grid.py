"""The grid of a sweep: what is written, and the scenario of every point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

from simtrain import schedules
from simtrain.errors import ScenarioError, UnknownNameError
from simtrain.scenario import overrides as changes
from simtrain.scenario.load import Source, open_source, validate
from simtrain.scenario.resolve import Document, Origin, finish, follow
from simtrain.scenario.scenario import Scenario, Sweep
from simtrain.sweep.axes import LABEL, MOST, Axis, axes_of, parse_axis

__all__ = ["Grid", "load_sweep"]


@dataclass(frozen=True)
class Grid:
    """Every combination of the values of some axes, over one scenario.

    Attributes:
        sweep: the document.
        axes: the first varies slowest.
        base: the scenario that every point changes, with all its parts.
        label: what messages call the sweep.
        origin: where its axes are written; paths among their values count from there.
    """

    sweep: Sweep
    axes: tuple[Axis, ...]
    base: Document
    label: str
    origin: Origin

    def __len__(self) -> int:
        return prod(len(axis.values) for axis in self.axes)

    @cached_property
    def points(self) -> tuple[dict[str, Any], ...]:
        """Per point its value of every key path of every axis."""
        keys = [key for axis in self.axes for key in axis.keys]
        chosen = product(*(axis.values for axis in self.axes))
        return tuple(dict(zip(keys, (v for values in point for v in values), strict=True)) for point in chosen)

    def scenario(self, point: Mapping[str, Any]) -> Scenario:
        """The scenario at ``point``, checked.

        Raises:
            ScenarioError: a key or value that a scenario cannot have.
            UnknownNameError: a part or a schedule that does not exist.
        """
        document, origin = self.base, self.origin
        for key in sorted(point, key=lambda key: key.count(".")):  # a whole part before what changes inside it
            document = changes.put(document, key, point[key], origin)
        scenario = validate(Scenario, finish("scenario", document))
        try:
            schedules.get(scenario.layout.schedule)
        except UnknownNameError as error:
            raise UnknownNameError(error.what, error.name, error.valid, f"{origin.label}: layout.schedule") from None
        return scenario


def load_sweep(source: Source, *overrides: str, axes: Sequence[str] = ()) -> Grid:
    """Read a sweep, or make one of a scenario and axes.

    Args:
        source: library name, path or mapping of a sweep, or of a scenario where ``axes`` are given.
        overrides: changes to all points, such as ``"layout.tp=2"``.
        axes: axes such as ``"layout.tp=1,2,4"``; they replace those of the document for the same key path.

    Raises:
        InputError: the document, an axis or an override is wrong.
    """
    document = open_source(source, "study")
    label = document.origin.label
    origin = Origin(f"{label}: axes", document.origin.folder, document.origin.opened)
    written = _written(axes)
    if "axes" in document or "zip" in document or document.get("kind") == "sweep":
        sweep = validate(Sweep, document)
        sweep = sweep.model_copy(update={"axes": sweep.axes | written})
        base = follow("scenario", sweep.extends, document.origins["extends"], ("extends",))
        for path, value in sweep.set.items():
            base = changes.put(base, path, value, document.origin)
    elif written:
        base = follow("scenario", document, document.origin)
        sweep = Sweep(title=str(document.get("title", "")), extends=label, axes=written)
        origin = Origin(LABEL)
    else:
        raise ScenarioError(f"{label} has no 'axes': it is no sweep; give one, for example {LABEL} layout.tp=1,2,4")
    found = axes_of(sweep, LABEL if origin.label == LABEL else label)
    _apart(found, overrides)
    grid = Grid(sweep, found, _complete(base, overrides, document), label, origin)
    if len(grid) > MOST:
        raise ScenarioError(f"{label}: the axes span {len(grid)} points; at most {MOST} are swept")
    return grid


def _written(axes: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, values in map(parse_axis, axes):
        if key in found:  # of two the first would be lost
            raise ScenarioError(f"{LABEL}: {key} is an axis twice; give all its values at once: {LABEL} {key}=1,2,4")
        found[key] = values
    return found


def _complete(base: Document, overrides: Sequence[str], document: Document) -> Document:
    done = finish("scenario", changes.apply(base, overrides))
    if not done.get("name"):
        name = document.origin.opened[0].stem if document.origin.opened else "sweep"
        done.put("name", name, done.origin)
    return done


def _apart(axes: Sequence[Axis], overrides: Sequence[str]) -> None:
    """An override of what an axis changes would be lost; say so."""
    keys = {key for axis in axes for key in axis.keys}
    for text in overrides:
        key = changes.parse(text)[0]
        if key in keys:
            raise ScenarioError(f"{changes.LABEL}: {key} is an axis of this sweep; use {LABEL} {text} instead")
