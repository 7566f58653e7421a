"""Orders that users bring: a PyTorch schedule CSV, or a JSON document with the slots of every rank.

The JSON is an object with ``ranks``, one list of slots per pipeline rank: ``["F", stage, micro batch]``, likewise
``I``, ``W`` and ``B``, and ``["X", stage, micro batch, stage, micro batch]`` for a forward over a backward.
``V``, ``M``, ``placement`` and ``schedule`` may be given; what is absent is read off the slots.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import ScheduleError, nearest
from simtrain.schedules.order import Action, Order, Placement, stage_rank
from simtrain.schedules.torch_csv import read_csv

__all__ = ["check_order", "read_order"]

_WIDTH = {kind.name: 5 if kind is Action.X else 3 for kind in Action}


def read_order(path: str | Path, name: str | None = None) -> Order:
    """Read an order and check that it runs every action once, where its stages live.

    Args:
        path: a ``.csv`` or ``.json`` file.
        name: what to call the schedule; absent: what the file says, or the file's own name.

    Raises:
        ScheduleError: the file is no order; the message names the file, the rank, the slot and what is allowed.
        OSError: the file cannot be read.
    """
    path = Path(path)
    if path.suffix == ".csv":
        order = read_csv(path, name or path.stem)
    elif path.suffix == ".json":
        order = _from_document(_document(path), path, name)
    else:
        raise ScheduleError(f"{path}: an order is a .csv (PyTorch schedule) or a .json file with 'ranks'")
    check_order(order, str(path))
    return order


def check_order(order: Order, where: str) -> None:
    """Raise where an action is missing, stands twice, or stands on a rank that does not hold its stage.

    Args:
        order: the order; it may still be unable to finish, which an engine finds out.
        where: file or other origin, the beginning of every message.

    Raises:
        ScheduleError: one message about the first thing that is wrong.
    """
    seen: dict[tuple[str, int, int], str] = {}
    for rank, todo in enumerate(order.slots()):
        for number, slot in enumerate(todo):
            here = f"rank {rank}, slot {number} {json.dumps(slot)}"
            for kind, stage, microbatch in _parts(slot):
                home = stage_rank(order.placement, stage, order.ranks, microbatch, order.microbatches)
                if home != rank:
                    raise ScheduleError(
                        f"{where}: {here}: stage {stage} of micro batch {microbatch} lives on rank {home} "
                        f"(placement {order.placement!r})"
                    )
                if (kind, stage, microbatch) in seen:
                    raise ScheduleError(f"{where}: {here} runs again what {seen[kind, stage, microbatch]} runs")
                seen[kind, stage, microbatch] = here
    _check_complete(order, seen, where)


def _parts(slot: list[str | int]) -> list[tuple[str, int, int]]:
    """What a slot does: F, I, W; a full backward is an I and a W."""
    kind, *numbers = slot
    stage, microbatch = int(numbers[0]), int(numbers[1])
    if kind == "X":
        backward = int(numbers[2]), int(numbers[3])
        return [("F", stage, microbatch), ("I", *backward), ("W", *backward)]
    if kind == "B":
        return [("I", stage, microbatch), ("W", stage, microbatch)]
    return [(str(kind), stage, microbatch)]


def _check_complete(order: Order, seen: Mapping[tuple[str, int, int], str], where: str) -> None:
    words = {"F": "the forward", "I": "the backward for inputs", "W": "the backward for weights"}
    for stage in range(order.stages):
        for microbatch in range(order.microbatches):
            for kind, what in words.items():
                if (kind, stage, microbatch) not in seen:
                    rank = stage_rank(order.placement, stage, order.ranks, microbatch, order.microbatches)
                    raise ScheduleError(
                        f"{where}: {what} of stage {stage}, micro batch {microbatch} is missing on rank {rank}"
                    )


def _document(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ScheduleError(f"{path}: line {error.lineno} is not JSON: {error.msg}") from None
    except (UnicodeDecodeError, RecursionError):
        raise ScheduleError(f"{path}: not a JSON document") from None
    if not isinstance(document, dict) or not isinstance(document.get("ranks"), list) or not document["ranks"]:
        raise ScheduleError(f"{path}: an order is an object with 'ranks', a list of slots for each pipeline rank")
    return document


def _from_document(document: Mapping[str, Any], path: Path, name: str | None) -> Order:
    ranks = document["ranks"]
    actions = tuple(_actions(rank, slots, path) for rank, slots in enumerate(ranks))
    slots = np.concatenate(actions)
    microbatches = _size(document, "M", int(max(slots[:, 2].max(), slots[:, 4].max())) + 1, path)
    stages = int(max(slots[:, 1].max(), slots[:, 3].max())) + 1
    chunks = _size(document, "V", -(-stages // len(ranks)), path)
    _size(document, "P", len(ranks), path)
    placement = _placement(document, actions, chunks, microbatches, path)
    return Order(name or str(document.get("schedule", path.stem)), len(ranks), chunks, microbatches, placement, actions)


def _size(document: Mapping[str, Any], key: str, found: int, path: Path) -> int:
    """A size as the slots have it; what the document says about it must agree."""
    given = document.get(key, found)
    if given != found or isinstance(given, bool):
        raise ScheduleError(f"{path}: {key} = {given!r}, but the slots of 'ranks' make it {found}")
    return found


def _actions(rank: int, slots: Any, path: Path) -> NDArray[np.int32]:
    if not isinstance(slots, list) or not slots:
        raise ScheduleError(f"{path}: rank {rank}: expected a list of slots, and at least one")
    rows = np.full((len(slots), 5), -1, dtype=np.int32)
    for number, (row, slot) in enumerate(zip(rows, slots, strict=True)):
        _check_slot(slot, f"{path}: rank {rank}, slot {number} {json.dumps(slot)}")
        row[0] = Action[slot[0]]
        row[1 : len(slot)] = slot[1:]
    return rows


def _check_slot(slot: Any, here: str) -> None:
    form = 'a slot is ["F", stage, micro batch], with F, I, W or B, or ["X", stage, micro batch, stage, micro batch]'
    if not isinstance(slot, list) or not slot:
        raise ScheduleError(f"{here}: {form}")
    if slot[0] not in tuple(_WIDTH):
        close = nearest(str(slot[0]), _WIDTH)
        raise ScheduleError(f"{here}: no action {slot[0]!r}{f'; did you mean {close!r}?' if close else ''}; {form}")
    if len(slot) != _WIDTH[slot[0]]:
        raise ScheduleError(f"{here}: {len(slot)} entries; {form}")
    if not all(type(value) is int and 0 <= value < 2**24 for value in slot[1:]):
        raise ScheduleError(f"{here}: stages and micro batches are whole numbers from 0; {form}")


def _placement(
    document: Mapping[str, Any], actions: tuple[NDArray[np.int32], ...], chunks: int, microbatches: int, path: Path
) -> Placement:
    """Where stages live: as the document says, or the first placement that all forwards agree with."""
    known: tuple[Placement, ...] = get_args(Placement)
    given = document.get("placement")
    if given is not None:
        if given not in known:
            raise ScheduleError(f"{path}: placement = {given!r}; known: {', '.join(known)}")
        fits: list[Placement] = [each for each in known if each == given]
    else:
        fits = [each for each in known if _agrees(each, actions, microbatches)]
    fits = [each for each in fits if {"v": chunks == 2, "bidir": chunks == 1}.get(each, True)]
    if not fits:
        raise ScheduleError(
            f"{path}: the stages lie on their ranks in no known way: 'loop' puts stage s on rank s mod P, 'v' (V = 2) "
            "there and back, 'bidir' (V = 1) mirrors the second half of the micro batches"
        )
    return fits[0]


def _agrees(placement: Placement, actions: tuple[NDArray[np.int32], ...], microbatches: int) -> bool:
    ranks = len(actions)
    for rank, rows in enumerate(actions):
        homes = (stage_rank(placement, stage, ranks, mb, microbatches) for stage, mb in rows[:, 1:3].tolist())
        if any(home != rank for home in homes):
            return False
    return True
