"""Fits the kernel tables of the device catalogue to published timings, and writes them.

    python -m simtrain.validation.calibrate.kernels [--check]

Each :class:`~simtrain.validation.calibrate.tasks.Task` minimises the mean absolute relative error over all its rows.
Beside that error stand two of rows that a fit did not see: a third of the shapes after the other left out, and one
source after the other left out (a source is a file of timings: of one model in microsoft/vidur, of one release in
DeepGEMM).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from simtrain.costs.kernels import KernelModel
from simtrain.scenario import library
from simtrain.scenario.kernels import AttentionEfficiency, GemmEfficiency, KernelEfficiency, KernelTable
from simtrain.validation.calibrate.search import Range, minimise, rounded
from simtrain.validation.calibrate.tasks import COPIES, RANGES, TASKS, Copy, Place, Task
from simtrain.validation.kernel_rows import KernelCase, SkippedRowError, case
from simtrain.validation.kernels import COLUMNS, NEEDED, measured_of, measured_table, model_of, seconds_of
from simtrain.validation.table import read_table

__all__ = ["Fitted", "Tables", "fit", "main"]

_SECONDS = ("latency", "fill", "each", "floor", "throttle_time")
_LEAST_ROWS = 6
"""Fewer rows than this are not split into seen and unseen ones."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One row: what ran, on which model of a device, its measured seconds, its shape and its source."""

    found: KernelCase
    model: KernelModel
    measured_s: float
    shape: tuple[object, ...]
    source: str


@dataclass(frozen=True, slots=True)
class Fitted:
    """Coefficients of a task in SI units, and mean absolute errors; None where rows are too few to leave any out."""

    task: Task
    values: dict[str, float | int | bool]
    rows: int
    error: float
    shapes_error: float | None
    sources_error: float | None


