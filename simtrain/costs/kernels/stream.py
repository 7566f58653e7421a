"""Kernels without matmul: they stream their tensors through memory.

    memory = soft maximum of floor and bytes / (bandwidth * memory) * (1 - cached / (1 + (bytes / L2)^2))

What fits in the L2 cache from one kernel to the next is not fetched again.
"""

from __future__ import annotations

from simtrain.costs.kernels.work import Chip, Work, roofline, soft_max
from simtrain.model.operators import Kernel
from simtrain.scenario.kernels import KernelEfficiency

__all__ = ["stream"]


def stream(kernel: Kernel, efficiency: KernelEfficiency, chip: Chip) -> Work:
    """Seconds of a kernel bound by the bytes it moves."""
    plain = roofline(kernel, efficiency, chip)
    memory_s = plain.memory_s
    if efficiency.cached and chip.l2_bytes:
        memory_s *= 1 - efficiency.cached / (1 + (kernel.bytes / chip.l2_bytes) ** 2)
    return Work(plain.compute_s, soft_max(memory_s, efficiency.floor))
