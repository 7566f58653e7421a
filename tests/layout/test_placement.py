"""Ranks on GPUs: groups partition the GPUs for every axis and every order of the axes."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtrain.layout.parallel import Parallel
from simtrain.layout.placement import place
from simtrain.program.blocks import SCOPES
from simtrain.scenario.layout import Layout
from tests.strategies import parallels

ORDERS = get_args(Layout.model_fields["rank_order"].annotation)
AXES = ("tp", "cp", "dp", "ep", "etp", "edp", "all")
orders = st.sampled_from(ORDERS)


def sizes(parallel: Parallel) -> dict[str, int]:
    inner = parallel.replicas
    return {
        "tp": parallel.tp,
        "cp": parallel.cp,
        "dp": parallel.dp * parallel.cp,
        "ep": parallel.ep,
        "etp": parallel.etp,
        "edp": inner // (parallel.ep * parallel.etp),
        "all": parallel.gpus,
    }


@given(parallels(), orders)
@settings(max_examples=100, deadline=None)
def test_the_groups_of_every_axis_partition_the_gpus(parallel: Parallel, order: str) -> None:
    placement = place(parallel, order)
    assert placement.gpu.shape == (parallel.pp, parallel.dp, parallel.cp, parallel.tp)
    for axis in AXES:
        groups = placement.groups(axis)
        assert groups.shape == (parallel.gpus // sizes(parallel)[axis], sizes(parallel)[axis])
        assert sorted(groups.ravel()) == list(range(parallel.gpus))


@given(parallels(), orders)
@settings(max_examples=60, deadline=None)
def test_groups_differ_in_their_own_axis_alone(parallel: Parallel, order: str) -> None:
    placement = place(parallel, order)
    where = {int(placement.gpu[at]): at for at in np.ndindex(placement.gpu.shape)}
    fixed = {"tp": (0, 1, 2), "cp": (0, 1, 3), "dp": (0, 3), "ep": (0,), "etp": (0,), "edp": (0,)}
    for axis, same in fixed.items():
        for group in placement.groups(axis).tolist():
            assert len({tuple(where[gpu][i] for i in same) for gpu in group}) == 1


@given(parallels(), orders)
@settings(max_examples=60, deadline=None)
def test_the_groups_of_experts_cross_once(parallel: Parallel, order: str) -> None:
    placement = place(parallel, order)
    for one, other in (("ep", "edp"), ("etp", "edp"), ("ep", "etp")):
        group_of = {gpu: i for i, group in enumerate(placement.groups(one).tolist()) for gpu in group}
        for group in placement.groups(other).tolist():
            assert len({group_of[gpu] for gpu in group}) == len(group)


@given(parallels(), orders)
@settings(max_examples=60, deadline=None)
def test_the_experts_of_a_layer_lie_on_consecutive_ranks_and_each_on_neighbours(parallel: Parallel, order: str) -> None:
    placement = place(parallel, order)
    ranks = {gpu: i for i, gpu in enumerate(placement.gpu.ravel().tolist())}
    for group in placement.groups("etp").tolist():
        assert [ranks[gpu] - ranks[group[0]] for gpu in group] == list(range(parallel.etp))
    for group in placement.groups("ep").tolist():
        at = [ranks[gpu] for gpu in group]
        assert np.diff(at).tolist() == [parallel.etp] * (parallel.ep - 1)
        assert {rank // (parallel.ep * parallel.etp) for rank in at} == {at[0] // (parallel.ep * parallel.etp)}


@given(parallels(), orders)
@settings(max_examples=60, deadline=None)
def test_the_partition_of_a_pipeline_rank_is_that_of_the_groups(parallel: Parallel, order: str) -> None:
    placement = place(parallel, order)
    assert placement.partition("local").tolist() == list(range(parallel.replicas))
    for axis in set(SCOPES) - {"local", "all"}:
        label = placement.partition(axis)
        for gpus in placement.gpu.reshape(parallel.pp, -1):
            ours = {frozenset(gpus[label == group].tolist()) for group in range(label.max() + 1)}
            members = set(gpus.tolist())
            assert ours == {frozenset(g) for g in placement.groups(axis).tolist() if set(g) <= members}


@given(parallels(), orders, st.data())
@settings(max_examples=60, deadline=None)
def test_shard_groups_cut_the_groups_that_share_parameters(parallel: Parallel, order: str, data: st.DataObject) -> None:
    whole = parallel.dp * parallel.cp
    sizes_ = [n for n in range(1, whole + 1) if whole % n == 0]
    sizes_ = [
        n
        for n in sizes_
        if n * parallel.tp % parallel.expert_ranks == 0 or parallel.expert_ranks % (n * parallel.tp) == 0
    ]
    parallel = replace(parallel, shard_group=data.draw(st.sampled_from(sizes_)))
    placement = place(parallel, order)
    for axis, shard, replicate in (("dp", "shard", "replicate"), ("edp", "edp_shard", "edp_replicate")):
        size = parallel.sharded_over.get(axis, parallel.sharded_over["dp"])  # experts not apart lie like the rest
        inside, across = placement.groups(shard), placement.groups(replicate)
        assert inside.shape[1] == size
        assert inside.ravel().tolist() == placement.groups(axis).ravel().tolist()
        held = {gpu: i for i, group in enumerate(inside.tolist()) for gpu in group}
        place_of = {gpu: i for group in inside.tolist() for i, gpu in enumerate(group)}
        assert sorted(across.ravel().tolist()) == list(range(parallel.gpus))
        for group in across.tolist():
            assert (
                len({held[gpu] for gpu in group})
                == len(group)
                == parallel.shared_by.get(axis, parallel.shared_by["dp"]) // size
            )
            assert len({place_of[gpu] for gpu in group}) == 1


@given(parallels(), orders)
@settings(max_examples=40, deadline=None)
def test_sends_pair_equal_coordinates(parallel: Parallel, order: str) -> None:
    placement = place(parallel, order)
    for rank in range(parallel.pp - 1):
        pairs = placement.pairs(rank, rank + 1)
        assert pairs[:, 0].tolist() == placement.gpu[rank].ravel().tolist()
        assert pairs[:, 1].tolist() == placement.gpu[rank + 1].ravel().tolist()


def test_the_first_axis_varies_fastest_over_consecutive_gpus() -> None:
    parallel = Parallel(16, 2, 2, 1, 2, 1, 2, True, 1, ((0,), (1,)))
    neighbours = {order: place(parallel, order).gpu for order in ORDERS}
    assert all(gpu[0, 0, 0].tolist() == [0, 1] for gpu in neighbours.values())
    assert neighbours["tp-cp-dp-pp"][:, :, :, 0].tolist() == [[[0, 2], [4, 6]], [[8, 10], [12, 14]]]
    assert neighbours["tp-cp-pp-dp"][:, :, :, 0].tolist() == [[[0, 2], [8, 10]], [[4, 6], [12, 14]]]
    assert neighbours["tp-pp-cp-dp"][:, :, :, 0].tolist() == [[[0, 4], [8, 12]], [[2, 6], [10, 14]]]


def test_an_unknown_axis_is_refused() -> None:
    parallel = Parallel(2, 2, 1, 1, 1, 1, 1, True, 1, ((0,),))
    with pytest.raises(KeyError, match="xp"):
        place(parallel, ORDERS[0]).groups("xp")
