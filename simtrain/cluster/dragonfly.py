"""Dragonflies: groups of fully connected routers, and cables between every two groups.

J. Kim, W. Dally, S. Scott, D. Abts, Technology-driven, highly-scalable dragonfly topology, ISCA 2008.  A group has
``a`` routers with ``p`` NIC ports and ``h`` global ports each, and there are at most a·h + 1 groups.  All a·h global
ports of a group are shared equally by the other groups, and spread in turn over its routers.  Routing is minimal: at
most one hop in the sender's group, one between groups, one in the receiver's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simtrain.cluster.fabric_shape import FabricShape, Finding, Where, bisection, cable, port_link
from simtrain.cluster.node_shape import nic_count
from simtrain.errors import ScenarioError
from simtrain.scenario.cluster import Dragonfly, Link, Node

__all__ = ["DragonflyShape", "shape"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class DragonflyShape(FabricShape):
    """Sizes and links of a dragonfly.

    Attributes:
        per_router: NICs of one router.
        routers: of each group; groups: number of them.
        ways: routers of a group that have a link to a given other group (a router has one at most).
        local_link: between two routers of a group; global_link: between two routers of different groups.
        cables: that make up one global link.
    """

    per_router: int
    routers: int
    groups: int
    ways: int
    local_link: Link
    global_link: Link
    cables: int

    def path(self, source: Any, target: Any, where: Where) -> list[Any]:
        """Up, to the router with a link to the other group, to that group, to the last router, down."""
        from_router, to_router = source // self.per_router, target // self.per_router
        group_a, a = from_router // self.routers, from_router % self.routers
        group_b, b = to_router // self.routers, to_router % self.routers
        way = self._way(group_a, a, group_b, b, target, where)
        inside = group_a == group_b
        leave = where(inside, b, self._gateway(group_a, group_b, way))
        enter = where(inside, b, self._gateway(group_b, group_a, way))
        pairs = self.groups * _pairs(self.routers)
        across = _pair(group_a, group_b, self.groups, where) * self.ways + way
        return [
            2 * source,
            where(a != leave, self._local(group_a, a, leave, where), -1),
            where(inside, -1, 2 * (self.ports + pairs + across) + (group_a > group_b)),
            where(enter != b, self._local(group_b, enter, b, where), -1),
            2 * target + 1,
        ]

    def _way(self, group_a: Any, a: Any, group_b: Any, b: Any, target: Any, where: Where) -> Any:
        """Which link to take to another group: the sending router's own, the receiving one's, or by destination."""
        own_a, own_b = (
            (a - self._first(group_a, group_b)) % self.routers,
            (b - self._first(group_b, group_a)) % self.routers,
        )
        any_way = (target // self.nics + target % self.nics) % self.ways
        return where(own_a < self.ways, own_a, where(own_b < self.ways, own_b, any_way))

    def _first(self, group: Any, other: Any) -> Any:
        """First global port of a group, in turn over its routers, that leads to another."""
        return (other - (other > group)) * self.ways

    def _gateway(self, group: Any, other: Any, way: Any) -> Any:
        """Router of a group that holds a given link to another."""
        return (self._first(group, other) + way) % self.routers

    def _local(self, group: Any, a: Any, b: Any, where: Where) -> Any:
        edge = self.ports + group * _pairs(self.routers) + _pair(a, b, self.routers, where)
        return 2 * edge + (a > b)

    def switches(self) -> tuple[list[str], list[str]]:
        """Routers, group by group."""
        labels = [f"group {g} router {r}" for g in range(self.groups) for r in range(self.routers)]
        return ["switch"] * len(labels), labels

    def ends(self, nic_vertex: Ints, first_switch: int) -> Ints:
        """(edges, 2) vertices: NIC ports, links inside groups, links between groups."""
        router = np.arange(self.ports) // self.per_router
        inside = np.stack(np.triu_indices(self.routers, 1), axis=1)
        local = (np.arange(self.groups)[:, None, None] * self.routers + inside).reshape(-1, 2)
        a, b = (np.repeat(group, self.ways) for group in np.triu_indices(self.groups, 1))
        way = np.tile(np.arange(self.ways), _pairs(self.groups))
        far = [a * self.routers + self._gateway(a, b, way), b * self.routers + self._gateway(b, a, way)]
        switches = first_switch + np.concatenate([local, np.stack(far, axis=1)])
        return np.concatenate([np.stack([nic_vertex, first_switch + router], axis=1), switches])

    def links(self) -> list[tuple[int, Link]]:
        """How many edges of each link there are, in the order of :meth:`ends`."""
        return [
            (self.ports, self.nic_link),
            (self.groups * _pairs(self.routers), self.local_link),
            (_pairs(self.groups) * self.ways, self.global_link),
        ]

    def facts(self) -> list[Finding]:
        """Bisection between groups (or, with one, between routers), and the groups."""
        each = self.ways if self.groups > 1 else 1
        halves = self.groups if self.groups > 1 else self.routers
        link = self.global_link if self.groups > 1 else self.local_link
        nics = self.ports * self.nic_link.bandwidth * self.nic_link.efficiency / 2
        middle = halves // 2 * (halves - halves // 2) * each * link.bandwidth * link.efficiency
        cables = f", {self.ways * self.cables} cables between each two" if self.groups > 1 else ""
        return [
            bisection(min(nics, middle) if halves > 1 else nics),
            Finding("groups", f"{self.groups} of {self.routers} routers{cables}"),
        ]


def shape(fabric: Dragonfly, node: Node, nic: Link, nodes: int) -> DragonflyShape:
    """Shape of a dragonfly; a single group has no more routers than its NICs need.

    Raises:
        ScenarioError: a NIC has more ports than a router, or there are more groups than global ports can join.
    """
    nics = nic_count(node)
    ports_per_nic = -(-node.nics // nics)
    per_router = fabric.ports_per_router // ports_per_nic
    if per_router == 0:
        raise ScenarioError(
            f"cluster.fabric.ports_per_router = {fabric.ports_per_router} is less than the {ports_per_nic} ports that "
            f"each NIC bundles (cluster.node.nics = {node.nics}); allowed: {ports_per_nic} or more"
        )
    needed = -(-nodes * nics // per_router)
    routers = min(fabric.routers_per_group, needed)
    groups = -(-needed // routers)
    most = fabric.routers_per_group * fabric.global_ports + 1
    if groups > most:
        raise ScenarioError(
            f"cluster.nodes = {nodes} needs {groups} groups of a dragonfly, but cluster.fabric.global_ports = "
            f"{fabric.global_ports} on each of {fabric.routers_per_group} routers join at most {most}; "
            "use fewer nodes or more global_ports, routers_per_group or ports_per_router"
        )
    between = routers * fabric.global_ports // max(groups - 1, 1)
    ways = min(between, routers)
    return DragonflyShape(
        nodes=nodes,
        nics=nics,
        nic_link=port_link(node, nic, fabric.router_latency),
        per_router=per_router,
        routers=routers,
        groups=groups,
        ways=ways,
        local_link=cable(nic, 1.0, fabric.local_latency),
        global_link=cable(nic, between // ways, fabric.global_latency),
        cables=between // ways,
    )


def _pairs(count: int) -> int:
    return count * (count - 1) // 2


def _pair(a: Any, b: Any, count: int, where: Where) -> Any:
    """Number of an unordered pair among ``count`` things, in the order of ``numpy.triu_indices``."""
    low, high = where(a < b, a, b), where(a < b, b, a)
    return low * (2 * count - low - 1) // 2 + high - low - 1
