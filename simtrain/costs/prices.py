"""Prices of a step's operators: a kernel through the kernel model, an exchange over the cluster graph.

An exchange is priced as all groups of one pipeline rank run it at once.  Groups of other pipeline ranks run at other
times; where they meet on a link, the engine shares it among them.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray

from simtrain.cluster.topology import Topology
from simtrain.costs.collectives import CollectivePrice, price
from simtrain.costs.collectives.price import algorithms_for
from simtrain.costs.kernels import KernelModel, KernelTime
from simtrain.costs.pace import slowest_of
from simtrain.errors import InputError, ScenarioError, UnknownNameError
from simtrain.layout.placement import AXES, Placement
from simtrain.model.operators import Collective, Exchange, Kernel, Operator
from simtrain.model.routing import Routing
from simtrain.scenario.cluster import Cluster, Node

__all__ = ["PriceList", "Priced"]


_OWN_SMS = {"tp": "tp", "etp": "tp", "cp": "cp", "ep": "ep", "pp": "pp"}
"""Axes and the setting that says how many SMs their exchanges hold; all others serve data parallelism."""


@dataclass(frozen=True, slots=True)
class Priced:
    """An operator with its time on one rank.

    Attributes:
        name: what it is; stream: compute, or the axis of its group (tp, cp, ep, etp, dp, edp, pp, all).
        part: F, I or W; recompute: repeated forward work; layer: -1 for embedding, head and step-wide work.
        latency_s, work_s: fixed time, then time at rate 1; useful_s: its FLOPs at the dense peak.
        kind: kernel class or collective.
        sms: SMs that an exchange holds on each of its GPUs; grid: thread blocks of a kernel on a static grid, or 0.
        cost: the kernel time or collective price behind it, for explanations; None for host time.
        after: operators of the same layer that it waits for, see :class:`simtrain.model.operators.Kernel`.
        routed: its rows chose experts of this rank, the busiest; see :meth:`PriceList.less_busy`.
        routing: of a dispatch or combine.
        whole_bytes: size of the exchange that ``cost`` is the price of; this is all of it, or a piece, of which only
            the ``first`` has its latency.
        handling_s: of that latency, what the software takes to hand tensors over.
    """

    name: str
    stream: str
    part: str
    recompute: bool
    layer: int
    latency_s: float
    work_s: float
    useful_s: float
    flops: float
    bytes: float
    cost: KernelTime | CollectivePrice | None
    kind: str
    sms: int = 0
    grid: int = 0
    after: tuple[str, ...] = ()
    routed: bool = False
    routing: Routing | None = None
    whole_bytes: float = 0.0
    first: bool = True
    handling_s: float = 0.0

    @property
    def kernel(self) -> bool:
        """Whether it is a kernel, and not an exchange or host time."""
        return self.stream == "compute"


class PriceList:
    """Prices operators of one scenario; equal operators are priced once."""

    def __init__(self, kernels: KernelModel, topology: Topology, placement: Placement, cluster: Cluster) -> None:
        if not isinstance(cluster.node, Node):
            raise ScenarioError(f"cluster.node is the name {cluster.node!r}; load the scenario before simulating it")
        self.node = cluster.node
        self.kernels = kernels
        self.pace = 1.0 + kernels.device.speed_spread * slowest_of(placement.gpu.size)
        self.topology = topology
        self.placement = placement
        self.mode = cluster.collectives.mode
        self.algorithms = {name: _algorithm(name, chosen) for name, chosen in cluster.collectives.algorithms.items()}
        self.wait_s = cluster.collectives.wait
        self.notify_wait_s = cluster.collectives.notify_wait
        self.contention = cluster.contention
        self.sm_count = kernels.device.sm_count or 0
        self._kernel_times: dict[Kernel, KernelTime] = {}
        self._collectives: dict[tuple[object, ...], CollectivePrice] = {}
        self._groups: dict[tuple[str, int], NDArray[np.int64]] = {}
        self._applied: set[str] = set()

    @property
    def unused_algorithms(self) -> tuple[str, ...]:
        """Algorithms that the scenario asks for and no collective priced so far could use, as keys with their value."""
        key = "cluster.collectives.algorithms"
        return tuple(f"{key}.{name} = {a!r}" for name, (a,) in self.algorithms.items() if name not in self._applied)

    def operators(self, operators: Iterable[Operator], layer: int) -> list[Priced]:
        """Price a layer's operators in their order."""
        return [
            replace(self.kernel(op, layer) if isinstance(op, Kernel) else self._exchange(op, layer), after=op.after)
            for op in operators
        ]

    def _exchange(self, op: Exchange, layer: int) -> Priced:
        whole_bytes = op.bytes if op.of_bytes is None else op.of_bytes
        cost = self._over(op.stream, 0, op.collective, whole_bytes, op.routing)
        found = self._priced(op.name, op.stream, op.collective, whole_bytes, cost)
        found = replace(found, layer=layer, part=op.part, recompute=op.recompute, routing=op.routing)
        return found if op.of_bytes is None else self._cut(replace(found, bytes=op.bytes, first=op.first), cost)

    def kernel(self, kernel: Kernel, layer: int = -1) -> Priced:
        """Price one kernel."""
        time = self._kernel_times.get(kernel)
        if time is None:
            time = self._kernel_times[kernel] = self.kernels.time(kernel)
        return Priced(
            kernel.name,
            "compute",
            kernel.part,
            kernel.recompute,
            layer,
            time.latency_s,
            (time.total_s - time.latency_s) * self.pace,
            time.useful_s,
            kernel.flops,
            kernel.bytes,
            time,
            kernel.kind,
            grid=time.work.blocks if self.contention.grid == "static" else 0,
            routed=kernel.routed,
        )

    def less_busy(self, priced: Priced, load: float) -> Priced:
        """A routed kernel on a rank with ``load`` times the rows of the busiest one, at the rate that it has there.

        One rank stands for all of less than the highest load, whose mean time is then that of their mean load.
        """
        if not isinstance(priced.cost, KernelTime):
            return priced
        return replace(
            priced,
            work_s=priced.work_s * load,
            useful_s=priced.useful_s * load,
            flops=priced.flops * load,
            bytes=priced.bytes * load,
            grid=round(priced.grid * load),
        )

    def exchange(
        self, name: str, axis: str, collective: Collective, size_bytes: float, layer: int = -1, *, part: str = "F"
    ) -> Priced:
        """Price one collective of the groups of ``axis`` on the first pipeline rank, all at once."""
        cost = self._over(axis, 0, collective, size_bytes)
        return replace(self._priced(name, axis, collective, size_bytes, cost), layer=layer, part=part)

    def of_rank(self, priced: Priced, rank: int) -> Priced:
        """An exchange as pipeline rank ``rank`` runs it; everything else unchanged."""
        if priced.stream not in AXES or not isinstance(priced.cost, CollectivePrice):
            return priced
        kind = cast("Collective", priced.kind)
        return self._cut(priced, self._over(priced.stream, rank, kind, priced.whole_bytes, priced.routing))

    def over(
        self, name: str, axis: str, collective: Collective, groups: NDArray[np.int64], size_bytes: float
    ) -> Priced:
        """Price one collective over ``groups`` of GPUs, all at once; ``axis`` names them."""
        key = (axis, collective, size_bytes)
        cost = self._collectives.get(key)
        if cost is None:
            cost = self._collectives[key] = self._price(collective, groups, size_bytes)
        return self._priced(name, axis, collective, size_bytes, cost)

    def _over(
        self, axis: str, rank: int, collective: Collective, size_bytes: float, routing: Routing | None = None
    ) -> CollectivePrice:
        key = (axis, rank, collective, size_bytes, routing)
        cost = self._collectives.get(key)
        if cost is None:
            groups = self._groups.get((axis, rank))
            if groups is None:
                placement = self.placement if axis == "all" else self.placement.of_rank(rank)
                groups = self._groups[axis, rank] = placement.groups(axis)
            cost = self._collectives[key] = self._price(collective, groups, size_bytes, routing)
        return cost

    def _price(
        self, collective: Collective, groups: NDArray[np.int64], size_bytes: float, routing: Routing | None = None
    ) -> CollectivePrice:
        chosen = self.algorithms.get(collective)
        if chosen is not None:
            with suppress(InputError):  # it does not apply to these groups
                found = price(self.topology, collective, groups, size_bytes, mode=self.mode, algorithms=chosen)
                self._applied.add(collective)
                return found
        return price(self.topology, collective, groups, size_bytes, mode=self.mode, routing=routing)

    def _priced(self, name: str, axis: str, collective: Collective, size_bytes: float, cost: CollectivePrice) -> Priced:
        family = axis.partition(" ")[0]
        found = Priced(
            name=name,
            stream=axis,
            part="F",
            recompute=False,
            layer=-1,
            latency_s=cost.latency_s,
            work_s=cost.transfer_s,
            useful_s=0.0,
            flops=0.0,
            bytes=size_bytes,
            cost=cost,
            kind=collective,
            sms=getattr(self.contention.sms, _OWN_SMS.get(family, "dp")) if self.sm_count else 0,
            whole_bytes=size_bytes,
        )
        return self._cut(found, cost)

    def _cut(self, priced: Priced, cost: CollectivePrice) -> Priced:
        """The exchange, or the piece of one, with the times of ``cost``."""
        share = priced.bytes / priced.whole_bytes if priced.whole_bytes else 1.0
        wait_s = self.wait_s + (self.notify_wait_s if priced.stream == "ep" else 0.0) if cost.transfer_s else 0.0
        latency_s = cost.latency_s + wait_s + priced.handling_s if priced.first else 0.0
        return replace(priced, cost=cost, latency_s=latency_s, work_s=cost.transfer_s * share)

    def handled(self, priced: Priced, seconds: float) -> Priced:
        """An exchange whose tensors the software takes ``seconds`` to hand over."""
        return replace(priced, handling_s=seconds, latency_s=priced.latency_s + seconds)

    def send(self, name: str, source: int, target: int, size_bytes: float) -> Priced:
        """Price the sends from pipeline rank ``source`` to ``target``, all replicas at once."""
        pairs = self.placement.pairs(source, target)
        return replace(self.over(name, f"pp {source} {target}", "send_recv", pairs, size_bytes), stream="pp")


def _algorithm(collective: str, name: str) -> tuple[str]:
    """The algorithm a scenario asks for.

    Raises:
        UnknownNameError: there is no such collective, or no such algorithm for it.
    """
    key = "cluster.collectives.algorithms"
    if collective not in get_args(Collective):
        raise UnknownNameError("collective", collective, get_args(Collective), key)
    try:
        algorithms_for(cast("Collective", collective), names=[name])
    except UnknownNameError as error:
        raise UnknownNameError(error.what, error.name, error.valid, f"{key}.{collective}") from None
    return (name,)
