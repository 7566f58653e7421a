"""What an event takes, against brute force on the cluster's networkx graph, and which copies in memory are left."""

from __future__ import annotations

from collections import Counter

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

import simtrain as st
from simtrain.cluster.build import build
from simtrain.reliability.alone import classes_of_preset
from simtrain.reliability.blast import Blast, blasts_of, hits, windows
from simtrain.reliability.couple import job_of
from simtrain.reliability.memory_copies import holders, survivors
from simtrain.scenario.load import load_cluster, load_preset
from tests.small import small

FABRICS = {
    "rails": {"extends": "fat-tree-ndr400", "radix": 8},
    "rails in three tiers": {"extends": "fat-tree-ndr400", "radix": 6},
    "planes": {"extends": "fat-tree-ndr400", "radix": 8, "planes": True},
    "classic": {"extends": "fat-tree-ndr400", "radix": 16, "rail_optimised": False},
    "one spine": {"extends": "fat-tree-ndr400", "radix": 8, "rail_optimised": False, "oversubscription": 4},
    "one switch": "single-switch",
    "dragonfly": {
        "extends": "dragonfly-slingshot200",
        "ports_per_router": 4,
        "routers_per_group": 2,
        "global_ports": 2,
    },
    "torus": "torus-2d",
}
NODES = 7


def cluster(fabric, nodes=NODES, nics=4):
    return load_cluster(
        {"node": {"extends": "hgx-h100", "gpus": 4, "nics": nics}, "nodes": nodes, "fabric": FABRICS[fabric]}
    )


def taken(fabric, owner, spares=0, span=1, nodes=NODES):
    plain = cluster(fabric, nodes)
    return hits(plain, build(plain), owner, span, spares, "classes.x")


def brute(topology):
    """Nodes that lose a port, and those that lose all, for every switch: by taking it out of the whole graph."""
    graph = topology.graph
    kinds = nx.get_node_attributes(graph, "kind")
    nics = [v for v, kind in kinds.items() if kind == "nic"]
    gpus = [v for v, kind in kinds.items() if kind == "gpu"]
    switches = [v for v in graph if v >= topology.nodes * len(topology.node.kinds)]
    node_of = {v: int(graph.nodes[v]["label"].split()[1]) for v in (*nics, *gpus)}
    network = graph.subgraph([*nics, *switches])
    found = Counter()
    for switch in switches:
        before = nx.node_connected_component(network, switch)
        rest = network.subgraph(before - {switch})
        parts = sorted(
            (part for part in nx.connected_components(rest) if part - set(nics)), key=lambda p: len(p & set(nics))
        )
        cut = [node_of[v] for v in before & set(nics) if not (parts and v in parts[-1])]
        dark = [node for node, count in Counter(cut).items() if count == topology.nics_per_node]
        owner = "leaf_switch" if set(network[switch]) & set(nics) else "spine_switch"
        found[owner, len(set(cut)), len(dark)] += 1
    return found


@pytest.mark.parametrize("fabric", FABRICS)
def test_switches_take_what_taking_them_out_of_the_graph_takes(fabric):
    topology = build(cluster(fabric))
    expected = brute(topology)
    found = Counter()
    for owner in {owner for owner, _, _ in expected}:
        for hit in taken(fabric, owner):
            found[owner, len(hit.nodes), len(hit.dark)] += hit.parts
    assert found == expected


def test_the_last_leaf_and_the_last_rack_may_be_half_full():
    assert Counter(len(hit.nodes) for hit in taken("classic", "leaf_switch")) == {2: 3, 1: 1}
    assert Counter(len(hit.nodes) for hit in taken("classic", "rack", span=3)) == {3: 2, 1: 1}
    assert Counter(len(hit.nodes) for hit in taken("classic", "leaf_switch", spares=1)) == {2: 4}
    assert Counter(len(hit.nodes) for hit in taken("classic", "rack", span=3, spares=2)) == {3: 3}


def test_a_rail_takes_its_nodes_but_leaves_their_memory_and_a_spine_takes_none():
    assert {(len(hit.nodes), len(hit.dark)) for hit in taken("rails", "leaf_switch")} == {(4, 0), (3, 0)}
    assert {len(hit.nodes) for hit in taken("rails", "spine_switch")} == {0}
    assert all(hit.dark == hit.nodes for hit in taken("one switch", "leaf_switch"))


def test_leaves_of_a_rail_optimised_tree_hold_one_port_of_every_node():
    plain = load_cluster("32x-hgx-h100")
    found = hits(plain, build(plain), "leaf_switch", 1, 0, "")
    assert len(found) == 8
    assert all(hit.nodes == set(range(32)) and not hit.dark for hit in found)


@pytest.mark.parametrize(("owner", "parts"), [("gpu", 28), ("gpu_memory", 28), ("nic", 28), ("link", 28), ("node", 7)])
def test_parts_of_a_node_take_the_node(owner, parts):
    found = taken("rails", owner)
    assert sum(hit.parts for hit in found) == parts
    assert {len(hit.nodes) for hit in found} == {1}


