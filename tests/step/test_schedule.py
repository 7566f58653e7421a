"""Schedules alone: every published evaluation by both engines, closed forms, batches, memory, wrong orders."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtrain import schedules
from simtrain.engines import Engine
from simtrain.errors import DeadlockError, ScheduleError
from simtrain.schedules.order import Order, Slot
from simtrain.schedules.slot_costs import SlotCosts
from simtrain.step.schedule import evaluate_many, evaluate_order, live_chunks, timed
from tests.orders import small_order

REPOSITORY = Path(__file__).parents[2]
TABLES = Path(os.environ.get("SIMTRAIN_ORACLES", REPOSITORY / "../shared/oracles")) / "schedules"
UNIT = SlotCosts()
ENGINES: tuple[Engine, ...] = ("compiled", "des")


def tables() -> list[Any]:
    index = TABLES / "index.json"
    if not index.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no order tables in {TABLES}"))]
    return [pytest.param(TABLES / e["file"], id=e["file"]) for e in json.loads(index.read_text())["tables"]]


def costs_of(costs: dict[str, float]) -> SlotCosts:
    return SlotCosts(costs["F"], costs["I"], costs["W"], costs.get("B"), costs.get("X"), costs["comm"])


@pytest.mark.parametrize("path", tables())
def test_both_engines_reproduce_every_published_evaluation(path: Path) -> None:
    table = json.loads(path.read_text())
    order = Order.from_slots(
        table["schedule"], table["M"], table["ranks"], chunks=table["V"], placement=table["placement"]
    )
    for case, engine in itertools.product(table["evals"], ENGINES):
        report = evaluate_order(order, costs_of(case["costs"]), engine)
        assert report.timeline.engine == engine
        assert report.makespan == pytest.approx(case["makespan"], rel=1e-12)
        assert report.bubble_fraction == pytest.approx(case["bubble_fraction"], abs=1e-11)
        assert report.max_rank_span == pytest.approx(case["max_rank_span"], rel=1e-12)
        assert list(report.busy) == pytest.approx(case["busy"], rel=1e-12)
        assert list(report.idle_in_span) == pytest.approx(case["idle_in_span"], abs=1e-9)
    assert list(report.peak_chunks) == table["peak_chunks"]
    assert list(report.peak_chunks_free_at_I) == table["peak_chunks_free_at_I"]


def makespan(name: str, ranks: int, microbatches: int, chunks: int | None = None, **costs: float) -> float:
    order = schedules.get(name).order(ranks, microbatches, chunks, SlotCosts(**costs))
    return evaluate_order(order, SlotCosts(**costs)).makespan


SIZES = st.tuples(st.integers(1, 6), st.integers(1, 12))
TIMES = st.integers(1, 30).map(float)


@given(SIZES, TIMES, TIMES)
@settings(max_examples=30, deadline=None)
def test_the_bubble_of_gpipe_and_1f1b(size: tuple[int, int], f: float, b: float) -> None:
    ranks, microbatches = size
    for name in ("gpipe", "1f1b"):
        assert makespan(name, ranks, microbatches, f=f, b=b) == (microbatches + ranks - 1) * (f + b)


@given(st.integers(2, 6), st.integers(0, 8), TIMES, TIMES, TIMES)
@settings(max_examples=30, deadline=None)
def test_the_bubble_of_zb1p_from_as_many_micro_batches_as_ranks(
    ranks: int, more: int, f: float, i: float, w: float
) -> None:
    w = min(w, f, i)
    microbatches = ranks + more
    bubble = (ranks - 1) * (f + i - w)
    assert makespan("zb1p", ranks, microbatches, f=f, i=i, w=w) == microbatches * (f + i + w) + bubble


def test_the_closed_form_of_zb1p_is_not_used_for_fewer_micro_batches_than_ranks() -> None:
    assert makespan("zb1p", 4, 1) == 3 + 6 != 3 + 3


@given(st.sampled_from([2, 4, 6]), st.integers(0, 4), TIMES, TIMES, st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_the_published_bubble_of_dualpipe_holds_where_forward_equals_backward_for_inputs(
    ranks: int, more: int, f: float, w: float, overlap: float
) -> None:
    w = min(w, f)
    b = f + w
    x = max(f, b) + overlap * (f + b - max(f, b))
    costs = SlotCosts(f, f, w, x=x)
    report = evaluate_order(schedules.get("dualpipe").order(ranks, 2 * ranks + 2 * more), costs)
    idle = max(report.makespan - busy for busy in report.busy)
    assert idle == pytest.approx((ranks / 2 - 1) * (x + b - 3 * w), abs=1e-9)


def test_the_published_bubble_of_dualpipe_is_not_used_where_it_fails() -> None:
    costs = SlotCosts(10, 12, 8, x=30)
    report = evaluate_order(schedules.get("dualpipe").order(8, 20), costs)
    assert max(report.makespan - busy for busy in report.busy) == 72 != (8 / 2 - 1) * (30 + 20 - 3 * 8)
    plain = evaluate_order(schedules.get("dualpipe").order(8, 20), SlotCosts(10, 10, 10, x=22))
    assert [plain.makespan - busy for busy in plain.busy] == [20, 28, 36, 36, 36, 36, 28, 20]


@pytest.mark.parametrize("engine", ENGINES)
def test_costs_may_differ_from_stage_to_stage(engine: Engine) -> None:
    order = schedules.get("gpipe").order(3, 4)
    report = evaluate_order(order, SlotCosts(f=[1, 5, 2], i=[1, 2, 3], w=[0.5, 0, 1], comm=0.25), engine)
    # The slow stage is the bottleneck of the forwards, the last stage that of the backwards.
    assert report.makespan == 1 + 4 * 5 + 2 + 2 * 0.25 + 4 * 4 + 2 + 1.5 + 2 * 0.25
    assert report.busy == (4 * 2.5, 4 * 7.0, 4 * 6.0)


def test_an_overlapped_slot_may_cost_something_for_each_pair_of_stages() -> None:
    order = schedules.get("dualpipe").order(2, 4)
    table = np.arange(4.0).reshape(2, 2) + 10
    report = evaluate_order(order, SlotCosts(x=table))
    overlapped = [slot for rank in order.slots() for slot in rank if slot[0] == "X"]
    durations = [
        report.timeline.end_s[op] - report.timeline.start_s[op]
        for op, slot in enumerate(slot for rank in order.slots() for slot in rank)
        if slot[0] == "X"
    ]
    assert durations == pytest.approx([table[int(slot[1]), int(slot[3])] for slot in overlapped])


def test_latency_never_makes_a_schedule_faster() -> None:
    for name in schedules.names():
        order = small_order(name)
        spans = [evaluate_order(order, SlotCosts(comm=comm)).makespan for comm in (0.0, 0.5, 2.0)]
        assert spans == sorted(spans), name


def test_a_thousand_cost_sets_in_one_call_equal_as_many_single_ones() -> None:
    order = schedules.get("interleaved_1f1b").order(16, 128, 2)
    random = np.random.default_rng(7)
    sets = [
        SlotCosts(*(random.uniform(0.5, 2.0, 32) for _ in range(3)), comm=comm) for comm in random.uniform(0, 0.2, 1000)
    ]
    together = evaluate_many(order, sets)
    assert together.shape == (1000,)
    some = range(0, 1000, 50)
    assert together[some] == pytest.approx([evaluate_order(order, sets[k]).makespan for k in some], rel=1e-12)
    assert len(set(together.tolist())) == 1000


def test_activations_over_time_reach_the_peak_and_go_back_to_nothing() -> None:
    for name, free_at in itertools.product(schedules.names(), ("W", "I")):
        report = evaluate_order(small_order(name), SlotCosts(3, 2, 1, comm=0.5))
        peaks = report.peak_chunks if free_at == "W" else report.peak_chunks_free_at_I
        for rank in range(4):
            times, alive = live_chunks(report, rank, free_at=free_at)
            assert (np.diff(times) >= 0).all()
            assert alive[-1] == 0
            assert alive.min() == 0
            assert alive.max() == peaks[rank], (name, rank)


def test_sends_are_counted_per_micro_batch() -> None:
    assert evaluate_order(schedules.get("1f1b").order(4, 8)).sends == 2 * 3
    assert evaluate_order(schedules.get("interleaved_1f1b").order(4, 8, 2)).sends == 2 * 7
    assert evaluate_order(schedules.get("zbv").order(4, 8)).sends == 2 * 6


def test_repetitions_are_timed() -> None:
    times = timed(lambda: schedules.get("1f1b").order(4, 8), 3, UNIT, "auto")
    assert set(times) == {"order_s", "evaluate_s"}
    assert all(0.0 < value < 1.0 for value in times.values())


CROSSED: list[list[Slot]] = [
    [["F", 0, 0], ["B", 0, 0], ["F", 0, 1], ["B", 0, 1]],
    [["F", 1, 1], ["F", 1, 0], ["B", 1, 0], ["B", 1, 1]],
]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_order_that_cannot_finish_names_each_rank_and_what_it_waits_for(engine: Engine) -> None:
    with pytest.raises(DeadlockError) as caught:
        evaluate_order(Order.from_slots("crossed", 2, CROSSED), UNIT, engine)
    assert caught.value.waits == (
        "B, stage 0, micro batch 0, rank 0 compute waits for the end of [B, stage 1, micro batch 0, rank 1 compute]",
        "F, stage 1, micro batch 1, rank 1 compute waits for the end of [F, stage 0, micro batch 1, rank 0 compute]",
    )


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ([[["F", 0, 0]]], "the backward of stage 0, micro batch 0 is missing"),
        ([[["F", 0, 0], ["F", 0, 0], ["B", 0, 0]]], "F of stage 0, micro batch 0 stands twice"),
    ],
)
def test_an_order_with_an_action_missing_or_twice_is_refused(ranks: list[list[Slot]], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        evaluate_order(Order.from_slots("wrong", 1, ranks))


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        (SlotCosts(f=[1, 2, 3]), "f has 3 values; give one, or one for each of the 4 stages"),
        (SlotCosts(w=-1), "w must be finite and not negative"),
        (SlotCosts(comm=float("nan")), "comm = nan must be finite"),
        (SlotCosts(i=float("inf")), "i must be finite"),
    ],
)
def test_wrong_costs_are_refused(costs: SlotCosts, message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        evaluate_order(schedules.get("1f1b").order(4, 8), costs)


def test_everything_may_take_no_time() -> None:
    report = evaluate_order(schedules.get("zb1p").order(4, 8), SlotCosts(0, 0, 0))
    assert (report.makespan, report.bubble_fraction, report.max_rank_span) == (0.0, 0.0, 0.0)
