"""Coefficients of kernel times on a device, by kernel class (``costs/kernels`` holds the formulas)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simtrain.quantities import Seconds
from simtrain.scenario.part import Part

__all__ = [
    "AttentionEfficiency",
    "AttentionKernel",
    "GemmEfficiency",
    "InTraining",
    "KernelEfficiency",
    "KernelTable",
]

Share = Annotated[float, Field(gt=0, le=1.5)]
Unit = Annotated[float, Field(ge=0, le=1)]
AttentionKernel = Literal["fa1", "fa2", "fa3", "triton", "cudnn"]
"""Software of fused attention: FlashAttention 1 (arXiv 2205.14135; version 1.0.9 the last), 2 (arXiv 2307.08691) and 3
(arXiv 2407.08608), FlashAttention 1 in Triton (llm-foundry, xformers of 2023), cuDNN (Transformer Engine)."""
NonNegative = Annotated[float, Field(ge=0)]


class KernelEfficiency(Part):
    """Coefficients of one kernel class on one device.

    time = latency + soft maximum of flops / (peak * compute) and bytes / (memory_bandwidth * memory)
    """

    compute: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the dense peak this class reaches; absent for kernels bound by memory alone."""
    memory: Share
    """Share of the memory bandwidth this class reaches."""
    latency: Seconds = 0.0
    """Launch latency and fixed cost of one kernel."""
    cached: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the memory time that tensors small against the L2 cache (``l2`` of the device) save."""
    floor: Seconds = 0.0
    """Least time beyond the latency, where many small launches keep the host busy for longer than the GPU."""
    measured: bool = True
    """False: assumed, or derived from another device; results that use it count as extrapolated."""
    source: str
    """Where the figures come from."""


class GemmEfficiency(KernelEfficiency):
    """Coefficients of a matmul: without ``tile`` as any kernel, with it by tiles and waves of thread blocks."""

    tile: NonNegative | None = None
    """Power with which the rate of an SM falls as the output tile is smaller than the largest."""
    wave: Unit = 0.0
    """Weight of whole waves of tiles over the SMs against the exact number of waves."""
    fill: Seconds = 0.0
    """Start and end of each wave: filling the pipeline of loads, writing the tile."""
    each: Seconds = 0.0
    """Launch of the matmul of each group, where groups are launched one by one."""
    accumulate: Annotated[float, Field(ge=1, le=2)] = 1.0
    """Compute time of a gradient of the weight against the other two matmuls: operands transposed, output added."""
    throttle: Unit = 0.0
    """Share of the rate that long matmuls lose: the clock falls to what the power limit allows."""
    throttle_time: Seconds = 0.0
    """Time at peak of the matmul that loses half of ``throttle``."""


class AttentionEfficiency(KernelEfficiency):
    """Coefficients of fused attention: blocks of query rows over the SMs."""

    ramp: NonNegative | None = None
    """Keys whose work equals the start and end of a block of queries; absent: as any kernel."""
    alone: Annotated[float, Field(gt=0, le=2)] = 1.0
    """Rate of one block alone on an SM, which the longest block has, against that of an SM in a full GPU."""
    rows: Annotated[int, Field(ge=1)] = 128
    """Rows of queries (in backward of keys) of one block."""
    equal_heads: bool = False
    """Both head sizes run at the larger one, zeros filling the smaller (multi-head latent attention)."""


class InTraining(Part):
    """What kernels keep, in a training step, of the rates that they have when timed alone."""

    matmul: Share = 1.0
    """Share of the rate of matmuls: under sustained load heat and the power limit hold the clock down."""
    stream: Share = 1.0
    """Share of the rate of kernels bound by memory: caches are cold and tensors strided, where a benchmark repeats one
    kernel on dense tensors."""
    fitted_on: str | None = None
    """Device of the library whose training steps these were fitted to; absent: assumed."""
    source: str = ""


class EarlyInTraining(InTraining):
    """The same with early libraries."""

    until: int
    """Last year of such libraries (``year`` of the software)."""


class KernelTable(Part):
    """Kernel coefficients of a device, by kernel class."""

    measured_on: str | None = None
    """Device whose measurements these are; absent or another device means extrapolated."""
    gemm: GemmEfficiency
    grouped_gemm: GemmEfficiency
    gemm_fp8: GemmEfficiency | None = None
    """Matmuls with inputs in 8 bits or in 4; absent: as ``gemm``, against their own peak."""
    grouped_gemm_fp8: GemmEfficiency | None = None
    """Likewise; absent: as ``grouped_gemm``."""
    attention_kernel: AttentionKernel | None = None
    """Whose kernels ``attention_forward`` and ``attention_backward`` are; absent: not known."""
    attention_forward: AttentionEfficiency
    attention_backward: AttentionEfficiency
    norm: KernelEfficiency
    norm_backward: KernelEfficiency | None = None
    """Absent: as ``norm``."""
    activation: KernelEfficiency
    """Gated activations (SwiGLU)."""
    plain_activation: KernelEfficiency | None = None
    """Activations of one input (GELU); absent: as ``activation``."""
    elementwise: KernelEfficiency
    quantise: KernelEfficiency | None = None
    """Casts to 8 bits or to 4 with their scales; absent: as ``elementwise``."""
    embedding: KernelEfficiency
    cross_entropy: KernelEfficiency
    permute: KernelEfficiency
    optimizer: KernelEfficiency
    gemm_variants: dict[str, GemmEfficiency] = {}
    """Matmuls beside what a step runs, by name: ``best_shape`` is the best of a search over shapes."""
    attention_variants: dict[str, AttentionEfficiency] = {}
    """Fused attention of other software, by its name and direction: ``fa2_forward``; ``software.attention_kernel``
    asks for one."""
    memory_variants: dict[str, KernelEfficiency] = {}
    """Kernels bound by memory of other software, by name."""
    in_training: InTraining = InTraining()
    """Applied to the kernels of a step, not to kernels alone."""
    in_training_early: EarlyInTraining | None = None
    """Likewise with the first years' libraries, which got less out of the chip."""

    def kept(self, year: int | None) -> InTraining:
        """What applies with libraries of ``year``; None: current ones."""
        early = self.in_training_early
        return early if early and year is not None and year <= early.until else self.in_training
