"""Collectives: laws of the price, closed forms, who shares what."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simtrain.cluster.topology import Topology
from simtrain.costs.collectives import price, traffic
from simtrain.costs.collectives.tree import double_tree
from simtrain.errors import InputError, LayoutError, UnknownNameError
from tests.cluster.clusters import A100, B200, FAT_TREE, H100, PCIE_4090, PCIE_A100, SWITCH, TORUS, topology

COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
ROOTED = ("broadcast", "reduce", "gather", "scatter")
SINGLE = H100 | {"gpus": 1, "nics": 1}
NODES = {"A100": A100, "H100": H100, "B200": B200, "PCIe A100": PCIE_A100, "4090": PCIE_4090}
sizes = st.floats(1.0, 1e11)


@cache
def cluster(name: str, nodes: int = 4) -> Topology:
    return topology(NODES[name], nodes, SWITCH)


def scaled(name: str, factor: float) -> Topology:
    """The same cluster with every link, and the switch's own reduction, ``factor`` times as fast."""
    base = cluster(name)
    return replace(
        base,
        edge_line_rate=base.edge_line_rate * factor,
        edge_bandwidth=base.edge_bandwidth * factor,
        edge_flow_bandwidth=base.edge_flow_bandwidth * factor,
        nvls_bandwidth=None if base.nvls_bandwidth is None else base.nvls_bandwidth * factor,
        cache={},
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, str, np.ndarray]:
    """A cluster, a collective and groups of equal size without common GPUs, placed anyhow."""
    name, collective = draw(st.sampled_from(sorted(NODES))), draw(st.sampled_from(COLLECTIVES))
    size, count = draw(st.sampled_from([(2, 1), (2, 16), (3, 2), (4, 8), (5, 1), (8, 4), (16, 2), (32, 1)]))
    order = draw(st.one_of(st.just(list(range(32))), st.permutations(range(32))))
    return name, collective, np.array(order[: size * count]).reshape(count, size)


@given(cases(), sizes, st.floats(1.0, 100.0))
def test_more_bytes_never_take_less_time(case, size, factor):
    name, collective, groups = case
    less, more = (price(cluster(name), collective, groups, s).time_s for s in (size, size * factor))
    assert more >= less * (1 - 1e-12)


@given(cases(), sizes, st.floats(1.0, 100.0))
def test_more_bandwidth_is_never_slower(case, size, factor):
    name, collective, groups = case
    slow, fast = (price(c, collective, groups, size).time_s for c in (cluster(name), scaled(name, factor)))
    assert fast <= slow * (1 + 1e-12)


@given(cases(), sizes)
def test_no_collective_beats_the_links_of_its_gpus(case, size):
    name, collective, groups = case
    found = price(cluster(name), collective, groups, size)
    n = groups.shape[1]
    # A switch that reduces still takes the tensor of every GPU in once; all others pass (n - 1) / n of it on.
    least = size * (n - 1) / n / cluster(name).edge_line_rate.max()
    assert found.time_s >= least
    assert found.latency_s > 0
    assert found.time_s == found.latency_s + found.transfer_s


@given(cases(), sizes)
def test_ideal_software_is_never_slower(case, size):
    name, collective, groups = case
    algorithm = "pairwise" if collective == "all_to_all" else "ring"
    real, ideal = (
        price(cluster(name), collective, groups, size, mode=mode, algorithms=[algorithm]) for mode in ("nccl", "ideal")
    )
    assert ideal.time_s <= real.time_s
    assert ideal.latency_s < real.latency_s


@given(cases(), sizes)
def test_siblings_never_help_each_other(case, size):
    name, collective, groups = case
    together = price(cluster(name), collective, groups, size).time_s
    alone = max(price(cluster(name), collective, group[None], size).time_s for group in groups)
    assert together >= alone * (1 - 1e-12)


@given(cases(), sizes, st.randoms())
def test_order_inside_a_group_does_not_matter(case, size, random):
    name, collective, groups = case
    shuffled = np.array([random.sample(group, len(group)) for group in groups.tolist()])
    first, second = (price(cluster(name), collective, g, size) for g in (groups, shuffled))
    assert first.time_s == second.time_s


@given(st.integers(2, 24), st.sampled_from(COLLECTIVES), st.floats(1e6, 1e10))
def test_ideal_mode_is_the_textbook_formula_through_one_switch(n, collective, size):
    one_switch = topology(SINGLE, 24, SWITCH)
    group = np.arange(n)[None]
    found = price(one_switch, collective, group, size, mode="ideal")
    rounds = 2 if collective == "all_reduce" else 1
    path = one_switch.latency(one_switch.route(0, 1))
    textbook = rounds * (n - 1) / n * size / 50e9 + rounds * (n - 1) * path
    assert found.time_s == pytest.approx(textbook, rel=0.02)


