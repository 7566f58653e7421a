"""The network between nodes: NICs on leaf switches, leaves on spines, spines on cores.

NIC ports are numbered node by node.  Parallel cables between the same two switches are one edge with their
bandwidth added.  Spines and cores are chosen by the destination (d-mod-k): a permutation of traffic between
two leaves then spreads over all spines, and a pair of GPUs always takes the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simtrain.scenario.cluster import Link

__all__ = ["FabricShape"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FabricShape:
    """Sizes and links of a fabric; a single switch is one leaf without spines.

    Attributes:
        nodes, nics: nodes, and NICs of each node.
        rails: leaves that serve one group of nodes, NIC i on leaf i (1: all NICs of a node on one leaf).
        nodes_per_leaf: nodes with a port on the same leaf.
        leaves, spines, cores: spines of each pod; cores of each group (spine j of every pod is on group j).
        leaves_per_pod: leaves under the same spines.
        nic_link: NIC to leaf; leaf_link: leaf to each spine; core_link: spine to each core of its group.
        oversubscription: downlink over uplink bandwidth of a leaf as built (1 without spines).
    """

    nodes: int
    nics: int
    rails: int
    nodes_per_leaf: int
    leaves: int
    nic_link: Link
    leaf_link: Link
    core_link: Link
    spines: int = 0
    leaves_per_pod: int = 1
    cores: int = 0
    oversubscription: float = 1.0

    @property
    def pods(self) -> int:
        """Groups of leaves under the same spines."""
        return -(-self.leaves // self.leaves_per_pod)

    @property
    def ports(self) -> int:
        """NICs of all nodes."""
        return self.nodes * self.nics

    def leaf(self, port: Any) -> Any:
        """Leaf of a NIC port (a number or an array of them)."""
        node, nic = port // self.nics, port % self.nics
        return node // self.nodes_per_leaf * self.rails + nic * self.rails // self.nics

    def _position(self, port: Any) -> Any:
        """A number that differs between ports of one leaf."""
        node, nic = port // self.nics, port % self.nics
        per_leaf = self.nics // self.rails
        return node % self.nodes_per_leaf * per_leaf + nic % per_leaf

    def path(self, source: Any, target: Any, where: Callable[[Any, Any, Any], Any]) -> list[Any]:
        """Directed edges from NIC port ``source`` to ``target``, up and down; -1 for tiers not crossed.

        Works on numbers and on arrays alike; ``where`` chooses as ``numpy.where`` does.
        """
        up, down = 2 * source, 2 * target + 1
        if self.spines == 0:
            return [up, down]
        a, b = self.leaf(source), self.leaf(target)
        spine = self._position(target) % self.spines
        first = self.ports
        leave = where(a != b, 2 * (first + a * self.spines + spine), -1)
        enter = where(a != b, 2 * (first + b * self.spines + spine) + 1, -1)
        if self.cores == 0:
            return [up, leave, enter, down]
        pod_a, pod_b = a // self.leaves_per_pod, b // self.leaves_per_pod
        core = b % self.cores
        first += self.leaves * self.spines
        rise = where(pod_a != pod_b, 2 * (first + (pod_a * self.spines + spine) * self.cores + core), -1)
        fall = where(pod_a != pod_b, 2 * (first + (pod_b * self.spines + spine) * self.cores + core) + 1, -1)
        return [up, leave, rise, fall, enter, down]

    def switches(self) -> tuple[list[str], list[str]]:
        """Kinds and labels of the switch vertices: leaves, then spines, then cores."""
        pods = range(self.pods) if self.spines else ()
        name = "leaf" if self.spines else "switch"
        pod_name = "pod {} spine {}" if self.pods > 1 else "spine {1}"
        labels = [f"{name} {i}" for i in range(self.leaves)]
        labels += [pod_name.format(p, j) for p in pods for j in range(self.spines)]
        labels += [f"core {i}" for i in range(self.spines * self.cores)]
        kinds = ["leaf" if self.spines else "switch"] * self.leaves
        kinds += ["spine"] * (len(pods) * self.spines) + ["core"] * (self.spines * self.cores)
        return kinds, labels

    def ends(self, nic_vertex: Ints, first_switch: int) -> Ints:
        """(edges, 2) vertices of all fabric edges; ``nic_vertex`` (ports,) are the NICs, port by port."""
        ports = np.arange(self.ports)
        parts = [np.stack([nic_vertex, first_switch + self.leaf(ports)], axis=1)]
        if self.spines:
            leaf, j = np.divmod(np.arange(self.leaves * self.spines), self.spines)
            first_spine = first_switch + self.leaves
            spine = first_spine + leaf // self.leaves_per_pod * self.spines + j
            parts.append(np.stack([first_switch + leaf, spine], axis=1))
        if self.cores:
            spine, k = np.divmod(np.arange(self.pods * self.spines * self.cores), self.cores)
            first_core = first_spine + self.pods * self.spines
            parts.append(np.stack([first_spine + spine, first_core + spine % self.spines * self.cores + k], axis=1))
        return np.concatenate(parts)

    def links(self) -> list[tuple[int, Link]]:
        """How many edges of each link there are, in the order of :meth:`ends`."""
        return [
            (self.ports, self.nic_link),
            (self.leaves * self.spines, self.leaf_link),
            (self.pods * self.spines * self.cores, self.core_link),
        ]
