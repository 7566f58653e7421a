"""What collectives take of the links: no more than there is, group by group, phase by phase."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtrain.costs.collectives import CollectivePrice, exchange, price, traffic
from simtrain.costs.collectives.groups import Groups
from simtrain.costs.collectives.price import algorithms_for
from simtrain.costs.collectives.protocol import PROTOCOLS
from simtrain.costs.collectives.traffic import Traffic
from simtrain.errors import InputError
from tests.cluster.clusters import A100, FAT_TREE, H100, PCIE_4090, PCIE_A100, SWITCH, topology
from tests.costs.test_collectives import ROOTED, cases, cluster, sizes


def bytes_on_edges(name: str, found: CollectivePrice) -> list[np.ndarray]:
    """(groups, edges) bytes of each phase, from its use."""
    graph = cluster(name)
    capacity = (
        graph.edge_line_rate
        if found.protocol == "ideal"
        else graph.edge_bandwidth * PROTOCOLS[found.protocol].bandwidth
    )
    tables = []
    for phase in found.phases:
        flows = phase.flows
        table = np.zeros((flows.groups, len(capacity)))
        group = np.repeat(np.arange(flows.groups), np.diff(flows.group_ptr))
        table[group, flows.edge] = flows.use * capacity[flows.edge] * phase.transfer_s
        tables.append(table)
    return tables


@given(cases(), sizes, st.sampled_from(["nccl", "ideal"]), st.data())
@settings(max_examples=200)
def test_one_collective_alone_never_fills_an_edge_beyond_what_it_carries(case, size, mode, data):
    name, collective, groups = case
    collective = data.draw(st.sampled_from([collective, *ROOTED, "dispatch"]))
    algorithm = data.draw(st.sampled_from([a.name for a in algorithms_for(collective, mode)]))
    try:
        found = price(cluster(name), collective, groups, size, mode=mode, algorithms=[algorithm])
    except InputError:
        return
    for phase in found.phases:
        edges, use = phase.flows.summed()
        assert (np.diff(edges) > 0).all()
        assert (use > 0).all()
        assert use.max() <= 1 + 1e-9
        if mode == "ideal":
            assert use.max() == pytest.approx(1.0)
        assert phase.flows.groups == len(groups)
        assert phase.flows.bundle_bytes_per_s > 0


@given(cases(), sizes)
def test_phases_add_up_to_the_price(case, size):
    name, collective, groups = case
    for algorithm in (None, ["hierarchical"]):
        try:
            found = price(cluster(name), collective, groups, size, algorithms=algorithm)
        except InputError:
            continue
        assert sum(phase.latency_s for phase in found.phases) == pytest.approx(found.latency_s)
        assert sum(phase.transfer_s for phase in found.phases) == pytest.approx(found.transfer_s)


@given(cases(), sizes)
def test_a_group_moves_the_same_bytes_with_and_without_siblings(case, size):
    name, collective, groups = case
    together = price(cluster(name), collective, groups, size, mode="ideal")
    for row, group in enumerate(groups):
        alone = price(cluster(name), collective, group[None], size, mode="ideal")
        for whole, single in zip(bytes_on_edges(name, together), bytes_on_edges(name, alone), strict=True):
            # A group of a mixed placement may be routed over other channels than alone; its sum is the same then.
            assert whole[row].sum() > 0
            if len({*np.asarray(group) // 8}) == 1:
                np.testing.assert_allclose(whole[row], single[0], rtol=1e-9, atol=1e-6)


def test_pairs_are_groups_in_their_order():
    pairs = np.array([[0, 8], [9, 1], [2, 16]])
    found = price(cluster("H100"), "send_recv", pairs, 1e9)
    flows = found.phases[0].flows
    for row, (source, target) in enumerate(pairs.tolist()):
        route = cluster("H100").route(source, target)
        assert flows.edge[flows.group_ptr[row] : flows.group_ptr[row + 1]].tolist() == sorted(route)


def test_one_sender_may_serve_several_pairs():
    found = price(cluster("H100"), "send_recv", np.array([[0, 8], [0, 16]]), 1e9)
    flows = found.phases[0].flows
    assert np.diff(flows.group_ptr).min() > 0
    assert flows.summed()[1].max() <= 1 + 1e-12
    assert flows.bundle_bytes_per_s == pytest.approx(24e9, rel=0.05)


def test_bundle_is_what_a_group_moves_over_its_busiest_edge():
    ranks = np.arange(32).reshape(4, 8).T
    shared = price(topology(H100, 4, nics=1), "reduce_scatter", ranks, 1e9, mode="ideal")
    assert shared.phases[0].flows.bundle_bytes_per_s == pytest.approx(50e9 / 8)
    own = price(topology(H100, 4), "reduce_scatter", ranks, 1e9, mode="ideal")
    assert own.phases[0].flows.bundle_bytes_per_s == pytest.approx(50e9)


def test_hierarchical_all_reduce_has_three_phases_with_links_of_their_own():
    tree = topology(A100, 4, FAT_TREE)
    found = price(tree, "all_reduce", np.arange(32)[None], 1e9, mode="ideal", algorithms=["hierarchical"])
    assert [phase.name for phase in found.phases] == [
        "reduce_scatter inside nodes",
        "all_reduce between nodes",
        "all_gather inside nodes",
    ]
    kinds = [set(tree.edge_kind[phase.flows.edge].tolist()) for phase in found.phases]
    assert kinds[0] == kinds[2] == {"nvlink"}
    assert "nvlink" not in kinds[1]
    assert [phase.transfer_s for phase in found.phases] == pytest.approx(
        [7 / 8 * 1e9 / 300e9, 2 * 3 / 4 / 8 * 1e9 / 25e9, 7 / 8 * 1e9 / 300e9]
    )


def test_staged_all_to_all_takes_both_levels_one_after_the_other():
    group = np.arange(32)[None]
    staged, pxn = (
        price(topology(H100, 4), "all_to_all", group, 1e9, algorithms=[name]) for name in ("hierarchical", "pxn")
    )
    assert len(staged.phases) == 2
    assert len(pxn.phases) == 1
    assert staged.transfer_s > pxn.transfer_s
    assert price(topology(H100, 4), "all_to_all", group, 1e9).algorithm == "pxn"


FABRICS = (
    SWITCH,
    FAT_TREE,
    FAT_TREE | {"rail_optimised": False, "radix": 8},
    FAT_TREE | {"radix": 4},
    FAT_TREE | {"rail_optimised": False, "radix": 4, "oversubscription": 3.0},
)


@given(
    st.sampled_from([A100, H100, PCIE_A100, PCIE_4090]),
    st.sampled_from(FABRICS),
    st.sampled_from([1, 2, 8]),
    st.permutations(range(64)),
    st.sampled_from([(1, 64), (4, 16), (8, 8), (5, 12), (9, 7)]),
)
def test_a_large_exchange_adds_up_to_all_its_flows(node, fabric, nics, order, shape):
    try:
        graph = topology(node, 8, fabric, nics=nics)
    except InputError:  # too many ports for this switch
        return
    rows = np.sort(np.array(order[: shape[0] * shape[1]]).reshape(shape), axis=1)
    groups = Groups(graph, rows, rows[:, 0])
    each, parts = Traffic(groups), Traffic(groups)
    each.exchange(rows, 0.25)
    exchange.add(parts, rows, 0.25)
    assert (parts.near_s, parts.far_s) == pytest.approx((each.near_s, each.far_s))
    for name in ("group_ptr", "edge", "bytes", "edges", "total", "largest"):
        np.testing.assert_allclose(getattr(parts.loads, name), getattr(each.loads, name))


@pytest.mark.parametrize("collective", ["all_reduce", "all_to_all"])
def test_flows_may_be_spread_over_several_ways(collective, monkeypatch):
    groups = np.arange(64).reshape(2, 32)
    single = price(topology(H100, 8, FAT_TREE), collective, groups, 1e9)

    def twice(graph, source, target):
        edges = graph.routes(source, target)
        return np.hstack([edges, edges]), np.where(np.hstack([edges, edges]) >= 0, 0.5, 0.0)

    monkeypatch.setattr(traffic, "_paths", twice)
    monkeypatch.setattr(traffic, "DIRECT_FLOWS", 1000)
    double = price(topology(H100, 8, FAT_TREE), collective, groups, 1e9)
    assert double.time_s == pytest.approx(single.time_s)
    for a, b in zip(double.edge_use(), single.edge_use(), strict=True):
        np.testing.assert_allclose(a, b)
