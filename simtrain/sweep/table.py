"""The table of a sweep: a row for every point, and the cells that figures show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

from simtrain.errors import InputError, UnknownNameError
from simtrain.sweep.axes import Axis

__all__ = ["Cell", "Row", "Table", "best_cell", "higher_is_better"]

Row = dict[str, Any]

_HIGHER = {
    *("tokens_per_s", "tokens_per_s_per_gpu", "model_tflops_per_gpu", "mfu", "mfu_causal", "hfu", "useful"),
    *("fits", "goodput", "effective_mfu", "availability", "capacity_bytes"),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """Rows that differ by their seed alone, seen by one metric.

    Attributes:
        position: per axis of :attr:`Table.shown_axes` the number of its value.
        rows: numbers of the rows, in the order of seeds.
        value, low, high: mean, least and most of the metric; None where no row has it.
        fits: whether every row fits in memory.
        error: of the first row that failed.
    """

    position: tuple[int, ...]
    rows: tuple[int, ...]
    value: float | None
    low: float | None
    high: float | None
    fits: bool
    error: str | None


@dataclass(frozen=True)
class Table:
    """Rows in the order of the grid.

    Attributes:
        title: of the sweep.
        axes: the first varies slowest.
        rows: per point the values of its axes, the numbers of its run, and ``error``: None, or why there are none.
    """

    title: str
    axes: tuple[Axis, ...]
    rows: tuple[Row, ...]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Axes, numbers in the order of a run's document, ``error``."""
        found = dict.fromkeys(key for row in self.rows for key in row)
        found.pop("error", None)
        return (*found, "error")

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns that are key paths of axes."""
        return tuple(key for axis in self.axes for key in axis.keys)

    @property
    def failed(self) -> tuple[Row, ...]:
        """Rows without numbers."""
        return tuple(row for row in self.rows if row["error"] is not None)

    def metric(self, name: str) -> str:
        """The column of numbers that ``name`` means: its name, or the last part of it.

        Raises:
            UnknownNameError: there is none.
            InputError: there are several.
        """
        numbers = [column for column in self.columns if column not in self.keys and self._is_number(column)]
        found = [column for column in numbers if column == name] or [
            column for column in numbers if column.endswith(f".{name}")
        ]
        if len(found) > 1:
            raise InputError(f"metric {name!r} may be {' or '.join(found)}; give the whole name")
        if not found:
            short = {column.rsplit(".", 1)[1] for column in numbers}
            raise UnknownNameError("metric of this sweep", name, numbers if "." in name else short)
        return found[0]

    @property
    def shown_axes(self) -> tuple[Axis, ...]:
        """Axes of a figure: all but the seeds, which are averaged over."""
        return tuple(axis for axis in self.axes if axis.keys != ("seed",)) or self.axes

    def cells(self, metric: str) -> tuple[Cell, ...]:
        """The rows by position, in the order of the grid."""
        shown = [number for number, axis in enumerate(self.axes) if axis in self.shown_axes]
        members: dict[tuple[int, ...], list[int]] = {}
        for row, position in enumerate(product(*(range(len(axis.values)) for axis in self.axes))):
            members.setdefault(tuple(position[number] for number in shown), []).append(row)
        return tuple(self._cell(position, rows, metric) for position, rows in members.items())

    def _cell(self, position: tuple[int, ...], numbers: list[int], metric: str) -> Cell:
        rows = [self.rows[number] for number in numbers]
        values = [float(row[metric]) for row in rows if row.get(metric) is not None]
        return Cell(
            position,
            tuple(numbers),
            value=sum(values) / len(values) if values else None,
            low=min(values, default=None),
            high=max(values, default=None),
            fits=all(row.get("memory.fits", True) for row in rows),
            error=next((row["error"] for row in rows if row["error"] is not None), None),
        )

    def best(self, metric: str) -> int | None:
        """Number of the (first) row of the best cell by ``metric``; of equals the first."""
        best = best_cell(self.cells(metric), metric)
        return best.rows[0] if best and best.fits else None

    def document(self, metric: str | None) -> dict[str, Any]:
        """As JSON; ``best`` is the number of a row."""
        return {
            "title": self.title,
            "axes": [{"keys": list(axis.keys), "values": [list(value) for value in axis.values]} for axis in self.axes],
            "metric": metric,
            "best": None if metric is None else self.best(metric),
            "columns": list(self.columns),
            "rows": [{column: row.get(column) for column in self.columns} for row in self.rows],
        }

    def _is_number(self, column: str) -> bool:
        return any(isinstance(row.get(column), int | float) for row in self.rows)


def best_cell(cells: Sequence[Cell], metric: str) -> Cell | None:
    """The cell with the best mean; one that fits in memory before one that does not, the first of equals."""
    sign = -1.0 if higher_is_better(metric) else 1.0
    ranked = [(not cell.fits, sign * cell.value, cell) for cell in cells if cell.value is not None]
    return min(ranked, key=lambda entry: entry[:2])[2] if ranked else None


def higher_is_better(metric: str) -> bool:
    """Whether more of ``metric`` is better; times, shares lost, bytes and costs are better low."""
    return metric.rsplit(".", 1)[-1] in _HIGHER
