"""Laws of hand-made schedules: complete and runnable wherever they exist, closed forms where those hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simtrain import schedules
from simtrain.errors import ScheduleError
from simtrain.schedules.order import Order, stage_rank, stuck
from tests.schedules.evaluate import Costs, actions, evaluate, peak_chunks, timed

ANY = st.integers(1, 16)
UNIT = {"F": 1, "I": 1, "W": 1}


def equal_groups(ranks: int, microbatches: int, chunks: int) -> bool:
    return microbatches % max(1, microbatches // ranks) == 0


EXISTS: dict[str, Callable[[int, int, int], bool]] = {
    "1f1b": lambda p, m, v: v == 1,
    "1f1b_overlap": lambda p, m, v: v == 1,
    "dualpipe": lambda p, m, v: v == 1 and p % 2 == 0 and m % 2 == 0 and m >= 2 * p,
    "dualpipev": lambda p, m, v: v == 2 and m >= 2 * p,
    "gpipe": lambda p, m, v: v == 1,
    "interleaved_1f1b": equal_groups,
    "interleaved_1f1b_ep_overlap": lambda p, m, v: equal_groups(p, m, v) and (v > 1 or p == 1),
    "interleaved_bw_split": lambda p, m, v: True,
    "interleaved_zb": equal_groups,
    "looped_bfs": lambda p, m, v: True,
    "zb1p": lambda p, m, v: v == 1,
    "zb_h2": lambda p, m, v: v == 1,
    "zbv": lambda p, m, v: v == 2,
}


def assert_complete(order: Order) -> None:
    """Each F and each backward (B, or I and W) of each stage and micro batch exactly once, on its rank; no deadlock."""
    done = actions(order)
    whole = {(stage, mb) for kind, stage, mb, _ in done if kind == "B"}
    pairs = [(stage, mb) for stage in range(order.stages) for mb in range(order.microbatches)]
    expected = [("F", *pair) for pair in pairs]
    expected += [(kind, *pair) for pair in pairs for kind in ("B" if pair in whole else "IW")]
    assert [action[:3] for action in done] == sorted(expected)
    for _, stage, microbatch, rank in done:
        assert rank == stage_rank(order.placement, stage, order.ranks, microbatch, order.microbatches)
    assert stuck(order) == {}
    timed(order, UNIT)


@given(st.sampled_from(sorted(EXISTS)), st.integers(1, 6), ANY, st.integers(1, 4))
def test_a_schedule_is_complete_and_runs_or_is_refused(name: str, ranks: int, microbatches: int, chunks: int) -> None:
    if EXISTS[name](ranks, microbatches, chunks):
        assert_complete(schedules.get(name).order(ranks, microbatches, chunks))
    else:
        with pytest.raises(ScheduleError, match=name):
            schedules.get(name).order(ranks, microbatches, chunks)


@pytest.mark.parametrize("name", sorted(EXISTS))
def test_a_schedule_is_complete_and_runs_at_size(name: str) -> None:
    order = schedules.get(name).order(12, 36, 3 if EXISTS[name](12, 36, 3) else None)
    assert_complete(order)


@given(
    st.sampled_from(["interleaved_1f1b", "interleaved_1f1b_ep_overlap"]),
    st.integers(1, 5),
    st.integers(0, 6),
    st.integers(0, 6),
    st.integers(2, 3),
)
def test_any_group_runs_or_is_refused(name: str, ranks: int, more: int, extra: int, chunks: int) -> None:
    group = ranks + more
    try:
        order = schedules.get(name).order(ranks, group + extra, chunks, group=group)
    except ScheduleError:
        assert 0 < (group + extra) % group < ranks
    else:
        assert_complete(order)


# Closed forms.  Costs are per chunk slot.

RANKS, ROUNDS, CHUNKS, MORE = st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 9)
COST = st.integers(1, 20)


@st.composite
def short_weights(draw: st.DrawFn) -> dict[str, float]:
    """W no longer than F and I."""
    w = draw(COST)
    return {"F": w + draw(COST) - 1, "I": w + draw(COST) - 1, "W": w}


@st.composite
def overlapped(draw: st.DrawFn, *, balanced: bool = False) -> dict[str, float]:
    """With X between the longer half and both in turn; balanced: F = I >= W."""
    f, i, w = draw(COST), draw(COST), draw(COST)
    if balanced:
        f = i = max(f, w)
    return {"F": f, "I": i, "W": w, "X": max(f, i + w) + draw(st.integers(0, min(f, i + w)))}


COSTS = st.fixed_dictionaries({"F": COST, "I": COST, "W": COST})


def total(costs: Costs) -> float:
    return costs["F"] + costs["I"] + costs["W"]


def most_idle(order: Order, costs: Costs) -> float:
    result = evaluate(order, costs)
    return float(max(result["makespan"] - busy for busy in result["busy"]))


@given(RANKS, ANY, st.sampled_from(["gpipe", "1f1b"]), COSTS)
def test_single_chunk_schedules(ranks: int, microbatches: int, name: str, costs: Costs) -> None:
    order = schedules.get(name).order(ranks, microbatches)
    assert evaluate(order, costs)["makespan"] == (microbatches + ranks - 1) * total(costs)
    expected = [microbatches if name == "gpipe" else min(microbatches, ranks - r) for r in range(ranks)]
    assert peak_chunks(order) == expected


@given(RANKS, ROUNDS, CHUNKS, COSTS)
def test_interleaved(ranks: int, rounds: int, chunks: int, costs: Costs) -> None:
    microbatches = ranks * rounds
    order = schedules.get("interleaved_1f1b").order(ranks, microbatches, chunks)
    most = microbatches * chunks
    assert evaluate(order, costs)["makespan"] == (most + ranks - 1) * total(costs)
    assert peak_chunks(order) == [min(most, (chunks - 1) * ranks + 2 * (ranks - 1 - r) + 1) for r in range(ranks)]


@given(RANKS, MORE, CHUNKS, COSTS)
def test_looped_bfs(ranks: int, more: int, chunks: int, costs: Costs) -> None:
    microbatches = ranks + more
    order = schedules.get("looped_bfs").order(ranks, microbatches, chunks)
    assert evaluate(order, costs)["makespan"] == (microbatches * chunks + ranks - 1) * total(costs)
    assert peak_chunks(order) == [microbatches * chunks] * ranks


@given(RANKS, ROUNDS, CHUNKS, COSTS)
def test_interleaved_with_split_backwards(ranks: int, rounds: int, chunks: int, costs: Costs) -> None:
    order = schedules.get("interleaved_bw_split").order(ranks, ranks * rounds, chunks)
    work = ranks * rounds * chunks * total(costs)
    assert evaluate(order, costs)["makespan"] == work + (ranks - 1) * (costs["F"] + costs["I"])
    assert peak_chunks(order) == peak_chunks(order, "I") == [chunks * ranks - r for r in range(ranks)]


@given(RANKS, MORE, short_weights())
def test_zb_h1(ranks: int, more: int, costs: Costs) -> None:
    order = schedules.get("zb1p").order(ranks, ranks + more)
    bubble = (ranks - 1) * (costs["F"] + costs["I"] - costs["W"])
    assert evaluate(order, costs)["makespan"] == (ranks + more) * total(costs) + bubble
    assert peak_chunks(order) == [ranks] * ranks
    assert peak_chunks(order, "I") == [ranks - r for r in range(ranks)]


def test_zb_h1_with_fewer_microbatches_than_ranks_waits_longer() -> None:
    assert evaluate(schedules.get("zb1p").order(4, 1), UNIT)["makespan"] == 9  # the closed form says 6


@given(RANKS, ROUNDS, CHUNKS, short_weights())
def test_interleaved_zb(ranks: int, rounds: int, chunks: int, costs: Costs) -> None:
    order = schedules.get("interleaved_zb").order(ranks, ranks * rounds, chunks)
    bubble = (ranks - 1) * (costs["F"] + costs["I"] - costs["W"])
    assert evaluate(order, costs)["makespan"] == ranks * rounds * chunks * total(costs) + bubble
    assert peak_chunks(order) == [ranks * chunks] * ranks


@given(RANKS, MORE, short_weights())
def test_zb_h2(ranks: int, more: int, costs: Costs) -> None:
    order = schedules.get("zb_h2").order(ranks, 2 * ranks + more)
    result = evaluate(order, costs)
    assert result["idle_in_span"][0] == max(0, (ranks - 1) * (costs["F"] + costs["I"] - 2 * costs["W"]))
    assert peak_chunks(order) == [2 * ranks - 1] * ranks


@given(RANKS, MORE, COST)
def test_zb_h2_keeps_the_ramp_of_forwards(ranks: int, more: int, cost: int) -> None:
    microbatches = 2 * ranks + more
    result = evaluate(schedules.get("zb_h2").order(ranks, microbatches), {"F": cost, "I": cost, "W": cost})
    assert result["makespan"] == (3 * microbatches + ranks - 1) * cost


@given(RANKS, MORE, COST)
def test_zbv_with_equal_costs_never_waits(ranks: int, more: int, cost: int) -> None:
    microbatches = 2 * ranks - 1 + more
    order = schedules.get("zbv").order(ranks, microbatches)
    result = evaluate(order, {"F": cost, "I": cost, "W": cost})
    assert result["idle_in_span"] == [0] * ranks
    assert result["makespan"] == (6 * microbatches + ranks - 1) * cost
    assert peak_chunks(order) == [2 * ranks] * ranks


def test_zbv_with_few_microbatches_or_unequal_costs_waits() -> None:
    assert evaluate(schedules.get("zbv").order(4, 4), UNIT)["makespan"] == 30
    for ranks in (4, 8):
        result = evaluate(schedules.get("zbv").order(ranks, 3 * ranks), {"F": 10, "I": 12, "W": 8})
        assert max(result["idle_in_span"]) == 8 * (ranks - 1)


@given(RANKS, ROUNDS, st.integers(2, 4), overlapped())
def test_interleaved_with_overlap(ranks: int, rounds: int, chunks: int, costs: Costs) -> None:
    most = ranks * rounds * chunks
    order = schedules.get("interleaved_1f1b_ep_overlap").order(ranks, ranks * rounds, chunks)
    exposed = ranks * (chunks - 1) + 1
    makespan = (ranks - 1 + exposed) * total(costs) + (most - exposed) * costs["X"]
    assert evaluate(order, costs)["makespan"] == makespan
    assert peak_chunks(order) == [min(most, (chunks - 1) * ranks + 2 * (ranks - r)) for r in range(ranks)]


@given(RANKS, ANY, overlapped())
def test_1f1b_with_overlap(ranks: int, microbatches: int, costs: Costs) -> None:
    order = schedules.get("1f1b_overlap").order(ranks, microbatches)
    assert evaluate(order, costs)["makespan"] == ranks * total(costs) + (microbatches - 1) * costs["X"]
    assert peak_chunks(order) == [min(microbatches, 2 * (ranks - r)) for r in range(ranks)]


@given(st.integers(1, 4), MORE, overlapped(balanced=True))
def test_dualpipe(half_ranks: int, more: int, costs: Costs) -> None:
    ranks = 2 * half_ranks
    order = schedules.get("dualpipe").order(ranks, 2 * (ranks + more))
    assert most_idle(order, costs) == (half_ranks - 1) * (costs["X"] + costs["I"] - 2 * costs["W"])
    assert peak_chunks(order) == [ranks + 1] * ranks


@given(RANKS, MORE, overlapped(balanced=True))
def test_dualpipev(ranks: int, more: int, costs: Costs) -> None:
    order = schedules.get("dualpipev").order(ranks, 2 * ranks + more)
    assert most_idle(order, costs) == (ranks - 1) * (costs["X"] + costs["I"] - 2 * costs["W"])
    assert peak_chunks(order) == [2 * ranks + 1] * ranks


@pytest.mark.parametrize(
    ("microbatches", "costs", "executed", "formula"),
    [
        (20, {"F": 10, "I": 12, "W": 8, "X": 30}, 72, 78),
        (32, {"F": 100, "I": 130, "W": 70, "X": 255}, 645, 735),
        (32, {"F": 100, "I": 80, "W": 120, "X": 255}, 465, 285),
    ],
)
def test_dualpipe_with_unequal_forward_and_backward(
    microbatches: int, costs: Costs, executed: int, formula: int
) -> None:
    order = schedules.get("dualpipe").order(8, microbatches)
    assert formula == 3 * (costs["X"] + costs["I"] - 2 * costs["W"])
    assert most_idle(order, costs) == executed


def test_outer_ranks_of_dualpipe_wait_less() -> None:
    costs = {"F": 10, "I": 10, "W": 10, "X": 22}
    result = evaluate(schedules.get("dualpipe").order(8, 20), costs)
    assert [result["makespan"] - busy for busy in result["busy"]] == [20, 28, 36, 36, 36, 36, 28, 20]
