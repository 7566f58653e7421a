"""Topologies: what is built, how traffic runs, what is refused."""

from __future__ import annotations

import time
from functools import cache
from itertools import pairwise
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simtrain.cluster.build import build
from simtrain.cluster.dragonfly import DragonflyShape
from simtrain.cluster.topology import Topology
from simtrain.errors import InputError, LayoutError, ScenarioError
from simtrain.scenario.cluster import Cluster
from tests.cluster.clusters import DRAGONFLY, FAT_TREE, H100, PCIE_4090, PCIE_A100, SWITCH, TORUS, topology

MESH = H100 | {"links": {"kind": "mesh", "pair": H100["links"]["gpu"], "pcie": H100["links"]["pcie"]}}
BELOW_SWITCHES = PCIE_A100 | {"links": PCIE_A100["links"] | {"gpus_per_switch": 2}, "nics": 4}
CLUSTERS: dict[str, tuple[dict[str, Any], int, dict[str, Any] | None]] = {
    "nvswitch on one switch": (H100, 4, SWITCH),
    "nvswitch on a rail-optimised tree": (H100, 70, FAT_TREE),
    "nvswitch on a classic tree": (H100, 40, FAT_TREE | {"rail_optimised": False, "oversubscription": 2.0}),
    "nvswitch on three tiers": (H100, 16, FAT_TREE | {"radix": 8}),
    "hashed ways": (H100, 40, FAT_TREE | {"routing": "ecmp", "routing_seed": 3}),
    "hashed ways on three tiers": (H100, 16, FAT_TREE | {"radix": 8, "routing": "ecmp"}),
    "all ways at once": (H100, 40, FAT_TREE | {"routing": "adaptive"}),
    "all ways on three tiers": (H100, 16, FAT_TREE | {"radix": 8, "routing": "adaptive"}),
    "planes": (H100, 70, FAT_TREE | {"planes": True}),
    "planes of one leaf": (H100, 3, FAT_TREE | {"planes": True}),
    "planes of three tiers": (H100, 34, FAT_TREE | {"radix": 8, "planes": True, "routing": "adaptive"}),
    "planes for two GPUs each": (H100 | {"nics": 4}, 40, FAT_TREE | {"planes": True}),
    "rails reached inside the node": (H100, 40, FAT_TREE | {"cross_rail": "forward"}),
    "pods of uneven tiers": (H100, 30, FAT_TREE | {"radix": 20, "oversubscription": 3.0, "core_oversubscription": 4.0}),
    "dragonfly": (H100, 36, DRAGONFLY),
    "dragonfly of one way between groups": (
        H100 | {"nics": 1},
        100,
        DRAGONFLY | {"routers_per_group": 3, "global_ports": 2},
    ),
    "dragonfly of two groups": (H100, 8, DRAGONFLY | {"global_ports": 5}),
    "dragonfly of one group": (H100, 3, DRAGONFLY),
    "dragonfly of bundled ports": (H100 | {"nics": 16}, 12, DRAGONFLY),
    "torus": (H100, 35, TORUS | {"sizes": [5, 7]}),
    "torus of even sizes": (H100 | {"nics": 6}, 48, TORUS | {"sizes": [2, 4, 6]}),
    "torus sized by itself": (H100, 12, TORUS),
    "ring of two": (H100, 2, TORUS),
    "ring": (PCIE_A100 | {"nics": 2}, 7, TORUS | {"sizes": [7]}),
    "mesh": (MESH, 3, SWITCH),
    "two ports per GPU": (H100 | {"nics": 16}, 40, FAT_TREE),
    "pcie with peer-to-peer": (PCIE_A100, 5, SWITCH),
    "pcie below switches": (BELOW_SWITCHES, 5, FAT_TREE),
    "pcie through host memory": (PCIE_4090, 40, FAT_TREE),
    "pcie, one node": (PCIE_4090, 1, None),
}


@cache
def built(name: str) -> Topology:
    return topology(*CLUSTERS[name])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Topology, int, int]:
    cluster = built(draw(st.sampled_from(sorted(CLUSTERS))))
    gpus = st.integers(0, cluster.gpus - 1)
    return cluster, draw(gpus), draw(gpus)


