"""What share of a link everyone gets: PCIe trees and oversubscribed tiers, counted edge by edge."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtrain.cluster.topology import Topology
from tests.cluster.clusters import FAT_TREE, H100, PCIE_4090, PCIE_A100, SWITCH, loads, topology

CLASSIC = FAT_TREE | {"rail_optimised": False, "radix": 8}
ONE_NIC = H100 | {"nics": 1}


def load_by_label(cluster: Topology, source: list[int], target: list[int]) -> dict[str, float]:
    load = loads(cluster, np.array(source), np.array(target))
    return {cluster.edge_label(int(e)): float(load[e]) for e in np.flatnonzero(load)}


def test_gpus_of_a_socket_share_its_host_memory_where_they_cannot_copy_directly():
    load = load_by_label(topology(PCIE_4090), [0, 1, 2, 3], [1, 2, 3, 0])
    assert load["node 0 host bridge 0 -> node 0 host memory 0"] == 4
    assert load["node 0 host memory 0 -> node 0 host bridge 0"] == 4
    assert load["node 0 GPU 0 -> node 0 host bridge 0"] == 1
    assert not any("memory 1" in label for label in load)


def test_all_that_crosses_sockets_shares_the_socket_link():
    for node in (PCIE_4090, PCIE_A100):
        load = load_by_label(topology(node), [0, 1, 2, 3, 4], [4, 5, 6, 7, 0])
        assert load["node 0 host bridge 0 -> node 0 host bridge 1"] == 4
        assert load["node 0 host bridge 1 -> node 0 host bridge 0"] == 1


def test_all_gpus_of_a_node_share_its_nic_and_half_of_them_come_over_the_socket_link():
    load = load_by_label(topology(PCIE_4090, 2, SWITCH), list(range(8)), list(range(8, 16)))
    for label in ("host bridge 0 -> node 0 NIC 0", "NIC 0 -> switch 0"):
        assert load[f"node 0 {label}"] == 8
    assert load["node 0 host bridge 1 -> node 0 host bridge 0"] == 4
    assert load["node 1 host bridge 0 -> node 1 host bridge 1"] == 4
    for node, memory in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert load[f"node {node} host bridge {memory} -> node {node} host memory {memory}"] == 4


def test_gpus_below_a_pcie_switch_share_its_uplink_and_keep_to_themselves_what_stays_below_it():
    below = PCIE_A100 | {"links": PCIE_A100["links"] | {"gpus_per_switch": 2}, "nics": 4}
    load = load_by_label(topology(below), [0, 1, 2], [4, 5, 3])
    assert load["node 0 PCIe switch 0 -> node 0 host bridge 0"] == 2
    assert "node 0 PCIe switch 1 -> node 0 host bridge 0" not in load
    between = load_by_label(topology(below, 2, SWITCH), list(range(8)), list(range(8, 16)))
    assert between["node 0 PCIe switch 1 -> node 0 NIC 1"] == 2
    assert not any("host bridge" in label for label in between)


def test_gpus_that_share_a_nic_share_its_slot():
    load = load_by_label(topology(H100, 2, SWITCH, nics=2), list(range(8)), list(range(8, 16)))
    assert load["node 0 PCIe switch 1 -> node 0 NIC 1"] == load["node 0 NIC 1 -> switch 0"] == 4


def rates(cluster: Topology, below: str, above: str) -> dict[str, float]:
    """Line rate of all links between each switch of one tier and the tier above (or NICs, or spines below)."""
    kinds, labels = (nx.get_node_attributes(cluster.graph, key) for key in ("kind", "label"))
    found: dict[str, float] = {}
    for a, b, edge in cluster.graph.edges(data=True):
        for v, w in ((a, b), (b, a)):
            if (kinds[v], kinds[w]) == (below, above):
                found[labels[v]] = found.get(labels[v], 0.0) + edge["bandwidth_bytes_per_s"]
    return found


def ratio(cluster: Topology, finding: str) -> float:
    return float(next(f.value for f in cluster.check() if f.name == finding).split()[0])


@settings(max_examples=25, deadline=None)
@given(st.floats(1.0, 9.0), st.sampled_from([1, 4, 8, 12, 16]), st.booleans())
def test_the_oversubscription_of_a_full_leaf_is_downlinks_over_uplinks(wanted, nics, rails):
    fabric = FAT_TREE | {"oversubscription": wanted, "rail_optimised": rails}
    cluster = topology(H100, 70, fabric, nics=nics)
    down, up = rates(cluster, "leaf", "nic"), rates(cluster, "leaf", "spine")
    if up:
        assert ratio(cluster, "oversubscription") == pytest.approx(down["leaf 0"] / up["leaf 0"], rel=0.006)


@settings(max_examples=25, deadline=None)
@given(st.floats(1.0, 7.0), st.sampled_from([(72, 1), (16, 8)]))
def test_the_oversubscription_of_a_full_pod_is_that_of_its_spines(wanted, size):
    nodes, nics = size
    cluster = topology(H100, nodes, FAT_TREE | {"radix": 8, "core_oversubscription": wanted}, nics=nics)
    down, up = rates(cluster, "spine", "leaf"), rates(cluster, "spine", "core")
    found = down["pod 0 spine 0"] / up["pod 0 spine 0"]
    assert ratio(cluster, "core oversubscription") == pytest.approx(found, rel=0.006)


def slowest(cluster: Topology, source: np.ndarray, target: np.ndarray) -> float:
    """Times the line rate of one NIC that the fullest link outside nodes takes for one byte from each source."""
    load = loads(cluster, source, target) / cluster.edge_line_rate
    return float(load[np.isin(cluster.edge_kind, ["nic", "fabric"])].max() * 50e9)


@pytest.mark.parametrize("routing", ["destination", "adaptive"])
@pytest.mark.parametrize("wanted", [1.0, 3.0, 7.0])
def test_leaf_to_leaf_traffic_is_slower_by_the_oversubscription(wanted, routing):
    cluster = topology(ONE_NIC, 130, FAT_TREE | {"oversubscription": wanted, "routing": routing})
    per_leaf = cluster.fabric.nodes_per_leaf
    assert per_leaf == 64 * wanted / (1 + wanted)
    node = np.arange(per_leaf)
    assert slowest(cluster, node * 8, (node + per_leaf) * 8) == pytest.approx(wanted)
    assert slowest(cluster, node * 8, (node + 1) % per_leaf * 8) == pytest.approx(1.0)


@pytest.mark.parametrize("routing", ["destination", "adaptive"])
@pytest.mark.parametrize("wanted", [1.0, 3.0])
def test_pod_to_pod_traffic_is_slower_by_the_core_oversubscription(wanted, routing):
    cluster = topology(ONE_NIC, 96, CLASSIC | {"core_oversubscription": wanted, "routing": routing})
    in_pod = cluster.fabric.leaves_per_pod * 4
    assert in_pod == 32 * wanted / (1 + wanted)
    node = np.arange(in_pod)
    assert slowest(cluster, node * 8, (node + in_pod) * 8) == pytest.approx(wanted)
    assert slowest(cluster, node * 8, (node + 4) % in_pod * 8) == pytest.approx(1.0)


def test_pods_hold_whole_groups_of_rails():
    cluster = topology(H100, 130, FAT_TREE | {"radix": 20})
    assert cluster.fabric.pods > 1
    for node in range(130):
        rails = np.arange(8) + node * 8
        assert len({int(p) for p in cluster.fabric._pod(cluster.fabric.leaf(rails))}) == 1


def test_a_limit_of_one_flow_holds_at_the_nic_whatever_the_fabric():
    slow = H100 | {"nic": H100["nic"] | {"flow_bandwidth": "10 GB/s"}}
    for fabric in (SWITCH, FAT_TREE):
        cluster = topology(slow, 40, fabric)
        assert (cluster.edge_flow_bandwidth[cluster.edge_kind == "nic"] == 10e9).all()
        assert np.isinf(cluster.edge_flow_bandwidth[cluster.edge_kind == "fabric"]).all()
