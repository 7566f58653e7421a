"""Coefficients of training steps fitted to published step times.

What kernels keep of their rates in training (:class:`simtrain.scenario.kernels.InTraining`), and what a software
profile counts (copies, calls of the host before a repeated layer).

Every row is simulated with all coefficients at no knowledge (:data:`PRIOR`), and with each of them changed; step times
are taken to be linear in counts and in the inverse of shares.  A fit minimises the mean absolute error, every publisher
of :data:`LEAST_ROWS` rows or more weighing the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import ScenarioError, SimtrainError
from simtrain.importers.model_table import read_models
from simtrain.scenario import library
from simtrain.scenario.cluster import Device, Node
from simtrain.scenario.kernels import EarlyInTraining, InTraining
from simtrain.scenario.model import Model
from simtrain.scenario.scenario import Scenario
from simtrain.step.simulate import simulate_step
from simtrain.validation.rows import Row, read_rows
from simtrain.validation.steps import Predicted, newest, predict, row_counts
from simtrain.validation.within import Compared, alike

__all__ = ["LEAST_ROWS", "PRIOR", "Key", "Slopes", "fitted", "independent_rows", "publisher_of", "slopes_of"]

Floats = NDArray[np.float64]
Key = tuple[str, str]
"""Kind of a coefficient, and whose it is: a chip and the device that it was fitted on, or the title of the software."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of coefficient.

    Attributes:
        prior: where a fit starts, and what it stays at where no row tells. changed: whose effect is simulated.
        one_step: what lies one step off the prior. low, high: bounds. share: of a rate; otherwise a count.
    """

    prior: float
    changed: float
    one_step: float
    low: float
    high: float
    share: bool = False

    def amount(self, value: float) -> float:
        """What step times are linear in."""
        return 1.0 / value if self.share else value

    def steps(self, value: float) -> float:
        """How far a value lies off the prior."""
        prior = self.amount(self.prior)
        return (self.amount(value) - prior) / (self.amount(self.one_step) - prior)

    def value(self, steps: float) -> float:
        """The value so many steps off the prior."""
        prior = self.amount(self.prior)
        return self.amount(prior + (self.amount(self.one_step) - prior) * steps)


_KINDS = {
    "matmul": _Kind(0.95, 0.85, 0.9, 0.7, 1.1, share=True),
    "stream": _Kind(0.95, 0.75, 0.85, 0.4, 1.2, share=True),
    "copies": _Kind(6.0, 16.0, 16.0, 0.0, 30.0),
    "calls_per_recompute": _Kind(0.0, 200.0, 200.0, 0.0, 600.0),
}
PRIOR = {name: kind.prior for name, kind in _KINDS.items()}
"""Coefficients of no knowledge."""
LEAST_ROWS = 6
"""Rows that a publisher needs to count in a fit."""
_PRIOR_WEIGHT = 0.003
"""Weight of staying at the prior by one step, against errors of rows."""
_ROUNDS = 60
_SMALL = 0.05
"""Errors below this, which is within the noise of what is published, count as squares."""


@dataclass(frozen=True, slots=True)
class Slopes:
    """A row's prediction, and how its step time changes with the coefficients.

    Attributes:
        found: its prediction with the catalogue's. values: these.
        prior_s: seconds of the step with coefficients of no knowledge.
        per_step_s: seconds for one step off the prior of each.
    """

    found: Predicted
    values: Mapping[Key, float] = field(default_factory=dict)
    prior_s: float = 0.0
    per_step_s: Mapping[Key, float] = field(default_factory=dict)

    @property
    def publisher(self) -> str:
        """Who measured."""
        return publisher_of(self.found.row)

    def step_s(self, values: Mapping[Key, float]) -> float:
        """Step time with other coefficients; at least a tenth of that with those of no knowledge."""
        changes = (slope * _KINDS[key[0]].steps(values[key]) for key, slope in self.per_step_s.items())
        return max(self.prior_s + sum(changes), self.prior_s / 10)


def publisher_of(row: Row) -> str:
    """Groups whose names begin alike come from one publisher."""
    found = re.match(r"[a-z]+", row.group.lower())
    return found[0] if found else row.group


def independent_rows(data: str | Path, models: str | Path) -> list[Row]:
    """Rows that count; of those composed from the same parts the first.

    Raises:
        ScenarioError: a file cannot be read, or no row counts.
    """
    rows, shapes = read_rows(data), read_models(models)
    last = newest(rows)
    counted = [Compared(row, 1.0, 1.0) for i, row in enumerate(rows) if row_counts(row) and i in last]
    if not counted:
        raise ScenarioError(
            f"{data}: no row has a complete layout and a measured step time, so that nothing can be fitted"
        )
    return [members[0].row for members in alike(counted, shapes)]


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
        of = _KINDS[key[0]]
        changed_s = _step_s(_changed(scenario, key[0], of.changed))
        slopes[key] = 0.0 if changed_s is None else (changed_s - prior_s) / of.steps(of.changed)
    return Slopes(found, values, prior_s, slopes)


def _step_s(scenario: Scenario) -> float | None:
    try:
        return simulate_step(scenario).time_s
    except SimtrainError:
        return None


def _kinds(scenario: Scenario) -> tuple[str, ...]:
    """What is fitted of a scenario: of software only what holds the GPU up, which has Python to count."""
    software = scenario.software
    shares = _kept(scenario).fitted_on is not None
    asked = {
        "matmul": shares,
        "stream": shares,
        "copies": software.calls_per_operator > 0,
        "calls_per_recompute": software.calls_per_recompute > 0 and scenario.layout.recompute == "full",
    }
    return tuple(name for name, wanted in asked.items() if wanted)


def _owner(scenario: Scenario, kind: str) -> str:
    if not _KINDS[kind].share:
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
    holder = _kept(scenario) if _KINDS[kind].share else scenario.software
    return float(getattr(holder, kind))


def _changed(scenario: Scenario, kind: str, value: float) -> Scenario:
    if not _KINDS[kind].share:
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
    keys = sorted({key for one in rows for key in one.per_step_s})
    kinds = [_KINDS[kind] for kind, _ in keys]
    weights = np.array([1.0 / of[one.publisher] for one in rows])
    effect, target = np.zeros((len(rows), len(keys))), np.zeros(len(rows))
    place = {key: i for i, key in enumerate(keys)}
    for i, one in enumerate(rows):
        measured_s = one.found.row.measured.step_s or 1.0
        target[i] = 1.0 - one.prior_s / measured_s
        for key, slope in one.per_step_s.items():
            effect[i, place[key]] = slope / measured_s
    low, high = (np.array([pick(kind.steps(kind.low), kind.steps(kind.high)) for kind in kinds]) for pick in (min, max))
    steps = _least_errors(effect, target, weights, low, high).tolist()
    found = {key: kind.value(x) for key, kind, x in zip(keys, kinds, steps, strict=True)}
    return {key: _like(key, found) for one in for_rows for key in one.values} | found


def _like(key: Key, found: Mapping[Key, float]) -> float:
    """What stands for a coefficient that no row tells of: the mean of its chip's, else of its kind."""
    kind, owner = key
    known = {other: value for (k, other), value in found.items() if k == kind}
    chip = [
        value for other, value in known.items() if _KINDS[kind].share and other.split(":")[0] == owner.split(":")[0]
    ]
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
