"""Orders that users bring: a PyTorch schedule CSV, or a JSON document with the slots of every rank.

The JSON is an object with ``ranks``, one list of slots per pipeline rank: ``["F", stage, micro batch]``, likewise
``I``, ``W`` and ``B``, and ``["X", stage, micro batch, stage, micro batch]`` for a forward over a backward.
``P``, ``V``, ``M``, ``placement`` and ``schedule`` may be given; sizes and placement must be those of the slots.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simtrain.errors import ScheduleError
from simtrain.schedules.checked_order import Words, checked_order
from simtrain.schedules.order import Action, Order, Slot
from simtrain.schedules.torch_csv import read_csv

__all__ = ["read_order"]

_WIDTH = {kind.name: 5 if kind is Action.X else 3 for kind in Action}
_FORM = 'a slot is ["F", stage, micro batch], with F, I, W or B, or ["X", stage, micro batch, stage, micro batch]'


def read_order(path: str | Path, name: str | None = None) -> Order:
    """Read an order that runs every action once, where its stages live.

    Args:
        path: a ``.csv`` or ``.json`` file.
        name: what to call the schedule; absent: what the file says, or the file's own name.

    Raises:
        ScheduleError: the file is no order; the message names the file, the rank, the slot and what is allowed.
    """
    path = Path(path)
    if path.suffix == ".csv":
        return read_csv(path, name)
    if path.suffix != ".json":
        raise ScheduleError(f"{path}: an order is a .csv (PyTorch schedule) or a .json file with 'ranks'")
    document = _document(path)
    slots = [_slots(rank, row, path) for rank, row in enumerate(document["ranks"])]
    order = checked_order(
        name or str(document.get("schedule", path.stem)), slots, Words(str(path), "rank", 0, json.dumps)
    )
    found = {"P": order.ranks, "V": order.chunks, "M": order.microbatches, "placement": order.placement}
    if order.ranks == 1:
        del found["placement"]  # all are the same there
    for key, value in found.items():
        if document.get(key, value) != value:
            raise ScheduleError(f"{path}: {key} = {document[key]!r}, but the slots of 'ranks' make it {value!r}")
    return order


def _document(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScheduleError(f"{path}: cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise ScheduleError(f"{path}: line {error.lineno} is not JSON: {error.msg}") from None
    except (UnicodeDecodeError, RecursionError):
        raise ScheduleError(f"{path}: not a JSON document") from None
    if not isinstance(document, dict) or not isinstance(document.get("ranks"), list) or not document["ranks"]:
        raise ScheduleError(f"{path}: an order is an object with 'ranks', a list of slots for each pipeline rank")
    return document


def _slots(rank: int, slots: Any, path: Path) -> list[Slot]:
    if not isinstance(slots, list) or not slots:
        raise ScheduleError(f"{path}: rank {rank}: expected a list of slots, and at least one")
    for number, slot in enumerate(slots):
        wrong = _wrong(slot)
        if wrong:
            raise ScheduleError(f"{path}: rank {rank}, slot {number} {json.dumps(slot)}: {wrong}; {_FORM}")
    return slots


def _wrong(slot: Any) -> str | None:
    """What keeps this from being a slot, or None."""
    if not isinstance(slot, list) or not slot or slot[0] not in list(_WIDTH):
        return "not an action"
    if len(slot) != _WIDTH[slot[0]]:
        return f"{len(slot)} entries instead of {_WIDTH[slot[0]]}"
    if not all(type(value) is int and 0 <= value < 10**9 for value in slot[1:]):
        return "stages and micro batches are whole numbers from 0"
    return None
