"""Trees of switches: NICs on leaf switches, leaves on spines, spines on cores, in one plane or in several.

Which spine and core a flow takes is the routing.  ``destination``: by the receiver (d-mod-k), so that a permutation of
traffic between two leaves spreads over all spines.  ``ecmp``: by a hash of sender and receiver, which collides (Hopps,
RFC 2992).  ``adaptive``: over all of them, evenly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from simtrain.cluster.fabric_shape import FabricShape, Finding, Where, bisection
from simtrain.cluster.flow_hash import flow_hash
from simtrain.scenario.cluster import Link

__all__ = ["TreeShape"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeShape(FabricShape):
    """Sizes and links of a tree; a single switch is one leaf without spines.

    Attributes:
        rails: leaves that serve one group of nodes, NIC i on leaf i (1: all NICs of a node on one leaf).
        planes: trees that share no switch, each with an equal part of the rails.
        nodes_per_leaf: nodes with a port on the same leaf.
        leaves, pods: of each plane; a pod is the leaves under the same spines.
        spines, cores: spines of each pod; cores of each group (spine j of every pod of a plane is on group j).
        leaf_link: leaf to each spine; core_link: spine to each core of its group.
        oversubscription: downlink over uplink bandwidth of a full leaf as built (1 without spines).
        core_oversubscription: the same of a spine in a full pod (1 without cores).
        routing, seed: how a way up is chosen; the seed is that of ``ecmp``.
    """

    rails: int
    nodes_per_leaf: int
    leaves: int
    leaf_link: Link
    core_link: Link
    planes: int = 1
    spines: int = 0
    leaves_per_pod: int = 1
    cores: int = 0
    oversubscription: float = 1.0
    core_oversubscription: float = 1.0
    routing: Literal["destination", "ecmp", "adaptive"] = "destination"
    seed: int = 0

    @property
    def pods(self) -> int:
        """Groups of leaves under the same spines, in each plane."""
        return -(-self.leaves // self.leaves_per_pod)

    def leaf(self, port: Any) -> Any:
        """Leaf of a NIC port (a number or an array of them), plane by plane."""
        node, nic = port // self.nics, port % self.nics
        in_plane = self.rails // self.planes
        rail = nic * self.rails // self.nics
        return rail // in_plane * self.leaves + node // self.nodes_per_leaf * in_plane + rail % in_plane

    def _position(self, port: Any) -> Any:
        """A number that differs between ports of one leaf."""
        node, nic = port // self.nics, port % self.nics
        per_leaf = self.nics // self.rails
        return node % self.nodes_per_leaf * per_leaf + nic % per_leaf

    def _pod(self, leaf: Any) -> Any:
        return leaf // self.leaves * self.pods + leaf % self.leaves // self.leaves_per_pod

    def _spine_of(self, source: Any, target: Any) -> Any:
        if self.routing == "ecmp":
            return flow_hash(source, target, 2 * self.seed) % self.spines
        return self._position(target) % self.spines

    def _core_of(self, source: Any, target: Any) -> Any:
        if self.routing == "ecmp":
            return flow_hash(source, target, 2 * self.seed + 1) % self.cores
        return self.leaf(target) % self.cores

    @property
    def spreads(self) -> bool:
        """Adaptive routing takes every way up."""
        return self.routing == "adaptive" and self.spines > 0

    @property
    def separable(self) -> bool:
        """A hash takes the sender's port too."""
        return not self.forwards and self.routing != "ecmp"

    def path(self, source: Any, target: Any, where: Where) -> list[Any]:
        """One path: up, and down; that of ``destination`` where routing is adaptive."""
        up, down = 2 * source, 2 * target + 1
        if self.spines == 0:
            return [up, down]
        a, b, spine = self.leaf(source), self.leaf(target), self._spine_of(source, target)
        leave, enter = self._over_spine(a, b, spine, where)
        if self.cores == 0:
            return [up, leave, enter, down]
        rise, fall = self._over_core(a, b, spine, self._core_of(source, target), where)
        return [up, leave, rise, fall, enter, down]

    def paths(self, source: Ints, target: Ints) -> tuple[Ints, Floats]:
        """All paths of a flow; with adaptive routing an even share on each spine, and on each core."""
        if not self.spreads:
            return FabricShape.paths(self, source, target)  # super() fails in a class with slots
        a, b = self.leaf(source)[:, None], self.leaf(target)[:, None]
        way = np.arange(self.spines * max(self.cores, 1))
        parts = [2 * source[:, None], 2 * target[:, None] + 1, *self._over_spine(a, b, way[: self.spines], np.where)]
        if self.cores:
            parts += self._over_core(a, b, way // self.cores, way % self.cores, np.where)
        share = np.concatenate([np.full(part.shape[1], 1.0 / part.shape[1]) for part in parts])
        edges = np.concatenate(parts, axis=1)
        return edges, np.where(edges >= 0, share, 0.0)

    def _over_spine(self, a: Any, b: Any, spine: Any, where: Where) -> list[Any]:
        """Edges from leaf ``a`` to a spine and from it to leaf ``b``; -1 where they are the same leaf."""
        apart, first = a != b, self.ports
        leave = where(apart, 2 * (first + a * self.spines + spine), -1)
        return [leave, where(apart, 2 * (first + b * self.spines + spine) + 1, -1)]

    def _over_core(self, a: Any, b: Any, spine: Any, core: Any, where: Where) -> list[Any]:
        """Edges from a spine above leaf ``a`` to a core and from it to the one above ``b``; -1 inside a pod."""
        pod_a, pod_b = self._pod(a), self._pod(b)
        apart, first = pod_a != pod_b, self.ports + self.planes * self.leaves * self.spines
        rise = where(apart, 2 * (first + (pod_a * self.spines + spine) * self.cores + core), -1)
        return [rise, where(apart, 2 * (first + (pod_b * self.spines + spine) * self.cores + core) + 1, -1)]

    def switches(self) -> tuple[list[str], list[str]]:
        """Kinds and labels of the switch vertices: leaves, then spines, then cores, each plane by plane."""
        kind = "leaf" if self.spines or self.planes > 1 else "switch"
        planes = [f"plane {p} " for p in range(self.planes)] if self.planes > 1 else [""]
        pods = [f"pod {q} " for q in range(self.pods)] if self.pods > 1 else [""]
        labels = [f"{p}{kind} {i}" for p in planes for i in range(self.leaves)]
        labels += [f"{p}{q}spine {j}" for p in planes for q in pods for j in range(self.spines)]
        labels += [f"{p}core {i}" for p in planes for i in range(self.spines * self.cores)]
        counts = {kind: self.leaves, "spine": self.pods * self.spines, "core": self.spines * self.cores}
        kinds = [k for k, count in counts.items() for _ in range(count * self.planes)]
        return kinds, labels

    def ends(self, nic_vertex: Ints, first_switch: int) -> Ints:
        """(edges, 2) vertices of all edges: NIC ports, uplinks of each leaf, uplinks of each spine."""
        parts = [np.stack([nic_vertex, first_switch + self.leaf(np.arange(self.ports))], axis=1)]
        (_, _), (uplinks, _), (core_links, _) = self.links()
        first_spine = first_switch + self.planes * self.leaves
        if self.spines:
            leaf, j = np.divmod(np.arange(uplinks), self.spines)
            parts.append(np.stack([first_switch + leaf, first_spine + self._pod(leaf) * self.spines + j], axis=1))
        if self.cores:
            spine, k = np.divmod(np.arange(core_links), self.cores)
            pod, j = np.divmod(spine, self.spines)
            first_core = first_spine + self.planes * self.pods * self.spines
            core = (pod // self.pods * self.spines + j) * self.cores + k
            parts.append(np.stack([first_spine + spine, first_core + core], axis=1))
        return np.concatenate(parts)

    def links(self) -> list[tuple[int, Link]]:
        """How many edges of each link there are, in the order of :meth:`ends`."""
        return [
            (self.ports, self.nic_link),
            (self.planes * self.leaves * self.spines, self.leaf_link),
            (self.planes * self.pods * self.spines * self.cores, self.core_link),
        ]

    def facts(self) -> list[Finding]:
        """Bisection, oversubscription, and what is not the default."""
        tiers = [count * link.bandwidth * link.efficiency / 2 for count, link in self.links() if count]
        found = [
            bisection(tiers[0] if self.nodes <= self.nodes_per_leaf else min(tiers)),
            Finding("oversubscription", f"{self.oversubscription:.3g} : 1"),
        ]
        if self.cores:
            found.append(Finding("core oversubscription", f"{self.core_oversubscription:.3g} : 1"))
        if self.planes > 1:
            found.append(Finding("planes", f"{self.planes}, which share no switch"))
        if self.forwards:
            found.append(Finding("to another rail", "over the local GPU on that rail"))
        return [*found, Finding("routing", self.routing)] if self.spines else found
