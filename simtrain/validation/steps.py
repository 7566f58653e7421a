"""Step times and memory predicted for rows of published training measurements, and how far they lie off."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Literal, TypeVar

from simtrain.errors import SimtrainError, UnsupportedError
from simtrain.importers.model_table import read_models
from simtrain.model.flops import model_flops_per_token
from simtrain.scenario.model import Model
from simtrain.scenario.scenario import Scenario
from simtrain.step.fit import capacity_bytes, peak_bytes
from simtrain.step.simulate import simulate_step
from simtrain.validation.errors_of import ErrorFigures, error_figures
from simtrain.validation.floor import Baseline, floor
from simtrain.validation.rows import Row, read_rows
from simtrain.validation.scenarios import candidates
from simtrain.validation.within import Compared, Layouts, independent_errors, rank_layouts

__all__ = [
    "GroupFigures",
    "Predicted",
    "StepsReport",
    "in_processes",
    "measured_models",
    "measured_steps",
    "newest",
    "predict",
    "predict_steps",
    "report_of",
    "row_counts",
]

_GIB = 2.0**30
_SKIPPED_FREELY = 0.05
"""Share of a group's complete rows that may be skipped; each beyond that counts as an error of 100 %."""
_TRAINING = ("pretrain", "sft")
_INSTEAD_OF_TIME = 1e30


Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Predicted:
    """One row: what was predicted, or why not.

    Attributes:
        status: ``predicted``, or ``skipped`` for a ``reason``.
        step_s: seconds of a step. peak_memory_gib: of the worst GPU, as its allocator counts. out_of_memory: that and
            what lies outside the allocator are more than a GPU has.
        settings: what was chosen for knobs that the row leaves open.
        error: predicted / measured step time - 1; None where nothing was measured.
        extrapolated, operators: kernels without measurements on the device, of all.
        counts: whether the row enters the figures of its group.
        flops: what a baseline of one constant counts, by name.
    """

    row: Row
    status: Literal["predicted", "skipped"]
    reason: str = ""
    step_s: float | None = None
    peak_memory_gib: float | None = None
    out_of_memory: bool | None = None
    settings: str = ""
    error: float | None = None
    extrapolated: int = 0
    operators: int = 0
    counts: bool = False
    flops: tuple[float, ...] = ()
    scenario: Scenario | None = None


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """Figures of a group's step times, and of its memory.

    Attributes:
        steps: errors of step times by the counting rules of :func:`predict_steps`.
        floor: mean absolute error of the best baseline of one constant a GPU and precision, fitted on these rows.
        memory: errors of peak memory. fits_right, fits: rows whose fit or want of memory came out right, of all.
        layouts: rank correlations among the layouts of one job.
        independent: mean absolute errors, one for each set of rows that may rest on the same measured parts.
    """

    steps: ErrorFigures
    floor: float | None
    memory: ErrorFigures
    fits_right: int
    fits: int
    layouts: tuple[Layouts, ...]
    independent: tuple[float, ...]

    @property
    def lowest_rank(self) -> float | None:
        """The lowest rank correlation among the layouts of one job, None where no job has three."""
        return min((job.spearman for job in self.layouts), default=None)

    @property
    def mean_abs_combinations(self) -> float | None:
        """Mean absolute error, rows that may rest on the same measured parts counted once."""
        return sum(self.independent) / len(self.independent) if self.independent else None


@dataclass(frozen=True, slots=True)
class StepsReport:
    """Rows in the order of the file, and figures of each group of them."""

    rows: tuple[Predicted, ...]
    groups: dict[str, GroupFigures]


def measured_steps() -> Path:
    """The table of published step times and memory."""
    return Path(str(files("simtrain.validation") / "data" / "steps_measured.csv"))


def measured_models() -> Path:
    """The architectures that it names."""
    return Path(str(files("simtrain.validation") / "data" / "models.csv"))


