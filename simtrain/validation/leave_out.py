"""Errors on rows whose publisher the coefficients of training steps were not fitted to.

What kernels keep of their rates in training (:class:`simtrain.scenario.kernels.InTraining`), and what a software
profile counts (copies, calls of the host), are fitted to step times.  Each publisher's rows are predicted with the
coefficients that the rows of all others give.

Step times are taken to be linear in the coefficients around the catalogue's values: every row is simulated once with
each coefficient changed.  A fit minimises the mean absolute error, every publisher weighing the same; it starts from no
knowledge (:data:`PRIOR`), not from the catalogue.  A coefficient that only the publisher left out tells of takes the
mean of its kind.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import SimtrainError
from simtrain.importers.model_table import read_models
from simtrain.scenario.cluster import Device, Node
from simtrain.scenario.kernels import InTraining, KernelTable
from simtrain.scenario.model import Model
from simtrain.scenario.scenario import Scenario
from simtrain.step.simulate import simulate_step
from simtrain.validation.rows import Row, read_rows
from simtrain.validation.steps import Predicted, StepsReport, in_processes, newest, predict, report_of, row_counts
from simtrain.validation.within import Compared, alike

__all__ = ["KINDS", "PRIOR", "Slopes", "fitted", "independent_rows", "leave_one_out", "publisher_of", "slopes_of"]

Floats = NDArray[np.float64]

PRIOR = {"matmul": 0.95, "stream": 0.95, "copies": 4.0, "calls_per_operator": 4.0, "calls_per_recompute": 50.0}
"""Where a fit starts, and what it stays at where no row tells."""
_STEP = {"matmul": -0.06, "stream": -0.2, "copies": 6, "calls_per_operator": 2, "calls_per_recompute": 100}
"""Change of a coefficient whose effect is simulated."""
_LIMITS = {
    "matmul": (0.7, 1.1),
    "stream": (0.4, 1.2),
    "copies": (0.0, 30.0),
    "calls_per_operator": (0.0, 12.0),
    "calls_per_recompute": (0.0, 600.0),
}
_PRIOR_WEIGHT = 0.01
"""Weight of staying at the prior by one step, against errors of rows."""
KINDS = tuple(PRIOR)
_SHARES = ("matmul", "stream")
_ROUNDS = 60
_SMALL = 0.02
"""Errors below this count as squares, so that the fit has a single minimum."""


@dataclass(frozen=True, slots=True)
class Slopes:
    """A row at the catalogue's coefficients, and how its step time changes with them.

    Attributes:
        found: its prediction. values: coefficients by (kind, device's chip or title of the software).
        per_unit_s: seconds of the step for one unit more of each.
    """

    found: Predicted
    values: Mapping[tuple[str, str], float] = field(default_factory=dict)
    per_unit_s: Mapping[tuple[str, str], float] = field(default_factory=dict)

    @property
    def publisher(self) -> str:
        """Who measured."""
        return publisher_of(self.found.row)

    def step_s(self, values: Mapping[tuple[str, str], float]) -> float:
        """Step time with other coefficients; at least a tenth of the one predicted."""
        base = self.found.step_s or 0.0
        changes = sum(slope * (values[key] - self.values[key]) for key, slope in self.per_unit_s.items())
        return max(base + changes, base / 10)


def publisher_of(row: Row) -> str:
    """Groups whose names begin alike come from one publisher."""
    found = re.match(r"[a-z]+", row.group.lower())
    return found[0] if found else row.group


def leave_one_out(
    data: str | Path, models: str | Path, *, advance: Callable[[str], None] = lambda _: None, workers: int = 0
) -> StepsReport:
    """Predict rows that count, each with coefficients fitted to the rows of all other publishers.

    Of rows composed from the same measured parts the first is taken.

    Raises:
        ScenarioError: a file cannot be read.
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


def independent_rows(data: str | Path, models: str | Path) -> list[Row]:
    """Rows that count; of those composed from the same parts the first."""
    rows, shapes = read_rows(data), read_models(models)
    last = newest(rows)
    counted = [Compared(row, 1.0, 1.0) for i, row in enumerate(rows) if row_counts(row) and i in last]
    return [members[0].row for members in alike(counted, shapes)]


def _with(one: Slopes, values: Mapping[tuple[str, str], float]) -> Predicted:
    if one.found.status != "predicted":
        return one.found
    return replace(one.found, step_s=one.step_s(values))


def slopes_of(row: Row, model: Model | None) -> Slopes:
    """Predict a row, and again with each coefficient changed."""
    found = predict(row, model)
    scenario = found.scenario
    if scenario is None or found.step_s is None:
        return Slopes(found)
    values, slopes = {}, {}
    for kind in _kinds(scenario):
        key = (kind, _owner(scenario, kind))
        values[key] = _value(scenario, kind)
        if kind == "calls_per_recompute" and scenario.layout.recompute == "none":
            slopes[key] = 0.0
            continue
        try:
            changed = simulate_step(_changed(scenario, kind, values[key] + _STEP[kind])).time_s
        except SimtrainError:
            changed = found.step_s
        slopes[key] = (changed - found.step_s) / _STEP[kind]
    return Slopes(replace(found, scenario=None), values, slopes)


def _kinds(scenario: Scenario) -> tuple[str, ...]:
    """What is fitted of a scenario: nothing of software that never holds the GPU up, which has no Python to count."""
    return KINDS if scenario.software.calls_per_operator else _SHARES


def _owner(scenario: Scenario, kind: str) -> str:
    """Coefficients of kernels belong to a chip, and to its first libraries; others to the software."""
    if kind not in _SHARES:
        return scenario.software.title
    chip = _device(scenario).architecture
    return f"{chip}, early" if _kept(scenario) is _table(scenario).in_training_early else chip


def _node(scenario: Scenario) -> Node:
    node = scenario.cluster.node
    if not isinstance(node, Node):
        raise SimtrainError("cluster.node is a name; load the scenario first")
    return node


def _device(scenario: Scenario) -> Device:
    device = _node(scenario).device
    if not isinstance(device, Device):
        raise SimtrainError("cluster.node.device is a name; load the scenario first")
    return device


def _table(scenario: Scenario) -> KernelTable:
    table = _device(scenario).kernels
    if isinstance(table, str):
        raise SimtrainError("cluster.node.device.kernels is a name; load the scenario first")
    return table


def _kept(scenario: Scenario) -> InTraining:
    return _table(scenario).kept(scenario.software.year)


def _value(scenario: Scenario, kind: str) -> float:
    holder = _kept(scenario) if kind in _SHARES else scenario.software
    return float(getattr(holder, kind))


def _changed(scenario: Scenario, kind: str, value: float) -> Scenario:
    if kind not in _SHARES:
        software = scenario.software.model_copy(update={kind: round(value)})
        return scenario.model_copy(update={"software": software})
    table, device, node = _table(scenario), _device(scenario), _node(scenario)
    kept = _kept(scenario).model_copy(update={kind: value})
    both = {"in_training": kept, "in_training_early": None}
    device = device.model_copy(update={"kernels": table.model_copy(update=both)})
    cluster = scenario.cluster.model_copy(update={"node": node.model_copy(update={"device": device})})
    return scenario.model_copy(update={"cluster": cluster})


def fitted(seen: Sequence[Slopes], for_rows: Sequence[Slopes]) -> dict[tuple[str, str], float]:
    """Coefficients that rows ``seen`` give, for all that ``for_rows`` have."""
    rows = [one for one in seen if one.per_unit_s and one.found.row.measured.step_s]
    keys = sorted({key for one in rows for key in one.per_unit_s})
    units = np.array([abs(_STEP[kind]) for kind, _ in keys])
    prior = np.array([PRIOR[kind] for kind, _ in keys])
    of: dict[str, int] = defaultdict(int)
    for one in rows:
        of[one.publisher] += 1
    weights = np.array([1.0 / of[one.publisher] for one in rows])
    effect, target = np.zeros((len(rows), len(keys))), np.zeros(len(rows))
    place = {key: i for i, key in enumerate(keys)}
    for i, one in enumerate(rows):
        measured_s = one.found.row.measured.step_s or 1.0
        at_prior = dict(one.values) | {key: PRIOR[key[0]] for key in one.values}
        target[i] = 1.0 - one.step_s(at_prior) / measured_s
        for key, slope in one.per_unit_s.items():
            effect[i, place[key]] = slope * units[place[key]] / measured_s
    low, high = np.array([_LIMITS[kind] for kind, _ in keys]).T
    steps = _least_errors(effect, target, weights, (low - prior) / units, (high - prior) / units)
    found = dict(zip(keys, (prior + units * steps).tolist(), strict=True))
    means = {kind: float(np.mean([v for (k, _), v in found.items() if k == kind] or [PRIOR[kind]])) for kind in KINDS}
    return {key: found.get(key, means[key[0]]) for one in for_rows for key in one.values} | found


def _least_errors(effect: Floats, target: Floats, weights: Floats, low: Floats, high: Floats) -> Floats:
    """Steps within bounds that make ``effect @ steps`` close to ``target``: absolute errors, by weights that adapt."""
    steps = np.zeros(effect.shape[1])
    for _ in range(_ROUNDS):
        rest = target - effect @ steps
        adapted = weights / np.maximum(np.abs(rest), _SMALL)
        for j in range(len(steps)):
            column = effect[:, j]
            rest = rest + column * steps[j]
            curvature = float(adapted @ (column * column)) + _PRIOR_WEIGHT
            steps[j] = min(max(float(adapted @ (column * rest)) / curvature, low[j]), high[j])
            rest = rest - column * steps[j]
    return steps