def test_ideal_send_is_bytes_over_line_rate_and_path_latency():
    one_switch = topology(SINGLE, 4, SWITCH)
    found = price(one_switch, "send_recv", np.array([[0, 1], [2, 3]]), 1e9, mode="ideal")
    assert found.time_s == pytest.approx(1e9 / 50e9 + one_switch.latency(one_switch.route(0, 1)))


@pytest.mark.parametrize("collective", [*COLLECTIVES, "send_recv"])
def test_nothing_costs_nothing(collective):
    pair = np.array([[0, 1]])
    assert price(cluster("H100"), collective, pair, 0.0).time_s == 0.0
    if collective != "send_recv":
        alone = price(cluster("H100"), collective, np.array([[3], [4]]), 1e9)
        assert (alone.time_s, alone.phases, alone.bus_bandwidth) == (0.0, (), 0.0)


def test_channels_use_every_nic_and_one_nic_is_shared():
    group = np.arange(32)[None]
    many = price(topology(H100, 4), "all_reduce", group, 8e9, algorithms=["ring"])
    one = price(topology(H100, 4, nics=1), "all_reduce", group, 8e9, algorithms=["ring"])
    assert many.bus_bandwidth == pytest.approx(8 * 48e9, rel=0.02)
    assert one.bus_bandwidth == pytest.approx(48e9, rel=0.02)
    assert "NIC" in one.bottleneck


def test_sibling_rings_share_the_nic_of_their_node():
    ranks = np.arange(32).reshape(4, 8).T
    shared = topology(H100, 4, nics=1)
    alone = price(shared, "reduce_scatter", ranks[:1], 1e9, mode="ideal")
    together = price(shared, "reduce_scatter", ranks, 1e9, mode="ideal")
    own_rails = price(topology(H100, 4), "reduce_scatter", ranks, 1e9, mode="ideal")
    assert together.transfer_s == pytest.approx(8 * alone.transfer_s)
    assert own_rails.transfer_s == pytest.approx(alone.transfer_s)
    assert len(together.phases[0].flows.group_ptr) == 9


def test_pairs_under_one_host_bridge_share_its_memory():
    node = PCIE_4090 | {"links": PCIE_4090["links"] | {"host": {"bandwidth": "30 GB/s", "latency": "0.1 us"}}}
    narrow = topology(node)
    one = price(narrow, "all_reduce", np.array([[0, 1]]), 1e9)
    two = price(narrow, "all_reduce", np.array([[0, 1], [2, 3]]), 1e9)
    apart = price(narrow, "all_reduce", np.array([[0, 1], [4, 5]]), 1e9)
    assert two.transfer_s == pytest.approx(2 * one.transfer_s, rel=0.02)
    assert apart.transfer_s == pytest.approx(one.transfer_s)
    assert "host memory" in two.bottleneck


def test_one_flow_between_sockets_is_slower_than_many():
    box = topology(PCIE_A100)
    one = price(box, "send_recv", np.array([[0, 4]]), 1e9)
    three = price(box, "send_recv", np.array([[0, 4], [1, 5], [2, 6]]), 1e9)
    assert one.bottleneck_bytes_per_s == pytest.approx(12.5e9)
    assert three.bottleneck_bytes_per_s == pytest.approx(19e9)


def test_oversubscribed_spines_slow_cross_leaf_traffic_only():
    first_of_node = np.arange(112) * 8
    pairs = np.stack([first_of_node[:56], first_of_node[56:]], axis=1)
    near = np.stack([first_of_node[:16], first_of_node[16:32]], axis=1)
    # A leaf holds 56 nodes at 7 : 1.
    flat, thin = (topology(H100, 112, FAT_TREE | {"oversubscription": ratio}) for ratio in (1.0, 7.0))
    crossing = price(thin, "send_recv", pairs, 1e9)
    assert crossing.transfer_s == pytest.approx(7 * 1e9 / 48e9)
    assert price(flat, "send_recv", pairs, 1e9).transfer_s == pytest.approx(1e9 / (0.78 * 48e9))
    assert "spine" in crossing.bottleneck
    assert price(thin, "send_recv", near, 1e9).time_s == price(flat, "send_recv", near, 1e9).time_s


def test_two_levels_beat_one_ring_between_two_nodes():
    group = np.arange(16)[None]
    ring, levels = (
        price(topology(H100, 2), "all_reduce", group, 4e9, mode="ideal", algorithms=[name])
        for name in ("ring", "hierarchical_pipelined")
    )
    assert levels.time_s < ring.time_s


