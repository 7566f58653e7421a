"""Kernel times against a table of measured ones (``data/kernels_measured.csv`` and files of its format)."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from simtrain.costs.kernels import KernelModel, KernelTime
from simtrain.errors import InputError, nearest
from simtrain.scenario import library
from simtrain.scenario.cluster import Contention, Device
from simtrain.scenario.kernels import KernelEfficiency
from simtrain.scenario.load import validate
from simtrain.scenario.part import Precision
from simtrain.scenario.resolve import Origin, finish, open_document
from simtrain.validation.errors_of import ErrorFigures, error_figures
from simtrain.validation.kernel_rows import KernelCase, SkippedRowError, case
from simtrain.validation.table import read_table

__all__ = [
    "COLUMNS",
    "NEEDED",
    "KernelReport",
    "KernelRow",
    "coefficients_of",
    "measured_of",
    "measured_table",
    "model_of",
    "predict_kernels",
    "seconds_of",
]

COLUMNS = ("device", "kernel", "dtype", "m", "n", "k", "groups", "extra")
"""What a prediction reads."""
_CONTENTION = Contention()


@dataclass(frozen=True, slots=True)
class KernelRow:
    """One data row, counted from 0 without the header.

    Attributes:
        status: whether it was predicted; reason: why not, else empty.
        group: "kernel device". predicted_time_us, measured_time_us, error (predicted / measured - 1): None where
            there is none. extrapolated: its coefficients were not measured on its device.
    """

    index: int
    group: str
    status: Literal["predicted", "skipped"]
    reason: str
    predicted_time_us: float | None
    measured_time_us: float | None
    error: float | None
    extrapolated: bool = False


@dataclass(frozen=True, slots=True)
class KernelReport:
    """Rows in the order of the file, and figures of each group of them."""

    rows: tuple[KernelRow, ...]
    groups: dict[str, ErrorFigures]


NEEDED = ("device", "kernel")
"""Columns that a file must have."""


def measured_table() -> Path:
    """The table of published kernel timings that coefficients are fitted to."""
    return Path(str(files("simtrain.validation") / "data" / "kernels_measured.csv"))


def predict_kernels(path: str | Path) -> KernelReport:
    """Predict every row of a CSV file; measured columns only enter the errors.

    Raises:
        ScenarioError: the file cannot be read, or lacks the columns device and kernel.
    """
    rows = tuple(_row(i, row) for i, row in enumerate(read_table(path, NEEDED)))
    grouped: dict[str, list[KernelRow]] = defaultdict(list)
    for row in rows:
        grouped[row.group].append(row)
    return KernelReport(rows, {name: _figures(of) for name, of in sorted(grouped.items())})


def coefficients_of(found: KernelCase, model: KernelModel) -> KernelEfficiency:
    """Coefficients of a row: those of the software it names, else those of its class."""
    kind, table, names = found.kernel.kind, model.table, [found.variant]
    if model.low_precision:
        names.insert(0, f"{found.variant}_fp8")
    variants: Mapping[str, KernelEfficiency] = table.memory_variants
    if kind in ("gemm", "grouped_gemm"):
        variants = table.gemm_variants
    elif kind.startswith("attention"):
        variants = table.attention_variants
    return next((variants[name] for name in names if name in variants), None) or model.coefficients(found.kernel)


def seconds_of(time: KernelTime, found: KernelCase, model: KernelModel) -> float:
    """Seconds of a row's kernel, slower where it ran beside communication that held SMs (``cluster.contention``)."""
    if not found.overlapped or not model.chip.sms:
        return time.total_s
    rate = (1 - _CONTENTION.sms.ep / model.chip.sms) * _CONTENTION.kernel_rate
    return time.latency_s + (time.total_s - time.latency_s) / rate


@cache
def model_of(device: str, precision: Precision) -> KernelModel:
    """Kernel times of a device of the catalogue, whose name may differ in case and hyphens.

    Raises:
        SkippedRowError: there is no such device.
        ScenarioError: it lacks the precision.
    """
    known = {re.sub(r"[^a-z0-9]", "", name): name for name in library.names("device")}
    name = known.get(re.sub(r"[^a-z0-9]", "", device))
    if name is None:
        close = nearest(device, library.names("device"))
        raise SkippedRowError(
            f"device {device!r} is not in the catalogue" + (f"; nearest is {close!r}" if close else "")
        )
    model = validate(Device, finish("device", open_document("device", name, Origin(""))))
    return KernelModel(model, "dense", precision)


def _row(index: int, row: Mapping[str, str]) -> KernelRow:
    group = f"{(row.get('kernel') or '').strip()} {(row.get('device') or '').strip()}".strip()
    try:
        found = case({name: row.get(name) or "" for name in COLUMNS})
        model = model_of(found.device, found.precision)
        time = model.with_coefficients(found.kernel, coefficients_of(found, model))
    except InputError as error:
        return KernelRow(index, group, "skipped", str(error), None, measured_of(row, None), None)
    measured = measured_of(row, found)
    predicted = seconds_of(time, found, model) * 1e6
    error_of = predicted / measured - 1 if measured else None
    return KernelRow(index, group, "predicted", "", predicted, measured, error_of, time.extrapolated)


def measured_of(row: Mapping[str, str], found: KernelCase | None) -> float | None:
    """Microseconds measured, from the rate where no time is given."""
    time, rate, bandwidth = (_positive(row.get(key)) for key in ("time_us", "tflops", "gbps"))
    if time or found is None:
        return time
    if rate:
        return (found.stated_flops or found.kernel.flops) / rate * 1e-6 or None
    return found.kernel.bytes / bandwidth * 1e-3 if bandwidth else None


def _positive(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if value > 0 and math.isfinite(value) else None


def _figures(rows: Iterable[KernelRow]) -> ErrorFigures:
    rows = list(rows)
    pairs = [(r.predicted_time_us, r.measured_time_us) for r in rows if r.predicted_time_us and r.measured_time_us]
    return error_figures(len(rows), sum(r.status == "predicted" for r in rows), pairs)
