"""The table of a sweep as a file: CSV, or Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from simtrain.errors import InputError
from simtrain.report.files import replacing
from simtrain.sweep.table import Table

__all__ = ["check_format", "write_rows"]

FORMATS = (".csv", ".parquet")


def check_format(path: Path) -> None:
    """Whether :func:`write_rows` can write ``path``, asked before any work is done for it.

    Raises:
        InputError: neither CSV nor Parquet, or Parquet without pyarrow.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: the name of a table ends in {' or '.join(FORMATS)}")
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise InputError(
            f"{path}: Parquet needs pyarrow, which is not installed: pip install 'simtrain[sweep]'; or take a .csv"
        )


def write_rows(table: Table, path: Path) -> Path:
    """Write every column of every row; the file is complete or absent.

    Lists and mappings among the values of axes are JSON; what is not there is empty.

    Raises:
        InputError: as :func:`check_format`.
    """
    check_format(path)
    columns = {column: [_cell(row.get(column)) for row in table.rows] for column in table.columns}
    with replacing(path) as file:
        (_write_csv if path.suffix == ".csv" else _write_parquet)(columns, file)
    return path


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def _write_csv(columns: dict[str, list[Any]], file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow([_text(cell) if isinstance(cell, bool) else cell for cell in row])


def _write_parquet(columns: dict[str, list[Any]], file: Path) -> None:
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    parquet.write_table(arrow.table({name: _of_one_type(cells) for name, cells in columns.items()}), file)


def _of_one_type(cells: list[Any]) -> list[Any]:
    """A Parquet column has one type: numbers stay so; a mixture, or one beyond 64 bits, becomes text."""
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds == {int, float}:
        return [None if cell is None else float(cell) for cell in cells]
    huge = any(type(cell) is int and not -(2**63) <= cell < 2**63 for cell in cells)
    return cells if len(kinds) < 2 and not huge else [None if cell is None else _text(cell) for cell in cells]


def _text(cell: Any) -> str:
    return str(cell).lower() if isinstance(cell, bool) else str(cell)
