"""Kernels in a step against kernels alone: sustained rates, the slowest of many GPUs, what software adds to a layer."""

from __future__ import annotations

import pytest

from simtrain.costs.kernels import KernelModel
from simtrain.costs.pace import slowest_of
from simtrain.model.operators import Kernel
from simtrain.scenario.cluster import Device, Node
from simtrain.step.simulate import plan_step, simulate_step
from simtrain.timeline.ledger import BUCKETS
from tests.small import small

DEVICE = "cluster.node.device"
EARLY = "{until: 2023, matmul: 0.5}"
GEMM = Kernel("matmul", "gemm", 2.0 * 4096**3, 6.0 * 4096**2, "F", 4096, 4096, 4096)


def device(*overrides: str) -> Device:
    node = small(*overrides).cluster.node
    assert isinstance(node, Node)
    assert isinstance(node.device, Device)
    return node.device


def test_a_share_kept_in_training_slows_steps_and_not_kernels_alone() -> None:
    half = device(f"{DEVICE}.kernels.in_training.matmul=0.5")
    alone = KernelModel(half, "dense", "bf16").time(GEMM)
    trained = KernelModel(half, "dense", "bf16", in_training=True).time(GEMM)
    assert trained.total_s - trained.latency_s == pytest.approx(2 * (alone.total_s - alone.latency_s))


def test_early_libraries_have_shares_of_their_own() -> None:
    changes = (f"{DEVICE}.kernels.in_training.matmul=1.0", f"{DEVICE}.kernels.in_training_early={EARLY}")
    early = device(*changes)
    old, last, young, current = (
        KernelModel(early, "dense", "bf16", in_training=True, year=year).time(GEMM).total_s
        for year in (2020, 2023, 2024, None)
    )
    assert old == last > 1.5 * young
    assert young == current
    assert KernelModel(early, "dense", "bf16", year=2020).time(GEMM).total_s == current


@pytest.mark.parametrize("share", ["matmul", "stream"])
def test_smaller_shares_are_slower(share: str) -> None:
    times = [simulate_step(small(f"{DEVICE}.kernels.in_training.{share}={x}")).time_s for x in (1.0, 0.9, 0.5)]
    assert times == sorted(times)
    assert times[-1] > times[0]


def test_the_slowest_of_many() -> None:
    """Expected largest of n standard normal values: 0, 0.5642, 1.0294 for 1, 2, 4 (Harter 1961), and it grows."""
    assert slowest_of(1) == 0.0
    assert slowest_of(2) == pytest.approx(0.5642, rel=0.06)
    assert slowest_of(4) == pytest.approx(1.0294, rel=0.03)
    assert slowest_of(100_000) > slowest_of(1000) > slowest_of(10)


def test_waiting_for_the_slowest_is_straggler_time() -> None:
    even = simulate_step(small(f"{DEVICE}.speed_spread=0.0"))
    spread = simulate_step(small(f"{DEVICE}.speed_spread=0.05"))
    assert even.waterfall["straggler"] == pytest.approx(0.0, abs=1e-12)
    assert spread.time_s > even.time_s
    assert spread.waterfall["straggler"] > 0.02
    assert sum(spread.waterfall[key] for key in BUCKETS) == pytest.approx(1.0)
    busy = sum(spread.waterfall[key] for key in ("useful", "kernel_inefficiency")) * spread.time_s
    assert busy == pytest.approx(sum(even.waterfall[k] for k in ("useful", "kernel_inefficiency")) * even.time_s)


def moved_bytes(name: str, *overrides: str) -> float:
    prices = plan_step(small(*overrides)).prices
    return sum(op.bytes for stages in (prices.forward, prices.backward) for s in stages for op in s if op.name == name)


def test_copies_are_read_and_written_each_way() -> None:
    one = moved_bytes("copies", "software.copies=1")
    assert one > 0
    assert moved_bytes("copies", "software.copies=3") == pytest.approx(3 * one)
    assert moved_bytes("copies", "software.copies=0") == 0


def test_gradients_added_by_a_kernel_are_read_and_written() -> None:
    """2 bytes of a gradient in, 4 of the sum in and out, for each parameter of a matmul."""
    prices = plan_step(small("software.grad_accumulation=eager")).prices
    backward = [op for stage in prices.backward for op in stage]
    added = sum(op.bytes for op in backward if op.name == "grad_accumulation")
    wgrads = [op.cost.kernel for op in backward if op.name.endswith("_wgrad") and hasattr(op.cost, "kernel")]
    elements = sum(k.m * k.n * k.groups for k in wgrads if k.k)
    assert added == pytest.approx((2 + 2 * 4) * elements)
    assert moved_bytes("grad_accumulation") == 0


def test_sends_cut_over_tensor_parallel_ranks() -> None:
    whole, cut = (plan_step(small("layout.sp=false", f"software.scatter_sends={x}")).prices for x in ("false", "true"))
    assert cut.send_bytes == whole.send_bytes / 2
    assert whole.send_gather is None
    assert cut.send_gather is not None
    assert cut.send_gather.bytes == whole.send_bytes
    assert plan_step(small("layout.sp=true", "software.scatter_sends=true")).prices.send_gather is None
