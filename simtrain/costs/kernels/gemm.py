"""Matmuls, plain, batched and grouped: output tiles in waves over the SMs.

    compute = min over tile (bm x bn) and split s of k:
              waves * (2 bm bn k' / (rate of an SM) + fill) + reduce
    rate of an SM = peak / SMs * compute * (bm bn / largest tile)^tile
    n = ceil(m/bm) ceil(n/bn) groups s / SMs;  waves = wave * ceil(n) + (1 - wave) * max(n, 1)
    k' = k/s rounded up to 64;  reduce = 4 m n groups s bytes through memory where s > 1

Tiles are those of CUTLASS and cuBLAS; a split of k fills SMs that a small output leaves idle.  A gradient of the
weight (part W) computes ``accumulate`` times as long.  Long matmuls lose clock to the power limit: compute is
multiplied by 1 + throttle * F / (F + throttle_time), F being the time at peak.  Groups launched one by one add ``each``
for each.
"""

from __future__ import annotations

from math import ceil

from simtrain.costs.kernels.work import Chip, Work, ceil_div, roofline
from simtrain.model.operators import Kernel
from simtrain.scenario.kernels import GemmEfficiency

__all__ = ["LARGEST", "gemm", "tiles_of"]

LARGEST = (128, 256)
"""Tile that a matmul without ``tile`` coefficient is taken to have (Ampere, Hopper)."""
_TILES = ((256, 128), (128, 256), (128, 128), (256, 64), (64, 256), (128, 64), (64, 128), (64, 64))
_SPLITS = (2, 3, 4, 6, 8, 16)
_K_STEP = 64
_LEAST_K = 128
"""Columns that a split leaves at least."""
_PARTIAL_BYTES = 4


def tiles_of(architecture: str) -> tuple[tuple[int, int], ...]:
    """Output tiles of an architecture; Blackwell's data-centre chips join two SMs to one of 256 x 256."""
    return ((256, 256), *_TILES) if "GB100" in architecture else _TILES


def gemm(kernel: Kernel, efficiency: GemmEfficiency, chip: Chip) -> Work:
    """Seconds of a matmul with the fastest tile and split."""
    plain = roofline(kernel, efficiency, chip)
    if efficiency.tile is None or not (chip.sms and kernel.m and kernel.n and kernel.k and efficiency.compute):
        blocks = ceil_div(kernel.m, LARGEST[0]) * ceil_div(kernel.n, LARGEST[1]) * kernel.groups
        return Work(plain.compute_s, plain.memory_s, blocks)
    seconds, blocks, note = _fastest(kernel, efficiency, chip)
    peak_s = kernel.flops / chip.peak_flops_per_s
    factor = efficiency.accumulate if kernel.part == "W" else 1.0
    if efficiency.throttle and peak_s:
        factor *= 1 + efficiency.throttle * peak_s / (peak_s + efficiency.throttle_time)
    seconds = max(seconds, plain.compute_s) * factor + efficiency.each * kernel.groups
    return Work(seconds, plain.memory_s, blocks, note)


def _fastest(kernel: Kernel, efficiency: GemmEfficiency, chip: Chip) -> tuple[float, int, str]:
    """Seconds, thread blocks and a description of the fastest tile and split."""
    m, n, k, groups, sms = kernel.m, kernel.n, kernel.k, kernel.groups, chip.sms
    compute = efficiency.compute or 1.0
    steps_s = 2 * _K_STEP * sms / (chip.peak_flops_per_s * compute)  # of one output element, per 64 of k
    reduce_s = _PARTIAL_BYTES * m * n * groups / (chip.bandwidth_bytes_per_s * efficiency.memory)
    power, wave, fill_s = efficiency.tile or 0.0, efficiency.wave, efficiency.fill
    largest = max(rows * columns for rows, columns in chip.tiles)
    best = (float("inf"), 0, 1, chip.tiles[0])
    for tile in chip.tiles:
        area = tile[0] * tile[1]
        tiles = -(-m // tile[0]) * -(-n // tile[1]) * groups
        step_s = steps_s * area * (largest / area) ** power
        splits = (1, *_SPLITS) if tiles < sms and k >= 2 * _LEAST_K else (1,)
        for split in splits:
            if split > 1 and k < split * _LEAST_K:
                break
            amount = tiles * split / sms
            waves = wave * ceil(amount) + (1 - wave) * max(amount, 1.0)
            seconds = waves * (step_s * -(-k // (split * _K_STEP)) + fill_s)
            if split > 1:
                seconds += reduce_s * split
            if seconds < best[0]:
                best = (seconds, tiles * split, split, tile)
    seconds, blocks, split, tile = best
    cut = f", k in {split}" if split > 1 else ""
    return seconds, blocks, f"{blocks / sms:.3g} waves of {tile[0]}x{tile[1]} tiles{cut}"