def predict_steps(
    data: str | Path, models: str | Path, *, advance: Callable[[str], None] = lambda text: None, workers: int = 0
) -> StepsReport:
    """Predict every row of a table; measured columns only enter the errors.

    A row enters the figures of its group where its layout is complete, its step time was measured and it trained.
    Of rows alike but for the version of the software, the newest counts.  Skipped complete rows beyond 5 % of a
    group count as errors of 100 %.

    Args:
        data: columns as :data:`simtrain.validation.rows.COLUMNS`.
        models: columns as :mod:`simtrain.importers.model_table` reads them.
        advance: called after each row.
        workers: processes; 0: as many as there are cores.

    Raises:
        ScenarioError: a file cannot be read.
    """
    rows, shapes = read_rows(data), read_models(models)
    found = []
    for predicted in in_processes(rows, shapes, workers, predict):
        found.append(replace(predicted, scenario=None))
        advance(predicted.row.id)
    return report_of(found, shapes)


def report_of(found: Sequence[Predicted], shapes: Mapping[str, Model]) -> StepsReport:
    """Errors of rows, and figures of their groups."""
    last = newest([one.row for one in found])
    scored = tuple(replace(_scored(one), counts=row_counts(one.row) and i in last) for i, one in enumerate(found))
    grouped: dict[str, list[Predicted]] = defaultdict(list)
    for one in scored:
        grouped[one.row.group].append(one)
    return StepsReport(scored, {name: _figures(of, shapes) for name, of in sorted(grouped.items())})


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(
    rows: Sequence[Row], models: Mapping[str, Model], workers: int, work: Callable[[Row, Model | None], Found]
) -> Iterator[Found]:
    """What ``work`` makes of each row, in order; the first here, so that what it compiles is on disk for all.

    Args:
        rows: rows.
        models: architectures by name.
        workers: processes; 0: as many as there are cores.
        work: a function of a module, which processes can import.
    """
    yield from (work(row, models.get(row.model)) for row in rows[:1])
    rest, workers = rows[1:], workers or _cores()
    if workers == 1 or len(rest) < 2:
        yield from (work(row, models.get(row.model)) for row in rest)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(rest)), context, initializer=_leave_interrupts_to_the_parent)
    try:
        yield from pool.map(work, rest, [models.get(row.model) for row in rest], chunksize=4)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def predict(row: Row, model: Model | None) -> Predicted:
    """The prediction of a row with the scenario that it rests on, or why there is none."""
    if row.task not in (*_TRAINING, "memory_only", ""):
        return Predicted(row, "skipped", f"task {row.task} is not simulated")
    try:
        scenarios = candidates(row, model)
    except SimtrainError as error:
        return Predicted(row, "skipped", str(error))
    best, reason = None, ""
    for scenario in _worth_a_try(scenarios):
        try:
            one = _simulated(row, scenario, len(scenarios) > 1)
        except SimtrainError as error:
            reason = str(error)
            continue
        if best is None or _rank(one) < _rank(best):
            best = replace(one, scenario=scenario)
    return best or Predicted(row, "skipped", reason)


def _worth_a_try(scenarios: Sequence[Scenario]) -> Sequence[Scenario]:
    """For each micro batch and count of chunks the first setting that fits, since those after it recompute more.

    All of them where none fits.
    """
    if len(scenarios) == 1:
        return scenarios
    lightest: dict[tuple[int, int], Scenario] = {}
    for scenario in scenarios:
        shape = scenario.layout.micro_batch, scenario.layout.vpp
        if shape not in lightest and _fits(scenario):
            lightest[shape] = scenario
    return list(lightest.values()) or scenarios


def _fits(scenario: Scenario) -> bool:
    try:
        return max(peak_bytes(scenario)) <= capacity_bytes(scenario)
    except SimtrainError:
        return False


def _rank(one: Predicted) -> tuple[bool, float]:
    """What fits first, then what is fastest."""
    return bool(one.out_of_memory), one.step_s or _INSTEAD_OF_TIME


