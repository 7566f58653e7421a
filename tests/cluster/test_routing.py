"""How traffic is spread over a tree: by destination, by hash, over everything; over planes and rails."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from simtrain.cluster.flow_hash import flow_hash
from simtrain.cluster.topology import Topology
from simtrain.scenario.cluster import FatTree
from tests.cluster.clusters import FAT_TREE, H100, loads, topology


def uplinks(cluster: Topology, leaf: str) -> np.ndarray:
    """Directed edges from a leaf to its spines."""
    graph, labels = cluster.graph, nx.get_node_attributes(cluster.graph, "label")
    vertex = next(v for v, label in labels.items() if label == leaf)
    up = [(e["id"], vertex < b) for _, b, e in graph.edges(vertex, data=True) if graph.nodes[b]["kind"] == "spine"]
    return np.array([2 * edge + (not lower) for edge, lower in up])


def sent(routing: str, seed: int = 0, nodes: int = 32) -> np.ndarray:
    """Flows on each of 32 uplinks of a leaf of which every GPU sends to its like under another leaf."""
    # 130 nodes make 5 groups of 8 leaves: too many for 16 spines, so that each of 32 uplinks is a cable of its own.
    cluster = topology(H100, 130, FAT_TREE | {"routing": routing, "routing_seed": seed})
    node = np.arange(nodes)
    return loads(cluster, node * 8, (node + 32) * 8)[uplinks(cluster, "leaf 0")]


def test_destination_spreads_a_permutation_perfectly_and_adaptive_everything():
    assert len(sent("destination")) == 32
    assert sent("destination") == pytest.approx(np.ones(32))
    assert sent("adaptive") == pytest.approx(np.ones(32))
    assert sent("adaptive", nodes=5) == pytest.approx(np.full(32, 5 / 32))


@pytest.mark.parametrize("seed", range(5))
def test_hashed_flows_collide(seed):
    flows = sent("ecmp", seed)
    assert flows.sum() == pytest.approx(32)
    assert flows.max() >= 2
    assert (flows == 0).any()


def test_hashed_flows_fall_like_balls_into_bins():
    """32 balls in 32 bins: a bin stays empty with probability (1 - 1/32)**32 = 0.362."""
    empty = np.mean([(sent("ecmp", seed) == 0).mean() for seed in range(20)])
    assert empty == pytest.approx((1 - 1 / 32) ** 32, abs=0.04)


def test_another_seed_hashes_otherwise_and_the_same_one_alike():
    assert (sent("ecmp", 1) == sent("ecmp", 1)).all()
    assert (sent("ecmp", 1) != sent("ecmp", 2)).any()


@given(st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 2**20)), min_size=1), st.integers(0, 2**32 - 1))
def test_the_hash_of_an_array_is_that_of_its_numbers(pairs, key):
    source, target = np.array(pairs).T
    assert flow_hash(source, target, key).tolist() == [flow_hash(a, b, key) for a, b in pairs]


def test_the_hash_fills_its_range_evenly_and_tells_directions_apart():
    a, b = np.meshgrid(np.arange(200), np.arange(200))
    found = flow_hash(a, b, 7)
    assert 0 <= found.min() <= found.max() < 2**32
    counts = np.bincount((found % 50).ravel())
    assert np.abs(counts - 800).max() < 6 * np.sqrt(800)
    assert (found != found.T).sum() > 39_000


def test_adaptive_routing_also_spreads_over_cores():
    cluster = topology(H100, 16, FAT_TREE | {"radix": 8, "routing": "adaptive"})
    load = loads(cluster, np.array([0]), np.array([8 * 15]))
    core = [
        e["id"]
        for a, b, e in cluster.graph.edges(data=True)
        if "core" in {cluster.graph.nodes[v]["kind"] for v in (a, b)}
    ]
    used = load.reshape(-1, 2)[core].ravel()
    used = used[used > 0]
    assert used.sum() == pytest.approx(2.0)
    assert used == pytest.approx(np.full(len(used), used[0]))
    assert len(used) > 2


def kinds(cluster: Topology, route: tuple[int, ...]) -> list[str]:
    vertices = [cluster.ends[e // 2][1 - e % 2] for e in route]
    return [cluster.graph.nodes[v]["kind"] for v in vertices]


def outside(cluster: Topology) -> nx.Graph:
    """NICs and switches alone."""
    chosen = [v for v, kind in cluster.graph.nodes(data="kind") if kind in ("nic", "switch", "leaf", "spine", "core")]
    return cluster.graph.subgraph(chosen)


def test_planes_share_no_switch_and_nic_i_is_on_plane_i():
    cluster = topology(H100, 70, FAT_TREE | {"planes": True})
    parts = list(nx.connected_components(outside(cluster)))
    assert len(parts) == 8
    for part in parts:
        labels = [cluster.graph.nodes[v]["label"] for v in part]
        nics = {label.split()[-1] for label in labels if "NIC" in label}
        planes = {label.split()[1] for label in labels if label.startswith("plane")}
        assert len(nics) == 1
        assert nics == planes


def test_another_plane_is_reached_over_the_local_gpu_on_it():
    cluster = topology(H100, 70, FAT_TREE | {"planes": True})
    route = cluster.route(3, 8 * 69 + 5)
    assert kinds(cluster, route)[:5] == ["nvswitch", "gpu", "pcie_switch", "nic", "leaf"]
    assert "node 0 NVSwitch -> node 0 GPU 5" in [cluster.edge_label(e) for e in route]
    assert "gpu" not in kinds(cluster, cluster.route(5, 8 * 69 + 5))[:-1]


def test_rails_may_be_reached_inside_the_node_so_that_no_spine_is_crossed():
    spine, forward = (topology(H100, 30, FAT_TREE | {"cross_rail": way}) for way in ("spine", "forward"))
    assert "spine" in kinds(spine, spine.route(3, 8 * 9 + 4))
    assert "spine" not in kinds(forward, forward.route(3, 8 * 9 + 4))
    everyone = np.arange(240)
    crossed = [loads(c, everyone, (everyone + 9) % 240)[c.edge_kind == "fabric"].sum() for c in (spine, forward)]
    assert crossed[0] > 0
    assert crossed[1] == 0


def test_two_layers_of_64_ports_join_16384_gpus_in_eight_planes():
    """arXiv 2505.09343, section on multi-plane networks."""
    fabric = FAT_TREE | {"planes": True}
    assert topology(H100, 2048, fabric).fabric.cores == 0
    assert topology(H100, 2049, fabric).fabric.cores > 0


def test_a_single_rail_has_nothing_to_forward():
    cluster = topology(H100, 40, FAT_TREE | {"planes": True}, nics=1)
    assert not cluster.fabric.forwards
    assert "gpu" not in kinds(cluster, cluster.route(3, 12))[:-1]


@pytest.mark.parametrize(("key", "value"), [("planes", True), ("cross_rail", "forward")], ids=["planes", "cross_rail"])
def test_planes_and_forwarding_need_rails(key: str, value: Any):
    with pytest.raises(ValidationError, match=f"{key} = {str(value).lower()} needs rails: set rail_optimised"):
        FatTree.model_validate(FAT_TREE | {"rail_optimised": False, key: value})
