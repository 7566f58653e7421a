"""Errors on rows whose publisher the coefficients of training steps were not fitted to.

Each publisher's rows are predicted with the coefficients that the rows of all others give
(:mod:`simtrain.validation.step_fit`).  A coefficient that only the publisher left out tells of takes the mean of its
kind, shares that of their chip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from simtrain.importers.model_table import read_models
from simtrain.validation.step_fit import Key, Slopes, fitted, independent_rows, slopes_of
from simtrain.validation.steps import Predicted, StepsReport, in_processes, report_of

__all__ = ["leave_one_out"]


def leave_one_out(
    data: str | Path, models: str | Path, *, advance: Callable[[str], None] = lambda _: None, workers: int = 0
) -> StepsReport:
    """Predict rows that count, each with coefficients fitted to the rows of all other publishers.

    Of rows composed from the same measured parts the first is taken.

    Raises:
        ScenarioError: a file cannot be read, or no row counts.
    """
    rows, shapes = independent_rows(data, models), read_models(models)
    slopes = []
    for one in in_processes(rows, shapes, workers, slopes_of):
        slopes.append(one)
        advance(one.found.row.id)
    left_out = {}
    for publisher in sorted({one.publisher for one in slopes}):
        left_out[publisher] = fitted([one for one in slopes if one.publisher != publisher], slopes)
    return report_of([_with(one, left_out[one.publisher]) for one in slopes], shapes)


def _with(one: Slopes, values: Mapping[Key, float]) -> Predicted:
    if not one.prior_s:
        return one.found
    return replace(one.found, step_s=one.step_s(values))
