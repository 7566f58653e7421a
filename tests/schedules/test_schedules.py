"""Schedules: the registry, orders as data, and settings that are refused."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from simtrain import schedules
from simtrain.errors import ScheduleError, UnknownNameError
from simtrain.schedules.base import Actions, Schedule, rows
from simtrain.schedules.order import Action, Order, Slot, stuck


def test_stuck_names_the_slots_that_wait_for_ever() -> None:
    crossed: list[list[Slot]] = [
        [["F", 0, 0], ["B", 0, 0], ["F", 0, 1], ["B", 0, 1]],
        [["F", 1, 1], ["F", 1, 0], ["B", 1, 0], ["B", 1, 1]],
    ]
    assert stuck(Order.from_slots("mine", 2, crossed)) == {0: ["B", 0, 0], 1: ["F", 1, 1]}
    paired: list[list[Slot]] = [[["F", 0, 0], ["X", 0, 1, 0, 0], ["I", 0, 1], ["W", 0, 1]]]
    assert stuck(Order.from_slots("mine", 2, paired)) == {}
    early: list[list[Slot]] = [[["F", 0, 0], ["W", 0, 0]]]
    assert stuck(Order.from_slots("mine", 1, early)) == {0: ["W", 0, 0]}


@pytest.mark.parametrize(
    ("name", "arguments", "options", "message"),
    [
        ("1f1b", (4, 8, 2), {}, "1f1b has one model chunk per rank, not 2; use interleaved_1f1b"),
        ("gpipe", (4, 8, 3), {}, "gpipe has one model chunk per rank, not 3"),
        ("gpipe", (0, 8), {}, "ranks = 0, but at least 1"),
        ("1f1b", (4, 0), {}, "microbatches = 0, but at least 1"),
        ("interleaved_1f1b", (4, 8, 0), {}, "chunks = 0, but at least 1"),
        ("interleaved_1f1b", (3, 7, 2), {}, "7 micro batches do not fall into 2 equal groups of at least 3"),
        ("interleaved_1f1b", (4, 8, 2), {"group": 3}, "group = 3, but a group holds at least"),
        ("interleaved_1f1b", (4, 8, 2), {"group": 9}, "at most all 8"),
        ("interleaved_1f1b", (4, 5, 3), {"group": 4}, "leave a last group of 1, fewer than the 4 pipeline ranks"),
        ("interleaved_1f1b", (4, 8, 2), {"groups": 4}, "no option 'groups'; did you mean 'group'?"),
        ("1f1b", (4, 8), {"group": 4}, "no option 'group' (it takes: none)"),
        ("zb1p", (4, 8, 2), {}, "zb1p has one model chunk per rank, not 2; use interleaved_zb"),
        ("zb_h2", (4, 8, 2), {}, "zb_h2 has one model chunk per rank, not 2"),
        ("1f1b_overlap", (4, 8, 2), {}, "has one model chunk per rank, not 2; use interleaved_1f1b_ep_overlap"),
        ("interleaved_1f1b_ep_overlap", (4, 8, 1), {}, "at least 2 model chunks per rank, not 1; use 1f1b_overlap"),
        ("interleaved_1f1b_ep_overlap", (4, 5, 3), {"group": 4}, "leave a last group of 1, fewer than the 4"),
        ("interleaved_1f1b_ep_overlap", (4, 8, 2), {"group": 3}, "group = 3, but a group holds at least"),
        ("interleaved_zb", (3, 7, 2), {}, "7 micro batches do not fall into 2 equal groups of at least 3"),
        ("interleaved_zb", (4, 8, 2), {"group": 4}, "no option 'group' (it takes: none)"),
        ("zbv", (4, 8, 1), {}, "zbv has two model chunks per rank (its stages form a V), not 1"),
        ("zbv", (4, 8, 3), {}, "not 3"),
        ("dualpipev", (4, 8, 1), {}, "dualpipev has two model chunks per rank (its stages form a V), not 1"),
        ("dualpipev", (4, 7), {}, "microbatches = 7, but 4 ranks need at least 8, one per stage"),
        ("dualpipe", (4, 8, 2), {}, "dualpipe has one model chunk per rank and direction, not 2; use dualpipev"),
        ("dualpipe", (3, 8), {}, "ranks = 3, but the two directions need an even number"),
        ("dualpipe", (4, 9), {}, "microbatches = 9, but 4 ranks need an even number of at least 8"),
        ("dualpipe", (4, 6), {}, "microbatches = 6, but 4 ranks need an even number of at least 8"),
    ],
)
def test_impossible_settings_are_refused(
    name: str, arguments: tuple[int, ...], options: dict[str, int], message: str
) -> None:
    with pytest.raises(ScheduleError, match=re.escape(message)):
        schedules.get(name).order(*arguments, **options)


def test_names_and_aliases() -> None:
    assert {"gpipe", "1f1b", "interleaved_1f1b"} <= set(schedules.names())
    assert schedules.get("interleaved_1f1b_group") is schedules.get("interleaved_1f1b")
    assert schedules.get("zb_h1") is schedules.get("zb1p")
    assert all(schedules.get(name).name == name and schedules.get(name).summary for name in schedules.names())


def test_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'interleaved_1f1b'"):
        schedules.get("interleaved-1f1b")


def test_a_plug_in_is_found_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(Schedule):
        name, summary = "mine", "a test"

        def actions(self, rank: int, ranks: int, microbatches: int, chunks: int, **options: int | None) -> Actions:
            return rows(Action.F, rank, np.arange(microbatches, dtype=np.int32))

    class Point:
        def load(self) -> Schedule:
            return Mine()

    monkeypatch.setattr(schedules, "entry_points", lambda group: [Point()])
    schedules._schedules.cache_clear()
    try:
        assert schedules.get("mine").order(2, 2).slots() == [[["F", r, 0], ["F", r, 1]] for r in range(2)]
    finally:
        monkeypatch.undo()
        schedules._schedules.cache_clear()


def test_slots_and_back() -> None:
    order = schedules.get("interleaved_1f1b").order(2, 4, 2)
    again = Order.from_slots(order.schedule, 4, order.slots(), chunks=2)
    assert again.slots() == order.slots()
    assert again.stages == order.stages == 4


def test_the_package_holds_no_order_table() -> None:
    for path in Path(str(schedules.__file__)).parent.rglob("*"):
        if path.is_dir() or "__pycache__" in path.parts:
            continue
        assert path.suffix == ".py"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
                assert sum(isinstance(item, ast.Constant) for item in node.elts) < 10, f"{path}:{node.lineno}"
