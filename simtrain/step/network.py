"""What the links of the cluster carried during a step, and how long transfers waited for them.

An operation with flows moves ``work_s * use * rate`` bytes over each link, whatever its pace, so that bytes and mean
utilisation need the length of the step alone; when a link was busy or full is read from starts and ends.  Nothing is
worked out before it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simtrain.cluster.topology import Topology
from simtrain.costs.collectives.price import link_rates
from simtrain.program.flows import FlowSets, FlowTable
from simtrain.program.program import STREAMS, Program, Stream
from simtrain.program.timeline import Timeline

__all__ = ["AXES", "BUSIEST", "KindUse", "LinkUse", "NetworkReport", "StreamUse"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

AXES = ("tp", "cp", "ep", "pp", "dp")
"""Streams of transfers, by the group that communicates."""
BUSIEST = 10
"""Links listed unless another number is asked for."""

_AXIS = np.array([next((i for i, axis in enumerate(AXES) if s.name.lower().startswith(axis)), -1) for s in Stream])
"""Place in AXES of each stream, -1 for one that moves nothing."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class LinkUse:
    """One direction of a link over a step.

    Attributes:
        label: in words; kind: nvlink, pcie, host, socket, nic or fabric.
        alike: links of this kind, each direction counted, that are as much in use; this is the first of them.
        utilisation: mean share of its capacity in use over the step.
        busy: share of the step in which anything crosses it.
        full: share of the step in which what crosses it would take more than there is, so that somebody has to wait.
        bytes: carried per step; streams: shares of the utilisation by axis, those without any left out.
    """

    label: str
    kind: str
    alike: int
    utilisation: float
    busy: float
    full: float
    bytes: float
    streams: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class KindUse:
    """All links of one kind over a step, each direction counted.

    Attributes:
        links, used: how many there are, and how many carried anything.
        mean: utilisation of all of them; highest: the busiest.
        bytes: carried per step, once for each link on their way; streams: as in :class:`LinkUse`.
    """

    kind: str
    links: int
    used: int
    mean: float
    highest: LinkUse
    bytes: float
    streams: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class StreamUse:
    """Transfers of one axis, as the simulated ranks ran them.

    Attributes:
        flows: transfers that ran as flows, since others may want the same links at the same time.
        priced: transfers that took their price, since nobody can make them wait; the two are told apart by what each
            lane can ask of each link at most.
        alone_s: GPU-seconds that they would take alone, latency included, on all GPUs that take part.
        links_s: GPU-seconds longer because others were on the same links.
        kernels_s: GPU-seconds longer because a kernel ran on one of their GPUs.
    """

    stream: str
    flows: int
    priced: int
    alone_s: float
    links_s: float
    kernels_s: float