def test_a_cluster_without_spines_says_what_it_has():
    with pytest.raises(st.ScenarioError, match=r"x.owner = 'spine_switch'.*allowed here: leaf_switch, rack, node"):
        taken("one switch", "spine_switch")
    lonely = load_cluster("1x-1x4090")
    with pytest.raises(st.ScenarioError, match="allowed here: rack, node"):
        hits(lonely, build(lonely), "leaf_switch", 1, 0, "x")


def test_hot_spares_that_no_leaf_has_room_for_are_named():
    with pytest.raises(st.ScenarioError, match=r"spares\.hot = 9000 more nodes find no room .* use fewer nodes"):
        taken("rails", "leaf_switch", spares=9000)


@given(some.integers(1, 40), some.integers(1, 6), some.sampled_from(["neighbour", "spread"]))
def test_every_copy_is_on_a_node_of_its_own_and_every_node_holds_equally_many(nodes, copies, placement):
    held = holders(nodes, copies, placement)
    assert held.shape == (nodes, min(copies, nodes))
    assert (held[:, 0] == np.arange(nodes)).all()
    assert all(len(set(row)) == len(row) for row in held.tolist())
    assert set(Counter(held.ravel().tolist()).values()) == {min(copies, nodes)}


@given(some.integers(2, 6), some.integers(1, 12))
def test_neighbours_that_divide_the_nodes_are_groups(copies, groups):
    held = holders(copies * groups, copies, "neighbour")
    assert {frozenset(row) for row in held.tolist()} == {
        frozenset(range(copies * g, copies * (g + 1))) for g in range(groups)
    }


@given(some.integers(1, 30), some.integers(1, 5), some.sampled_from(["neighbour", "spread"]), some.data())
def test_a_copy_is_left_unless_some_node_and_all_who_hold_its_state_are_gone(nodes, copies, placement, data):
    gone = data.draw(some.frozensets(some.integers(0, nodes + 3)))
    held = holders(nodes, copies, placement)
    assert survivors(held, gone) == all(any(int(v) not in gone for v in row) for row in held)


@given(some.integers(2, 5), some.integers(2, 6), some.integers(1, 6))
def test_spread_copies_outlive_any_leaf_of_at_most_nodes_over_copies(copies, leaves, size):
    nodes = leaves * size
    held = holders(nodes, copies, "spread")
    if size <= nodes // copies:
        assert all(survivors(held, frozenset(range(i * size, (i + 1) * size))) for i in range(leaves))


def test_racks_of_four_lose_neighbours_in_groups_of_three_but_not_spread_ones():
    """12 nodes in racks of 4: groups 0-2, 3-5, 6-8, 9-11; racks 0-3 and 8-11 hold a whole one, 4-7 does not."""
    racks = taken("rails", "rack", span=4, nodes=12)
    assert blasts_of(racks, holders(12, 3, "neighbour")) == (Blast(3, 4, pytest.approx(1 / 3)),)
    assert blasts_of(racks, holders(12, 3, "spread")) == (Blast(3, 4, 1.0),)


def test_windows_are_every_so_many_nodes_in_a_row():
    assert [hit.nodes for hit in windows(3, 2)] == [{0, 1}, {1, 2}]
    assert [hit.nodes for hit in windows(3, 0)] == [set()]
    assert [hit.nodes for hit in windows(3, 5)] == [{0, 1, 2}]
    assert blasts_of(windows(5, 2), holders(4, 2, "neighbour")) == (Blast(4, 2, 0.5),)


def test_what_is_on_a_disk_goes_with_its_node_even_where_others_reach_it():
    rail = taken("rails", "leaf_switch")
    own = holders(NODES, 1, "neighbour")
    assert {blast.survives_memory for blast in blasts_of(rail, own)} == {1.0}
    assert {blast.survives_memory for blast in blasts_of(rail, own, by_node=True)} == {0.0}


@pytest.mark.parametrize("owner", ["gpu", "gpu_memory", "node", "rack", "power_domain", "job", "storage"])
@pytest.mark.parametrize("lost", [None, 0, 2])
def test_a_preset_alone_has_the_parts_that_a_cluster_of_its_size_has(owner, lost):
    """Whatever does not depend on the network."""
    document = {"owner": owner, "mtbf": "9 days"} | ({} if lost is None else {"nodes_lost": lost})
    if owner in ("rack", "power_domain"):
        document["span"] = 4
    scenario = small("cluster.nodes=3", "layout.pp=1", "workload.global_batch=24")
    preset = load_preset({"classes": {"x": document}, "spares": {"hot": 2}, "checkpoint": {"kind": "tiered"}})
    job = job_of(st.simulate_step(scenario.model_copy(update={"reliability": preset})))
    assert job.classes == classes_of_preset(preset, 24, 3)
