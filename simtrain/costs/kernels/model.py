"""Kernel times on one device: which coefficients a kernel has, and what comes of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from simtrain.costs.kernels.attention import attention
from simtrain.costs.kernels.gemm import gemm, tiles_of
from simtrain.costs.kernels.stream import stream
from simtrain.costs.kernels.versions import DIRECTIONS, attention_version
from simtrain.costs.kernels.work import Chip, Work, soft_max
from simtrain.errors import ScenarioError
from simtrain.model.operators import Kernel, KernelClass
from simtrain.quantities import format_quantity
from simtrain.scenario.cluster import Device
from simtrain.scenario.kernels import (
    AttentionEfficiency,
    AttentionKernel,
    GemmEfficiency,
    InTraining,
    KernelEfficiency,
    KernelTable,
)
from simtrain.scenario.part import Precision

__all__ = ["BELOW_16_BIT", "MATMUL_CLASSES", "KernelModel", "KernelTime", "of_class"]

MATMUL_CLASSES: frozenset[KernelClass] = frozenset({"gemm", "grouped_gemm", "attention_forward", "attention_backward"})
BELOW_16_BIT: frozenset[Precision] = frozenset({"fp8", "mxfp8", "nvfp4"})
_GEMM: frozenset[KernelClass] = frozenset({"gemm", "grouped_gemm"})
_LIKE: dict[KernelClass, KernelClass] = {
    "norm_backward": "norm",
    "plain_activation": "activation",
    "quantise": "elementwise",
}
"""Classes that a table may leave out, and the one that then stands for them."""


@dataclass(frozen=True, slots=True)
class KernelTime:
    """Predicted time of one kernel.

    Attributes:
        total_s: the whole kernel. useful_s: its FLOPs at peak, 0 for classes without matmul.
        latency_s: launch and fixed cost, part of ``total_s``. bound: what limits the rest.
        source: where the coefficients come from. extrapolated: they were not measured on this device.
        kernel, peak_flops_per_s, bandwidth_bytes_per_s, work: what ``formula`` prints.
    """

    total_s: float
    useful_s: float
    latency_s: float
    bound: Literal["compute", "memory"]
    source: str
    extrapolated: bool
    kernel: Kernel
    peak_flops_per_s: float
    bandwidth_bytes_per_s: float
    work: Work

    @property
    def formula(self) -> str:
        """The calculation with its numbers: each limit with the share of peak or bandwidth that it reaches alone."""
        work, kernel = self.work, self.kernel
        bandwidth = format_quantity(self.bandwidth_bytes_per_s, "bandwidth")
        share = kernel.bytes / (self.bandwidth_bytes_per_s * work.memory_s) if work.memory_s else 1.0
        memory = f"{format_quantity(kernel.bytes, 'bytes')} / ({bandwidth} x {share:.3g})"
        latency = format_quantity(self.latency_s, "time")
        if not work.compute_s:
            return f"{latency} + {memory}"
        peak = format_quantity(self.peak_flops_per_s, "FLOP rate")
        share = kernel.flops / (self.peak_flops_per_s * work.compute_s)
        compute = f"{kernel.flops:.4g} FLOP / ({peak} x {share:.3g})"
        return f"{latency} + soft max({compute}, {memory})" + (f"; {work.note}" if work.note else "")


class KernelModel:
    """Kernel times on one device.

    Args:
        device: its ``kernels`` must be a table, not the name of another device.
        peaks: ``dense``, or the figures often quoted instead.
        precision: inputs of gemm and grouped_gemm; attention, and a ``plain`` gemm, run in 16 bit when this is below.
        in_training: kernels of a training step, see :class:`simtrain.scenario.kernels.InTraining`; otherwise alone.
        year: of the libraries, which counts in training; None: current ones.
        attention_kernel: whose kernels fused attention runs; None: those of the device's table.

    Raises:
        ScenarioError: the device has no such precision, or its kernel table is not resolved.
    """

    def __init__(
        self,
        device: Device,
        peaks: Literal["dense", "advertised"],
        precision: Precision,
        attention_kernel: AttentionKernel | None = None,
        *,
        in_training: bool = False,
        year: int | None = None,
    ) -> None:
        self.device = device
        self.table = device.kernel_table
        self.kept = device.kept(year) if in_training else InTraining()
        self._attention = {kind: attention_version(self.table, kind, attention_kernel) for kind in DIRECTIONS}
        self.low_precision = precision in BELOW_16_BIT
        self.measured_here = self.table.measured_on is not None and _plain(self.table.measured_on) == _plain(
            device.title
        )
        whole: Precision = "bf16" if "bf16" in device.known_peaks(peaks) else "fp16"
        self.chip = _chip(device, _peak(device, peaks, precision))
        self.plain_chip = _chip(device, _peak(device, peaks, whole)) if self.low_precision else self.chip

    def time(self, kernel: Kernel) -> KernelTime:
        """Seconds of ``kernel``; one without FLOPs and bytes takes none.

        Raises:
            ScenarioError: the table gives no compute share for a matmul class.
        """
        return self.with_coefficients(kernel, self.coefficients(kernel))

    def coefficients(self, kernel: Kernel) -> KernelEfficiency:
        """Coefficients of the class of ``kernel``, for the precision that it runs in."""
        if kernel.kind in self._attention:
            return self._attention[kernel.kind]
        return of_class(self.table, kernel.kind, self.low_precision and not kernel.plain)

    def with_coefficients(self, kernel: Kernel, efficiency: KernelEfficiency) -> KernelTime:
        """Seconds of ``kernel`` with other coefficients than those of its class."""
        if efficiency.compute is None and kernel.kind in MATMUL_CLASSES:
            raise ScenarioError(
                f"{self.device.title}: kernels.{kernel.kind}.compute is missing; a matmul class needs it"
            )
        chip = self._chip_of(kernel)
        work = self._slowed(kernel, _work(kernel, efficiency, chip if kernel.aligned else self._vector_chip(chip)))
        latency_s = efficiency.latency if kernel.flops or kernel.bytes else 0.0
        return KernelTime(
            total_s=latency_s + soft_max(work.compute_s, work.memory_s),
            useful_s=kernel.flops / chip.peak_flops_per_s if kernel.kind in MATMUL_CLASSES else 0.0,
            latency_s=latency_s,
            bound="compute" if work.compute_s >= work.memory_s else "memory",
            source=efficiency.source,
            extrapolated=not (self.measured_here and efficiency.measured and self._has_own(kernel) and kernel.aligned),
            kernel=kernel,
            peak_flops_per_s=chip.peak_flops_per_s,
            bandwidth_bytes_per_s=chip.bandwidth_bytes_per_s,
            work=work,
        )

    def _slowed(self, kernel: Kernel, work: Work) -> Work:
        share = self.kept.matmul if kernel.kind in MATMUL_CLASSES else self.kept.stream
        return work if share == 1.0 else replace(work, compute_s=work.compute_s / share, memory_s=work.memory_s / share)

    def blocks(self, kernel: Kernel) -> int:
        """Thread blocks of a matmul launched as a static grid; 0 for other kernels, whose grids are long."""
        return self.time(kernel).work.blocks

    def _has_own(self, kernel: Kernel) -> bool:
        """Whether the table has coefficients for just the class and precision of ``kernel``."""
        low = self.low_precision and not kernel.plain and kernel.kind in _GEMM
        return getattr(self.table, f"{kernel.kind}_fp8" if low else kernel.kind) is not None

    def _vector_chip(self, chip: Chip) -> Chip:
        """The chip without tensor cores: matmuls whose operands are not aligned run on the units for fp32.

        That tensor cores need operands aligned to 16 bytes: NVIDIA, Matrix Multiplication Background User's Guide;
        that it costs so much is assumed, and what runs with head sizes of 108 and 225 (BigScience) took.
        """
        vector = self.device.peaks.get("fp32")
        return replace(chip, peak_flops_per_s=min(float(vector), chip.peak_flops_per_s)) if vector else chip

    def _chip_of(self, kernel: Kernel) -> Chip:
        return self.chip if kernel.kind in _GEMM and not kernel.plain else self.plain_chip


def of_class(table: KernelTable, kind: KernelClass, low_precision: bool = False) -> KernelEfficiency:
    """Coefficients of a kernel class, of those for 8 bits where there are any and ``low_precision`` is set."""
    found: KernelEfficiency | None = getattr(table, f"{kind}_fp8", None) if low_precision else None
    if found is None:
        found = getattr(table, kind)
    return of_class(table, _LIKE[kind]) if found is None else found


def _work(kernel: Kernel, efficiency: KernelEfficiency, chip: Chip) -> Work:
    if not (kernel.flops or kernel.bytes):
        return Work(0.0, 0.0)
    if isinstance(efficiency, GemmEfficiency):
        return gemm(kernel, efficiency, chip)
    if isinstance(efficiency, AttentionEfficiency):
        return attention(kernel, efficiency, chip)
    return stream(kernel, efficiency, chip)


def _chip(device: Device, peak: float) -> Chip:
    return Chip(
        peak, float(device.memory_bandwidth), device.sm_count or 0, float(device.l2 or 0), tiles_of(device.architecture)
    )


def _peak(device: Device, peaks: Literal["dense", "advertised"], precision: Precision) -> float:
    known = device.known_peaks(peaks)
    if precision not in known:
        raise ScenarioError(
            f"layout.precision = {precision}: {device.title} has no {precision} matmul; "
            f"it has {', '.join(sorted(known))}"
        )
    return float(known[precision])


def _plain(name: str) -> str:
    """Letters and digits alone, so that a title and a file name compare equal."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
