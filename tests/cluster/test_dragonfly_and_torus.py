"""Dragonflies and tori: every pair against networkx, ports that add up, traffic that spreads."""

from __future__ import annotations

from functools import cache
from typing import Any

import networkx as nx
import numpy as np
import pytest

from simtrain.cluster.build import build
from simtrain.cluster.topology import Topology
from simtrain.report import topology as draw
from simtrain.scenario.load import load_cluster
from tests.cluster.clusters import DRAGONFLY, H100, TORUS, loads, topology

ONE_NIC = H100 | {"nics": 1}
FULL = DRAGONFLY | {"ports_per_router": 2, "routers_per_group": 4, "global_ports": 2}
"""The balanced dragonfly of Kim et al., figure 5: a = 2p = 2h = 4, 9 groups, 36 routers, 72 ports."""

DRAGONFLIES: dict[str, tuple[int, dict[str, Any]]] = {
    "full": (72, FULL),
    "three groups": (24, FULL),
    "two groups of many cables": (16, FULL | {"global_ports": 11}),
    "last group not full": (37, FULL | {"global_ports": 3}),
    "one group": (7, FULL),
    "groups of one router": (10, FULL | {"routers_per_group": 1, "global_ports": 4}),
}
TORI: dict[str, tuple[int, int, list[int]]] = {
    "ring": (2, 9, [9]),
    "square": (4, 36, [6, 6]),
    "odd": (4, 15, [3, 5]),
    "cube with short sides": (6, 24, [2, 3, 4]),
    "flat": (4, 4, [4, 1]),
    "hypercube": (8, 16, [2, 2, 2, 2]),
}


@cache
def dragonfly(name: str) -> Topology:
    nodes, fabric = DRAGONFLIES[name]
    return topology(ONE_NIC, nodes, fabric)


@cache
def torus(name: str) -> Topology:
    nics, nodes, sizes = TORI[name]
    return topology(H100, nodes, TORUS | {"sizes": sizes}, nics=nics)


