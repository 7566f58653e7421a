"""Software cost of collectives: what they take beyond link latency and bandwidth.

Latencies and bandwidth factors are those of NCCL's own selection model (NVIDIA/nccl, src/graph/tuning.cc:
base latency, hop latency by link, share of the bandwidth).  NCCL knows no cost of filling its pipelines, nor of the
many messages of an exchange; those coefficients, in ``coefficients.yaml``, are fitted to published times.
No latency holds the time that a host needs to launch a kernel: launches run ahead of the GPU in a training step.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from pathlib import Path
from typing import Literal

import yaml

__all__ = [
    "CHANNEL_BANDWIDTH",
    "CHANNEL_NICS",
    "COEFFICIENTS",
    "COEFFICIENTS_FILE",
    "IDEAL",
    "MSCCLPP",
    "PROTOCOLS",
    "Coefficients",
    "Family",
    "Protocol",
]

Family = Literal["ring", "tree", "nvls", "exchange"]

COEFFICIENTS_FILE = Path(__file__).with_name("coefficients.yaml")
CHANNEL_BANDWIDTH, CHANNEL_NICS = 406e9, 8
"""What the channels (thread blocks) of NCCL bring across the network together, in boxes of more NICs than eight:
measured on twenty NVL72 racks (coreweave/nccl-tests), and twice that in a tree over two, where each passes on half.
NCCL's tables have 16 channels of 24 GB/s for trees on Blackwell (tuning.cc)."""
RAMP_GPUS = 8
"""Pipelines of more GPUs than this in one NVLink domain are longer, with smaller parts, and fill more slowly."""


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Fitted coefficients that hold for every cluster; ``coefficients.yaml`` says what each is.

    Attributes:
        ramp_bytes_per_gpu: pipelines fill more slowly up to this size.
        send_share: share of a NIC; peer_hop_s, host_launch_s: seconds.
    """

    ramp_bytes_per_gpu: float
    send_share: float
    peer_hop_s: float
    host_launch_s: float

    def ramp_s(self, fill_s: float, seconds_per_byte: float, size_bytes: float, gpus: int, in_domain: int) -> float:
        """Cost of filling the pipelines of a collective of ``size_bytes``: sqrt(fill * transfer).

        This is what the best size of a part comes to: with small parts each part's own cost adds up, with large ones
        the first takes long to arrive (Sanders, Speck, Traeff 2009, section 2).

        Args:
            fill_s: of the box.
            seconds_per_byte: of the slowest link.
            size_bytes: of the collective.
            gpus: in a group.
            in_domain: those of them in one NVLink domain.
        """
        growing_s = seconds_per_byte * min(size_bytes, self.ramp_bytes_per_gpu * gpus)
        return sqrt(fill_s * max(1.0, in_domain / RAMP_GPUS) * growing_s)


COEFFICIENTS = Coefficients(**yaml.safe_load(COEFFICIENTS_FILE.read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True)
class Protocol:
    """A way of moving bytes: NCCL's wire protocols and those of others.

    Attributes:
        base_s, nvlink_hop_s, pcie_hop_s, net_hop_s: latency by family of algorithm.
        posting_s: least latency of a hop inside a node when the ring also crosses the network.
        bandwidth: share of the link bandwidth; far_bandwidth: bytes per second that cross the network at most.
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
    far_bandwidth: float = inf
    net_latency_factor: float = 1.0
    multi_node_factor: float = 1.0


def _us(ring: float, tree: float, nvls: float = 0.0, exchange: float | None = None) -> dict[Family, float]:
    exchange = ring if exchange is None else exchange
    return {"ring": ring * 1e-6, "tree": tree * 1e-6, "nvls": nvls * 1e-6, "exchange": exchange * 1e-6}


_PEER_US = COEFFICIENTS.peer_hop_s * 1e6
PROTOCOLS = {
    # LL is capped between nodes: 20.4 GB/s on four and more Intel hosts, 39 on two.
    "LL": Protocol(
        "LL", _us(6.6, 6.8), _us(0.6, 0.6), _us(1.0, 1.0), _us(2.7, 5.0, 0.0, _PEER_US), 1.0e-6, 0.5, 20.4e9
    ),
    "LL128": Protocol("LL128", _us(14, 14), _us(1.9, 1.25), _us(2.5, 1.9), _us(4.0, 8.5), 1.0e-6, 0.92),
    "Simple": Protocol(
        "Simple",
        _us(8.4, 8.4, 0.0),
        _us(3.4, 4.0, 25.0),
        _us(5.7, 4.0),
        _us(14.0, 14.0, 20.9, _PEER_US),
        3.0e-6,
        1.0,
        net_latency_factor=2.0,
        multi_node_factor=1.4,
    ),
}
MSCCLPP = Protocol("MSCCL++", _us(4.0, 4.0), _us(1.0, 1.0, 2.0), _us(2.0, 2.0), _us(5.0, 5.0, 5.0), bandwidth=1.03)
"""Kernels that write to each other's memory: 7.2 us for 24 KB on 8xA100, 15.1 us for 8 KB on two nodes of 8xH100 and
244 GB/s where NCCL has 235 (microsoft/mscclpp, README)."""
IDEAL = Protocol("ideal", _us(0, 0), _us(0, 0), _us(0, 0), _us(0, 0))
