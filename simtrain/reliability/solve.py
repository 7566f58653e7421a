"""A case file answered: by formula, or by runs of an engine, each figure with its standard error."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from simtrain.engines import Engine
from simtrain.errors import InputError
from simtrain.reliability import cases
from simtrain.reliability.cases.base import Answer, Case
from simtrain.reliability.cases.params import Params
from simtrain.reliability.intervals import Estimate
from simtrain.reliability.many import simulate_many
from simtrain.reliability.result import RunResult
from simtrain.reliability.traces import read_trace

__all__ = ["PILOT_RUNS", "PRECISION", "CaseFile", "Solved", "enough_runs", "read_case", "solve"]

How = Literal["auto", "des", "compiled", "closed_form"]

PILOT_RUNS = 100
"""Runs from which the default number is worked out, and its least."""
PRECISION = 0.01
"""Standard error over mean that the default number of runs aims below."""
MOST_RUNS = 100_000


@dataclass(frozen=True, slots=True)
class CaseFile:
    """A case with its name."""

    id: str
    case: Case


@dataclass(frozen=True, slots=True)
class Solved:
    """An answer; ``standard_error`` has the keys of what was sampled, ``runs`` is 0 where nothing was run."""

    id: str
    kind: str
    engine: str
    runs: int
    answer: Answer
    standard_error: dict[str, float]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "id": self.id,
            "kind": self.kind,
            "engine": self.engine,
            "runs": self.runs,
            "answer": self.answer,
            "standard_error": self.standard_error,
        }


def read_case(path: Path, trace: Path | None = None) -> CaseFile:
    """Read ``{"id", "kind", "params"}``; further keys are not looked at.

    Raises:
        InputError: no such file, no JSON, or what it holds is not a case; names file, key, value, what is allowed.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"no case file {str(path)!r}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path} is not a case: it must be a mapping with kind and params")
    if "cases" in document and "kind" not in document:
        raise InputError(f"{path} holds a list of cases; --case takes one of them, a mapping with kind and params")
    kind = document.get("kind")
    if not isinstance(kind, str):
        raise InputError(f"{path}: kind = {kind!r} must be one of {', '.join(cases.names())}")
    found = cases.get(kind, f"{path}: kind")
    params = Params(document.get("params"), f"{path}: params", read_trace(trace) if trace else None)
    return CaseFile(str(document.get("id", path.stem)), found.read(params))


def solve(
    file: CaseFile,
    how: How = "auto",
    runs: int | None = None,
    seed: int = 0,
    *,
    said: Callable[[str], None] = lambda text: None,
    done: Callable[[float], None] = lambda share: None,
) -> Solved:
    """Answer a case.

    Args:
        file: the case.
        how: ``auto`` runs the fastest engine, or counts exactly where no engine is needed.
        runs: replicates; absent: as many as keep every mean's standard error below :data:`PRECISION` of it, worked
            out from :data:`PILOT_RUNS` and then fixed.
        seed: of the random numbers.
        said: called with what the caller should know, e.g. how many runs were chosen.
        done: called with each share of the runs that is done.

    Raises:
        UnsupportedError: the engine cannot answer this kind.
    """
    case = file.case
    if how == "closed_form" or (how == "auto" and case.counted):
        return Solved(file.id, case.kind, "closed_form", 0, case.closed_form() | case.formulas(), {})
    if case.exact:
        result = simulate_many(case.jobs()[0], 1, seed, how)
        return Solved(file.id, case.kind, result.engine, 1, case.replayed(result) | case.formulas(), {})
    results = _runs(case, runs or PILOT_RUNS, seed, how, done)
    if runs is None:
        runs = enough_runs(case.sampled(*results), spreads=results[0].engine == "compiled")
        results = _runs(case, runs, seed, how, done, results)
        said(f"{runs} runs, chosen so that standard errors are at most {PRECISION:.0%} of the mean")
    found = case.sampled(*results)
    values = {key: estimate.value for key, estimate in found.items()}
    errors = {key: estimate.error for key, estimate in found.items()}
    return Solved(file.id, case.kind, results[0].engine, runs, values | case.formulas(), errors)


def _runs(
    case: Case,
    runs: int,
    seed: int,
    how: Engine,
    done: Callable[[float], None],
    at_hand: Sequence[RunResult | None] = (),
) -> list[RunResult]:
    """Results of each Job of a case, ``at_hand`` continued."""
    jobs = case.jobs()
    before = at_hand or [None] * len(jobs)
    share = 1 / len(jobs)
    return [
        simulate_many(job, runs, seed, how, known, lambda part: done(part * share))
        for job, known in zip(jobs, before, strict=True)
    ]


def enough_runs(pilot: dict[str, Estimate], *, spreads: bool = False) -> int:
    """Runs that bring each standard error to :data:`PRECISION`, with a fifth to spare for the pilot's own error.

    Standard deviations (``sd_``) need far more runs than the means beside them: only with ``spreads``, where runs
    cost next to nothing.
    """
    wanted = [
        (estimate.error / (estimate.value * PRECISION)) ** 2 * estimate.runs * 1.2
        for key, estimate in pilot.items()
        if estimate.value and (spreads or not key.startswith("sd_"))
    ]
    return min(max(PILOT_RUNS, math.ceil(max(wanted, default=0.0))), MOST_RUNS)
