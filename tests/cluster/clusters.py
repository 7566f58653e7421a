"""Small clusters for tests, built inline."""

from __future__ import annotations

from typing import Any

import numpy as np

from simtrain.cluster.build import build
from simtrain.cluster.topology import Topology
from simtrain.scenario.cluster import Cluster

__all__ = [
    "A100",
    "B200",
    "DRAGONFLY",
    "FAT_TREE",
    "H100",
    "H800",
    "PCIE_4090",
    "PCIE_A100",
    "SWITCH",
    "TORUS",
    "loads",
    "topology",
]

FAT_TREE = {
    "kind": "fat_tree",
    "radix": 64,
    "leaf_latency": "0.2 us",
    "spine_latency": "0.9 us",
    "core_latency": "2 us",
}
SWITCH = {"kind": "single_switch", "latency": "0.2 us"}
DRAGONFLY = {
    "kind": "dragonfly",
    "ports_per_router": 8,
    "routers_per_group": 4,
    "global_ports": 9,
    "router_latency": "0.35 us",
    "local_latency": "0.35 us",
    "global_latency": "0.6 us",
}
TORUS = {"kind": "torus", "hop_latency": "0.1 us"}


def _link(bandwidth: str, latency: str, efficiency: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"bandwidth": bandwidth, "latency": latency, "efficiency": efficiency, **more}


def _nvlink(rate: str, efficiency: float, nvls: str | None, nic: str, pcie: dict[str, Any]) -> dict[str, Any]:
    return {
        "gpus": 8,
        "links": {
            "kind": "nvswitch",
            "gpu": _link(rate, "0.3 us", efficiency),
            "nvls": nvls is not None,
            "nvls_bandwidth": nvls,
            "pcie": pcie,
        },
        "nics": 8,
        "nic": _link(nic, "0.8 us", 0.96),
    }


GEN4, GEN5 = _link("31.5 GB/s", "0.25 us", 0.86), _link("63 GB/s", "0.25 us", 0.88)
A100 = _nvlink("300 GB/s", 0.79, None, "200 Gbps", GEN4)
H100 = _nvlink("450 GB/s", 0.81, "482 GB/s", "400 Gbps", GEN5)
H800 = _nvlink("200 GB/s", 0.80, "215 GB/s", "400 Gbps", GEN5)
B200 = _nvlink("900 GB/s", 0.76, "760 GB/s", "400 Gbps", GEN5)
PCIE_A100 = {
    "gpus": 8,
    "links": {
        "kind": "pcie",
        "pcie": _link("31.5 GB/s", "0.5 us", 0.66),
        "host": _link("102.4 GB/s", "0.1 us", 0.85),
        "socket_link": _link("19 GB/s", "0.5 us", flow_bandwidth="12.5 GB/s"),
        "peer_to_peer": True,
    },
    "nics": 1,
    "nic": _link("200 Gbps", "0.8 us", 0.96),
}
PCIE_4090 = PCIE_A100 | {"links": PCIE_A100["links"] | {"peer_to_peer": False}, "gpu_direct": False}  # type: ignore[operator]


def topology(node: dict[str, Any], nodes: int = 1, fabric: dict[str, Any] | None = None, **changes: Any) -> Topology:
    """Build a cluster of ``nodes`` nodes; ``changes`` replace keys of the node."""
    document = {"title": "test", "device": "none", "source": "test", **node, **changes}
    if nodes > 1 and fabric is None:
        fabric = FAT_TREE
    return build(Cluster.model_validate({"node": document, "nodes": nodes, "fabric": fabric}))


def loads(cluster: Topology, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Bytes on every directed edge when each pair sends one."""
    edges, shares = cluster.paths(source, target)
    return np.bincount(edges[edges >= 0], weights=shares[edges >= 0], minlength=len(cluster.edge_bandwidth))