def between_nodes(cluster: Topology) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First GPUs of all pairs of different nodes, and the edges between switches of their routes."""
    a, b = (x.ravel() * 8 for x in np.meshgrid(*[np.arange(cluster.nodes)] * 2))
    a, b = a[a != b], b[a != b]
    routes = cluster.routes(a, b)
    return a, b, np.where(cluster.edge_kind[routes] == "fabric", routes, -1) * (routes >= 0) - (routes < 0)


def switch_graph(cluster: Topology) -> nx.Graph:
    return cluster.graph.subgraph(v for v, kind in cluster.graph.nodes(data="kind") if kind == "switch")


def router_of(cluster: Topology, gpu: int) -> int:
    other = (gpu + 8) % cluster.gpus
    return next(
        v
        for e in cluster.route(gpu, other)
        for v in cluster.ends[e // 2].tolist()
        if cluster.graph.nodes[v]["kind"] == "switch"
    )


@pytest.mark.parametrize("name", TORI)
def test_every_route_of_a_torus_is_shortest(name):
    cluster = torus(name)
    hops = dict(nx.all_pairs_shortest_path_length(switch_graph(cluster)))
    at = [router_of(cluster, 8 * node) for node in range(cluster.nodes)]
    for a, b, row in zip(*between_nodes(cluster), strict=True):
        assert (row >= 0).sum() == hops[at[a // 8]][at[b // 8]]


@pytest.mark.parametrize("name", DRAGONFLIES)
def test_every_route_of_a_dragonfly_is_shortest_within_its_two_groups(name):
    cluster = dragonfly(name)
    graph, per_group = switch_graph(cluster), cluster.fabric.routers
    first = min(graph)
    group = {v: (v - first) // per_group for v in graph}
    at = [router_of(cluster, 8 * node) for node in range(cluster.nodes)]
    crossing = np.array([group.get(a) != group.get(b) for a, b in cluster.ends.tolist()])
    hops: dict[frozenset[int], Any] = {}
    for a, b, row in zip(*between_nodes(cluster), strict=True):
        u, v = at[a // 8], at[b // 8]
        two = frozenset((group[u], group[v]))
        if two not in hops:
            near = graph.subgraph(w for w in graph if group[w] in two)
            hops[two] = dict(nx.all_pairs_shortest_path_length(near))
        used = row[row >= 0]
        assert len(used) == hops[two][u][v] <= 3
        assert crossing[used // 2].sum() == len(two) - 1


@pytest.mark.parametrize("name", DRAGONFLIES)
def test_no_router_has_more_cables_than_ports(name):
    cluster, (_, fabric) = dragonfly(name), DRAGONFLIES[name]
    label = nx.get_node_attributes(cluster.graph, "label")
    for v in switch_graph(cluster):
        cables = {"nic": 0.0, "local": 0.0, "global": 0.0}
        for _, w, edge in cluster.graph.edges(v, data=True):
            same = label[v].split()[:2] == label[w].split()[:2]
            kind = "nic" if edge["kind"] == "nic" else "local" if same else "global"
            cables[kind] += edge["bandwidth_bytes_per_s"] / 50e9
        assert cables["nic"] <= fabric["ports_per_router"]
        assert cables["local"] == cluster.fabric.routers - 1
        assert cables["global"] <= fabric["global_ports"]


def test_the_balanced_dragonfly_of_the_paper():
    cluster = dragonfly("full")
    kinds = list(nx.get_node_attributes(cluster.graph, "kind").values())
    assert kinds.count("switch") == 36
    facts = {f.name: f.value for f in cluster.check()}
    assert facts["groups"] == "9 of 4 routers, 1 cables between each two"
    # 4 x 5 pairs of groups across the middle, one cable each, at 48 of 50 GB/s.
    assert facts["bisection"] == "960 GB/s"
    assert cluster.fabric.links()[2][0] == 36


def test_all_to_all_loads_every_global_link_of_a_full_dragonfly_alike():
    cluster = dragonfly("full")
    a, b, _ = between_nodes(cluster)
    load = loads(cluster, a, b)
    first = 2 * (len(cluster.ends) - 36)
    assert load[first:] == pytest.approx(np.full(72, 8 * 8))


@pytest.mark.parametrize("stride", [1, 8])
def test_traffic_between_two_groups_spreads_over_all_their_cables(stride):
    cluster = topology(H100, 8, DRAGONFLY)
    half = np.arange(0, 32, stride)
    load = loads(cluster, half, half + 32)
    first = 2 * (len(cluster.ends) - cluster.fabric.links()[2][0])
    used = load[first:][load[first:] > 0]
    assert used == pytest.approx(np.full(4, len(half) / 4))


def test_a_shift_by_one_uses_each_ring_link_once_and_by_half_the_ring_each_alike():
    cluster = torus("square")
    node = np.arange(36)
    column, row = node % 6, node // 6
    once = loads(cluster, node * 8, (row * 6 + (column + 1) % 6) * 8)[cluster.edge_kind == "fabric"]
    assert sorted(set(once.tolist())) == [0.0, 1.0]
    assert once.sum() == 36
    half = loads(cluster, node * 8, (row * 6 + (column + 3) % 6) * 8)[cluster.edge_kind == "fabric"]
    # 36 x 3 hops on 72 directed links: 1.5 each, and a flow is not divided.
    assert sorted(set(half[half > 0].tolist())) == [1.0, 2.0]
    assert half.sum() == 108


def test_the_links_of_a_torus_are_its_nics():
    cluster = torus("cube with short sides")
    nics = cluster.edge_line_rate[cluster.edge_kind == "nic"].sum()
    # A cable has two ends, and two NICs.
    assert cluster.edge_line_rate[cluster.edge_kind == "fabric"].sum() * 2 == pytest.approx(nics)
    facts = {f.name: f.value for f in cluster.check()}
    assert facts["torus"] == "2 x 3 x 4"
    assert facts["bisection"] == "576 GB/s"


def test_a_torus_without_sizes_is_as_square_as_it_can_be():
    assert topology(H100, 12, TORUS).fabric.sizes == (4, 3)
    assert topology(H100, 7, TORUS).fabric.sizes == (7, 1)


@pytest.mark.parametrize("fabric", [DRAGONFLY | {"global_ports": 20}, TORUS])
def test_large_clusters_are_built_and_routed(fabric):
    cluster = topology(H100, 256, fabric)
    assert nx.is_connected(cluster.graph)
    a, b = np.random.default_rng(0).integers(0, cluster.gpus, (2, 50_000))
    rows = cluster.routes(a, b)
    for i in range(20):
        assert tuple(e for e in rows[i].tolist() if e >= 0) == cluster.route(int(a[i]), int(b[i]))


@pytest.mark.parametrize(("name", "finding"), [("dragonfly-slingshot200", "groups"), ("torus-2d", "torus")])
def test_the_shipped_ones_build_and_are_drawn(name, finding):
    cluster = build(load_cluster("2x-hgx-h100", f"fabric={name}", "nodes=4"))
    assert finding in [f.name for f in cluster.check()]
    assert all(f.ok for f in cluster.check())
    figure = draw(cluster)
    assert "switch" in " ".join(figure.layout.yaxis.ticktext)