def walk(cluster: Topology, route: tuple[int, ...]) -> list[int]:
    """Vertices of a route; fails where one edge does not begin where the last one ended."""
    vertices: list[int] = []
    for edge in route:
        a, b = cluster.ends[edge // 2][:: 1 - 2 * (edge % 2)].tolist()
        assert not vertices or vertices[-1] == a
        vertices += [b] if vertices else [a, b]
    return vertices


def kinds(cluster: Topology, route: tuple[int, ...]) -> list[str]:
    return [cluster.graph.nodes[v]["kind"] for v in walk(cluster, route)]


@given(pairs())
def test_a_route_is_a_connected_walk(drawn):
    cluster, source, target = drawn
    vertices = walk(cluster, cluster.route(source, target))
    if source == target:
        assert vertices == []
    else:
        assert (vertices[0], vertices[-1]) == (source, target)
        between = [v for v in vertices[1:-1] if cluster.graph.nodes[v]["kind"] == "gpu"]
        forwards = cluster.fabric is not None and cluster.fabric.forwards
        node, own = cluster.node_of(source), target % cluster.gpus_per_node
        assert between in ([], [node * cluster.gpus_per_node + own]) if forwards else between == []


def near_groups(cluster: Topology, vertices: list[int]) -> nx.Graph:
    """A dragonfly without the groups a route does not touch: minimal routing never goes over a third one."""
    labels = nx.get_node_attributes(cluster.graph, "label")
    touched = {labels[v].split()[1] for v in vertices if labels[v].startswith("group")}
    return cluster.graph.subgraph(v for v, n in labels.items() if not n.startswith("group") or n.split()[1] in touched)


@given(pairs())
def test_a_route_is_shortest_between_the_points_it_must_pass(drawn):
    cluster, source, target = drawn
    vertices = walk(cluster, cluster.route(source, target))
    if source == target:
        return
    stops = [v for v in vertices if cluster.graph.nodes[v]["kind"] in ("gpu", "nic", "memory")]
    graph = cluster.graph
    if cluster.scale_up != "pcie" and cluster.node_of(source) == cluster.node_of(target):
        nvlink = [(a, b) for a, b, kind in graph.edges(data="kind") if kind == "nvlink"]
        graph = nx.Graph(nvlink)
    elif isinstance(cluster.fabric, DragonflyShape):
        graph = near_groups(cluster, vertices)
    shortest = sum(nx.shortest_path_length(graph, a, b) for a, b in pairwise(stops))
    assert len(vertices) - 1 == shortest


@given(pairs())
def test_many_routes_at_once_are_the_single_ones(drawn):
    cluster, source, target = drawn
    rows = cluster.routes(np.array([source, target]), np.array([target, source]))
    for row, pair in zip(rows.tolist(), [(source, target), (target, source)], strict=True):
        assert tuple(edge for edge in row if edge >= 0) == cluster.route(*pair)


@given(pairs())
def test_the_bytes_of_a_pair_flow_from_its_source_to_its_target(drawn):
    cluster, source, target = drawn
    edges, shares = cluster.paths(np.array([source, target]), np.array([target, source]))
    assert edges.shape == shares.shape
    assert ((edges >= 0) == (shares > 0)).all()
    for row, share, a, b in ((edges[0], shares[0], source, target), (edges[1], shares[1], target, source)):
        chosen = row >= 0
        ends = np.where(row[chosen, None] % 2, cluster.ends[row[chosen] // 2, ::-1], cluster.ends[row[chosen] // 2])
        balance = np.zeros(len(cluster.graph))
        np.add.at(balance, ends[:, 0], share[chosen])
        np.add.at(balance, ends[:, 1], -share[chosen])
        expected = np.zeros_like(balance)
        expected[a] += 1.0
        expected[b] -= 1.0
        assert balance == pytest.approx(expected)
        assert set(cluster.route(a, b)) <= set(row[chosen].tolist())
        latency = (cluster.edge_latency[row[chosen]] * share[chosen]).sum()
        assert latency == pytest.approx(cluster.latency(cluster.route(a, b)))


@given(pairs())
def test_the_latency_of_a_route_is_that_of_its_links(drawn):
    cluster, source, target = drawn
    route = cluster.route(source, target)
    edges = {edge["id"]: edge["latency_s"] for *_, edge in cluster.graph.edges(data=True)}
    assert cluster.latency(route) == pytest.approx(sum(edges[e // 2] for e in route))


@pytest.mark.parametrize("name", CLUSTERS)
def test_graph_is_connected_and_agrees_with_the_arrays(name):
    cluster = built(name)
    assert nx.is_connected(cluster.graph)
    assert cluster.graph.number_of_edges() == len(cluster.ends) == len(cluster.edge_bandwidth) // 2
    for a, b, edge in cluster.graph.edges(data=True):
        for directed in (2 * edge["id"], 2 * edge["id"] + 1):
            assert cluster.edge_kind[directed] == edge["kind"]
            rate = edge["bandwidth_bytes_per_s"] * edge["efficiency"]
            assert cluster.edge_bandwidth[directed] == pytest.approx(rate)
        assert sorted((a, b)) == cluster.ends[edge["id"]].tolist()


@pytest.mark.parametrize("name", CLUSTERS)
def test_no_switch_has_more_ports_than_its_radix(name):
    cluster, fabric = built(name), CLUSTERS[name][2]
    if fabric is None or fabric["kind"] != "fat_tree":
        assert "spine" not in nx.get_node_attributes(cluster.graph, "kind").values()
        return
    port = CLUSTERS[name][0]["nic"]["bandwidth"]
    port_rate = {"400 Gbps": 50e9, "200 Gbps": 25e9}[port]
    for vertex, kind in cluster.graph.nodes(data="kind"):
        if kind in ("leaf", "spine", "core"):
            used = sum(e["bandwidth_bytes_per_s"] for *_, e in cluster.graph.edges(vertex, data=True)) / port_rate
            assert used <= fabric["radix"] + 1e-9


def test_a_large_cluster_has_the_expected_parts_and_builds_quickly():
    topology(H100, 2)
    start = time.perf_counter()
    cluster = topology(H100, 256)
    graph = cluster.graph
    assert time.perf_counter() - start < 1.0
    kinds = list(nx.get_node_attributes(graph, "kind").values())
    assert {k: kinds.count(k) for k in ("gpu", "nic", "nvswitch", "leaf", "spine", "core")} == {
        "gpu": 2048,
        "nic": 2048,
        "nvswitch": 256,
        "leaf": 64,
        "spine": 32,
        "core": 0,
    }


def test_same_rail_crosses_one_leaf_and_other_rails_cross_a_spine():
    cluster = built("nvswitch on a rail-optimised tree")
    assert kinds(cluster, cluster.route(3, 8 * 9 + 3)).count("leaf") == 1
    assert kinds(cluster, cluster.route(3, 8 * 9 + 4)).count("spine") == 1
    assert kinds(cluster, cluster.route(3, 8 * 40 + 3)).count("leaf") == 2


def test_a_third_tier_joins_pods():
    cluster = built("nvswitch on three tiers")
    assert kinds(cluster, cluster.route(0, 8 * 15)).count("core") == 1


def test_traffic_between_two_leaves_spreads_over_all_spines():
    cluster = topology(H100, 64)
    nodes = np.arange(32)
    routes = cluster.routes(nodes * 8, (nodes + 32) * 8)
    spine_edges = routes[:, 3]
    assert set(cluster.edge_kind[spine_edges]) == {"fabric"}
    share = np.bincount(spine_edges)[spine_edges] * 50e9
    assert (share <= cluster.edge_line_rate[spine_edges] + 1).all()


def test_oversubscription_takes_uplinks_away():
    def uplinks(ratio: float) -> float:
        cluster = topology(H100, 64, FAT_TREE | {"oversubscription": ratio})
        return float(cluster.edge_line_rate[cluster.edge_kind == "fabric"].sum() / 2 / (64 * 8 * 50e9))

    assert uplinks(1.0) == pytest.approx(1.0)
    # A leaf of 48 ports down and 16 up: 64 nodes need two groups of eight leaves.
    assert uplinks(3.0) == pytest.approx(2 * 8 * 16 / 512)


def test_copies_without_peer_to_peer_pass_through_host_memory():
    direct, bounced = built("pcie with peer-to-peer"), built("pcie through host memory")
    assert "memory" not in kinds(direct, direct.route(0, 1))
    assert kinds(bounced, bounced.route(0, 1)) == ["gpu", "host", "memory", "host", "gpu"]
    assert kinds(bounced, bounced.route(0, 7)) == ["gpu", "host", "memory", "host", "host", "gpu"]
    assert kinds(bounced, bounced.route(0, 8)).count("memory") == 2


def test_traffic_leaves_by_the_nic_of_its_gpu():
    four_nics = topology(H100, 2, nics=4)
    labels = [four_nics.edge_label(edge) for edge in four_nics.route(5, 8)]
    assert "node 0 PCIe switch 2 -> node 0 NIC 2" in labels
    assert "leaf 0 -> node 1 NIC 0" in labels


def test_ports_beyond_one_per_gpu_are_bundled():
    one, two = topology(H100, 4), topology(H100, 4, nics=16)
    rates = [c.edge_line_rate[c.edge_kind == "nic"] for c in (one, two)]
    assert len(rates[0]) == len(rates[1])
    assert rates[1] == pytest.approx(2 * rates[0])


def test_a_check_tells_facts_and_problems():
    good = {f.name: f for f in topology(H100, 64).check()}
    assert all(f.ok for f in good.values())
    assert good["GPUs"].value == "512 in 64 nodes of 8"
    assert good["network per GPU"].value == "48 GB/s"
    assert good["oversubscription"].value == "1 : 1"
    assert good["bisection"].value == "12.29 TB/s"
    slow_slot = H100 | {"links": H100["links"] | {"pcie": PCIE_A100["links"]["pcie"]}}
    assert [f.name for f in topology(slow_slot, 2).check() if not f.ok] == ["NIC in its PCIe slot"]
    assert [f.name for f in topology(PCIE_4090).check()][-1] == "NICs"


@pytest.mark.parametrize(
    ("node", "nodes", "fabric", "words"),
    [
        (H100, 2, "none", ["cluster.nodes = 2", "cluster.fabric"]),
        (H100 | {"nics": 0}, 2, SWITCH, ["nics = 0", "at least 1"]),
        (H100 | {"nic": None}, 2, SWITCH, ["nics = 8", "needs nic"]),
        (PCIE_A100 | {"links": PCIE_A100["links"] | {"socket_link": None}}, 1, None, ["sockets = 2", "socket_link"]),
        (PCIE_A100 | {"gpus": 1}, 1, None, ["sockets = 2", "1 GPUs"]),
        (H100, 400, FAT_TREE | {"radix": 8}, ["cluster.nodes = 400", "fabric.radix = 8"]),
        (H100, 8, TORUS | {"sizes": [3, 3]}, ["fabric.sizes = [3, 3] holds 9", "cluster.nodes = 8"]),
        (H100, 8, TORUS | {"sizes": [2, 2, 2]}, ["node.nics = 8", "6 directions", "multiples of 6"]),
        (
            H100,
            100,
            DRAGONFLY | {"global_ports": 1},
            ["cluster.nodes = 100", "25 groups", "global_ports = 1", "at most 5"],
        ),
        (H100 | {"nics": 80}, 2, DRAGONFLY, ["ports_per_router = 8", "10 ports", "node.nics = 80"]),
        (H100, 9, FAT_TREE | {"radix": 8, "rail_optimised": False}, ["fabric.radix = 8", "node.nics = 8"]),
    ],
)
def test_parts_that_do_not_fit_are_refused(node, nodes, fabric, words):
    document = {"title": "test", "device": "none", "source": "test", **node}
    fabric = None if fabric == "none" else fabric
    with pytest.raises(ScenarioError) as caught:
        build(Cluster.model_validate({"node": document, "nodes": nodes, "fabric": fabric}))
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("fabric", [SWITCH, FAT_TREE, FAT_TREE | {"planes": True}, DRAGONFLY, TORUS])
def test_a_fabric_may_have_a_single_node(fabric):
    cluster = topology(H100, 1, fabric)
    assert all(f.ok for f in cluster.check())
    edges, shares = cluster.paths(np.array([0, 3]), np.array([7, 3]))
    assert (shares.sum(axis=1) == [2.0, 0.0]).all()
    assert edges[0].tolist() == list(cluster.route(0, 7))


def test_names_are_refused_until_they_are_resolved():
    with pytest.raises(ScenarioError, match=r"cluster\.node = 'hgx-h100' is a name"):
        build(Cluster.model_validate({"node": "hgx-h100", "nodes": 1}))
    document = {"title": "test", "device": "none", "source": "test", **H100}
    with pytest.raises(ScenarioError, match=r"cluster\.fabric = 'ndr' is a name"):
        build(Cluster.model_validate({"node": document, "nodes": 2, "fabric": "ndr"}))


def test_a_gpu_that_does_not_exist_has_no_route():
    cluster = topology(PCIE_4090)
    with pytest.raises(LayoutError, match="0 to 7"):
        cluster.route(0, 8)
    for ask in (cluster.routes, cluster.paths):
        with pytest.raises(LayoutError, match="0 to 7"):
            ask(np.array([0]), np.array([-1]))
    assert issubclass(LayoutError, InputError)
