"""Tori: nodes on a grid that closes on itself in every dimension, each joined to its two neighbours there.

The NICs of a node are shared equally by its directions, two for each dimension, and pass on what is for others without
troubling the GPUs, as routers in network interfaces do (Cray Gemini, Blue Gene/Q): one vertex stands for them.
Routing is dimension-ordered: first along dimension 0 the shorter way around, then along dimension 1, and so on
(Dally and Seitz, Deadlock-free message routing in multiprocessor interconnection networks, 1987).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simtrain.cluster.fabric_shape import FabricShape, Finding, Where, bisection, cable, port_link
from simtrain.cluster.node_shape import nic_count
from simtrain.errors import ScenarioError
from simtrain.scenario.cluster import Link, Node, Torus

__all__ = ["TorusShape", "shape"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Ring:
    """One dimension: its size, the step between neighbours in node numbers, and the number of its first edge."""

    size: int
    step: int
    first: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TorusShape(FabricShape):
    """Sizes and links of a torus.

    Attributes:
        sizes: nodes along each dimension; node numbers count along dimension 0 first.
        ring_link: between neighbours, one cable each way around.
    """

    sizes: tuple[int, ...]
    ring_link: Link

    def _rings(self) -> Iterator[_Ring]:
        step, first = 1, self.ports
        for size in self.sizes:
            yield _Ring(size, step, first)
            first += self._edges(size)
            step *= size

    def _edges(self, size: int) -> int:
        """Edges along a dimension: both cables between two nodes are one."""
        return {1: 0, 2: self.nodes // 2}.get(size, self.nodes)

    def path(self, source: Any, target: Any, where: Where) -> list[Any]:
        """Up, dimension by dimension the shorter way around, down."""
        here, there = source // self.nics, target // self.nics
        edges = [2 * source]
        for ring in self._rings():
            at, to = here // ring.step % ring.size, there // ring.step % ring.size
            origin = here - at * ring.step
            edges += _along(ring, origin, at, to, where)
            here = origin + to * ring.step
        return [*edges, 2 * target + 1]

    def switches(self) -> tuple[list[str], list[str]]:
        """One vertex for the NICs of each node together."""
        return ["switch"] * self.nodes, [f"router of node {n}" for n in range(self.nodes)]

    def ends(self, nic_vertex: Ints, first_switch: int) -> Ints:
        """(edges, 2) vertices: NIC ports, then the links of each dimension."""
        node = np.arange(self.nodes)
        parts = [np.stack([nic_vertex, first_switch + np.repeat(node, self.nics)], axis=1)]
        for ring in self._rings():
            at = node // ring.step % ring.size
            after = node + ((at + 1) % ring.size - at) * ring.step
            pair = first_switch + np.sort(np.stack([node, after], axis=1), axis=1)
            parts.append(pair[at < ring.size - (ring.size < 3)])
        return np.concatenate(parts)

    def links(self) -> list[tuple[int, Link]]:
        """How many edges of each link there are, in the order of :meth:`ends`."""
        double = self.ring_link.model_copy(update={"bandwidth": 2 * self.ring_link.bandwidth})
        rings = [(self._edges(size), double if size == 2 else self.ring_link) for size in self.sizes]
        return [(self.ports, self.nic_link), *rings]

    def facts(self) -> list[Finding]:
        """Bisection across the longest dimension, and the sizes."""
        nics = self.ports * self.nic_link.bandwidth * self.nic_link.efficiency / 2
        cut = self.nodes // max(self.sizes) * 2 * self.ring_link.bandwidth * self.ring_link.efficiency
        return [
            bisection(min(nics, cut) if self.nodes > 1 else nics),
            Finding("torus", " x ".join(map(str, self.sizes))),
        ]


def _along(ring: _Ring, origin: Any, at: Any, to: Any, where: Where) -> list[Any]:
    """Edges from coordinate ``at`` to ``to`` of one ring, whose coordinate 0 is node ``origin``.

    Where both ways are equally long, even coordinates go up and odd ones down, which loads both alike.
    """
    ahead, back = (to - at) % ring.size, (at - to) % ring.size
    up = (ahead < back) | ((ahead == back) & (at % 2 == 0))
    sign, steps = where(up, 1, -1), where(up, ahead, back)
    edges = []
    for taken in range(ring.size // 2):
        now, after = (at + sign * taken) % ring.size, (at + sign * (taken + 1)) % ring.size
        if ring.size == 2:
            number = origin // (2 * ring.step) * ring.step + origin % ring.step
        else:
            number = origin + where(up, now, after) * ring.step
        edges.append(where(taken < steps, 2 * (ring.first + number) + (now > after), -1))
    return edges


def shape(fabric: Torus, node: Node, nic: Link, nodes: int) -> TorusShape:
    """Shape of a torus.

    Raises:
        ScenarioError: the sizes do not multiply to the nodes, or the NICs cannot be shared by the directions.
    """
    sizes = fabric.sizes or _nearly_square(nodes)
    if math.prod(sizes) != nodes:
        raise ScenarioError(
            f"cluster.fabric.sizes = {list(sizes)} holds {math.prod(sizes)} nodes, but cluster.nodes = {nodes}; "
            "the sizes must multiply to the number of nodes"
        )
    directions = 2 * len(sizes)
    if node.nics % directions:
        raise ScenarioError(
            f"cluster.node.nics = {node.nics} cannot be shared by the {directions} directions of a torus of "
            f"{len(sizes)} dimensions (cluster.fabric.sizes = {list(sizes)}); allowed: multiples of {directions}"
        )
    return TorusShape(
        nodes=nodes,
        nics=nic_count(node),
        nic_link=port_link(node, nic, 0.0),
        sizes=sizes,
        ring_link=cable(nic, node.nics / directions, fabric.hop_latency),
    )


def _nearly_square(nodes: int) -> tuple[int, int]:
    short = next(size for size in range(math.isqrt(nodes), 0, -1) if nodes % size == 0)
    return nodes // short, short
