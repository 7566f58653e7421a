"""What one point of a sweep yields: the document of ``simtrain run``, flat."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from simtrain.errors import SimtrainError
from simtrain.scenario.scenario import Scenario

if TYPE_CHECKING:
    from simtrain.step.report import StepReport

__all__ = ["Outcome", "evaluate", "flat"]

_PARTS = ("step", "memory", "job", "run", "coverage")


class Outcome(NamedTuple):
    """One point worked out.

    Attributes:
        row: column names to numbers, switches, texts or None; of a point that failed ``error`` alone.
        final: whether working it out again would give the same.
    """

    row: dict[str, Any]
    final: bool = True


def evaluate(scenario: Scenario) -> Outcome:
    """Simulate a scenario; whatever goes wrong is its ``error``."""
    try:
        return Outcome(flat(_document(scenario)))
    except SimtrainError as error:
        return Outcome({"error": str(error).removeprefix(f"{scenario.name}: ")})
    except MemoryError:
        return Outcome(
            {"error": "this machine has too little memory for that many micro batches and GPUs"}, final=False
        )
    except Exception as error:  # a defect in one point must not cost the others
        return Outcome({"error": f"defect: {type(error).__name__}: {error}"}, final=False)


def flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers, switches and texts of a run's document by dotted name; of lists the peak of memory alone.

    What is not finite is None, as in JSON.
    """
    row = {"step.engine": document["engine"]}
    for part in _PARTS:
        row |= dict(_leaves(part, document.get(part) or {}))
    return row


def _document(scenario: Scenario) -> dict[str, Any]:
    from simtrain.reliability.run import run_of
    from simtrain.step.compare import step_key

    step = replace(_step(step_key(scenario)), scenario=scenario)
    run = run_of(step).document() if scenario.reliability else None
    return step.document() | {"run": run}


@lru_cache(maxsize=8)
def _step(key: str) -> StepReport:
    """The step of a scenario as JSON; points that differ by reliability alone share one."""
    from simtrain.step.simulate import simulate_step

    return simulate_step(Scenario.model_validate_json(key))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(f"{name}.{key}", inner)
    elif name == "memory.peak_bytes":
        yield name, max(value)
    elif isinstance(value, float) and not math.isfinite(value):
        yield name, None
    elif not isinstance(value, list | tuple):
        yield name, value
