"""From the hardware columns of a measurement to a cluster.

A row names a device and gives figures of its node and network; what it leaves open is that of the device's usual node
and of the usual fabric for its network ports.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from simtrain.errors import ScenarioError, UnknownNameError
from simtrain.scenario import library
from simtrain.scenario.cluster import Cluster, Fabric, FatTree, Link, Node, PcieTree, SwitchedLinks
from simtrain.scenario.load import load_cluster

__all__ = ["HardwareColumns", "cluster_of"]

_GBS = 1e9
_FABRICS = ((200.0, "fat-tree-hdr200"), (400.0, "fat-tree-ndr400"), (float("inf"), "fat-tree-xdr800"))
"""Usual fabric up to a port speed in Gb/s."""
_GENERIC = {"nvlink": "hgx-h100", "pcie": "8xa100-pcie"}
"""Node whose figures stand for those that neither the row nor the library has, by the link in the box."""


@dataclass(frozen=True, slots=True)
class HardwareColumns:
    """What a row says of its hardware; None: not stated.

    Attributes:
        device: name of the device. gpus: in the job. gpus_per_node: in a box.
        scale_up_domain: GPUs that NVLink joins; 1: PCIe only.
        intra_link: nvlink or pcie. intra_unidir_gbs_per_gpu: GB/s of a GPU in one direction.
        nics_per_node, nic_gbps: ports of a box, and Gb/s of each; 0: a single node.
        oversubscription: of the top tier of the fabric. infiniband: the network is said to be that.
    """

    device: str
    gpus: int
    gpus_per_node: int = 8
    scale_up_domain: int | None = None
    intra_link: str | None = None
    intra_unidir_gbs_per_gpu: float | None = None
    nics_per_node: int | None = None
    nic_gbps: float | None = None
    oversubscription: float | None = None
    infiniband: bool = False


def cluster_of(row: HardwareColumns) -> Cluster:
    """The cluster that a row was measured on, its parts resolved.

    Raises:
        UnknownNameError: no device of that name. ScenarioError: sizes that cannot be.
    """
    usual = _usual_node(row.device, row.intra_link, row.gpus_per_node)
    gpus = _gpus_joined(row)
    nodes = row.gpus // gpus
    node = _node(row, usual, gpus, nodes)
    fabric = _fabric(row, node, nodes) if nodes > 1 else None
    return Cluster(title=f"{row.gpus} x {row.device}", node=node, nodes=nodes, fabric=fabric)


def _gpus_joined(row: HardwareColumns) -> int:
    """GPUs of a simulated node: a box, or as many boxes of one NVLink domain as divide the job evenly."""
    domain = max(row.scale_up_domain or 1, row.gpus_per_node)
    if row.gpus <= domain:
        return row.gpus
    sizes = [size for size in range(row.gpus_per_node, domain + 1, row.gpus_per_node) if row.gpus % size == 0]
    if not sizes:
        raise ScenarioError(f"{row.gpus} GPUs do not fill nodes of {row.gpus_per_node}")
    return max(sizes)


@cache
def _usual_node(device: str, link: str | None, gpus: int) -> Node:
    """The library's node of a device, as many GPUs in it as can be had; else a generic one with that device."""
    name = device.strip().lower()
    if name not in library.names("device"):
        raise UnknownNameError("device", device, library.names("device"), "device")
    own = [node for node in map(_library_node, library.names("node")) if node[0] == name]
    fitting = [node for _, node in own if link is None or (node.links.kind == "pcie") == (link == "pcie")]
    if fitting:
        return min(fitting, key=lambda node: (abs(node.gpus - gpus), -node.nics))
    generic = _GENERIC["pcie" if link == "pcie" else "nvlink"]
    loaded = load_cluster({"node": {"extends": generic, "device": name}, "nodes": 1})
    if not isinstance(loaded.node, Node):
        raise ScenarioError(f"{device}: no node")
    return loaded.node.model_copy(update={"title": f"{loaded.node.gpus} x {device}"})


@cache
def _library_node(name: str) -> tuple[str, Node]:
    """Name of its device, and the node."""
    document = library.read(library.find("node", name))
    return str(document.get("device")), _load(name)


def _load(name: str) -> Node:
    loaded = load_cluster({"node": name, "nodes": 1}).node
    if not isinstance(loaded, Node):
        raise ScenarioError(f"node {name}: not resolved")
    return loaded


def _node(row: HardwareColumns, usual: Node, gpus: int, nodes: int) -> Node:
    links = usual.links
    speed = row.intra_unidir_gbs_per_gpu
    if isinstance(links, SwitchedLinks) and speed:
        links = links.model_copy(update={"gpu": _with_bandwidth(links.gpu, speed * _GBS)})
    if isinstance(links, PcieTree):
        sockets = links.sockets if gpus * 2 > usual.gpus else 1  # a job that fits one socket is put there
        pcie = _with_bandwidth(links.pcie, speed * _GBS) if speed else links.pcie
        links = links.model_copy(update={"pcie": pcie, "sockets": sockets})
    update: dict[str, object] = {"links": links, "gpus": gpus}
    if nodes > 1:
        boxes = gpus / row.gpus_per_node
        ports = row.nics_per_node or max(1, round(usual.nics * row.gpus_per_node / usual.gpus))
        nic = usual.nic or _load(_GENERIC["nvlink"]).nic
        if row.nic_gbps and nic is not None:
            nic = _with_bandwidth(nic, row.nic_gbps / 8 * _GBS)
        update |= {"nics": round(ports * boxes), "nic": nic}
        if row.infiniband:  # whatever the usual node has
            update["network_software"] = 0.0
    else:
        update |= {"nics": 0, "nic": None}
    return usual.model_copy(update=update)


def _with_bandwidth(link: Link, bandwidth_bytes_per_s: float) -> Link:
    return link.model_copy(update={"bandwidth": bandwidth_bytes_per_s})


def _fabric(row: HardwareColumns, node: Node, nodes: int) -> Fabric:
    """The usual fabric for ports of that speed; oversubscribed above the leaves, or above pods where it has these."""
    speed = node.nic.bandwidth * 8 / _GBS if node.nic else 0.0
    name = next(name for limit, name in _FABRICS if speed <= limit * 1.01)
    loaded = load_cluster({"node": _GENERIC["nvlink"], "nodes": 2, "fabric": name}).fabric
    if not isinstance(loaded, FatTree):
        raise ScenarioError(f"fabric {name}: no fat tree")
    over = row.oversubscription or 1.0
    if over == 1.0:
        return loaded
    three_tiers = nodes > loaded.radix**2 // 2 // max(1, 1 if loaded.rail_optimised else node.nics)
    return loaded.model_copy(update={"core_oversubscription" if three_tiers else "oversubscription": over})
