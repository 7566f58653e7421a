"""Prices of a step's operators: a kernel through the kernel model, an exchange over the cluster graph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simtrain.cluster.topology import Topology
from simtrain.costs.collectives import CollectivePrice, price
from simtrain.costs.kernels import KernelModel, KernelTime
from simtrain.layout.placement import Placement
from simtrain.model.operators import Collective, Kernel, Operator

__all__ = ["PriceList", "Priced"]


@dataclass(frozen=True, slots=True)
class Priced:
    """An operator with its time on one rank.

    Attributes:
        name: what it is; stream: compute, or the axis of its group (tp, cp, ep, dp, edp, pp, all).
        part: F, I or W; recompute: repeated forward work; layer: -1 for embedding, head and step-wide work.
        latency_s, work_s: fixed time, then time at rate 1; useful_s: its FLOPs at the dense peak.
        kind: kernel class or collective.
        cost: the kernel time or collective price behind it, for explanations; None for host time.
        after: operators of the same layer that it waits for, see :class:`simtrain.model.operators.Kernel`.
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
    after: tuple[str, ...] = ()

    @property
    def kernel(self) -> bool:
        """Whether it is a kernel, and not an exchange or host time."""
        return self.stream == "compute"


class PriceList:
    """Prices operators of one scenario; equal operators are priced once."""

    def __init__(self, kernels: KernelModel, topology: Topology, placement: Placement, mode: str) -> None:
        self.kernels = kernels
        self.topology = topology
        self.placement = placement
        self.mode = mode
        self._kernel_times: dict[Kernel, KernelTime] = {}
        self._collectives: dict[tuple[object, ...], CollectivePrice] = {}
        self._groups: dict[str, NDArray[np.int64]] = {}

    def operators(self, operators: Iterable[Operator], layer: int) -> list[Priced]:
        """Price a layer's operators in their order."""
        return [replace(self._operator(op, layer), after=op.after) for op in operators]

    def _operator(self, op: Operator, layer: int) -> Priced:
        if isinstance(op, Kernel):
            return self.kernel(op, layer)
        size_bytes = op.bytes if op.of_bytes is None else op.of_bytes
        whole = self.exchange(
            op.name, op.stream, op.collective, size_bytes, layer, part=op.part, recompute=op.recompute
        )
        if op.of_bytes is None:
            return whole
        latency_s, work_s = whole.latency_s if op.first else 0.0, whole.work_s * (op.bytes / op.of_bytes)
        return replace(whole, latency_s=latency_s, work_s=work_s, bytes=op.bytes)

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
            time.total_s - time.latency_s,
            time.useful_s,
            kernel.flops,
            kernel.bytes,
            time,
            kernel.kind,
        )

    def exchange(
        self,
        name: str,
        axis: str,
        collective: Collective,
        size_bytes: float,
        layer: int = -1,
        *,
        part: str = "F",
        recompute: bool = False,
    ) -> Priced:
        """Price one collective over all groups of ``axis`` at once, as sibling groups run it together."""
        if axis not in self._groups:
            self._groups[axis] = self.placement.groups(axis)
        found = self.over(name, axis, collective, self._groups[axis], size_bytes)
        return replace(found, layer=layer, part=part, recompute=recompute)

    def over(
        self, name: str, axis: str, collective: Collective, groups: NDArray[np.int64], size_bytes: float
    ) -> Priced:
        """Price one collective over ``groups`` of GPUs, all at once; ``axis`` names them."""
        key = (axis, collective, size_bytes)
        cost = self._collectives.get(key)
        if cost is None:
            cost = self._collectives[key] = price(self.topology, collective, groups, size_bytes, mode=self.mode)
        return Priced(
            name, axis, "F", False, -1, cost.latency_s, cost.transfer_s, 0.0, 0.0, size_bytes, cost, collective
        )

    def send(self, name: str, source: int, target: int, size_bytes: float) -> Priced:
        """Price the sends from pipeline rank ``source`` to ``target``, all replicas at once."""
        pairs = self.placement.pairs(source, target)
        return replace(self.over(name, f"pp {source} {target}", "send_recv", pairs, size_bytes), stream="pp")
