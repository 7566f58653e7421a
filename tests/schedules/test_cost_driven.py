"""Schedules that are searched for: never worse than the published tables, legal for any costs, within their memory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtrain import schedules
from simtrain.errors import ScheduleError
from simtrain.schedules import kernels, search
from simtrain.schedules.order import Order, stuck
from simtrain.schedules.slot_costs import SlotCosts
from tests.schedules.evaluate import actions, evaluate, peak_chunks

REPOSITORY = Path(__file__).parents[2]
TABLES = Path(os.environ.get("SIMTRAIN_ORACLES", REPOSITORY / "../shared/oracles")) / "schedules"
FULL_STAGES = {
    "zb_auto_1p": lambda ranks: ranks,
    "zb_auto_2p": lambda ranks: 2 * ranks,
    "zbv_auto": lambda ranks: ranks,
    "v_half": lambda ranks: (ranks + 2) // 2,
    "v_min": lambda ranks: (ranks + 4) // 3,
}
RIVALS = {"zb_auto_1p": ("zb1p",), "zb_auto_2p": ("zb1p", "zb_h2"), "zbv_auto": ("zbv",)}


def tables(*families: str) -> list[Any]:
    index = TABLES / "index.json"
    if not index.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no order tables in {TABLES}"))]
    entries = json.loads(index.read_text())["tables"]
    return [pytest.param(TABLES / e["file"], id=e["file"]) for e in entries if e["schedule"] in families]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_PLANS", 12)
    monkeypatch.setattr(search, "MOST_TRIES", 60)


def costs_of(table: dict[str, Any]) -> SlotCosts:
    given = table["scheduler_costs"]
    return SlotCosts(f=given["F"], i=given["I"], w=given["W"], comm=given["comm"])


@pytest.mark.parametrize("path", tables(*FULL_STAGES))
def test_no_worse_than_the_published_order(path: Path) -> None:
    table = json.loads(path.read_text())
    order = schedules.get(table["schedule"]).order(table["P"], table["M"], costs=costs_of(table))
    assert (order.chunks, order.placement) == (table["V"], table["placement"])
    assert max(peak_chunks(order)) <= max(table["peak_chunks"])
    searched = [case for case in table["evals"] if case["costs"].items() <= table["scheduler_costs"].items()]
    assert len(searched) == 1
    for case in searched:
        found = evaluate(order, case["costs"])
        assert found["makespan"] <= case["makespan"]
        assert found["max_rank_span"] <= case["max_rank_span"]


@pytest.mark.parametrize("path", tables("1f1b_v"))
def test_1f1b_v_equals_the_published_table(path: Path) -> None:
    table = json.loads(path.read_text())
    order = schedules.get("1f1b_v").order(table["P"], table["M"])
    assert order.slots() == table["ranks"]
    assert peak_chunks(order) == table["peak_chunks"]


@pytest.mark.parametrize("ranks", range(1, 14))
def test_1f1b_v_runs_for_any_size(ranks: int) -> None:
    for microbatches in (1, 2, ranks, 2 * ranks + 3):
        order = schedules.get("1f1b_v").order(ranks, microbatches)
        assert not stuck(order)
        assert len(set(actions(order))) == len(actions(order)) == 4 * ranks * microbatches
        assert max(peak_chunks(order)) <= max(4, 4 * ranks / 3 + 2)


@pytest.mark.parametrize(
    ("name", "ranks", "microbatches", "bubble"),
    [
        ("v_half", 2, 6, 1),
        *(("v_half", ranks, 2 * ranks, 3 * ranks - 7) for ranks in (4, 6, 8)),
        ("v_min", 4, 8, 11),
        ("zbv_auto", 6, 12, 5),
        ("zb_auto_1p", 6, 12, 5),
        ("zb_auto_2p", 5, 12, 4),
    ],
)
def test_bubble_of_equal_slots(name: str, ranks: int, microbatches: int, bubble: int) -> None:
    order = schedules.get(name).order(ranks, microbatches)
    work = 3 * order.chunks * microbatches
    found = evaluate(order, {"F": 1, "I": 1, "W": 1})
    assert found["makespan"] - work <= bubble
    if name in ("zbv_auto", "zb_auto_2p"):
        assert found["max_rank_span"] == work


def assert_legal(order: Order) -> None:
    """Every F, I and W once, on its rank, within the memory, and none waits for ever."""
    assert not stuck(order)
    where = {
        stage: rank for rank in range(order.ranks) for stage in {rank, (2 * order.ranks - 1 - rank) % order.stages}
    }
    if order.chunks == 1:
        where = {stage: stage for stage in range(order.ranks)}
    everything = [(k, s, m, where[s]) for k in "FIW" for s in range(order.stages) for m in range(order.microbatches)]
    assert actions(order) == sorted(everything)
    assert max(peak_chunks(order)) <= order.chunks * FULL_STAGES[order.schedule](order.ranks)


durations = st.one_of(st.just(0.0), st.floats(0.01, 100.0), st.just(1e9))


@st.composite
def settings_and_costs(draw: st.DrawFn) -> tuple[str, int, int, SlotCosts]:
    name = draw(st.sampled_from(sorted(FULL_STAGES)))
    ranks, microbatches = draw(st.integers(1, 8)), draw(st.integers(1, 10))
    stages = ranks * schedules.get(name).default_chunks
    each = st.one_of(durations, st.lists(durations, min_size=stages, max_size=stages))
    return name, ranks, microbatches, SlotCosts(draw(each), draw(each), draw(each), comm=draw(durations))


@settings(max_examples=60, deadline=None)
@given(settings_and_costs())
def test_any_costs_give_a_legal_order(case: tuple[str, int, int, SlotCosts]) -> None:
    name, ranks, microbatches, costs = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "MOST_PLANS", 12)
        patch.setattr(search, "MOST_TRIES", 60)
        order = schedules.get(name).order(ranks, microbatches, costs=costs)
        again = schedules.get(name).order(ranks, microbatches, costs=costs)
    assert_legal(order)
    assert order.slots() == again.slots()


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("costs", [(1, 1, 1, 0), (10, 12, 8, 1), (3, 7, 1, 4), (5, 2, 9, 0.5)])
def test_no_worse_than_the_hand_made_schedules(name: str, costs: tuple[float, ...]) -> None:
    f, i, w, comm = costs
    for ranks, microbatches in ((1, 3), (3, 2), (4, 9), (6, 13)):
        order = schedules.get(name).order(ranks, microbatches, costs=SlotCosts(f, i, w, comm=comm))
        slots = {"F": f, "I": i, "W": w, "comm": comm}
        weight = type(schedules.get(name)).span_weight
        found = evaluate(order, slots)
        for rival in RIVALS[name]:
            theirs = evaluate(schedules.get(rival).order(ranks, microbatches), slots)
            ours, best = (one["makespan"] + weight * one["max_rank_span"] for one in (found, theirs))
            assert ours <= best + 1e-3 * theirs["makespan"]


@pytest.mark.usefixtures("hasty")
def test_a_slow_stage_is_taken_into_account() -> None:
    forward = [1.0, 1.0, 1.0, 3.0]
    searched = schedules.get("zb_auto_2p").order(4, 12, costs=SlotCosts(f=forward, comm=0.5))
    blind = schedules.get("zb_auto_2p").order(4, 12)
    problem = search.Problem(4, 12, 1, "loop", SlotCosts(f=forward, comm=0.5), 8, 4.0)
    bench = search.Bench(problem, 12)
    found, other = (bench.timed(*search.slots_in(order.actions, problem)) for order in (searched, blind))
    assert found is not None
    assert other is not None
    assert found.rating[1] <= other.rating[1]
    assert found.rating[2] >= 12 * (3.0 + 1.0 + 1.0) + 3 * 1.5


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("name", ["zb_auto_1p", "zbv_auto", "v_min"])
def test_the_same_order_without_a_compiler(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = 3 * schedules.get(name).default_chunks
    costs = SlotCosts(f=np.linspace(0.7, 1.9, stages), i=1.3, w=0.6, comm=0.21)
    compiled = schedules.get(name).order(3, 5, costs=costs)
    for kernel in ("pattern", "insert", "refill", "rate", "refine"):
        monkeypatch.setattr(kernels, kernel, getattr(kernels, kernel).plain)
    plain = schedules.get(name).order(3, 5, costs=costs)
    assert plain.slots() == compiled.slots()


def test_1f1b_v_is_the_same_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = schedules.get("1f1b_v").order(5, 11)
    for kernel in ("pattern", "insert"):
        monkeypatch.setattr(kernels, kernel, getattr(kernels, kernel).plain)
    assert schedules.get("1f1b_v").order(5, 11).slots() == compiled.slots()


@pytest.mark.parametrize(("name", "chunks"), [("zb_auto_1p", 2), ("zbv_auto", 1), ("v_half", 3), ("1f1b_v", 1)])
def test_other_numbers_of_chunks_are_refused(name: str, chunks: int) -> None:
    with pytest.raises(ScheduleError, match=f"not {chunks}"):
        schedules.get(name).order(4, 8, chunks)
