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
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from simtrain.errors import ScheduleError
from simtrain.schedules.order import Order, Placement, Slot, stage_rank

__all__ = ["read_csv", "write_csv"]

_CELL = re.compile(r"(N)([FIWB])(N)|\((N)F(N);(N)B(N)\)OVERLAP_F_B".replace("N", "[0-9]{1,9}"))
_ALLOWED = (
    "an action is stage, kind and micro batch: 0F1 (forward), 0I1 and 0W1 (backward for inputs, for weights), 0B1 "
    "(full backward), or (0F8;7B2)OVERLAP_F_B; let PyTorch write the format 'compute_only'"
)

_Done = dict[tuple[str, int, int], tuple[int, str]]


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
    done = _once(ranks, path)
    stages, microbatches = 1 + max(stage for _, stage, _ in done), 1 + max(microbatch for *_, microbatch in done)
    _complete(done, stages, microbatches, path)
    placement = _placement(done, stages, microbatches, path)
    chunks = 1 if placement == "bidir" else stages // len(ranks)
    name = schedule or Path(path).stem
    return Order.from_slots(name, microbatches, ranks, chunks=chunks, placement=placement)


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


def _once(ranks: list[list[Slot]], path: str | Path) -> _Done:
    """Rank and slot of every action; a full backward counts as both its halves."""
    done: _Done = {}
    for rank, slots in enumerate(ranks):
        for slot in slots:
            for action in _actions(slot):
                if action in done:
                    kind, stage, microbatch = action
                    raise ScheduleError(
                        f"{path}, row {rank + 1}, {_cell(slot)}: {kind} of stage {stage}, micro batch {microbatch} "
                        f"stands twice; it is already in row {done[action][0] + 1}, {done[action][1]}"
                    )
                done[action] = rank, _cell(slot)
    return done


def _actions(slot: Slot) -> Iterator[tuple[str, int, int]]:
    kind, stage, microbatch = str(slot[0]), int(slot[1]), int(slot[2])
    if kind == "X":
        yield "F", stage, microbatch
        kind, stage, microbatch = "B", int(slot[3]), int(slot[4])
    for half in "IW" if kind == "B" else kind:
        yield half, stage, microbatch


def _complete(done: _Done, stages: int, microbatches: int, path: str | Path) -> None:
    if len(done) == 3 * stages * microbatches:
        return
    every = ((kind, stage, mb) for stage in range(stages) for mb in range(microbatches) for kind in "FIW")
    kind, stage, microbatch = next(action for action in every if action not in done)
    raise ScheduleError(
        f"{path}: {stage}{kind}{microbatch} is missing; each of the {stages} stages runs F and B (or F, I and W) of "
        f"each of the {microbatches} micro batches once"
    )


def _placement(done: _Done, stages: int, microbatches: int, path: str | Path) -> Placement:
    """The placement that puts every action where it is."""
    ranks = 1 + max(rank for rank, _ in done.values())
    exists = {"loop": stages % ranks == 0, "v": stages == 2 * ranks, "bidir": stages == ranks and microbatches % 2 == 0}
    for placement in get_args(Placement):
        if exists[placement] and all(
            stage_rank(placement, stage, ranks, microbatch, microbatches) == rank
            for (_, stage, microbatch), (rank, _) in done.items()
        ):
            return placement  # type: ignore[no-any-return]
    raise ScheduleError(
        f"{path}: {stages} stages lie on {ranks} ranks in no known way; allowed: stage s on rank s mod {ranks}, a V "
        f"(stages 0..{ranks - 1} down the ranks, then as many back up), or two directions (micro batches of the first "
        f"half run stage s on rank s, the others on rank {ranks - 1} - s)"
    )
