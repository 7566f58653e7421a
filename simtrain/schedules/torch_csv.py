"""Orders as PyTorch writes and reads them: the compute-only CSV of a pipeline schedule.

One row per rank, one cell per action: ``0F1`` is the forward of stage 0 on micro batch 1, ``I``, ``W`` and ``B`` its
backwards, ``(0F8;7B2)OVERLAP_F_B`` a forward overlapped with a full backward; empty cells are steps without work.
The format is that of ``_dump_csv(file, format="compute_only")`` and ``_load_csv`` of
``torch.distributed.pipelining.schedules`` (PyTorch 2.13).
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from simtrain.errors import ScheduleError
from simtrain.schedules.checked_order import Words, checked_order
from simtrain.schedules.order import Order, Slot

__all__ = ["read_csv", "write_csv"]

_CELL = re.compile(r"(N)([FIWB])(N)|\((N)F(N);(N)B(N)\)OVERLAP_F_B".replace("N", "[0-9]{1,9}"))
_ALLOWED = (
    "an action is stage, kind and micro batch: 0F1 (forward), 0I1 and 0W1 (backward for inputs, for weights), 0B1 "
    "(full backward), or (0F8;7B2)OVERLAP_F_B; let PyTorch write the format 'compute_only'"
)


def read_csv(path: str | Path, schedule: str | None = None) -> Order:
    """The order in a PyTorch schedule CSV.

    Args:
        path: the file.
        schedule: name of the order; absent: the file name without its suffix.

    Raises:
        ScheduleError: the file cannot be read; a cell is no action; an action is missing, stands twice or is on a
            rank that no placement (loop, v, bidir) gives it.
    """
    ranks = [[_slot(text, where) for text, where in row] for row in _cells(Path(path))]
    return checked_order(schedule or Path(path).stem, ranks, Words(str(path), "row", 1, _cell))


def write_csv(order: Order, path: str | Path) -> None:
    """Write an order as PyTorch's compute-only schedule CSV; nothing is left behind where that fails.

    Raises:
        OSError: the file cannot be written.
    """
    text, target = io.StringIO(), Path(path)
    csv.writer(text).writerows([_cell(slot) for slot in rank] for rank in order.slots())
    partial = target.with_name(f".{target.name}.part")
    try:
        partial.write_text(text.getvalue(), encoding="ascii", newline="")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _cell(slot: Slot) -> str:
    if slot[0] == "X":
        return "({}F{};{}B{})OVERLAP_F_B".format(*slot[1:])
    return f"{slot[1]}{slot[0]}{slot[2]}"


def _cells(path: Path) -> list[list[tuple[str, str]]]:
    """Text and place of every cell that is not empty, row by row."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = [[cell.strip() for cell in row] for row in csv.reader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScheduleError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    while table and not any(table[-1]):
        table.pop()
    rows = [
        [(text, f"{path}, row {row}, cell {column}: {text!r}") for column, text in enumerate(cells, 1) if text]
        for row, cells in enumerate(table, 1)
    ]
    idle = next((row for row, cells in enumerate(rows, 1) if not cells), 1 if not rows else None)
    if idle:
        raise ScheduleError(f"{path}, row {idle}: no action; there is one row per rank, and {_ALLOWED}")
    return rows


def _slot(text: str, where: str) -> Slot:
    found = _CELL.fullmatch(text)
    if found is None:
        raise ScheduleError(f"{where} is not an action; {_ALLOWED}")
    stage, kind, microbatch, *pair = found.groups()
    return ["X", *map(int, pair)] if kind is None else [kind, int(stage), int(microbatch)]