@dataclass(frozen=True, eq=False)
class NetworkReport:
    """Links and transfers of one step.

    Attributes:
        topology: the cluster; timeline: the step as it ran.
        folded: its Program with one rank per pipeline rank; table: what the sets of ``folded.flow`` are.
        sets: what those of the timeline's Program take; absent: it is the folded one.
    """

    topology: Topology
    timeline: Timeline
    folded: Program
    table: FlowTable
    sets: FlowSets | None = None

    @cached_property
    def utilisation(self) -> Floats:
        """(directed edges,) mean share of each link's capacity in use over the step."""
        return np.asarray(self._by_axis.sum(axis=0))

    @cached_property
    def bytes(self) -> Floats:
        """(directed edges,) bytes that each link carried."""
        sets, seconds = self._folded_sets, self._seconds.sum(axis=0)
        owner = np.repeat(np.arange(len(sets.weight)), np.diff(sets.ptr))
        protocols = np.array(self.table.protocols)
        carried = np.zeros(len(self.utilisation))
        for protocol in dict.fromkeys(protocols.tolist()):
            mine = protocols[owner] == protocol
            moved = seconds[owner[mine]] * sets.use[mine] * link_rates(self.topology, protocol)[sets.edge[mine]]
            carried += np.bincount(sets.edge[mine], weights=moved, minlength=len(carried))
        return carried

    @cached_property
    def kinds(self) -> tuple[KindUse, ...]:
        """Each kind of links, the one with the busiest link first."""
        kinds = self.topology.edge_kind
        found = [self._kind(kind, np.flatnonzero(kinds == kind)) for kind in dict.fromkeys(kinds.tolist())]
        return tuple(sorted(found, key=lambda kind: -kind.highest.utilisation))

    @cached_property
    def streams(self) -> tuple[StreamUse, ...]:
        """Each axis that moved anything."""
        program, moving = self.timeline.program, self._moving
        alone_s, links_s, kernels_s = self._delays
        meets = np.diff(program.flow_ptr)[program.flow[moving]] > 0
        axis, gpus = _axis(program)[moving], self._gpus[moving]
        found = []
        for i in np.unique(axis).tolist():
            mine = axis == i
            times = [float((gpus * values)[mine].sum()) for values in (alone_s, links_s, kernels_s)]
            found.append(StreamUse(AXES[i], int(meets[mine].sum()), int((~meets)[mine].sum()), *times))
        return tuple(found)

    def busiest(self, count: int = BUSIEST) -> tuple[LinkUse, ...]:
        """The busiest links, the first of each kind and utilisation standing for all that are alike."""
        used = np.flatnonzero(self.utilisation > 0.0)
        order = used[np.argsort(-self.utilisation[used], kind="stable")]
        first = dict.fromkeys(zip(self.topology.edge_kind[order].tolist(), self._rounded[order].tolist(), strict=True))
        return tuple(self._link(int(self._alike(*key)[0])) for key in list(first)[:count])

    def document(self, count: int = BUSIEST) -> dict[str, Any]:
        """As JSON."""
        return {
            "links_shared": self.table.links_shared,
            "edge_kinds": [asdict(kind) for kind in self.kinds],
            "edges": [asdict(link) for link in self.busiest(count)],
            "transfers": [asdict(stream) for stream in self.streams],
        }

    @cached_property
    def _folded_sets(self) -> FlowSets:
        return FlowSets.folded(self.table.flows)

    @cached_property
    def _seconds(self) -> Floats:
        """(axes, folded sets) seconds at rate 1 that operations move each set for."""
        program = self.folded
        ops = _transfers(program)
        seconds = np.zeros((len(AXES), len(self.table.flows)))
        np.add.at(seconds, (_axis(program)[ops], program.flow[ops]), program.work_s[ops])
        return seconds

    @cached_property
    def _by_axis(self) -> Floats:
        """(axes, directed edges) mean share of each link's capacity that each axis uses."""
        sets, count = self._folded_sets, len(self.topology.edge_kind)
        owner = np.repeat(np.arange(len(sets.weight)), np.diff(sets.ptr))
        used_s = [np.bincount(sets.edge, weights=axis[owner] * sets.use, minlength=count) for axis in self._seconds]
        return np.array(used_s) / max(self.timeline.makespan_s, 1e-300)

    @cached_property
    def _rounded(self) -> Floats:
        """Utilisation to six figures: what differs less is alike."""
        use = np.maximum(self.utilisation, 1e-300)
        unit = 10.0 ** (np.floor(np.log10(use)) - 5)
        return np.asarray(np.round(use / unit) * unit)

    def _alike(self, kind: str, rounded: float) -> Ints:
        return np.flatnonzero((self.topology.edge_kind == kind) & (self._rounded == rounded))

    def _kind(self, kind: str, edges: Ints) -> KindUse:
        use = self.utilisation[edges]
        highest = int(edges[np.argmax(self._rounded[edges])])
        streams = _shares(self._by_axis[:, edges].sum(axis=1))
        carried = float(self.bytes[edges].sum())
        return KindUse(kind, len(edges), int((use > 0).sum()), float(use.mean()), self._link(highest), carried, streams)

    def _link(self, edge: int) -> LinkUse:
        kind = str(self.topology.edge_kind[edge])
        busy, full = self._crossing(edge)
        return LinkUse(
            label=self.topology.edge_label(edge),
            kind=kind,
            alike=len(self._alike(kind, float(self._rounded[edge]))),
            utilisation=float(self.utilisation[edge]),
            busy=busy,
            full=full,
            bytes=float(self.bytes[edge]),
            streams=_shares(self._by_axis[:, edge]),
        )

    @cached_property
    def _moving(self) -> Ints:
        """Operations of the timeline that move bytes."""
        return _transfers(self.timeline.program)

    @cached_property
    def _ranks(self) -> tuple[list[tuple[int, ...]], Ints]:
        """Sets of ranks that operations run on, and (n,) which of them each does."""
        program = self.timeline.program
        ranks, bounds = (program.lanes // STREAMS).tolist(), program.op_ptr.tolist()
        number: dict[tuple[int, ...], int] = {}
        of_op = [
            number.setdefault(tuple(dict.fromkeys(ranks[low:high])), len(number)) for low, high in pairwise(bounds)
        ]
        return list(number), np.array(of_op, dtype=np.int64)

    @cached_property
    def _gpus(self) -> Floats:
        """(n,) GPUs that each operation runs on."""
        ranks, of_op = self._ranks
        multiplicity = self.timeline.program.multiplicity
        return np.array([float(multiplicity[list(one)].sum()) for one in ranks])[of_op]

    @cached_property
    def _kernels(self) -> dict[int, _Steps]:
        return {}

    def _kernels_on(self, which: int) -> _Steps:
        """1 while a kernel runs on any rank of a set of ranks, else 0."""
        found = self._kernels.get(which)
        if found is None:
            ops = np.concatenate([self.timeline.lane(rank, Stream.COMPUTE) for rank in self._ranks[0][which]])
            running = _Steps.of(self.timeline.start_s[ops], self.timeline.end_s[ops], np.ones(len(ops)))
            found = self._kernels[which] = _Steps(running.times, (running.values > 0.5).astype(np.float64))
        return found

    @cached_property
    def _delays(self) -> tuple[Floats, Floats, Floats]:
        """Of each moving operation: its time alone, what links and what kernels beside it added, (moving,) seconds.

        Beside a kernel a transfer that holds SMs runs at the slower rate at most; what it takes beyond that it
        waited for links.
        """
        timeline, program, ops = self.timeline, self.timeline.program, self._moving
        begin, end = timeline.start_s[ops] + program.latency_s[ops], timeline.end_s[ops]
        alone_s = program.latency_s[ops] + program.work_s[ops]
        beside = np.zeros(len(ops))
        which = np.where(program.sms[ops] > 0.0, self._ranks[1][ops], -1)
        for ranks in np.unique(which[which >= 0]).tolist():
            mine, kernels = which == ranks, self._kernels_on(ranks)
            beside[mine] = kernels.until(end[mine]) - kernels.until(begin[mine])
        kernels_s = (1.0 - program.sharing.transfer_rate) * beside
        links_s = end - begin - program.work_s[ops] - kernels_s
        noise = _ROUNDING * np.maximum(timeline.makespan_s * 1e-3, alone_s)
        return alone_s, np.where(links_s > noise, links_s, 0.0), kernels_s

    @cached_property
    def _by_set(self) -> tuple[Ints, Ints]:
        """Moving operations in the order of their sets, and the bounds of each set among them."""
        program, ops = self.timeline.program, self._moving
        order = ops[np.argsort(program.flow[ops], kind="stable")]
        counts = np.bincount(program.flow[ops], minlength=len(program.flow_ptr) - 1)
        return order, np.concatenate([[0], np.cumsum(counts)])

    def _crossing(self, edge: int) -> tuple[float, float]:
        """Shares of the step in which a link is busy, and full."""
        sets = self._folded_sets if self.sets is None else self.sets
        entries = np.flatnonzero(sets.edge == edge)
        owners = np.searchsorted(sets.ptr, entries, side="right") - 1
        order, bounds = self._by_set
        each = [order[bounds[owner] : bounds[owner + 1]] for owner in owners.tolist()]
        ops = np.concatenate([np.empty(0, dtype=np.int64), *each])
        if not ops.size:
            return 0.0, 0.0
        use = np.repeat(sets.use[entries], [len(found) for found in each])
        begin, end = self.timeline.start_s[ops] + self.timeline.program.latency_s[ops], self.timeline.end_s[ops]
        under_way = _Steps.of(begin, end, np.ones(len(ops)))
        wanted = self._wanted(ops, begin, end, use)
        length = self.timeline.makespan_s
        return under_way.above(0.5) / length, wanted.above(1.0 + _ROUNDING) / length

    def _wanted(self, ops: Ints, begin: Floats, end: Floats, use: Floats) -> _Steps:
        """What operations would take of a link if no link made them wait."""
        program = self.timeline.program
        slower = 1.0 - program.sharing.transfer_rate
        which = np.where(program.sms[ops] > 0.0, self._ranks[1][ops], -1)
        parts = []
        for ranks in np.unique(which).tolist():
            mine = which == ranks
            part = _Steps.of(begin[mine], end[mine], use[mine])
            parts.append(part if ranks < 0 else part.slowed(self._kernels_on(ranks), slower))
        times = np.unique(np.concatenate([part.times for part in parts]))
        return _Steps(times, np.asarray(sum(part.at(times) for part in parts)))


class _Steps(NamedTuple):
    """A step function: ``values[i]`` from ``times[i]`` on, 0 before; the last value is 0."""

    times: Floats
    values: Floats

    @classmethod
    def of(cls, begin: Floats, end: Floats, height: Floats) -> _Steps:
        """The sum of rectangles."""
        times, place = np.unique(np.concatenate([begin, end]), return_inverse=True)
        return cls(times, np.cumsum(np.bincount(place, np.concatenate([height, -height]), len(times))))

    def at(self, times: Floats) -> Floats:
        """Values right after ``times``."""
        return np.append(0.0, self.values)[np.searchsorted(self.times, times, side="right")]

    def until(self, times: Floats) -> Floats:
        """Integral from the beginning to each of ``times``."""
        if not self.times.size:
            return np.zeros(len(times))
        area = np.concatenate([[0.0], np.cumsum(self.values[:-1] * np.diff(self.times))])
        return np.asarray(np.interp(times, self.times, area))

    def above(self, level: float) -> float:
        """Time spent above a level."""
        return float(np.diff(self.times)[self.values[:-1] > level].sum())

    def slowed(self, kernels: _Steps, share: float) -> _Steps:
        """Less by a share while kernels run."""
        times = np.unique(np.concatenate([self.times, kernels.times]))
        return _Steps(times, self.at(times) * (1.0 - share * kernels.at(times)))


def _transfers(program: Program) -> Ints:
    """Operations that move bytes."""
    return np.flatnonzero((program.flow >= 0) & (program.work_s > 0.0) & (_axis(program) >= 0))


def _axis(program: Program) -> Ints:
    """(n,) place in AXES of each operation, -1 for one that moves nothing."""
    return np.asarray(_AXIS[program.lanes[program.op_ptr[:-1]] % STREAMS])


def _shares(used: Floats) -> dict[str, float]:
    whole = float(used.sum())
    return {axis: float(value) / whole for axis, value in zip(AXES, used, strict=True) if value > 0.0}