class Tables:
    """The kernel tables of the catalogue as documents, rewritten as fits come in."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or library.root() / library.FOLDERS["device"]
        self.tables: dict[str, dict[str, Any]] = {}

    def table(self, device: str) -> dict[str, Any]:
        """Table of a device, of the catalogue until something is put."""
        if device not in self.tables:
            self.tables[device] = yaml.safe_load(self._path(device).read_text(encoding="utf-8"))["kernels"]
        return self.tables[device]

    def values(self, place: Place) -> dict[str, Any]:
        """Coefficients of a class in SI units."""
        entry: dict[str, Any] = self.table(place[0])
        for key in place[1].split("."):
            entry = entry[key]
        parsed = _type_of(place[1]).model_validate(entry).model_dump()
        return {key: value for key, value in parsed.items() if key in entry and key not in ("source", "measured")}

    def put(self, place: Place, values: Mapping[str, Any], source: str, measured: bool) -> None:
        """Write a class, durations with their unit."""
        *folders, name = place[1].split(".")
        entry = self.table(place[0])
        for key in folders:
            entry = entry.setdefault(key, {})
        entry[name] = {
            **{key: f"{value * 1e6:.3g} us" if key in _SECONDS else value for key, value in values.items()},
            **({} if measured else {"measured": False}),
            "source": source,
        }

    def text(self, device: str) -> str:
        """The document of a device with its table as it stands here."""
        table = self.table(device)
        table = {key: table[key] for key in KernelTable.model_fields if key in table}
        block = yaml.safe_dump({"kernels": table}, sort_keys=False, width=116, allow_unicode=True)
        text = self._path(device).read_text(encoding="utf-8")
        return re.sub(r"^kernels:\n(?:[ ].*\n)+", lambda _: block, text, flags=re.MULTILINE)

    def write(self) -> None:
        """Write every document that was touched."""
        for device in self.tables:
            text = self.text(device)
            self._path(device).write_text(text, encoding="utf-8")

    def _path(self, device: str) -> Path:
        return self.folder / f"{device}.yaml"


def _type_of(target: str) -> type[KernelEfficiency]:
    if "gemm" in target:
        return GemmEfficiency
    return AttentionEfficiency if "attention" in target else KernelEfficiency


def fit(task: Task, tables: Tables, *, held_out: bool = True) -> Fitted:
    """Fit one task; ``held_out`` also fits with rows left out, for the errors of those."""
    samples = samples_of(task)
    base = tables.values(task.lender) if task.lender else {}
    constants = {**base, **task.fixed}
    starts = {name: _started(name, base) for name in task.free}
    one_start = {name: Range(each.low, each.high, each.starts[:1]) for name, each in starts.items()}

    def values(seen: Sequence[bool], ranges: Mapping[str, Range]) -> dict[str, float | int | bool]:
        chosen = [sample for sample, use in zip(samples, seen, strict=True) if use]
        point, _ = minimise(lambda tried: _error(task, {**constants, **tried}, chosen), ranges)
        return {**constants, **point}

    def unseen(splits: Sequence[Sequence[bool]]) -> float | None:
        if not held_out or len(samples) < _LEAST_ROWS or not splits:
            return None
        errors = [
            _errors(task, values(seen, one_start), [s for s, use in zip(samples, seen, strict=True) if not use])
            for seen in splits
        ]
        return float(np.concatenate(errors).mean())

    whole = values([True] * len(samples), starts)
    return Fitted(
        task,
        whole,
        len(samples),
        _error(task, whole, samples),
        unseen(_shapes(samples)),
        unseen(_sources(samples)),
    )


@cache
def samples_of(task: Task) -> list[Sample]:
    """Rows of a task that have a measurement."""
    return [sample for row in _measured_rows() if (sample := _sample(task, row)) is not None]


@cache
def _measured_rows() -> list[dict[str, str]]:
    return [row for row in read_table(measured_table(), NEEDED) if row["kind"] == "measured"]


def _sample(task: Task, row: Mapping[str, str]) -> Sample | None:
    if row["device"].lower() != (task.rows_of or task.device) or row["kernel"] not in task.kernels:
        return None
    if not row["dtype"].startswith(task.dtype):
        return None
    try:
        found = case({name: row[name] for name in COLUMNS})
    except SkippedRowError:
        return None
    measured_us = measured_of(row, found)
    if measured_us is None or (task.kind and found.kernel.kind != task.kind):
        return None
    shape = tuple(row[key] for key in ("m", "n", "k", "groups")) if row["k"] else (row["m"], row["n"], row["extra"])
    return Sample(found, model_of(found.device, found.precision), measured_us * 1e-6, shape, _source(row["source"]))


def _source(text: str) -> str:
    """Who measured, without the remarks behind it."""
    return re.sub(r" \(.*", "", text)


def _started(name: str, base: Mapping[str, Any]) -> Range:
    """Where to search, first from what the lender has."""
    known = RANGES[name]
    return Range(known.low, known.high, (base[name], *known.starts)) if base.get(name) else known


def _errors(task: Task, values: Mapping[str, Any], samples: Sequence[Sample]) -> np.ndarray[Any, np.dtype[np.float64]]:
    kind = _type_of(task.target)
    efficiency = kind.model_construct(**values, source="")
    return np.array(
        [
            abs(seconds_of(s.model.with_coefficients(s.found.kernel, efficiency), s.found, s.model) / s.measured_s - 1)
            for s in samples
        ]
    )


def _error(task: Task, values: Mapping[str, Any], samples: Sequence[Sample]) -> float:
    return float(_errors(task, values, samples).mean())


def _shapes(samples: Sequence[Sample]) -> list[list[bool]]:
    """Three splits, each without every third shape in order of its text."""
    shapes = sorted({s.shape for s in samples}, key=str)
    thirds = [set(shapes[i::3]) for i in range(3)]
    return [[s.shape not in third for s in samples] for third in thirds]


def _sources(samples: Sequence[Sample]) -> list[list[bool]]:
    """A split for each source, where there are several."""
    names = sorted({s.source for s in samples})
    return [[s.source != name for s in samples] for name in names] if len(names) > 1 else []


def apply_copy(copy: Copy, tables: Tables) -> None:
    """Put a class that takes its coefficients from others."""
    values = {key: value for key, value in tables.values(copy.lender).items() if key not in copy.without}
    if copy.base or copy.ratios:
        compute = tables.values(copy.base or copy.lender)["compute"]
        ratios = [tables.values(up)["compute"] / tables.values(down)["compute"] for up, down in copy.ratios]
        values["compute"] = min(rounded(compute * float(np.mean(ratios or [1.0]))), 1.0)
    tables.put((copy.device, copy.target), values, copy.source, measured=False)


def source_of(fitted: Fitted) -> str:
    """What the catalogue says of a fitted class."""
    samples = samples_of(fitted.task)
    owners = dict.fromkeys(
        re.split(r" (?:data|configs|README|benchmark|compute|train|Fig)", s.source)[0] for s in samples
    )
    text = f"fit to {fitted.rows} row{'s' if fitted.rows > 1 else ''} of {', '.join(owners)}"
    text += f" ({fitted.task.note})" if fitted.task.note else ""
    shown = [f"mean error {100 * fitted.error:.1f} %"]
    if fitted.shapes_error is not None:
        shown.append(f"{100 * fitted.shapes_error:.1f} % on shapes left out")
    if fitted.sources_error is not None:
        shown.append(f"{100 * fitted.sources_error:.1f} % on sources left out")
    return f"{text}; {', '.join(shown)}"


def main(arguments: Sequence[str] = (), show: Callable[[str], None] = print) -> int:
    """Fit everything, print the table, write the catalogue (with ``--check`` compare with it instead).

    Returns:
        0, or 1 where ``--check`` finds a difference.
    """
    tables = Tables()
    show("| device | class | rows | error | shapes left out | sources left out |\n|---|---|---|---|---|---|")
    for task in TASKS:
        fitted = fit(task, tables)
        tables.put((task.device, task.target), fitted.values, source_of(fitted), measured=not task.rows_of)
        left_out = (f"{100 * e:.1f} %" if e is not None else "–" for e in (fitted.shapes_error, fitted.sources_error))
        show(f"| {task.device} | {task.target} | {fitted.rows} | {100 * fitted.error:.1f} % | {' | '.join(left_out)} |")
    for copy in COPIES:
        apply_copy(copy, tables)
    if "--check" not in arguments:
        tables.write()
        return 0
    changed = [name for name in tables.tables if tables.text(name) != tables._path(name).read_text(encoding="utf-8")]
    show(f"differ from the catalogue: {', '.join(changed) or 'none'}")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
