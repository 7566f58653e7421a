"""Errors on rows whose publisher the coefficients of training steps were not fitted to.

What kernels keep of their rates in training (:class:`simtrain.scenario.kernels.InTraining`), and what a software
profile counts (copies, calls of the host before a repeated layer), are fitted to step times.  Each publisher's rows are
predicted with the coefficients that the rows of all others give.

Every row is simulated with all coefficients at no knowledge (:data:`PRIOR`), and with each of them changed; step times
are taken to be linear in counts and in the inverse of shares.  A fit minimises the mean absolute error, every publisher
of :data:`LEAST_ROWS` rows or more weighing the same.  A coefficient that only the publisher left out tells of takes the
mean of its kind, shares that of their chip.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import SimtrainError
from simtrain.importers.model_table import read_models
from simtrain.scenario import library
from simtrain.scenario.cluster import Device, Node
from simtrain.scenario.kernels import EarlyInTraining, InTraining
from simtrain.scenario.model import Model
from simtrain.scenario.scenario import Scenario
from simtrain.step.simulate import simulate_step
from simtrain.validation.rows import Row, read_rows
from simtrain.validation.steps import Predicted, StepsReport, in_processes, newest, predict, report_of, row_counts
from simtrain.validation.within import Compared, alike

__all__ = [
    "KINDS",
    "LEAST_ROWS",
    "PRIOR",
    "Key",
    "Slopes",
    "fitted",
    "independent_rows",
    "leave_one_out",
    "publisher_of",
    "slopes_of",
]

Floats = NDArray[np.float64]
Key = tuple[str, str]
"""Kind of a coefficient, and whose it is: a chip and the device that it was fitted on, or the title of the software."""

PRIOR = {"matmul": 0.95, "stream": 0.95, "copies": 6.0, "calls_per_recompute": 0.0}
"""Where a fit starts, and what it stays at where no row tells."""
LEAST_ROWS = 6
"""Rows that a publisher needs to count in a fit."""
_CHANGED = {"matmul": 0.85, "stream": 0.75, "copies": 16.0, "calls_per_recompute": 200.0}
"""Coefficient whose effect is simulated."""
_LIMITS = {"matmul": (0.7, 1.1), "stream": (0.4, 1.2), "copies": (0.0, 30.0), "calls_per_recompute": (0.0, 600.0)}
_ONE_STEP = {"matmul": 0.9, "stream": 0.85, "copies": 16.0, "calls_per_recompute": 200.0}
"""Coefficient that lies one step off the prior."""
_PRIOR_WEIGHT = 0.003
"""Weight of staying at the prior by one step, against errors of rows."""
KINDS = tuple(PRIOR)
_SHARES = ("matmul", "stream")
_ROUNDS = 60
_SMALL = 0.05
"""Errors below this, which is within the noise of what is published, count as squares."""


def _amount(kind: str, value: float) -> float:
    """What step times are linear in."""
    return 1.0 / value if kind in _SHARES else value


_UNITS = {kind: _amount(kind, _ONE_STEP[kind]) - _amount(kind, PRIOR[kind]) for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Slopes:
    """A row's prediction, and how its step time changes with the coefficients.

    Attributes:
        found: its prediction with the catalogue's. values: these.
        prior_s: seconds of the step with coefficients of no knowledge.
        per_unit_s: seconds for one unit more of each: of a count, or of the inverse of a share.
    """

    found: Predicted
    values: Mapping[Key, float] = field(default_factory=dict)
    prior_s: float = 0.0
    per_unit_s: Mapping[Key, float] = field(default_factory=dict)

    @property
    def publisher(self) -> str:
        """Who measured."""
        return publisher_of(self.found.row)

    def step_s(self, values: Mapping[Key, float]) -> float:
        """Step time with other coefficients; at least a tenth of that with those of no knowledge."""
        changes = (
            slope * (_amount(key[0], values[key]) - _amount(key[0], PRIOR[key[0]]))
            for key, slope in self.per_unit_s.items()
        )
        return max(self.prior_s + sum(changes), self.prior_s / 10)


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


def _with(one: Slopes, values: Mapping[Key, float]) -> Predicted:
    if not one.prior_s:
        return one.found
    return replace(one.found, step_s=one.step_s(values))


def slopes_of(row: Row, model: Model | None) -> Slopes:
    """Predict a row, and again with no knowledge and with each coefficient changed from there."""
    found = predict(row, model)
    scenario = found.scenario
    if scenario is None or found.step_s is None:
        return Slopes(found)
    found = replace(found, scenario=None)
    values = {(kind, _owner(scenario, kind)): _value(scenario, kind) for kind in _kinds(scenario)}
    for kind, _ in values:
        scenario = _changed(scenario, kind, PRIOR[kind])
    prior_s = _step_s(scenario)
    if prior_s is None:
        return Slopes(found)
    slopes = {}
    for key in values:
        changed_s = _step_s(_changed(scenario, key[0], _CHANGED[key[0]]))
        change = _amount(key[0], _CHANGED[key[0]]) - _amount(key[0], PRIOR[key[0]])
        slopes[key] = 0.0 if changed_s is None else (changed_s - prior_s) / change
    return Slopes(found, values, prior_s, slopes)


def _step_s(scenario: Scenario) -> float | None:
    try:
        return simulate_step(scenario).time_s
    except SimtrainError:
        return None


def _kinds(scenario: Scenario) -> tuple[str, ...]:
    """What is fitted of a scenario: of software only what holds the GPU up, which has Python to count."""
    software = scenario.software
    asked = {
        "matmul": _kept(scenario).fitted_on is not None,
        "stream": _kept(scenario).fitted_on is not None,
        "copies": software.calls_per_operator > 0,
        "calls_per_recompute": software.calls_per_recompute > 0 and scenario.layout.recompute == "full",
    }
    return tuple(kind for kind in KINDS if asked[kind])


def _owner(scenario: Scenario, kind: str) -> str:
    if kind not in _SHARES:
        return scenario.software.title
    kept = _kept(scenario)
    until = f" until {kept.until}" if isinstance(kept, EarlyInTraining) else ""
    return f"{_chip(kept.fitted_on or '')}: {kept.fitted_on}{until}"


@cache
def _chip(device: str) -> str:
    return str(library.read(library.find("device", device))["architecture"])


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


def _kept(scenario: Scenario) -> InTraining:
    return _device(scenario).kept(scenario.software.year)


def _value(scenario: Scenario, kind: str) -> float:
    holder = _kept(scenario) if kind in _SHARES else scenario.software
    return float(getattr(holder, kind))


def _changed(scenario: Scenario, kind: str, value: float) -> Scenario:
    if kind not in _SHARES:
        software = scenario.software.model_copy(update={kind: round(value)})
        return scenario.model_copy(update={"software": software})
    node, kept = _node(scenario), _kept(scenario).model_copy(update={kind: value})
    device = _device(scenario).model_copy(update={"in_training": kept})
    cluster = scenario.cluster.model_copy(update={"node": node.model_copy(update={"device": device})})
    return scenario.model_copy(update={"cluster": cluster})


def fitted(seen: Sequence[Slopes], for_rows: Sequence[Slopes]) -> dict[Key, float]:
    """Coefficients that rows ``seen`` give, for all that ``for_rows`` have."""
    told = [one for one in seen if one.prior_s and one.found.row.measured.step_s]
    of = Counter(one.publisher for one in told)
    rows = [one for one in told if of[one.publisher] >= LEAST_ROWS]
    keys = sorted({key for one in rows for key in one.per_unit_s})
    units = np.array([_UNITS[kind] for kind, _ in keys])
    prior = np.array([_amount(kind, PRIOR[kind]) for kind, _ in keys])
    weights = np.array([1.0 / of[one.publisher] for one in rows])
    effect, target = np.zeros((len(rows), len(keys))), np.zeros(len(rows))
    place = {key: i for i, key in enumerate(keys)}
    for i, one in enumerate(rows):
        measured_s = one.found.row.measured.step_s or 1.0
        target[i] = 1.0 - one.prior_s / measured_s
        for key, slope in one.per_unit_s.items():
            effect[i, place[key]] = slope * units[place[key]] / measured_s
    bounds = np.array([sorted(_amount(kind, limit) for limit in _LIMITS[kind]) for kind, _ in keys])
    low, high = ((bounds.T - prior) / units) if keys else (prior, prior)
    steps = _least_errors(effect, target, weights, low, high)
    amounts = (prior + units * steps).tolist()
    found = {key: _amount(key[0], amount) for key, amount in zip(keys, amounts, strict=True)}
    return {key: _like(key, found) for one in for_rows for key in one.values} | found


def _like(key: Key, found: Mapping[Key, float]) -> float:
    """What stands for a coefficient that no row tells of: the mean of its chip's, else of its kind."""
    kind, owner = key
    known = {other: value for (k, other), value in found.items() if k == kind}
    chip = [value for other, value in known.items() if kind in _SHARES and other.split(":")[0] == owner.split(":")[0]]
    return float(np.mean(chip or list(known.values()) or [PRIOR[kind]]))


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
