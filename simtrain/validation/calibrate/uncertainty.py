"""Writes how far predicted step times are off, class by class of comparable steps.

    python -m simtrain.validation.calibrate.uncertainty [ERRORS.json] [--check]

ERRORS.json maps ids of the shipped rows to errors (predicted / measured - 1), or is what ``simtrain validate --json``
prints; without it the shipped rows are predicted now (minutes).  Errors of rows whose publisher a fit did not see say
more of a new scenario than those it was fitted to.

Rows composed from the same measured parts count once, and every publisher of a class weighs the same: a new scenario is
like a row of another publisher, not like one more row of the largest table.
"""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simtrain.errors import InputError
from simtrain.importers.model_table import read_models
from simtrain.step.uncertainty import TABLE, Comparable, Spread, comparable
from simtrain.validation.rows import read_rows
from simtrain.validation.scenarios import candidates
from simtrain.validation.steps import measured_models, measured_steps, predict_steps
from simtrain.validation.within import Compared, alike

__all__ = ["classes", "main", "written"]

HEADER = ("architecture", "precision", "scale", "model", "rows", "publishers", "bias", "abs_error", "factor")
_SHARE = 0.8
"""Of rows within the uncertainty."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """Rows that count once: means of their errors, absolute errors and absolute logarithms of the ratio."""

    publisher: str
    error: float
    abs_error: float
    log_ratio: float


def classes(errors: Mapping[str, float]) -> dict[Comparable, Spread]:
    """Spreads of all classes that the shipped rows with errors belong to, coarser ones included.

    Args:
        errors: predicted / measured - 1 by the id of a row.

    Raises:
        InputError: no such row, or an error that no positive prediction has.
    """
    rows = {row.id: row for row in read_rows(measured_steps())}
    for name, error in errors.items():
        if name not in rows or not -1 < error < math.inf:
            raise InputError(f"errors: {name}: {error} is no error of a shipped row")
    models = read_models(measured_models())
    found: dict[Comparable, list[_Sample]] = defaultdict(list)
    compared = [Compared(rows[name], 1 + error, 1.0) for name, error in errors.items()]
    for members in alike(compared, models):
        sample = _sample(members)
        scenario = candidates(members[0].row, models.get(members[0].row.model))[0]
        for of in dict.fromkeys(comparable(scenario).coarser()):
            found[of].append(sample)
    return {of: _spread(samples) for of, samples in sorted(found.items(), key=lambda item: astuple(item[0]))}


def _sample(members: Sequence[Compared]) -> _Sample:
    ratio = np.array([one.predicted_s / one.measured_s for one in members])
    error = ratio - 1
    means = (float(np.mean(values)) for values in (error, np.abs(error), np.abs(np.log(ratio))))
    return _Sample(members[0].row.group, *means)


def _spread(samples: Sequence[_Sample]) -> Spread:
    of = Counter(sample.publisher for sample in samples)
    weights = np.array([1 / (len(of) * of[sample.publisher]) for sample in samples])
    errors, sizes, logs = np.array([(s.error, s.abs_error, s.log_ratio) for s in samples]).T
    bias = float(weights @ errors)
    return Spread(len(samples), len(of), bias, _quantile(sizes, weights), math.exp(_quantile(logs, weights)))


def _quantile(values: np.ndarray, weights: np.ndarray) -> float:
    """The least value that :data:`_SHARE` of the weight is at or below."""
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, _SHARE - 1e-9)])


def written(found: Mapping[Comparable, Spread]) -> str:
    """The file of classes; shares to four digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for of, spread in found.items():
        shares = (f"{share:.4f}" for share in (spread.bias, spread.abs_error, spread.factor))
        writer.writerow([*astuple(of), spread.rows, spread.publishers, *shares])
    return text.getvalue()


def _predicted() -> dict[str, float]:
    report = predict_steps(measured_steps(), measured_models())
    return {one.row.id: one.error for one in report.rows if one.counts and one.error is not None}


def _read(path: Path) -> dict[str, float]:
    """Errors of a mapping, or of a document of ``simtrain validate`` those of rows that count there."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "rows" not in document:
        return {name: float(error) for name, error in document.items()}
    return {row["id"]: row["error"] for row in document["rows"] if row["counts"] and row["error"] is not None}


def main(arguments: Sequence[str]) -> int:
    """Write the table; with --check only say whether it is up to date (status 1 if not)."""
    files = [Path(argument) for argument in arguments if argument != "--check"]
    text = written(classes(_read(files[0]) if files else _predicted()))
    stale = not TABLE.exists() or text != TABLE.read_text(encoding="utf-8")
    if "--check" in arguments:
        print(f"differs: {TABLE.name}" if stale else "up to date")
        return int(stale)
    TABLE.write_text(text, encoding="utf-8")
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
