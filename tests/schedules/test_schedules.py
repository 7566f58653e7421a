"""Schedules: laws, closed forms, and the published order tables slot for slot."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simtrain import schedules
from simtrain.errors import ScheduleError, UnknownNameError
from simtrain.schedules.base import Schedule
from simtrain.schedules.order import Order, Slot, stuck
from tests.schedules.evaluate import finish_times, peak_chunks

REPOSITORY = Path(__file__).parents[2]
TABLES = Path(os.environ.get("SIMTRAIN_ORACLES", REPOSITORY / "../shared/oracles")) / "schedules"
FAMILIES = ("gpipe", "1f1b", "interleaved_1f1b", "interleaved_1f1b_group")


def tables() -> list[Any]:
    index = TABLES / "index.json"
    if not index.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no order tables in {TABLES}"))]
    entries = json.loads(index.read_text())["tables"]
    return [pytest.param(TABLES / e["file"], id=e["file"]) for e in entries if e["schedule"] in FAMILIES]


@pytest.mark.parametrize("path", tables())
def test_order_equals_the_published_table(path: Path) -> None:
    table = json.loads(path.read_text())
    tag = re.search(r"_g(\d+)\.json", path.name)
    options = {"group": int(tag[1])} if tag else {}
    order = schedules.get(table["schedule"]).order(table["P"], table["M"], table["V"], **options)
    assert order.slots() == table["ranks"]
    assert order.placement == table["placement"]
    assert peak_chunks(order) == table["peak_chunks"] == table["peak_chunks_free_at_I"]
    for case in table["evals"]:
        costs = case["costs"]
        spans = finish_times(order, costs["F"], costs.get("B", costs["I"] + costs["W"]), costs["comm"])
        assert max(rank[-1][1] for rank in spans) == pytest.approx(case["makespan"], rel=1e-12)


def test_every_family_has_its_tables() -> None:
    if not TABLES.exists():
        pytest.skip(f"no order tables in {TABLES}")
    counted = {json.loads(p.values[0].read_text())["schedule"] for p in tables()}
    assert counted == set(FAMILIES)


sizes = st.tuples(st.integers(1, 6), st.integers(1, 12))


def assert_complete(order: Order) -> None:
    """Each F and B of each stage of the rank exactly once, F before B, and no deadlock."""
    for rank, slots in enumerate(order.slots()):
        stages = range(rank, order.stages, order.ranks)
        expected = {(kind, s, m) for kind in "FB" for s in stages for m in range(order.microbatches)}
        at = {tuple(slot): i for i, slot in enumerate(slots)}
        assert len(slots) == len(expected)
        assert set(at) == expected
        assert all(at["F", s, m] < at["B", s, m] for s in stages for m in range(order.microbatches))
    finish_times(order, 1.0, 2.0)


@given(sizes, st.sampled_from(["gpipe", "1f1b"]))
def test_laws_of_single_chunk_schedules(size: tuple[int, int], name: str) -> None:
    ranks, microbatches = size
    order = schedules.get(name).order(ranks, microbatches)
    assert_complete(order)
    spans = finish_times(order, 3.0, 5.0)
    assert max(rank[-1][1] for rank in spans) == (microbatches + ranks - 1) * 8.0
    expected = [microbatches if name == "gpipe" else min(microbatches, ranks - r) for r in range(ranks)]
    assert peak_chunks(order) == expected


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))
def test_laws_of_the_interleaved_schedule(ranks: int, rounds: int, chunks: int) -> None:
    microbatches = ranks * rounds
    order = schedules.get("interleaved_1f1b").order(ranks, microbatches, chunks)
    assert_complete(order)
    spans = finish_times(order, 3.0, 5.0)
    assert max(rank[-1][1] for rank in spans) == (microbatches * chunks + ranks - 1) * 8.0
    most = microbatches * chunks
    expected = [min(most, (chunks - 1) * ranks + 2 * (ranks - 1 - r) + 1) for r in range(ranks)]
    assert peak_chunks(order) == expected


@given(st.integers(1, 5), st.integers(0, 6), st.integers(0, 6), st.integers(1, 3))
def test_any_group_gives_an_order_that_can_run_or_is_refused(ranks: int, more: int, extra: int, chunks: int) -> None:
    group = ranks + more
    try:
        order = schedules.get("interleaved_1f1b").order(ranks, group + extra, chunks, group=group)
    except ScheduleError:
        assert 0 < (group + extra) % group < ranks
    else:
        assert_complete(order)


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
    assert all(schedules.get(name).name == name and schedules.get(name).summary for name in schedules.names())


def test_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'interleaved_1f1b'"):
        schedules.get("interleaved-1f1b")


def test_a_plug_in_is_found_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(Schedule):
        name, summary = "mine", "a test"
        actions = type(schedules.get("gpipe")).actions

    class Point:
        def load(self) -> Schedule:
            return Mine()

    monkeypatch.setattr(schedules, "entry_points", lambda group: [Point()])
    schedules._schedules.cache_clear()
    try:
        assert schedules.get("mine").order(2, 3).schedule == "mine"
    finally:
        monkeypatch.undo()
        schedules._schedules.cache_clear()


def test_slots_and_back() -> None:
    order = schedules.get("interleaved_1f1b").order(2, 4, 2)
    again = Order.from_slots(order.schedule, 4, order.slots(), chunks=2)
    assert again.slots() == order.slots()
    assert again.stages == order.stages == 4
