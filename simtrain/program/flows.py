"""Flows of a Program's transfers: what each takes of the links it crosses, and which links can make anybody wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from simtrain.costs.collectives import CollectivePrice
from simtrain.costs.collectives.flows import Flows
from simtrain.costs.prices import Priced, PriceList
from simtrain.program.program import Sharing

__all__ = ["FlowSets", "FlowTable"]

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]

_GIGA = 1e9


@dataclass(frozen=True, slots=True)
class FlowSets:
    """Sets of flows as in :class:`simtrain.program.program.Program`: ``edge`` ascends within a set."""

    ptr: Ints
    edge: Ints
    use: Floats
    weight: Floats

    @classmethod
    def folded(cls, flows: Sequence[Flows]) -> FlowSets:
        """One set of each, all groups together."""
        summed = [found.summed() for found in flows]
        edges, uses = [edge for edge, _ in summed], [use for _, use in summed]
        return cls._of([len(edge) for edge in edges], edges, uses, flows, [1] * len(flows))

    @classmethod
    def unfolded(cls, flows: Sequence[Flows]) -> FlowSets:
        """One set of each group, in the order of groups."""
        lengths = [length for found in flows for length in np.diff(found.group_ptr).tolist()]
        return cls._of(lengths, [f.edge for f in flows], [f.use for f in flows], flows, [f.groups for f in flows])

    def split(self, copies: NDArray[np.int64], shares: Floats) -> FlowSets:
        """One set of each copy: sets with as many ``copies`` as ``shares`` are split that way, those with one stay.

        Args:
            copies: (sets,) of each set.
            shares: what each of several copies takes of its set.
        """
        lengths = np.repeat(np.diff(self.ptr), copies)
        entry = _spread(np.repeat(self.ptr[:-1], copies), lengths)
        several = copies == len(shares)
        share = np.concatenate([shares if many else np.ones(1) for many in several.tolist()] or [np.empty(0)])
        return FlowSets(
            ptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
            edge=self.edge[entry],
            use=self.use[entry] * np.repeat(share, lengths),
            weight=np.repeat(self.weight, copies),
        )

    @classmethod
    def nothing(cls, count: int) -> FlowSets:
        """Sets that cross no edge."""
        return cls(np.zeros(count + 1, np.int32), np.empty(0, np.int32), np.empty(0), np.ones(count))

    @classmethod
    def _of(
        cls,
        lengths: Sequence[int],
        edge: Sequence[NDArray[np.int64]],
        use: Sequence[Floats],
        flows: Sequence[Flows],
        copies: Sequence[int],
    ) -> FlowSets:
        pace = np.array([_GIGA / max(found.bundle_bytes_per_s, 1.0) for found in flows])
        return cls(
            ptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
            edge=np.concatenate([*edge, np.empty(0)]).astype(np.int32),
            use=np.concatenate([*use, np.empty(0)]),
            weight=np.repeat(pace, copies),
        )

    def contended(self, flow: Ints, lane: Ints) -> FlowSets:
        """The same sets without edges on which nobody can ever wait, and with one edge in place of equal ones.

        A lane runs one operation at a time, so that an edge can fill up only if the largest shares that each lane
        asks of it add up to more than the whole.  Rates are the same with and without what is left out.

        Args:
            flow: (n,) set of each operation, -1 for none.
            lane: (n,) one lane of each operation.
        """
        sets, edges = len(self.weight), int(self.edge.max()) + 1 if self.edge.size else 0
        if edges == 0:
            return self
        lanes, set_of = np.divmod(np.unique(lane[flow >= 0].astype(np.int64) * sets + flow[flow >= 0]), sets)
        lengths = np.diff(self.ptr)[set_of]
        entry = _spread(self.ptr[set_of], lengths)
        place, where = np.unique(np.repeat(lanes, lengths) * edges + self.edge[entry], return_inverse=True)
        most = np.zeros(len(place))
        np.maximum.at(most, where, self.use[entry])
        demand = np.bincount(place % edges, weights=most, minlength=edges)
        return self._kept(demand > 1.0 + 1e-9)

    def _kept(self, full: NDArray[np.bool_]) -> FlowSets:
        owner = np.repeat(np.arange(len(self.weight)), np.diff(self.ptr))
        kept = full[self.edge]
        owner, edge, use = owner[kept], self.edge[kept], self.use[kept]
        number = _one_of_equals(owner, edge, use)
        first = number >= 0
        owner, edges, use = owner[first], number[first], use[first]
        order = np.lexsort((edges, owner))
        counts = np.bincount(owner, minlength=len(self.weight))
        return FlowSets(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
            edges[order].astype(np.int32),
            use[order],
            self.weight,
        )


def _spread(first: Ints, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """first[0], first[0] + 1, ... (lengths[0] of them), then the same from first[1], and so on."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths - first, lengths)


