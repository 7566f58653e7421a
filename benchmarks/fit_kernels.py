"""Fit the kernel tables of the device catalogue to published kernel timings and print them.

Every class is fitted by the form the simulator uses,

    time = latency + max(flops / (peak * compute), bytes / (bandwidth * memory)),

by minimising the mean absolute log error over two thirds of the shapes; the error of the other third is printed.
Timings are read from ``kernels_measured.csv`` and peaks from ``hardware.csv`` in the folder ``SIMTRAIN_DATA``.

    python benchmarks/fit_kernels.py
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Row = dict[str, str]
Floats = NDArray[np.float64]
Work = Callable[[Row], tuple[float, float]]
Keep = Callable[[Row], bool]

DATA = Path(os.environ.get("SIMTRAIN_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
COMPUTE = np.arange(0.10, 1.2001, 0.002)
MEMORY = np.arange(0.10, 1.1001, 0.005)
LATENCY_S = np.arange(0.0, 60.01e-6, 0.2e-6)
ATTENTION_LATENCY_S = 10e-6
LARGE_M = 1024
# Kernels of each class, and the least bytes that count: smaller tensors stay in the L2 cache.
MEMORY_CLASSES = {
    "norm": (("mem_input_layernorm", "mem_post_attention_layernorm"), 40e6),
    "activation": (("mem_mlp_act",), 40e6),
    "elementwise": (("mem_add",), 80e6),
}
# Devices with fitted tables, and the one that lends memory share and latency of matmul where rows leave them open.
FITTED = {"A100-80GB-SXM": None, "H100-SXM": None, "A100-80GB-PCIe": "A100-80GB-SXM", "B200-SXM": "H100-SXM"}
# Best shapes: who searched, the fitted devices that give training share over best share, and who gets it.
DERIVED = {
    "RTX3090": ("mag-", ("A100-80GB-SXM", "A100-80GB-PCIe", "H100-SXM")),
    "L40S": ("mag-", ("A100-80GB-SXM", "A100-80GB-PCIe", "H100-SXM")),
    "H100-PCIe": ("csv", ("A100-80GB-SXM", "A100-80GB-PCIe", "H100-SXM")),
    "MI300X": ("csv", ("A100-80GB-SXM", "A100-80GB-PCIe", "H100-SXM")),
    "GB200": ("csv", ("B200-SXM",)),
}


@dataclass(frozen=True)
class Samples:
    """Timings of one kernel class on one device; arrays of shape (rows,).

    Attributes:
        compute_s: time at the dense peak. memory_s: time at the full memory bandwidth. measured_s: time measured.
        held_out: rows that the fit does not see.
    """

    compute_s: Floats
    memory_s: Floats
    measured_s: Floats
    held_out: NDArray[np.bool_]


@dataclass(frozen=True)
class Fit:
    """Coefficients, and the mean absolute relative error on shapes that the fit saw and did not see."""

    compute: float
    memory: float
    latency_s: float
    seen_error: float
    unseen_error: float
    rows: int


def read(name: str) -> list[Row]:
    """Rows of one table of the data folder."""
    with (DATA / name).open(newline="") as file:
        return list(csv.DictReader(file))


def matmul_work(row: Row) -> tuple[float, float]:
    """FLOPs and bytes of a matmul row; weight gradients are read and written in 4 bytes."""
    m, n, k = (float(row[x]) for x in "mnk")
    groups = float(row["groups"])
    extra = row["extra"]
    operands, output = m * k + k * n, 2 * m * n
    if "bwd_grad_w" in extra:
        operands, output = m * k + m * n, 8 * k * n
    elif "accumulate=True" in extra:
        output = 8 * m * n
    return 2 * m * n * k * groups, groups * (2 * operands + output)


def attention_work(row: Row) -> tuple[float, float]:
    """FLOPs and bytes of a causal attention row: half of the square; backward is 2.5 times forward."""
    size = {key: float(value) for key, value in re.findall(r"(\w+)=(\d+)", row["extra"])}
    dims = size["qk_head_dim"] + size["v_head_dim"]
    heads = size["head_num"] + size["kv_head_num"]
    backward = "bwd" in row["kernel"]
    flops = size["b"] * size["seq_len"] ** 2 * size["head_num"] * dims * (2.5 if backward else 1.0)
    return flops, size["b"] * size["seq_len"] * heads * dims * 2 * (2 if backward else 1)


def memory_work(row: Row) -> tuple[float, float]:
    """Bytes of a kernel without matmul, as its row states them."""
    match = re.search(r"bytes=(\d+)", row["extra"])
    return 0.0, float(match[1]) if match else 0.0


def samples(rows: Iterable[Row], device: Row, work: Work) -> Samples:
    """Turn rows into arrays; every third shape, in order of its text, is held out."""
    peak = float(device["fp16_bf16_fp32acc_tflops"]) * 1e12
    bandwidth = float(device["mem_bw_gbs"]) * 1e9
    rows = list(rows)
    shapes = [(r["m"], r["n"], r["k"], r["groups"], "" if r["k"] else r["extra"]) for r in rows]
    hidden = set(sorted(set(shapes))[::3])
    amounts = [work(r) for r in rows]
    # A row of attention states its rate over the full square, twice the causal FLOPs counted here.
    measured = [
        float(r["time_us"]) * 1e-6 if r["time_us"] else 2 * a[0] / (float(r["tflops"]) * 1e12)
        for r, a in zip(rows, amounts, strict=True)
    ]
    return Samples(
        np.array([a[0] / peak for a in amounts]),
        np.array([a[1] / bandwidth for a in amounts]),
        np.array(measured),
        np.array([s in hidden for s in shapes]),
    )


def predict(point: Sequence[float], data: Samples) -> Floats:
    """Seconds of every row; ``point`` is (compute, memory, latency_s)."""
    compute, memory, latency_s = point
    return latency_s + np.maximum(data.compute_s / compute, data.memory_s / memory)


def fit(data: Samples, memory: float | None = None, latency_s: float | None = None) -> Fit:
    """Fit one class by coordinate descent on fixed grids; ``memory`` or ``latency_s`` given are kept."""
    grids = [
        COMPUTE,
        MEMORY if memory is None else np.array([memory]),
        LATENCY_S if latency_s is None else np.array([latency_s]),
    ]
    best = [0.7, 0.8 if memory is None else memory, 5e-6 if latency_s is None else latency_s]
    for _ in range(30):
        before = list(best)
        for axis, grid in enumerate(grids):
            losses = [_loss([*best[:axis], value, *best[axis + 1 :]], data) for value in grid]
            best[axis] = float(grid[int(np.argmin(losses))])
        if best == before:
            break
    error = np.abs(predict(best, data) / data.measured_s - 1)
    seen, unseen = error[~data.held_out].mean(), error[data.held_out].mean()
    return Fit(best[0], best[1], best[2], float(seen), float(unseen), len(error))


def _loss(point: Sequence[float], data: Samples) -> float:
    ratio = predict(point, data) / data.measured_s
    return float(np.abs(np.log(ratio[~data.held_out])).mean())


class Tables:
    """All measured rows, by device and kernel."""

    def __init__(self) -> None:
        self.devices = {row["gpu"]: row for row in read("hardware.csv")}
        self.rows = [row for row in read("kernels_measured.csv") if row["kind"] == "measured"]

    def samples(self, device: str, kernels: tuple[str, ...], work: Work, keep: Keep = lambda row: True) -> Samples:
        """Timings of ``kernels`` on ``device`` that ``keep`` lets through."""
        rows = [r for r in self.rows if r["device"] == device and r["kernel"] in kernels and keep(r)]
        return samples(rows, self.devices[device], work)

    def best_share(self, device: str, source: str) -> float:
        """Share of the dense 16-bit peak that the best shape of a search reaches, by who searched."""
        row = self.devices[device]
        best = float(row["measured_best_bf16_tflops"])
        for r in self.rows:
            if (r["device"], r["kernel"], r["dtype"]) == (device, "gemm_best_shape", "bf16") and r["source"].startswith(
                source
            ):
                best = float(r["tflops"])
        return best / float(row["fp16_bf16_fp32acc_tflops"])


def large(row: Row) -> bool:
    """A matmul of the size that training runs."""
    return int(row["m"]) >= LARGE_M


def beyond(least_bytes: float) -> Keep:
    """Rows that move more than ``least_bytes``."""
    return lambda row: memory_work(row)[1] > least_bytes


def fit_matmul(tables: Tables, device: str, lender: Fit | None) -> Fit:
    """Memory share over all shapes, then compute share and latency over the large ones."""
    data = tables.samples(device, ("gemm",), matmul_work, large)
    if lender:
        return fit(data, lender.memory, lender.latency_s)
    return fit(data, fit(tables.samples(device, ("gemm",), matmul_work)).memory)


def fit_device(tables: Tables, device: str, lender: Fit | None = None) -> dict[str, Fit]:
    """Every class that has rows on ``device``; ``lender`` as in :data:`FITTED`."""
    fits = {"gemm": fit_matmul(tables, device, lender)}
    grouped = tables.samples(device, ("grouped_gemm",), matmul_work)
    if len(grouped.measured_s):
        fits["grouped_gemm"] = fit(grouped, latency_s=fits["gemm"].latency_s)
        latency_s = None if device == "B200-SXM" else ATTENTION_LATENCY_S
        fits["attention_forward"] = fit(tables.samples(device, ("sdp_fwd",), attention_work), 0.85, latency_s)
        fits["attention_backward"] = fit(tables.samples(device, ("sdp_bwd",), attention_work), 0.85, latency_s)
    for kind, (kernels, least_bytes) in MEMORY_CLASSES.items():
        data = tables.samples(device, kernels, memory_work, beyond(least_bytes))
        if len(data.measured_s):
            fits[kind] = fit(data)
    return fits


def fit_all(tables: Tables) -> dict[str, dict[str, Fit]]:
    """Fits of every device of :data:`FITTED`, by device and class."""
    fits: dict[str, dict[str, Fit]] = {}
    for device, lender in FITTED.items():
        fits[device] = fit_device(tables, device, fits[lender]["gemm"] if lender else None)
    return fits


def derived_share(tables: Tables, fits: dict[str, dict[str, Fit]], device: str) -> float:
    """Training share of a device with only a best shape: that share times the ratio seen on fitted devices."""
    source, references = DERIVED[device]
    ratios = [fits[d]["gemm"].compute / tables.best_share(d, source) for d in references]
    return tables.best_share(device, source) * float(np.mean(ratios))


def hopper(tables: Tables) -> dict[str, float]:
    """Shares of the Hopper classes that have rates but no times.

    Attention forward is the median of FlashAttention-3 and cuDNN at 2k to 8k tokens; attention backward and grouped
    matmul (FP8) come from an H800 trace whose compute kernels had 112 of 132 SMs.
    """
    peak = float(tables.devices["H100-SXM"]["fp16_bf16_fp32acc_tflops"])
    rate = {
        r["kernel"]: float(r["tflops"])
        for r in tables.rows
        if r["kernel"].endswith(("overlapped", "aggregate")) and r["tflops"]
    }
    forward = [
        float(r["tflops"])
        for r in tables.rows
        if r["kernel"] in ("fa3_fwd", "cudnn_attn_fwd") and 2048 <= int(r["m"]) <= 8192
    ]
    alone = 112 / 132
    return {
        "attention_forward": float(np.median(forward)) / peak,
        "attention_backward": rate["attn_bwd_causal_overlapped"] / peak / alone,
        "grouped_gemm": rate["grouped_gemm_overlapped_aggregate"] / (2 * peak) / alone,
    }


def show(name: str, result: Fit) -> None:
    """Print one line of the table."""
    compute = f"{result.compute:7.3f}" if result.compute > COMPUTE[0] else "      -"
    print(
        f"{name:34} {compute} {result.memory:7.3f} {result.latency_s * 1e6:7.1f}"
        f" {100 * result.seen_error:7.1f} {100 * result.unseen_error:7.1f} {result.rows:6d}"
    )


def main() -> None:
    """Fit the devices with tables of their own, then print the shares derived from rates and best shapes."""
    tables = Tables()
    fits = fit_all(tables)
    print(f"{'':34} compute  memory  lat us  seen %  unseen   rows")
    for device, classes in fits.items():
        for kind, result in classes.items():
            show(f"{device} {kind}", result)
    for kind, share in hopper(tables).items():
        print(f"{'H100-SXM ' + kind:34} {share:7.3f}")
    for device in DERIVED:
        print(f"{device + ' gemm, from best shape':34} {derived_share(tables, fits, device):7.3f}")


if __name__ == "__main__":
    main()
