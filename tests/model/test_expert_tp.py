"""Experts cut over an expert tensor parallel group: no work is gained or lost, and rows and their gradients travel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simtrain.costs.memory import stage_parameters
from simtrain.layout.parallel import Parallel
from simtrain.model.counts import layer_parameters
from simtrain.model.layers import layer_operators
from simtrain.model.operators import Exchange
from tests.model.models import B, H, S, exchanges, kernels, mixture, shard
from tests.strategies import parallels

CUTS = st.sampled_from([(4, 1, 1), (4, 1, 2), (4, 4, 2), (2, 2, 4), (1, 4, 2), (4, 1, 8), (4, 8, 4)])
ROWS = S * B * 2
"""Pairs of a token and an expert, of all tensor parallel ranks together."""


def layer(tp, ep, etp=None, **changes):
    return layer_operators(mixture(), 0, shard(tp=tp, sp=tp > 1, ep=ep, etp=etp, **changes))


def names(operators):
    return [o.name for o in operators if not o.name.startswith(("shared", "attention", "mlp", "qkv", "rotary"))]


def after(operators):
    return {o.name: o.after for o in operators}


@given(CUTS, st.sampled_from(["none", "selective", "full"]))
def test_flops_of_a_rank_are_those_of_whole_experts(cut, recompute):
    tp, ep, etp = cut
    divided, whole = layer(tp, ep, etp, recompute=recompute), layer(tp, ep, 1, recompute=recompute)
    for ops, reference in ((divided.forward, whole.forward), (divided.backward, whole.backward)):
        found, expected = (kernels(o, kind="grouped_gemm") for o in (ops, reference))
        assert [k.flops for k in found] == pytest.approx([k.flops for k in expected])
        assert sum(k.flops for k in found) > 0


@given(CUTS)
def test_a_rank_has_its_columns_of_up_and_its_rows_of_down_for_the_rows_of_all(cut):
    tp, ep, etp = cut
    up, down = kernels(layer(tp, ep, etp).forward, kind="grouped_gemm")
    groups = 8 // ep
    rows = ROWS // tp * (etp if ep > 1 or etp != tp else tp)
    assert (up.groups, up.k, up.n, up.m) == (groups, H, 2 * 512 // etp, rows // groups)
    assert (down.groups, down.k, down.n, down.m) == (groups, 512 // etp, H, rows // groups)


@pytest.mark.parametrize(("tp", "ep", "etp"), [(4, 4, 2), (4, 2, 4), (1, 4, 2), (2, 2, 8)])
@pytest.mark.parametrize("dispatcher", ["alltoall", "deepep"])
def test_rows_are_dispatched_as_without_and_then_gathered(tp, ep, etp, dispatcher):
    cut, whole = layer(tp, ep, etp, dispatcher=dispatcher), layer(tp, ep, 1, dispatcher=dispatcher)
    gathered = etp * ROWS // tp * 2 * H
    for ops, reference in ((cut.forward, whole.forward), (cut.backward, whole.backward)):
        assert exchanges(ops, "ep") == exchanges(reference, "ep")
        assert exchanges(ops, "etp") == [("all_gather", gathered), ("reduce_scatter", gathered)]
        assert exchanges(ops, "tp") == exchanges(reference, "tp")


def test_gathered_rows_have_the_bits_they_were_dispatched_with():
    ops = layer(4, 4, 2, precision="fp8")
    sent = {o.name: o.bytes / (ROWS / 4) for o in (*ops.forward, *ops.backward) if isinstance(o, Exchange)}
    assert sent["expert_gather"] == sent["expert_scatter_backward"] == 2 * sent["dispatch"] == 2 * (H + H / 32)
    assert sent["expert_scatter"] == sent["expert_gather_backward"] == 2 * sent["combine"] == 4 * H


def test_the_order_of_a_layer():
    ops = layer(4, 4, 2)
    middle = ["expert_gather", "expert_up", "expert_activation", "expert_down", "expert_scatter"]
    assert names(ops.forward) == ["router", "top_k", "permute", "dispatch", *middle, "combine", "unpermute"]
    waits = after(ops.forward)
    assert waits["expert_gather"] == ("dispatch",)
    assert waits["expert_up"] == ("expert_gather",)
    assert waits["expert_scatter"] == ("expert_down",)
    assert waits["combine"] == ("expert_scatter",)


@pytest.mark.parametrize("early", [False, True])
def test_backward_mirrors_it_and_weight_gradients_may_come_last(early):
    waits = after(layer(4, 4, 2, ep_overlap_wgrad=early).backward)
    assert waits["expert_scatter_backward"] == ("combine_backward",)
    assert waits["expert_down_dgrad"] == ("expert_scatter_backward",)
    first = ("expert_up_dgrad",) if early else ("expert_up_dgrad", "expert_up_wgrad")
    assert waits["expert_gather_backward"] == first
    assert waits["dispatch_backward"] == ("expert_gather_backward",)
    if early:
        assert waits["expert_down_wgrad"] == ("expert_up_dgrad",)
        assert waits["expert_up_wgrad"] == ("expert_down_wgrad",)


def test_a_rank_keeps_the_gathered_rows():
    for name, width in (("expert_up", H), ("expert_down", 512)):
        kept = [kernels(layer(4, 4, etp).forward, name=name)[0].saved_bytes for etp in (1, 2)]
        rows = ROWS / 4
        assert kept == [2 * rows * width, 2 * 2 * rows * (width if name == "expert_up" else width / 2)]


def test_absent_it_is_as_before():
    assert layer(4, 4) == layer(4, 4, 1)
    assert layer(4, 1) == layer(4, 1, 4)
    assert not exchanges(layer(4, 1, 4).forward, "etp")


def test_whole_experts_without_expert_parallelism_exchange_nothing():
    ops = layer(4, 1, 1)
    assert not exchanges(ops.forward, "ep") + exchanges(ops.forward, "etp")
    assert exchanges(ops.forward, "tp") == exchanges(layer(4, 2).forward, "tp")


@given(parallels())
def test_all_experts_are_held_once_over_the_ranks_of_a_group(parallel: Parallel):
    held = stage_parameters(mixture(), parallel, 0, 0)
    assert held.experts * parallel.ep * parallel.etp == pytest.approx(layer_parameters(mixture(), 0).experts)
