"""Loads of expert parallel ranks: deterministic, each layer by itself, and laws of capacity."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from simtrain.model.expert_loads import dropped_share, expert_loads, rank_loads
from simtrain.scenario.model import MixtureOfExperts
from simtrain.scenario.workload import ExpertRouting


def experts(count=64, top_k=6):
    return MixtureOfExperts(experts=count, top_k=top_k, expert_ffn_hidden=1)


def natural(**changes):
    return ExpertRouting(kind="natural", **changes)


cases = st.fixed_dictionaries(
    {
        "count": st.sampled_from([8, 64, 256]),
        "top_k": st.sampled_from([1, 2, 8]),
        "ep": st.sampled_from([1, 2, 8]),
        "layer": st.integers(0, 100),
        "seed": st.integers(0, 2**32),
        "spread": st.floats(0, 3),
    }
)


def drawn(case, **changes):
    moe = experts(case["count"], case["top_k"])
    routing = natural(spread=case["spread"], seed=case["seed"], **changes)
    return moe, case["ep"], case["layer"], routing


@given(cases)
def test_without_a_capacity_no_row_is_lost(case):
    moe, ep, layer, routing = drawn(case)
    loads = rank_loads(moe, ep, layer, routing)
    assert loads.shape == (ep,)
    assert loads.mean() == pytest.approx(1.0)
    assert loads.min() >= 0
    assert dropped_share(moe, layer, routing) == 0.0


@given(cases)
def test_no_expert_gets_a_token_twice(case):
    moe, _, layer, routing = drawn(case)
    assert expert_loads(moe, layer, routing).max() <= moe.experts / moe.top_k


@given(cases, st.floats(0.1, 4))
def test_what_is_not_taken_is_dropped(case, capacity):
    moe, ep, layer, routing = drawn(case, capacity_factor=capacity)
    loads = rank_loads(moe, ep, layer, routing)
    assert loads.max() <= capacity * (1 + 1e-12)
    assert loads.mean() + dropped_share(moe, layer, routing) == pytest.approx(1.0)


@given(cases, st.floats(0.1, 4))
def test_more_capacity_never_drops_more(case, capacity):
    moe, _, layer, less = drawn(case, capacity_factor=capacity)
    assert dropped_share(moe, layer, less) >= dropped_share(moe, layer, drawn(case, capacity_factor=2 * capacity)[3])


@given(cases, st.sampled_from([1.0, 1.25, 2.0]))
def test_padding_is_perfectly_balanced(case, capacity):
    moe, ep, layer, routing = drawn(case, capacity_factor=capacity, pad_to_capacity=True)
    assert rank_loads(moe, ep, layer, routing).tolist() == [capacity] * ep


def test_the_same_draw_every_time_and_for_each_layer_its_own():
    first = [rank_loads(experts(), 8, layer, natural(seed=3)) for layer in range(4)]
    later = [rank_loads(experts(), 8, layer, natural(seed=3)) for layer in reversed(range(10))][::-1]
    for a, b in zip(first, later, strict=False):
        assert a.tolist() == b.tolist()
    assert len({tuple(loads) for loads in later}) == 10
    assert rank_loads(experts(), 8, 0, natural(seed=4)).tolist() != first[0].tolist()


def test_how_experts_lie_on_ranks_does_not_change_their_popularity():
    fine, coarse = (rank_loads(experts(), ep, 5, natural()) for ep in (8, 2))
    assert coarse == pytest.approx(fine.reshape(2, 4).mean(axis=1))


def test_the_spread_is_the_coefficient_of_variation():
    loads = np.concatenate([expert_loads(experts(256, 1), layer, natural(spread=0.5)) for layer in range(400)])
    assert loads.std() == pytest.approx(0.5, rel=0.03)


def test_the_default_spread_loads_the_busiest_rank_by_so_much():
    for ep, busiest in ((8, 1.11), (16, 1.20)):
        loads = [rank_loads(experts(128, 8), ep, layer, natural()).max() for layer in range(300)]
        assert np.mean(loads) == pytest.approx(busiest, abs=0.015)


def test_balanced_experts_are_equal():
    assert rank_loads(experts(), 4, 0, ExpertRouting()).tolist() == [1.0] * 4
    assert rank_loads(experts(), 4, 0, ExpertRouting(capacity_factor=0.8)).tolist() == [0.8] * 4
    assert rank_loads(experts(8, 8), 4, 0, natural()).tolist() == [1.0] * 4  # every token takes every expert


def test_padding_needs_a_capacity():
    with pytest.raises(ValidationError, match="pad_to_capacity = true needs capacity_factor"):
        ExpertRouting(pad_to_capacity=True)
