"""Which parts of a cluster can fail, and which nodes hang on each, read from its graph.

A node that loses one of its ports cannot run its collectives, so the job loses it, until it is repaired, along with
those that lose all of theirs: a rail-optimised leaf switch takes every node of its pod.  But what such a node holds in
memory is still reached over its other rails; only a node without any port left is dark.  A switch beside which every
port still reaches all others (a spine among several) takes no node: the job stops, and goes on around it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np

from simtrain.cluster.build import build
from simtrain.cluster.fabric_shape import FabricShape
from simtrain.cluster.topology import Topology
from simtrain.errors import ScenarioError
from simtrain.reliability.memory_copies import Ints, survivors
from simtrain.scenario.cluster import Cluster

__all__ = ["SWITCHES", "Blast", "Hit", "anywhere", "blasts_of", "hits", "racks", "windows"]

SWITCHES = {"leaf_switch": "switches that NICs hang on", "spine_switch": "switches above those"}
"""Owners whose parts are switches of the fabric, in words."""
_PER_NODE = ("gpu", "gpu_memory", "nic", "link", "node")


@dataclass(frozen=True, slots=True)
class Hit:
    """What an event at a part takes: ``nodes`` that cannot go on, of which the ``dark`` ones lose what they hold.

    ``parts`` are alike in this.
    """

    nodes: frozenset[int]
    dark: frozenset[int]
    parts: int = 1


@dataclass(frozen=True, slots=True)
class Blast:
    """Parts of a class whose events take equally many nodes.

    ``survives_memory`` is the share of these events that leave a copy of everything that is kept in memory.
    """

    components: int
    nodes_lost: int
    survives_memory: float = 1.0


def blasts_of(found: Iterable[Hit], holders: Ints, *, by_node: bool = False) -> tuple[Blast, ...]:
    """Parts by the number of nodes that an event of one takes, most nodes first.

    Args:
        found: parts and what they take.
        holders: (nodes, copies) who holds the state of each node.
        by_node: what a node holds is gone with it, even where others could still reach it (a local disk).
    """
    parts: Counter[int] = Counter()
    kept: Counter[int] = Counter()
    for hit in found:
        size = len(hit.nodes)
        parts[size] += hit.parts
        kept[size] += hit.parts * survivors(holders, hit.nodes if by_node else hit.dark)
    return tuple(Blast(parts[size], size, kept[size] / parts[size]) for size in sorted(parts, reverse=True))


def anywhere(parts: int, nodes: int, lost: int, holders: Ints) -> Blast:
    """Parts whose events take any ``lost`` of the nodes in a row."""
    (some,) = blasts_of(windows(nodes, lost), holders)
    return Blast(parts, lost, some.survives_memory)


def racks(nodes: int, span: int) -> list[Hit]:
    """Racks or power domains of ``span`` nodes, the last with what is left."""
    rows = (frozenset(range(first, min(first + span, nodes))) for first in range(0, nodes, span))
    return [Hit(row, row) for row in rows]


def windows(nodes: int, size: int) -> list[Hit]:
    """Events that take ``size`` nodes in a row, wherever they begin."""
    size = min(size, nodes)
    rows = (frozenset(range(first, first + size)) for first in range(nodes - size + 1))
    return [Hit(row, row) for row in rows] if size else [Hit(frozenset(), frozenset())]


def hits(cluster: Cluster, topology: Topology, owner: str, span: int, spares: int, where: str) -> list[Hit]:
    """What an event takes, for every part of a kind.

    Args:
        cluster: of the job, without spares.
        topology: its graph.
        owner: kind of part.
        span: nodes of a rack or power domain.
        spares: nodes that run beyond those of the job; they stand after them, in racks and on leaves alike.
        where: keys, for messages.

    Raises:
        ScenarioError: the cluster has no such parts, or no room for so many spares.
    """
    nodes = topology.nodes + spares
    if owner in SWITCHES:
        switches = _of_switches(_grown(cluster, spares) if spares else topology)
        if owner not in switches:
            raise ScenarioError(
                f"{where}.owner = {owner!r}, but the cluster has no {SWITCHES[owner]}; "
                f"allowed here: {', '.join([*switches, 'rack', 'node'])}"
            )
        return switches[owner]
    if owner in ("rack", "power_domain"):
        return racks(nodes, span)
    if owner not in _PER_NODE:
        return [Hit(frozenset(), frozenset())]
    ports = topology.nics_per_node
    if owner in ("nic", "link") and ports == 0:
        raise ScenarioError(f"{where}.owner = {owner!r}, but the nodes of the cluster have no network ports")
    parts = {"node": 1, "nic": ports, "link": ports}.get(owner, topology.gpus_per_node)
    return [Hit(one, one, parts) for one in (frozenset((node,)) for node in range(nodes))]


def _grown(cluster: Cluster, spares: int) -> Topology:
    try:
        return build(cluster.model_copy(update={"nodes": cluster.nodes + spares}))
    except ScenarioError as error:
        raise ScenarioError(
            f"reliability.spares.hot = {spares} more nodes find no room on the fabric: {error}"
        ) from None


def _of_switches(topology: Topology) -> dict[str, list[Hit]]:
    """Hits of every switch, by owner; none without a fabric."""
    if "hits" not in topology.cache:
        topology.cache["hits"] = {} if topology.fabric is None else _cuts(topology.fabric)
    found: dict[str, list[Hit]] = topology.cache["hits"]
    return found


def _cuts(fabric: FabricShape) -> dict[str, list[Hit]]:
    ends = fabric.ends(np.arange(fabric.ports, dtype=np.int64), fabric.ports).tolist()
    ports: dict[int, list[int]] = defaultdict(list)
    for port, switch in ends[: fabric.ports]:
        ports[switch].append(port)
    graph: nx.Graph[Any] = nx.Graph()
    graph.add_nodes_from(ports)
    graph.add_edges_from(ends[fabric.ports :])
    pivots = set(nx.articulation_points(graph))
    found: dict[str, list[Hit]] = {}
    for switch in sorted(graph):
        cut = list(ports.get(switch, ()))
        if switch in pivots:
            cut += _parted(graph, switch, ports)
        left = Counter(port // fabric.nics for port in cut)
        dark = frozenset(node for node, count in left.items() if count == fabric.nics)
        owner = "leaf_switch" if switch in ports else "spine_switch"
        found.setdefault(owner, []).append(Hit(frozenset(left), dark))
    return found


def _parted(graph: nx.Graph[Any], switch: int, ports: dict[int, list[int]]) -> list[int]:
    """Ports that reach the most others no longer once ``switch`` is gone."""
    rest = graph.subgraph(nx.node_connected_component(graph, switch) - {switch})
    parts = [[port for s in part for port in ports.get(s, ())] for part in nx.connected_components(rest)]
    parts.sort(key=len)
    return [port for part in parts[:-1] for port in part]