def test_cross_rail_all_to_all_stays_on_its_rail():
    group = np.arange(16)[None]
    found = price(topology(H100, 2, FAT_TREE), "all_to_all", group, 1e9)
    tree = topology(H100, 2, FAT_TREE)
    assert found.algorithm == "pxn"
    assert not (tree.edge_kind[found.phases[0].flows.edge] == "fabric").any()


@pytest.mark.parametrize("nodes", range(2, 40))
def test_double_trees_reach_everyone_and_balance(nodes):
    child, parent, share = double_tree(nodes)
    half = nodes - 1
    for part in (slice(0, half), slice(half, None)):
        parents = dict(zip(child[part].tolist(), parent[part].tolist(), strict=True))
        assert len(parents) == half
        depths = [depth(parents, node) for node in range(nodes)]
        assert max(depths) <= np.log2(nodes)
    sends = np.bincount(np.concatenate([child, parent])) * share
    assert sends.max() == pytest.approx(2.0)


def depth(parents: dict[int, int], node: int) -> int:
    steps = 0
    while node in parents:
        node, steps = parents[node], steps + 1
        assert steps <= len(parents)
    return steps


def test_mesh_all_reduce_uses_every_link():
    links = {"kind": "mesh", "pair": {"bandwidth": "64 GB/s", "latency": "0.5 us", "efficiency": 0.74}}
    mesh = topology(H100 | {"links": links | {"pcie": H100["links"]["pcie"]}})
    eight, two = (price(mesh, "all_reduce", np.arange(n)[None], 8e9) for n in (8, 2))
    assert eight.algorithm == "direct"
    assert eight.bus_bandwidth == pytest.approx(7 * 64e9 * 0.74, rel=0.01)
    assert two.bus_bandwidth == pytest.approx(47.67e9, rel=0.01)


def test_a_price_explains_itself():
    found = price(cluster("H100"), "all_reduce", np.arange(32)[None], 1e9, algorithms=["ring"])
    assert found.bottleneck in found.formula
    assert "2 * (32 - 1) / 32" in found.formula
    edges, use = found.edge_use()
    assert cluster("H100").edge_bandwidth[edges].min() >= found.bottleneck_bytes_per_s * (1 - 1e-9)
    assert (use > 0).all()


@given(st.sampled_from(ROOTED), st.integers(2, 24), st.integers(0, 23), st.floats(1e6, 1e10))
def test_ideal_rooted_collectives_through_one_switch(collective, n, root, size):
    one_switch = topology(SINGLE, 24, SWITCH)
    group = np.roll(np.arange(n), root % n)[None]
    found = price(one_switch, collective, group, size, mode="ideal")
    once = collective in ("broadcast", "reduce")
    path = one_switch.latency(one_switch.route(0, 1))
    assert found.time_s == pytest.approx((1 if once else (n - 1) / n) * size / 50e9 + (n - 1) * path)
    assert found.bus_bandwidth * found.time_s == pytest.approx(size * (1 if once else (n - 1) / n))
    # Every GPU but the root is reached, or sends, once.
    edges, use = found.edge_use()
    out = {one_switch.edge_label(e).split()[1] for e in edges if e % 2 == 0 and one_switch.edge_kind[e] == "nic"}
    senders = {"broadcast": n - 1, "reduce": n - 1, "gather": n - 1, "scatter": 1}[collective]
    assert len(out) == senders
    assert (str(group[0, 0]) in out) == (collective in ("broadcast", "scatter"))
    assert use.max() == pytest.approx(1.0)


@given(st.sampled_from(ROOTED), st.sampled_from(["H100", "PCIe A100"]), st.permutations(range(32)), sizes)
def test_rooted_collectives_take_less_than_those_of_everybody(collective, name, order, size):
    groups = np.array(order).reshape(4, 8)
    more = {"broadcast": "all_reduce", "reduce": "all_reduce", "gather": "all_to_all", "scatter": "all_to_all"}
    algorithms = {"all_reduce": ["ring"], "all_to_all": ["pairwise"]}[more[collective]]
    alone = price(cluster(name), collective, groups, size)
    assert alone.time_s <= price(cluster(name), more[collective], groups, size, algorithms=algorithms).time_s * 1.0001


