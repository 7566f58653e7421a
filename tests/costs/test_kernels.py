"""Kernel times: laws of the roofline, its figures on published timings, and what it says about itself."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from simtrain.costs.kernels import MATMUL_CLASSES, KernelModel
from simtrain.errors import ScenarioError
from simtrain.model.operators import Kernel, KernelClass
from simtrain.scenario.cluster import Device
from simtrain.scenario.kernels import AttentionKernel, GemmEfficiency

ROOT = Path(__file__).parents[2]
KINDS = get_args(KernelClass)
OLDER: tuple[AttentionKernel, AttentionKernel] = ("fa1", "fa2")
STREAMS = [kind for kind in KINDS if kind not in MATMUL_CLASSES]


@cache
def document(name: str) -> dict[str, Any]:
    text = (ROOT / "topologies" / "devices" / f"{name}.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    if isinstance(values["kernels"], str):
        values["kernels"] = document(values["kernels"])["kernels"]
    return values


def model(name: str = "h100-sxm", precision: Any = "bf16", peaks: Any = "dense", **changes: Any) -> KernelModel:
    return KernelModel(Device.model_validate(document(name) | changes), peaks, precision)


def kernel(kind: KernelClass = "gemm", flops: float = 1e12, size_bytes: float = 1e8) -> Kernel:
    return Kernel("k", kind, flops=flops, bytes=size_bytes)


def matmul(m: int, n: int, k: int, groups: int = 1, kind: KernelClass = "gemm") -> Kernel:
    moved = 2.0 * groups * (m * k + k * n + m * n)
    return Kernel("k", kind, 2.0 * m * n * k * groups, moved, m=m, n=n, k=k, groups=groups)


def attention(length: int, heads: int, backward: bool = False, size: int = 128) -> Kernel:
    """Causal attention of one sequence."""
    kind: KernelClass = "attention_backward" if backward else "attention_forward"
    flops = heads * length**2 * size * (5.0 if backward else 2.0)
    return Kernel("k", kind, flops, 8.0 * length * heads * size, m=length, n=length, k=size, groups=heads, v=size)


def test_roofline_by_hand_where_a_kernel_has_no_shape() -> None:
    table = model().table.gemm
    compute_s, memory_s = 1e12 / (989.4e12 * (table.compute or 0)), 1e8 / (3.35e12 * table.memory)
    result = model().time(kernel())
    assert result.total_s == pytest.approx(table.latency + (compute_s**6 + memory_s**6) ** (1 / 6))
    assert result.useful_s == pytest.approx(1e12 / 989.4e12)
    assert result.latency_s == table.latency
    assert result.bound == "compute"
    assert f"989.4 TFLOPS x {table.compute:g}" in result.formula
    assert f"3.35 TB/s x {table.memory:g})" in result.formula
    assert "vidur" in result.source
    assert model().time(kernel(flops=1e9, size_bytes=1e9)).bound == "memory"


def test_tiles_and_waves_by_hand() -> None:
    """132 SMs, one tile of 128 x 256 each: whole waves count for ``wave`` of the whole."""
    coefficients = GemmEfficiency(compute=0.8, memory=0.9, tile=1.0, wave=0.5, fill="1 us", source="by hand")
    for tiles, waves in ((132, 1.0), (264, 2.0), (198, 0.5 * 2 + 0.5 * 1.5), (1320, 10.0)):
        work = matmul(128 * tiles, 256, 4096)
        of_a_tile = 2 * 128 * 256 * 4096 / (989.4e12 / 132 * 0.8)
        found = model().with_coefficients(work, coefficients).work
        assert found.compute_s == pytest.approx(waves * (of_a_tile + 1e-6), rel=0.02), tiles


def test_a_split_of_k_fills_idle_sms() -> None:
    narrow = model().time(matmul(128, 256, 65536))
    assert "k in" in narrow.work.note
    assert narrow.work.blocks > 1
    assert "k in" not in model().time(matmul(8192, 8192, 8192)).work.note


def test_few_heads_take_as_long_as_their_longest_block() -> None:
    times = [model("b200-sxm").time(attention(4096, heads)).total_s for heads in (1, 4, 8, 64, 128)]
    assert times[1] < 1.1 * times[0]
    assert times[2] < 1.3 * times[0]
    assert times[4] == pytest.approx(2 * times[3], rel=0.1)


def test_long_matmuls_lose_clock_where_that_was_measured() -> None:
    rates = [
        work.flops / model("b200-sxm").time(work).total_s
        for work in (matmul(4096, 4096, 4096), matmul(32768, 32768, 16384))
    ]
    assert rates[1] < 0.9 * rates[0]


@given(
    kind=st.sampled_from(["gemm", "grouped_gemm"]),
    name=st.sampled_from(["h100-sxm", "a100-80gb-sxm", "a100-80gb-pcie", "b200-sxm", "rtx4090"]),
    sizes=st.tuples(*[st.integers(1, 9000)] * 3),
    groups=st.integers(1, 8),
    axis=st.integers(0, 2),
    more=st.integers(1, 3000),
    part=st.sampled_from(["F", "I", "W"]),
)
def test_a_larger_matmul_is_never_faster_and_peak_never_beaten(
    kind: KernelClass, name: str, sizes: tuple[int, int, int], groups: int, axis: int, more: int, part: Any
) -> None:
    larger = tuple(size + more * (i == axis) for i, size in enumerate(sizes))
    first, second = (replace(matmul(*shape, groups=groups, kind=kind), part=part) for shape in (sizes, larger))
    base = model(name).time(first)
    assert base.total_s >= base.useful_s
    assert base.total_s >= first.bytes / float(model(name).device.memory_bandwidth)
    # splits of k leave at least 128 columns each, so that a little more k may allow one split more
    assert model(name).time(second).total_s >= base.total_s * (1 if axis < 2 else 0.9)


@pytest.mark.parametrize("name", ["h100-sxm", "a100-80gb-sxm", "b200-sxm"])
def test_operands_that_are_not_aligned_leave_tensor_cores_idle(name: str) -> None:
    aligned, other = matmul(2048, 2048, 2048), replace(matmul(2048, 2048, 2048), aligned=False)
    slow, peak = model(name).time(other), float(model(name).device.peaks["fp32"])
    assert slow.total_s > other.flops / peak > 2 * model(name).time(aligned).total_s
    assert slow.useful_s == model(name).time(aligned).useful_s


@given(
    name=st.sampled_from(["h100-sxm", "a100-80gb-sxm", "b200-sxm"]),
    sizes=st.tuples(*[st.integers(256, 9000)] * 3),
    axis=st.integers(0, 2),
)
def test_neighbouring_shapes_differ_by_a_tile_at_most(name: str, sizes: tuple[int, int, int], axis: int) -> None:
    larger = tuple(size + (i == axis) for i, size in enumerate(sizes))
    first, second = model(name).time(matmul(*sizes)), model(name).time(matmul(*larger))
    waves = max(first.work.blocks / (model(name).device.sm_count or 1), 1)
    assert second.total_s <= first.total_s * (1 + 1 / waves + 0.35)


@given(
    name=st.sampled_from(["h100-sxm", "a100-80gb-sxm", "b200-sxm", "rtx4090"]),
    length=st.integers(1, 20000),
    heads=st.integers(1, 200),
    more=st.integers(0, 5000),
    backward=st.booleans(),
)
def test_longer_attention_is_never_faster(name: str, length: int, heads: int, more: int, backward: bool) -> None:
    prices = model(name)
    base = prices.time(attention(length, heads, backward))
    assert base.total_s >= base.useful_s
    assert prices.time(attention(length + more, heads, backward)).total_s >= base.total_s
    assert prices.time(attention(length, heads + 1, backward)).total_s >= base.total_s


@given(size=st.floats(1, 1e10), more=st.floats(1, 3), kind=st.sampled_from(STREAMS))
def test_time_rises_with_bytes_through_the_cache(size: float, more: float, kind: KernelClass) -> None:
    prices = model("h100-sxm")
    assert prices.time(kernel(kind, 0, size * more)).total_s >= prices.time(kernel(kind, 0, size)).total_s


@given(sizes=st.tuples(*[st.integers(8, 60)] * 3))
def test_large_matmuls_in_fp8_are_never_slower_on_hopper(sizes: tuple[int, int, int]) -> None:
    m, n, k = (256 * size for size in sizes)
    wide = matmul(m, n, k)
    narrow = replace(wide, bytes=m * k + k * n + 2 * m * n)
    assert model(precision="fp8").time(narrow).total_s <= model().time(wide).total_s


def test_a_plain_matmul_runs_in_16_bit_whatever_the_others_do() -> None:
    work = replace(matmul(4096, 4096, 4096), plain=True)
    assert model(precision="fp8").time(work) == model().time(work)


def test_classes_that_a_table_leaves_out_are_those_next_to_them() -> None:
    table = {key: value for key, value in document("h100-sxm")["kernels"].items() if key != "norm_backward"}
    prices = model(kernels=table)
    assert prices.time(kernel("norm_backward", 0)).total_s == prices.time(kernel("norm", 0)).total_s
    assert prices.time(kernel("quantise", 0)).total_s == prices.time(kernel("elementwise", 0)).total_s


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_do_takes_no_time(kind: KernelClass) -> None:
    result = model().time(kernel(kind, 0, 0))
    assert (result.total_s, result.useful_s, result.latency_s) == (0, 0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_only_matmul_is_useful(kind: KernelClass) -> None:
    result = model().time(kernel(kind))
    assert (result.useful_s > 0) == (kind in MATMUL_CLASSES)
    assert result.formula
    assert result.source


@given(
    kind=st.sampled_from(KINDS),
    flops=st.floats(0, 1e15),
    size=st.floats(0, 1e11),
    more=st.floats(1, 10),
    name=st.sampled_from(["h100-sxm", "a100-80gb-pcie", "rtx4090", "b200-sxm", "mi300x"]),
)
def test_more_work_is_never_faster_and_peak_never_beaten(
    kind: KernelClass, flops: float, size: float, more: float, name: str
) -> None:
    prices = model(name)
    base = prices.time(kernel(kind, flops, size))
    assert base.total_s >= base.useful_s
    assert base.total_s >= base.latency_s
    assert prices.time(kernel(kind, flops * more, size)).total_s >= base.total_s
    assert prices.time(kernel(kind, flops, size * more)).total_s >= base.total_s


@given(kind=st.sampled_from(KINDS), flops=st.floats(0, 1e15), size=st.floats(0, 1e11), more=st.floats(1, 10))
def test_a_better_device_is_never_slower(kind: KernelClass, flops: float, size: float, more: float) -> None:
    work = kernel(kind, flops, size)
    base = model().time(work).total_s
    assert model(memory_bandwidth=f"{3350 * more} GB/s").time(work).total_s <= base
    assert model(peaks="dense", precision="bf16").time(work).total_s == base
    faster = Device.model_validate(document("h100-sxm") | {"peaks": {"bf16": f"{989.4 * more} TFLOPS"}})
    assert KernelModel(faster, "dense", "bf16").time(work).total_s <= base


def test_fp8_halves_matmul_and_leaves_attention_in_16_bit() -> None:
    for work in (kernel("gemm", 1e13, 0), kernel("grouped_gemm", 1e13, 0)):
        fast, slow = model(precision="fp8").time(work), model().time(work)
        assert fast.useful_s / slow.useful_s == pytest.approx(0.5, rel=1e-3)
    for work in (kernel("attention_forward"), kernel("attention_backward")):
        assert model(precision="fp8").time(work) == model().time(work)


def test_advertised_peaks_can_be_chosen() -> None:
    assert model("rtx4090", peaks="advertised").time(kernel()).useful_s == pytest.approx(1e12 / 330.3e12)
    assert model("rtx4090").time(kernel()).useful_s == pytest.approx(1e12 / 165.2e12)


@pytest.mark.parametrize(
    ("name", "precision"), [("a100-80gb-sxm", "fp8"), ("h100-sxm", "mxfp8"), ("h100-sxm", "nvfp4")]
)
def test_a_precision_the_device_lacks_is_refused(name: str, precision: str) -> None:
    with pytest.raises(ScenarioError, match=rf"has no {precision} matmul; it has bf16, fp"):
        model(name, precision)


def test_an_unresolved_or_incomplete_table_is_refused() -> None:
    with pytest.raises(ScenarioError, match="a table is needed"):
        model(kernels="h200-sxm")
    table = document("h100-sxm")["kernels"] | {"gemm": {"memory": 0.9, "source": "none"}}
    with pytest.raises(ScenarioError, match=r"kernels\.gemm\.compute is missing"):
        model(kernels=table).time(kernel())


def test_extrapolation_is_said() -> None:
    assert not model("h100-sxm").time(kernel()).extrapolated
    assert model("h100-sxm").time(kernel("optimizer")).extrapolated, "assumed, not measured"
    assert model("h200-sxm").time(kernel()).extrapolated, "borrowed"
    assert not model("b200-sxm").time(kernel()).extrapolated
    assert model("b200-sxm", "fp8").time(kernel()).extrapolated, "coefficients of 16 bits"
    assert model("b200-sxm").time(kernel("norm_backward")).extrapolated, "coefficients of forward"


@pytest.mark.parametrize("name", ["a100-80gb-sxm", "h100-sxm", "b200-sxm", "rtx4090"])
@pytest.mark.parametrize("backward", [False, True])
def test_older_attention_is_never_faster_than_newer_one(name: str, backward: bool) -> None:
    device = Device.model_validate(document(name))
    old, new = (KernelModel(device, "dense", "bf16", kernel).time(attention(8192, 32, backward)) for kernel in OLDER)
    assert old.total_s >= new.total_s


def test_attention_kernels_come_from_a_table_a_ratio_or_are_said_to_be_missing() -> None:
    work = attention(8192, 32)
    device = Device.model_validate(document("h100-sxm"))
    times = {name: KernelModel(device, "dense", "bf16", name).time(work) for name in get_args(AttentionKernel)}
    assert times["fa3"].total_s == model().time(work).total_s
    assert not times["fa2"].extrapolated
    assert times["fa1"].extrapolated
    assert "times the rate of fa1" in times["fa1"].source
    assert times["fa1"].work.compute_s == pytest.approx(2 * times["fa2"].work.compute_s)
    missing = KernelModel(Device.model_validate(document("b200-sxm")), "dense", "bf16", "fa1").time(work)
    assert missing.extrapolated
    assert missing.total_s == model("b200-sxm").time(work).total_s
    assert missing.source.startswith("no coefficients of fa1")