def _one_of_equals(owner: NDArray[np.int64], edge: Ints, use: Floats) -> NDArray[np.int64]:
    """Numbers from 0 for edges, -1 for one that the same sets use in the same way as an earlier one."""
    order = np.lexsort((owner, edge))
    bounds = np.append(np.flatnonzero(np.diff(edge[order], prepend=-1)), len(order))
    columns = np.empty((len(order), 2))
    columns[:, 0], columns[:, 1] = owner[order], use[order]
    seen: dict[bytes, int] = {}
    number = np.empty(len(order), dtype=np.int64)
    for low, high in pairwise(bounds.tolist()):
        column = columns[low:high].tobytes()
        number[low:high] = -1 if column in seen else len(seen)
        seen.setdefault(column, len(seen))
    back = np.empty_like(number)
    back[order] = number
    return back


class FlowTable:
    """Sets of flows, one per distinct price and phase, numbered as operations first use them.

    Attributes:
        exchanges: the exchange that each set belongs to; flows: its flows.
        routed: kernels whose rows chose experts, numbered as operations first use them.
    """

    def __init__(self, prices: PriceList) -> None:
        self._list = prices
        self._index: dict[int, int] = {}
        self.exchanges: list[Priced] = []
        self.flows: list[Flows] = []
        self.routed: list[Priced] = []
        self._routed: dict[tuple[object, ...], int] = {}

    @property
    def alike(self) -> bool:
        """Whether in each exchange all groups of a pipeline rank load their links alike."""
        return all(flows.alike for flows in self.flows)

    @property
    def sharing(self) -> Sharing:
        """How kernels and transfers slow each other."""
        contention = self._list.contention
        return Sharing(max(self._list.sm_count, 1), contention.kernel_rate, contention.transfer_rate)

    def local(self, priced: Priced, rank: int) -> Priced:
        """An exchange as the groups of one pipeline rank run it."""
        return self._list.of_rank(priced, rank)

    def number(self, priced: Priced) -> int:
        """Place in :attr:`routed`; -1 for any other operation."""
        if not priced.routed:
            return -1
        place = self._routed.setdefault((priced.layer, priced.name, priced.part, id(priced.cost)), len(self.routed))
        if place == len(self.routed):
            self.routed.append(priced)
        return place

    def less_busy(self, routed: int, load: float) -> Priced:
        """A routed kernel with ``load`` times the rows of the busiest rank."""
        return self._list.less_busy(self.routed[routed], load)

    def parts(self, priced: Priced) -> list[tuple[float, float, int]]:
        """Latency, work and flow set of the operations that follow one another; one without flows for a kernel."""
        cost = priced.cost
        if not isinstance(cost, CollectivePrice) or not cost.phases:
            return [(priced.latency_s, priced.work_s, -1)]
        first = self._index.get(id(cost))
        if first is None:
            first = self._index[id(cost)] = len(self.flows)
            self.flows += [phase.flows for phase in cost.phases]
            self.exchanges += [priced] * len(cost.phases)
        share = priced.bytes / priced.whole_bytes
        latencies = [phase.latency_s if priced.first else 0.0 for phase in cost.phases]
        latencies[0] += priced.latency_s - sum(latencies)  # what precedes the whole exchange
        return [
            (latency_s, phase.transfer_s * share, first + i)
            for i, (latency_s, phase) in enumerate(zip(latencies, cost.phases, strict=True))
        ]

    @property
    def links_shared(self) -> bool:
        """Whether transfers that cross the same link slow each other."""
        return self._list.contention.links

    @property
    def protocols(self) -> list[str]:
        """Protocol of the exchange that each set belongs to."""
        return [one.cost.protocol for one in self.exchanges if isinstance(one.cost, CollectivePrice)]

    def sets(self, *, folded: bool = True) -> FlowSets:
        """All sets with all links: of all groups together, or of each group."""
        return FlowSets.folded(self.flows) if folded else FlowSets.unfolded(self.flows)

    def contended(self, sets: FlowSets, flow: Ints, lane: Ints) -> FlowSets:
        """:meth:`FlowSets.contended`, or no links at all where transfers do not share any."""
        if not self.links_shared:
            return FlowSets.nothing(len(sets.weight))
        return sets.contended(flow, lane)