def test_repeated_prices_are_kept():
    groups = np.arange(32).reshape(4, 8)
    assert price(cluster("H100"), "all_gather", groups, 1e6) is price(cluster("H100"), "all_gather", groups, 1e6)


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        (("all_reduce", [[0, 99]], 1.0), LayoutError, "0 to 31"),
        (("all_reduce", [[1, 1]], 1.0), LayoutError, "twice"),
        (("all_reduce", [[0, 1], [2, 1]], 1.0), LayoutError, "GPU 1 is in 2 groups"),
        (("send_recv", [[0, 1, 2]], 1.0), LayoutError, "shape"),
        (("all_reduce", [[0, 1]], -1.0), InputError, "not negative"),
        (("all_reduce", [[0, 1]], float("nan")), InputError, "finite"),
        (("bcast", [[0, 1]], 1.0), UnknownNameError, "broadcast"),
    ],
)
def test_bad_calls_are_refused(arguments, error, word):
    with pytest.raises(error, match=word):
        price(cluster("H100"), *arguments)


def test_unknown_modes_and_algorithms_are_refused():
    pair = np.array([[0, 1]])
    with pytest.raises(UnknownNameError, match="nccl"):
        price(cluster("H100"), "all_reduce", pair, 1.0, mode="magic")
    with pytest.raises(UnknownNameError, match="ring"):
        price(cluster("H100"), "all_reduce", pair, 1.0, algorithms=["rign"])
    with pytest.raises(InputError, match="can run"):
        price(cluster("A100"), "all_reduce", pair, 1.0, algorithms=["nvls"])


@pytest.mark.parametrize(("sizes", "nics"), [([6], 8), ([4, 3], 8), ([2, 2, 2], 6)])
@pytest.mark.parametrize("each", [8, 4])
def test_exchanges_over_a_torus_add_up_from_their_parts(monkeypatch, sizes, nics, each):
    nodes = int(np.prod(sizes))
    groups = (np.arange(nodes)[:, None] * 8 + np.arange(each)).reshape(1, -1)
    found = []
    for most in (10**9, 0):
        monkeypatch.setattr(traffic, "DIRECT_FLOWS", most)
        found.append(price(topology(H100, nodes, TORUS | {"sizes": sizes}, nics=nics), "all_to_all", groups, 1e8))
    (one, other), (edges, again) = found, [cost.edge_use() for cost in found]
    assert one.time_s == pytest.approx(other.time_s, rel=1e-12)
    np.testing.assert_array_equal(edges[0], again[0])
    np.testing.assert_allclose(edges[1], again[1])


def test_mscclpp_exchanges_directly_and_hands_over_what_it_has_not():
    group = np.arange(8)[None]
    for size in (1e5, 1e8, 1e9):
        ours, nccl = (price(cluster("A100"), "all_reduce", group, size, mode=mode) for mode in ("mscclpp", "nccl"))
        assert (ours.algorithm, ours.protocol) == ("direct", "MSCCL++")
        assert ours.time_s < nccl.time_s
    assert price(cluster("4090"), "all_reduce", group, 1e8, mode="mscclpp").algorithm == "ring"
    with_root = price(cluster("A100"), "broadcast", group, 1e8, mode="mscclpp")
    assert with_root.time_s == price(cluster("A100"), "broadcast", group, 1e8).time_s


def test_a_single_send_between_nodes_does_not_fill_a_nic():
    two, one = (price(cluster("H100"), "send_recv", np.array(pairs), 1e9) for pairs in ([[0, 8], [0, 16]], [[0, 8]]))
    assert one.transfer_s == pytest.approx(1e9 / (0.78 * 48e9))
    assert two.transfer_s == pytest.approx(2e9 / 48e9)


def test_channels_limit_boxes_of_many_nics():
    rack = H100 | {"gpus": 16, "nics": 16}
    many = price(topology(rack, 4), "all_reduce", np.arange(64)[None], 1e11, algorithms=["ring"])
    assert many.bus_bandwidth == pytest.approx(406e9, rel=0.05)
    assert price(topology(rack, 4), "all_reduce", np.arange(64)[None], 1e11, mode="ideal").bus_bandwidth > 420e9


def test_software_of_the_network_adds_to_every_hop_between_nodes():
    plain, slow = (topology(B200, 4, SWITCH, network_software=us) for us in ("0 us", "65 us"))
    group = np.arange(32)[None]
    for size in (1e6, 1e9):
        assert price(slow, "all_reduce", group, size).time_s > price(plain, "all_reduce", group, size).time_s + 60e-6
    inside = np.arange(32).reshape(4, 8)
    assert price(slow, "all_reduce", inside, 1e6).time_s == price(plain, "all_reduce", inside, 1e6).time_s
    ideal = [price(c, "all_reduce", group, 1e6, mode="ideal").time_s for c in (plain, slow)]
    assert ideal[0] == ideal[1]
