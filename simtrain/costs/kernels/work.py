"""What every family of kernels shares: the chip, the work of one kernel, and how its two limits meet."""

from __future__ import annotations

from dataclasses import dataclass

from simtrain.model.operators import Kernel
from simtrain.scenario.kernels import KernelEfficiency

__all__ = ["Chip", "Work", "ceil_div", "roofline", "soft_max"]

_SHARPNESS = 6
"""Power of the soft maximum: 12 % above the larger of two equal times, 1 % where one is half of the other."""


@dataclass(frozen=True, slots=True)
class Chip:
    """What a kernel runs on.

    Attributes:
        peak_flops_per_s: dense peak for the precision of the kernel; sms: streaming multiprocessors, 0 unknown.
        bandwidth_bytes_per_s: of device memory; l2_bytes: of the L2 cache, 0 unknown.
        tiles: rows and columns of the output tiles that matmuls of this architecture use.
    """

    peak_flops_per_s: float
    bandwidth_bytes_per_s: float
    sms: int
    l2_bytes: float
    tiles: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Work:
    """Seconds of one kernel beyond its latency, by what limits it; ``blocks`` thread blocks (0: a long grid)."""

    compute_s: float
    memory_s: float
    blocks: int = 0
    note: str = ""


def roofline(kernel: Kernel, efficiency: KernelEfficiency, chip: Chip) -> Work:
    """Work of a kernel without shape: FLOPs over a share of the peak, bytes over a share of the bandwidth."""
    compute_s = kernel.flops / (chip.peak_flops_per_s * efficiency.compute) if efficiency.compute else 0.0
    return Work(compute_s, kernel.bytes / (chip.bandwidth_bytes_per_s * efficiency.memory))


def soft_max(first_s: float, second_s: float) -> float:
    """Two limits at once: the larger one, and a little more where they are close."""
    low, high = (first_s, second_s) if first_s < second_s else (second_s, first_s)
    return high * (1 + (low / high) ** _SHARPNESS) ** (1 / _SHARPNESS) if low > 0 else high


def ceil_div(amount: int, size: int) -> int:
    """Pieces of ``size`` that cover ``amount``."""
    return -(-amount // size)
