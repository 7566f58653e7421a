"""Seconds of one kernel on one device: a roofline per kernel class.

    time = latency + max(flops / (peak * compute), bytes / (memory bandwidth * memory))

The three coefficients are in the device's kernel table; ``benchmarks/fit_kernels.py`` fits them.  For the large
matmuls of training this form is as good as a model of tiles and waves (both within 4 to 7 % on A100 and H100).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from simtrain.errors import ScenarioError
from simtrain.model.operators import Kernel, KernelClass
from simtrain.quantities import format_quantity
from simtrain.scenario.cluster import Device, KernelEfficiency
from simtrain.scenario.part import Precision

__all__ = ["MATMUL_CLASSES", "KernelModel", "KernelTime"]

MATMUL_CLASSES: frozenset[KernelClass] = frozenset({"gemm", "grouped_gemm", "attention_forward", "attention_backward"})
_GEMM: frozenset[KernelClass] = frozenset({"gemm", "grouped_gemm"})
_TILE = (128, 256)
"""Rows and columns of the output tile of a large matmul on Ampere and Hopper (the largest that their kernels use)."""
_BELOW_16_BIT: frozenset[Precision] = frozenset({"fp8", "mxfp8", "nvfp4"})


@dataclass(frozen=True, slots=True)
class KernelTime:
    """Predicted time of one kernel.

    Attributes:
        total_s: the whole kernel. useful_s: its FLOPs at peak, 0 for classes without matmul.
        latency_s: launch and fixed cost, part of ``total_s``. bound: what limits the rest.
        source: where the coefficients come from. extrapolated: they were not measured on this device.
        kernel, peak_flops_per_s, bandwidth_bytes_per_s, efficiency: what ``formula`` prints.
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
    efficiency: KernelEfficiency

    @property
    def formula(self) -> str:
        """The calculation with its numbers, for a reader."""
        bandwidth = format_quantity(self.bandwidth_bytes_per_s, "bandwidth")
        memory = f"{format_quantity(self.kernel.bytes, 'bytes')} / ({bandwidth} x {self.efficiency.memory:g})"
        latency = format_quantity(self.latency_s, "time")
        if self.efficiency.compute is None:
            return f"{latency} + {memory}"
        peak = format_quantity(self.peak_flops_per_s, "FLOP rate")
        compute = f"{self.kernel.flops:.4g} FLOP / ({peak} x {self.efficiency.compute:g})"
        return f"{latency} + max({compute}, {memory})"


class KernelModel:
    """Kernel times on one device.

    Args:
        device: its ``kernels`` must be a table, not the name of another device.
        peaks: ``dense``, or the figures often quoted instead.
        precision: inputs of gemm and grouped_gemm; attention runs in 16 bit when this is below 16 bit.

    Raises:
        ScenarioError: the device has no such precision, or its kernel table is not resolved.
    """

    def __init__(self, device: Device, peaks: Literal["dense", "advertised"], precision: Precision) -> None:
        if isinstance(device.kernels, str):
            raise ScenarioError(f"{device.title}: kernels is the name {device.kernels!r}; a table is needed here")
        self.device = device
        self.table = device.kernels
        self.measured_here = self.table.measured_on is not None and _plain(self.table.measured_on) == _plain(
            device.title
        )
        self.gemm_peak_flops_per_s = _peak(device, peaks, precision)
        attention: Precision = "bf16" if precision in _BELOW_16_BIT else precision
        self.attention_peak_flops_per_s = _peak(device, peaks, attention)

    def time(self, kernel: Kernel) -> KernelTime:
        """Seconds of ``kernel``; one without FLOPs and bytes takes none.

        Raises:
            ScenarioError: the table gives no compute share for a matmul class.
        """
        efficiency: KernelEfficiency = getattr(self.table, kernel.kind)
        peak = self.gemm_peak_flops_per_s if kernel.kind in _GEMM else self.attention_peak_flops_per_s
        bandwidth = float(self.device.memory_bandwidth)
        compute_s = self._compute_s(kernel, efficiency, peak)
        memory_s = kernel.bytes / (bandwidth * efficiency.memory)
        latency_s = efficiency.latency if kernel.flops or kernel.bytes else 0.0
        return KernelTime(
            total_s=latency_s + max(compute_s, memory_s),
            useful_s=kernel.flops / peak if kernel.kind in MATMUL_CLASSES else 0.0,
            latency_s=latency_s,
            bound="compute" if compute_s >= memory_s else "memory",
            source=efficiency.source,
            extrapolated=not (self.measured_here and efficiency.measured),
            kernel=kernel,
            peak_flops_per_s=peak,
            bandwidth_bytes_per_s=bandwidth,
            efficiency=efficiency,
        )

    def blocks(self, kernel: Kernel) -> int:
        """Thread blocks of a matmul launched as a static grid; 0 for other kernels, whose grids are long.

        One per output tile; in attention one per 128 queries of a head.
        """
        if kernel.kind not in MATMUL_CLASSES or not kernel.m:
            return 0
        rows, columns = (_TILE[0], kernel.n) if kernel.kind not in _GEMM else _TILE
        return -(-kernel.m // rows) * -(-kernel.n // columns) * kernel.groups

    def _compute_s(self, kernel: Kernel, efficiency: KernelEfficiency, peak: float) -> float:
        if efficiency.compute is not None:
            return kernel.flops / (peak * efficiency.compute)
        if kernel.kind in MATMUL_CLASSES:
            raise ScenarioError(
                f"{self.device.title}: kernels.{kernel.kind}.compute is missing; a matmul class needs it"
            )
        return 0.0


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