def _simulated(row: Row, scenario: Scenario, chosen: bool) -> Predicted:
    step = simulate_step(scenario)
    layout, model = scenario.layout, scenario.workload.model
    if not isinstance(model, Model):
        raise UnsupportedError("workload.model is a name; load the scenario before simulating it")
    words = f"micro batch {layout.micro_batch}, vpp {layout.vpp}, recompute {layout.recompute}" if chosen else ""
    share = row.global_batch * row.sequence / row.hardware.gpus
    flops = model_flops_per_token(model, row.sequence) * share
    dense = model_flops_per_token(model, 0) * share
    again = 4 / 3 if layout.recompute == "full" else 1.0
    return Predicted(
        row,
        "predicted",
        step_s=step.time_s,
        peak_memory_gib=(max(step.memory.peak_bytes) - scenario.software.framework_memory) / _GIB,
        out_of_memory=not step.memory.fits,
        settings=words,
        extrapolated=step.coverage.extrapolated,
        operators=step.coverage.operators,
        flops=(dense, flops, dense * again, flops * again),
    )


def _scored(one: Predicted) -> Predicted:
    measured = one.row.measured.step_s
    if one.step_s is None or measured is None:
        return one
    return replace(one, error=one.step_s / measured - 1)


def row_counts(row: Row) -> bool:
    """Whether a row's step time enters the figures of its group."""
    return (
        row.complete
        and row.measured.step_s is not None
        and not row.measured.out_of_memory
        and row.task in (*_TRAINING, "")
    )


_APART = ("id", "group", "stack_version", "stack_year", "measured")


def newest(rows: Sequence[Row]) -> set[int]:
    """Of rows alike but for the version of the software, the place of the newest."""
    last: dict[tuple[object, ...], int] = {}
    for i, row in enumerate(rows):
        key: tuple[object, ...] = tuple(getattr(row, f.name) for f in fields(row) if f.name not in _APART)
        if not row.stack_version:
            key = (*key, i)
        if key not in last or _version(row) > _version(rows[last[key]]):
            last[key] = i
    return set(last.values())


def _version(row: Row) -> tuple[int, ...]:
    return tuple(int(part) for part in row.stack_version.split(".") if part.isdigit())


def _figures(group: Sequence[Predicted], models: Mapping[str, Model]) -> GroupFigures:
    counted = [one for one in group if one.counts]
    done = [_compared(one) for one in counted if one.status == "predicted"]
    compared = done + _missed(counted)
    memory = [
        (one.peak_memory_gib, one.row.measured.peak_memory_gib)
        for one in group
        if one.row.complete and one.peak_memory_gib is not None and one.row.measured.peak_memory_gib is not None
    ]
    fits = [one for one in group if one.row.complete and one.out_of_memory is not None and _known_fit(one.row)]
    pairs = [(one.predicted_s, one.measured_s) for one in compared]
    return GroupFigures(
        steps=error_figures(len(group), sum(one.status == "predicted" for one in group), pairs),
        floor=floor([_baseline(one) for one in counted if one.status == "predicted"]),
        memory=error_figures(len(group), len(memory), memory),
        fits_right=sum(one.out_of_memory == one.row.measured.out_of_memory for one in fits),
        fits=len(fits),
        layouts=rank_layouts(done),
        independent=independent_errors(compared, models),
    )


def _compared(one: Predicted) -> Compared:
    return Compared(one.row, one.step_s or 0.0, one.row.measured.step_s or 0.0)


def _missed(counted: Sequence[Predicted]) -> list[Compared]:
    """Skipped rows beyond those skipped freely, as predictions of twice the measured time."""
    skipped = [one for one in counted if one.status == "skipped"]
    missing = max(0, len(skipped) - int(_SKIPPED_FREELY * len(counted)))
    times = [(one.row, one.row.measured.step_s or 0.0) for one in skipped[:missing]]
    return [Compared(row, 2.0 * step_s, step_s) for row, step_s in times]


def _baseline(one: Predicted) -> Baseline:
    device = f"{one.row.hardware.device} {one.row.precision}"
    return Baseline(device, one.flops, one.row.measured.step_s or 0.0)


def _known_fit(row: Row) -> bool:
    return row.measured.out_of_memory or row.measured.step_s is not None
