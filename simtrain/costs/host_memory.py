"""Optimizer state in host memory: copied over each GPU's own PCIe link, piece by piece, around the update."""

from __future__ import annotations

from dataclasses import dataclass, replace

from simtrain.costs.prices import Priced
from simtrain.scenario.cluster import Link, Node, PcieTree

__all__ = ["OffloadedUpdate", "copy_rate", "offloaded_update"]


@dataclass(frozen=True, slots=True)
class OffloadedUpdate:
    """One piece of an update whose state lies in host memory, and how many pieces there are.

    Attributes:
        fetch, update, back: state comes to the GPU, is updated there, and goes back.
    """

    fetch: Priced
    update: Priced
    back: Priced
    pieces: int


def copy_rate(node: Node) -> float:
    """Bytes per second that each GPU of a node copies from host memory while all do, and back at the same time.

    Its PCIe link has a direction for each; a PCIe switch and the memory of a socket are shared, memory by both
    directions.
    """
    links = node.links
    rate = _rate(links.pcie)
    if not isinstance(links, PcieTree):
        return rate
    if links.gpus_per_switch:
        rate = min(rate, _rate(links.uplink or links.pcie) / links.gpus_per_switch)
    return min(rate, _rate(links.host) / (2 * max(1, node.gpus // links.sockets)))


def _rate(link: Link) -> float:
    return float(link.bandwidth) * link.efficiency


def offloaded_update(node: Node, update: Priced, away_bytes: float, pieces: int) -> OffloadedUpdate:
    """The whole ``update`` in ``pieces``, with ``away_bytes`` of state copied each way."""
    size, latency_s = away_bytes / pieces, float(node.links.pcie.latency)
    fetch, back = (
        Priced(name, "host", "O", False, -1, latency_s, size / copy_rate(node), 0.0, 0.0, size, None, "copy")
        for name in ("fetch optimizer state", "return optimizer state")
    )
    piece = replace(update, work_s=update.work_s / pieces, bytes=update.bytes / pieces)
    return OffloadedUpdate(fetch, piece, back, pieces)
