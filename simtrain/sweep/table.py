"""The table of a sweep: a row for every point, and the cells that figures show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from types import UnionType
from typing import Any

from simtrain.errors import InputError, UnknownNameError
from simtrain.sweep.axes import Axis

__all__ = ["Cell", "Row", "Table", "best_cell", "higher_is_better"]

Row = dict[str, Any]

_HIGHER = {
    *("tokens_per_s", "tokens_per_s_per_gpu", "model_tflops_per_gpu", "mfu", "mfu_causal", "hfu", "useful"),
    *("fits", "completed", "goodput", "effective_mfu", "availability", "mtbf_s", "capacity_bytes"),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """Rows that differ by their seed alone, seen by one metric.

    Attributes:
        position: per axis of :attr:`Table.shown_axes` the number of its value.
        rows: numbers of the rows, in the order of seeds.
        value, low, high: mean, least and most of the metric; None where a row lacks it: it failed, or never ends.
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

    def metric(self, name: str, *, partial: bool = False) -> str:
        """The column of numbers that ``name`` means: its name, or the last part of it.

        Args:
            name: what a user calls it.
            partial: rows are still to come, and with them numbers of columns that have none yet.

        Raises:
            UnknownNameError: there is none.
            InputError: there are several, or no row has a number in it.
        """
        columns = [column for column in self.columns[:-1] if column not in self.keys]
        numbers = [column for column in columns if self._has(column, int | float)]
        empty = [column for column in columns if column not in numbers and not self._has(column, str)]
        found = _called(name, numbers + empty if partial else numbers)
        if len(found) > 1:
            raise InputError(f"metric {name!r} may be {' or '.join(found)}; give the whole name")
        if not found and (none := _called(name, empty)):
            raise InputError(f"metric {name!r}: no point of this sweep has a number for {none[0]}")
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
        values = values if len(values) == len(rows) else []
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

    def _has(self, column: str, kind: UnionType | type) -> bool:
        return any(isinstance(row.get(column), kind) for row in self.rows)


def _called(name: str, columns: Sequence[str]) -> list[str]:
    return [column for column in columns if column == name] or [
        column for column in columns if column.endswith(f".{name}")
    ]


def best_cell(cells: Sequence[Cell], metric: str) -> Cell | None:
    """The cell with the best mean; one that fits in memory before one that does not, the first of equals."""
    sign = -1.0 if higher_is_better(metric) else 1.0
    ranked = [(not cell.fits, sign * cell.value, cell) for cell in cells if cell.value is not None]
    return min(ranked, key=lambda entry: entry[:2])[2] if ranked else None


def higher_is_better(metric: str) -> bool:
    """Whether more of ``metric`` is better; times, shares lost, bytes and costs are better low."""
    return metric.rsplit(".", 1)[-1] in _HIGHER
