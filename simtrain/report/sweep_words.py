"""Columns of a sweep in words: what they are called, their unit, and a table of the most important ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simtrain.report.palette import BUCKETS
from simtrain.report.run_tables import BUCKET_WORDS
from simtrain.sweep.table import Row, Table

if TYPE_CHECKING:
    from rich.table import Table as RichTable

__all__ = ["Measure", "failures", "measure", "sweep_rows", "sweep_table", "value_text"]

_SHARES = {
    *("mfu", "mfu_causal", "hfu", "bubble_fraction", "goodput", "effective_mfu", "availability", "standard_error"),
    *("low", "high", "bias"),
}
_NAMES = {
    "step.time_s": "step time",
    "step.uncertainty.low": "uncertainty down",
    "step.uncertainty.high": "uncertainty up",
    "step.mfu": "MFU",
    "step.mfu_causal": "MFU, causal attention",
    "step.hfu": "HFU",
    "step.bubble_fraction": "bubble",
    "memory.peak_bytes": "peak memory",
    "memory.fits": "fits",
    "job.cost_usd": "cost",
    "job.usd_per_million_tokens": "USD per M tokens",
    "job.gpu_hours": "GPU-hours",
    "job.usd_per_gpu_hour": "USD per GPU-hour",
    "run.days": "days with failures",
    "run.mtbf_s": "time between failures",
    "run.standard_error": "standard error of goodput",
    "run.usd_per_million_tokens": "USD per M useful tokens",
}
_SHOWN = (
    *(
        "step.time_s",
        "step.uncertainty.low",
        "step.uncertainty.high",
        "step.mfu",
        "step.bubble_fraction",
        "memory.peak_bytes",
        "memory.fits",
        "job.days",
    ),
    *("job.usd_per_million_tokens", "run.goodput", "run.effective_mfu", "run.days", "run.usd_per_million_tokens"),
)
_FAILING = {"job.days": "run.days", "job.usd_per_million_tokens": "run.usd_per_million_tokens"}
"""Left out where the same with failures is shown."""
MOST = 40
"""Rows of a table on the terminal."""


@dataclass(frozen=True, slots=True)
class Measure:
    """How a column is written: ``value * scale`` in ``unit``."""

    name: str
    scale: float = 1.0
    unit: str = ""

    @property
    def title(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def text(self, value: Any) -> str:
        """A value without its unit."""
        if value is None:
            return ""
        if isinstance(value, bool):
            return "yes" if value else "NO"
        if not isinstance(value, int | float):
            return str(value)
        scaled = value * self.scale
        if self.unit == "%":
            return f"{scaled:.1f}"
        return f"{scaled:,.0f}" if isinstance(value, int) or abs(scaled) >= 1e3 else f"{scaled:#.4g}"


def measure(column: str) -> Measure:
    """How a column of a sweep is written."""
    last = column.rsplit(".", 1)[-1]
    if column.startswith("step.waterfall."):
        return Measure(BUCKETS[last].label if last in BUCKETS else last, 100.0, "%")
    if column.startswith("run.failures."):
        return Measure(f"failures a run, {last.replace('_', ' ')}")
    if column.startswith("run.ledger."):
        return Measure(BUCKET_WORDS.get(last, last), 100.0, "%")
    name = _NAMES.get(column) or last.removesuffix("_bytes").replace("_", " ").replace("mfu", "MFU")
    if last in _SHARES:
        return Measure(name, 100.0, "%")
    if last.endswith("_bytes"):
        return Measure(name, 2.0**-30, "GiB")
    if last.endswith("_s") and not last.endswith("per_s"):
        return Measure(name.removesuffix(" s"), 1.0, "s")
    if last.endswith("_usd"):
        return Measure(name.removesuffix(" usd"), 1.0, "USD")
    return Measure(name)


def value_text(value: Any) -> str:
    """A value of an axis."""
    if value is None or isinstance(value, bool | list | dict):
        return json.dumps(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def sweep_rows(table: Table, metric: str | None) -> tuple[list[str], list[list[str]]]:
    """Header and cells: the axes, what matters most, and the metric; the best row has a star."""
    shown = [c for c in _SHOWN if c in table.columns and _FAILING.get(c) not in table.columns]
    if metric is not None and metric not in shown:
        shown.append(metric)
    best = None if metric is None else table.best(metric)
    header = ["", *_short(table.keys), *(measure(column).title for column in shown)]
    return header, [_cells(table, row, shown, best == number) for number, row in enumerate(table.rows)]


def failures(table: Table, most: int) -> list[str]:
    """Which points failed and why, a line each for the first ``most``."""
    names = _short(table.keys)
    lines = []
    for row in table.failed[:most]:
        where = ", ".join(f"{name} {value_text(row[key])}" for name, key in zip(names, table.keys, strict=True))
        lines.append(f"{where}: {row['error']}")
    more = len(table.failed) - most
    return [*lines, f"and {more} more"] if more > 0 else lines


def _short(keys: tuple[str, ...]) -> list[str]:
    """Key paths by their last part, where that is enough to tell them apart."""
    ends = [key.rsplit(".", 1)[-1] for key in keys]
    return [end if ends.count(end) == 1 else key for key, end in zip(keys, ends, strict=True)]


def sweep_table(table: Table, metric: str | None) -> RichTable:
    """The first rows as a table of the terminal."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    header, rows = sweep_rows(table, metric)
    drawn = RichTable(box=box.SIMPLE_HEAD)
    for number, name in enumerate(header):
        drawn.add_column(Text(name), justify="right" if number else "left", overflow="fold")
    for cells in rows[:MOST]:
        drawn.add_row(*map(Text, cells), style="bold" if cells[0] else None)
    if len(rows) > MOST:
        drawn.caption = f"and {len(rows) - MOST} more rows; --output writes them all"
    return drawn


def _cells(table: Table, row: Row, shown: list[str], best: bool) -> list[str]:
    numbers = tuple(measure(column).text(row.get(column)) for column in shown)
    if row["error"] is not None:
        numbers = ("failed", *[""] * (len(shown) - 1))
    return ["*" if best else "", *(value_text(row[key]) for key in table.keys), *numbers]
