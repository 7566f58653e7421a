"""Tables of measurements as text."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from simtrain.errors import ScenarioError

__all__ = ["read_table"]


def read_table(path: str | Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """Data rows of a CSV file, by the names in its header; cells that are not there are empty.

    Raises:
        ScenarioError: the file cannot be read, or its header lacks a needed column.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            missing = [name for name in needed if name not in (reader.fieldnames or ())]
            if missing:
                raise ScenarioError(f"{path}: the header lacks {', '.join(missing)}; needed are {', '.join(needed)}")
            return list(reader)
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: not a text file (byte {error.start} is not UTF-8)") from None
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read: {error.strerror or error}") from None
    except csv.Error as error:
        raise ScenarioError(f"{path}: not a CSV file: {error}") from None
