"""How predictions rank the layouts of one job, and errors of rows that are no independent measurements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from simtrain.scenario.model import Model
from simtrain.validation.errors_of import rank_correlation
from simtrain.validation.rows import Row

__all__ = ["Compared", "Layouts", "alike", "independent_errors", "rank_layouts"]

_BESIDE_LAYOUT = ("id", "group", "stack_version", "stack_year", "measured", "model", "global_batch")
"""Fields of a row in which rows may differ and still rest on the same measured parts: names, and how often the parts
run in a step (layers, micro batches)."""
_BESIDE_SHAPE = ("title", "source", "layers")


@dataclass(frozen=True, slots=True)
class Compared:
    """A row that counts: seconds of a step as predicted and as measured."""

    row: Row
    predicted_s: float
    measured_s: float


@dataclass(frozen=True, slots=True)
class Layouts:
    """Rows of one model, sequence length, device and number of GPUs: what a choice of layout is made among.

    Attributes:
        rows: layouts compared. spearman: rank correlation of predicted and measured seconds per sequence.
    """

    model: str
    sequence: int
    device: str
    gpus: int
    rows: int
    spearman: float


def rank_layouts(rows: Sequence[Compared]) -> tuple[Layouts, ...]:
    """Rank correlation among the layouts of each job; jobs with fewer than three layouts have none."""
    jobs: dict[tuple[str, int, str, int], list[Compared]] = defaultdict(list)
    for one in rows:
        jobs[one.row.model, one.row.sequence, one.row.hardware.device, one.row.hardware.gpus].append(one)
    found = []
    for job, layouts in sorted(jobs.items()):
        guess, truth = np.array([(x.predicted_s, x.measured_s) for x in layouts]).T
        sequences = np.array([x.row.global_batch for x in layouts])
        rank = rank_correlation(guess / sequences, truth / sequences)
        if rank is not None:
            found.append(Layouts(*job, len(layouts), rank))
    return tuple(found)


def independent_errors(rows: Sequence[Compared], models: Mapping[str, Model]) -> tuple[float, ...]:
    """Mean absolute errors, one for each set of :func:`alike` rows."""
    sets = alike(rows, models)
    return tuple(float(np.mean([abs(one.predicted_s / one.measured_s - 1) for one in members])) for members in sets)


def alike(rows: Sequence[Compared], models: Mapping[str, Model]) -> list[list[Compared]]:
    """Sets of rows that differ in the numbers of layers and of micro batches alone.

    Published tables of step times may have been composed from few measured parts, a layer and an embedding for each
    layout; such rows carry no more information than the parts.
    """
    sets: dict[Hashable, list[Compared]] = defaultdict(list)
    for one in rows:
        sets[one.row.group, _parts(one.row, models.get(one.row.model))].append(one)
    return list(sets.values())


def _parts(row: Row, model: Model | None) -> Hashable:
    """What the measured parts of a row depend on."""
    layout = tuple(getattr(row, f.name) for f in fields(row) if f.name not in _BESIDE_LAYOUT)
    shape = row.model if model is None else model.model_dump_json(exclude=set(_BESIDE_SHAPE))
    return layout, shape
