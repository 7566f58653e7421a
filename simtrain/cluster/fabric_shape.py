"""What every network between nodes has in common, whatever its shape.

NIC ports are numbered node by node.  Edges are local to the fabric: first the link of each NIC port, then those
between switches; directed edges are ``2 * edge + direction``, direction 0 being from the lower vertex to the higher.
Parallel cables between the same two switches are one edge with their bandwidth added.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simtrain.cluster.node_shape import nic_count
from simtrain.quantities import format_quantity
from simtrain.scenario.cluster import Link, Node

__all__ = ["FabricShape", "Finding", "bisection", "cable", "port_link"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Where = Callable[[Any, Any, Any], Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a check: ``ok`` is False where something is wrong."""

    name: str
    value: str
    ok: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FabricShape(ABC):
    """Sizes and links of a fabric, and its paths between NIC ports.

    Attributes:
        nodes, nics: nodes, and NICs of each node.
        nic_link: NIC to its switch.
        forwards: a GPU reaches another NIC's rail by way of the local GPU on that rail, not through the fabric.
    """

    nodes: int
    nics: int
    nic_link: Link
    forwards: bool = False

    @property
    def ports(self) -> int:
        """NICs of all nodes."""
        return self.nodes * self.nics

    @property
    def spreads(self) -> bool:
        """Whether one flow takes several ways at once."""
        return False

    @property
    def separable(self) -> bool:
        """Whether large exchanges may be added up from the parts of their paths.

        The way out of a node then depends on the source alone, the way between switches on the source's switch and
        the target, and the way in on the target alone.
        """
        return not self.forwards

    @abstractmethod
    def path(self, source: Any, target: Any, where: Where) -> list[Any]:
        """Directed edges of one path from NIC port ``source`` to ``target``, in order; -1 for those not needed.

        Works on numbers and on arrays alike; ``where`` chooses as ``numpy.where`` does.
        """

    def paths(self, source: Ints, target: Ints) -> tuple[Ints, Floats]:
        """All paths a flow is spread over: (pairs, hops) directed edges, and the share of the flow on each.

        Edges are padded with -1, where the share is 0.
        """
        edges = np.stack(self.path(source, target, np.where), axis=1)
        return edges, (edges >= 0).astype(np.float64)

    @abstractmethod
    def switches(self) -> tuple[list[str], list[str]]:
        """Kinds and labels of the switch vertices."""

    @abstractmethod
    def ends(self, nic_vertex: Ints, first_switch: int) -> Ints:
        """(edges, 2) vertices of all edges, the lower first; ``nic_vertex`` (ports,) are the NICs, port by port."""

    @abstractmethod
    def links(self) -> list[tuple[int, Link]]:
        """How many edges of each link there are, in the order of :meth:`ends`; the NIC ports come first."""

    @abstractmethod
    def facts(self) -> list[Finding]:
        """What a check says about this fabric."""


def bisection(bytes_per_s: float) -> Finding:
    """What crosses the middle of a fabric, in one direction."""
    return Finding("bisection", format_quantity(bytes_per_s, "bandwidth"))


def port_link(node: Node, nic: Link, switch_latency_s: float) -> Link:
    """A NIC's link to its switch: ports that are bundled add up, half of the switch's latency lies on it."""
    width = node.nics / nic_count(node)
    return nic.model_copy(update={"bandwidth": nic.bandwidth * width, "latency": nic.latency + switch_latency_s / 2})


def cable(nic: Link, width: float, latency_s: float) -> Link:
    """``width`` cables of a NIC's line rate between two switches; any flow can fill them."""
    return nic.model_copy(update={"bandwidth": nic.bandwidth * width, "latency": latency_s, "flow_bandwidth": None})
