"""Fused attention: blocks of query rows over the SMs, each over all keys that its rows see.

    compute = sqrt(all^2 + longest^2)
    all     = blocks * rows * (keys + ramp) * 2 d / (peak * compute)
    longest = rows * (most keys of a block + ramp) * 2 d / (peak / SMs * compute * alone)

``d`` is d_qk + d_v forward and 3 d_qk + 2 d_v backward (FlashAttention-2, arXiv 2307.08691, section 3); ``keys`` is
the mean over the rows, and where it is less than all (causal, window) half a block more, which the diagonal wastes.
Few heads leave SMs idle: then the longest block sets the time.  In backward the blocks are of keys and see queries.
"""

from __future__ import annotations

from math import sqrt

from simtrain.costs.kernels.work import Chip, Work, ceil_div, roofline
from simtrain.model.operators import Kernel
from simtrain.scenario.kernels import AttentionEfficiency

__all__ = ["attention"]


def attention(kernel: Kernel, efficiency: AttentionEfficiency, chip: Chip) -> Work:
    """Seconds of fused attention of ``groups`` heads: m queries, n keys, head sizes k and ``v`` (0: as k)."""
    plain = roofline(kernel, efficiency, chip)
    rows = efficiency.rows
    blocks = ceil_div(kernel.m, rows) * kernel.groups
    if efficiency.ramp is None or not (chip.sms and blocks and kernel.flops and efficiency.compute):
        return Work(plain.compute_s, plain.memory_s, blocks)
    v = kernel.v or kernel.k
    keys = kernel.flops / (2.0 * kernel.groups * kernel.m * _width(kernel, kernel.k, v))
    most = min(2 * keys, float(kernel.n))
    if keys < kernel.n:
        keys = min(keys + rows / 2, float(kernel.n))
    large = max(kernel.k, v) if efficiency.equal_heads else 0
    width = 2.0 * rows * _width(kernel, max(kernel.k, large), max(v, large))
    rate = chip.peak_flops_per_s * efficiency.compute
    whole_s = blocks * width * (keys + efficiency.ramp) / rate
    longest_s = width * (most + efficiency.ramp) * chip.sms / (rate * efficiency.alone)
    seconds = sqrt(whole_s**2 + longest_s**2)
    return Work(seconds, plain.memory_s, blocks, f"{blocks} blocks of {rows} rows on {chip.sms} SMs")


def _width(kernel: Kernel, qk: int, v: int) -> int:
    """Columns that a pair of a query and a key is multiplied over."""
    return 3 * qk + 2 * v if kernel.kind == "attention_backward" else qk + v
