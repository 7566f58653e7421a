"""Software cost of NCCL: what a collective takes beyond link latency and bandwidth.

Latencies and bandwidth factors are those of NCCL's own selection model (NVIDIA/nccl, src/graph/tuning.cc:
base latency, hop latency by link, share of the bandwidth).  NCCL knows no cost of starting a kernel and none
of filling its pipelines; both are fitted here to published all-reduce times of 8xA100, 8xH200 and 8xB200.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Literal

__all__ = ["IDEAL", "PROTOCOLS", "Protocol", "ramp_s"]

Family = Literal["ring", "tree", "nvls"]

LAUNCH_S = 20e-6
"""Starting a collective from PyTorch or from one process; about nothing in a CUDA graph."""
RAMP_SQRT_S = 4e-3
"""Filling the pipelines costs this times the square root of the transfer time (4 us per sqrt(us)) ..."""
RAMP_BYTES = 32e6
"""... up to this many bytes, and the same from there on."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """One of NCCL's wire protocols.

    Attributes:
        base_s, nvlink_hop_s, pcie_hop_s, net_hop_s: latency by family of algorithm.
        posting_s: least latency of a hop inside a node when the ring also crosses the network.
        bandwidth: share of the link bandwidth.
        net_latency_factor: how often the latency of the network path counts.
        multi_node_factor: latency factor of an all-reduce ring over several nodes.
    """

    name: str
    base_s: dict[Family, float]
    nvlink_hop_s: dict[Family, float]
    pcie_hop_s: dict[Family, float]
    net_hop_s: dict[Family, float]
    posting_s: float = 0.0
    bandwidth: float = 1.0
    net_latency_factor: float = 1.0
    multi_node_factor: float = 1.0


def _us(ring: float, tree: float, nvls: float = 0.0) -> dict[Family, float]:
    return {"ring": ring * 1e-6, "tree": tree * 1e-6, "nvls": nvls * 1e-6}


PROTOCOLS = {
    "LL": Protocol("LL", _us(6.6, 6.8), _us(0.6, 0.6), _us(1.0, 1.0), _us(2.7, 5.0), 1.0e-6, 0.5),
    "LL128": Protocol("LL128", _us(14, 14), _us(1.9, 1.25), _us(2.5, 1.9), _us(4.0, 8.5), 1.0e-6, 0.92),
    "Simple": Protocol(
        "Simple",
        _us(8.4, 8.4, 0.0),
        _us(3.4, 4.0, 25.0),
        _us(5.7, 4.0),
        _us(14.0, 14.0, 20.9),
        3.0e-6,
        1.0,
        net_latency_factor=2.0,
        multi_node_factor=1.4,
    ),
}
IDEAL = Protocol("ideal", _us(0, 0), _us(0, 0), _us(0, 0), _us(0, 0))


def ramp_s(seconds_per_byte: float, size_bytes: float) -> float:
    """Cost of filling the pipelines of a collective of ``size_bytes``."""
    return RAMP_SQRT_S * sqrt(seconds_per_byte * min(size_bytes, RAMP_BYTES))
