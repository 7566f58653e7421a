"""Fits the coefficients of training steps to published step times, and writes them into the catalogue.

    python -m simtrain.validation.calibrate.steps [--check]

The fit of ``simtrain validate --leave-one-out`` with nobody left out (:mod:`simtrain.validation.step_fit`): every row
simulated with coefficients of no knowledge and with each of them changed, not with those of the catalogue.  That has a
say only in settings which a row leaves open, and in what is fitted at all: a profile without
``calls_per_recompute`` keeps none.  Shares are written with two decimals, counts as whole numbers.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from simtrain.errors import ScenarioError
from simtrain.importers.model_table import read_models
from simtrain.scenario import library
from simtrain.validation.step_fit import Key, Slopes, fitted, independent_rows, slopes_of
from simtrain.validation.steps import in_processes, measured_models, measured_steps

__all__ = ["main", "rounded", "table", "written"]

_COUNTS = ("copies", "calls_per_recompute")


def rounded(found: Mapping[Key, float]) -> dict[Key, float]:
    """Coefficients as the catalogue states them."""
    return {key: round(value, 0 if key[0] in _COUNTS else 2) for key, value in found.items()}


def table(slopes: Sequence[Slopes], found: Mapping[Key, float]) -> str:
    """Coefficients in use and fitted, and how many rows tell of each."""
    used = {key: value for one in slopes for key, value in one.values.items()}
    rows = [sum(bool(one.per_step_s.get(key)) for one in slopes) for key in sorted(used)]
    lines = ["| coefficient | of | in use | fitted | rows |", "|---|---|---|---|---|"]
    for (kind, owner), count in zip(sorted(used), rows, strict=True):
        lines.append(f"| {kind} | {owner} | {used[kind, owner]:g} | {found[kind, owner]:g} | {count} |")
    return "\n".join(lines)


def written(text: str, key: Key, value: float) -> str:
    """A document of the catalogue with one coefficient changed.

    Raises:
        ScenarioError: it does not state that coefficient itself.
    """
    kind, owner = key
    if kind in _COUNTS:
        pattern, new = rf"(?m)^({kind}: )\d+", f"{value:.0f}"
    else:
        block = "in_training_early" if " until " in owner else "in_training"
        pattern, new = rf"(?m)(^ *{block}:\n(?: +.*\n)*? +{kind}: )[\d.]+", f"{value:g}"
    changed, times = re.subn(pattern, rf"\g<1>{new}", text)
    if not times:
        raise ScenarioError(f"{owner}: its document does not state {kind}")
    return changed


def _write(found: Mapping[Key, float]) -> None:
    for key, value in found.items():
        for path in _paths(key):
            path.write_text(written(path.read_text(encoding="utf-8"), key, value), encoding="utf-8")


def _paths(key: Key) -> list[Path]:
    """The profile of a count; of a share all devices that have it from the one it was fitted on."""
    kind, owner = key
    if kind in _COUNTS:
        return [library.find("software", _software()[owner])]
    line = f"  fitted_on: {owner.split(': ')[1].split(' until ')[0]}\n"
    files = (library.find("device", name) for name in library.names("device"))
    return [path for path in files if line in path.read_text(encoding="utf-8")]


@cache
def _software() -> dict[str, str]:
    """Names of profiles by their titles."""
    return {str(library.read(library.find("software", name))["title"]): name for name in library.names("software")}


def main(arguments: Sequence[str] = ()) -> int:
    """Simulate every row with every coefficient changed (half an hour), fit, print, and write unless ``--check``.

    Returns:
        0; 1 where ``--check`` finds a difference; 2 for other arguments.
    """
    if set(arguments) - {"--check"}:
        print(__doc__, file=sys.stderr)
        return 2
    rows, shapes = independent_rows(measured_steps(), measured_models()), read_models(measured_models())
    slopes = list(in_processes(rows, shapes, 0, slopes_of))
    found = rounded(fitted(slopes, slopes))
    print(table(slopes, found))
    if not arguments:
        _write(found)
        return 0
    return int(any(found[key] != value for one in slopes for key, value in one.values.items()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
