"""Kernel times: laws of the roofline, its figures on published timings, and what it says about itself."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from simtrain.costs.kernels import MATMUL_CLASSES, KernelModel
from simtrain.errors import ScenarioError
from simtrain.model.operators import Kernel, KernelClass
from simtrain.scenario.cluster import Device

ROOT = Path(__file__).parents[2]
KINDS = get_args(KernelClass)


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


def test_roofline_by_hand() -> None:
    result = model().time(kernel())
    assert result.total_s == pytest.approx(6.8e-6 + 1e12 / (989.4e12 * 0.734))
    assert result.useful_s == pytest.approx(1e12 / 989.4e12)
    assert result.latency_s == pytest.approx(6.8e-6)
    assert result.bound == "compute"
    assert "989.4 TFLOPS x 0.734" in result.formula
    assert "3.35 TB/s x 0.9)" in result.formula
    assert "vidur" in result.source


def test_memory_bound_matmul() -> None:
    result = model().time(kernel(flops=1e9, size_bytes=1e9))
    assert result.bound == "memory"
    assert result.total_s == pytest.approx(6.8e-6 + 1e9 / (3.35e12 * 0.9))


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


@cache
def fitting() -> ModuleType:
    """The fitting script as a module; skips without its data."""
    spec = importlib.util.spec_from_file_location("fit_kernels", ROOT / "benchmarks" / "fit_kernels.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fit_kernels"] = module
    spec.loader.exec_module(module)
    if not (module.DATA / "kernels_measured.csv").exists():
        pytest.skip(f"needs {module.DATA}/kernels_measured.csv (SIMTRAIN_DATA)")
    return module


@pytest.mark.parametrize(
    ("device", "kind", "bound"),
    [
        ("A100-80GB-SXM", "gemm", 0.08),
        ("H100-SXM", "gemm", 0.08),
        ("A100-80GB-PCIe", "gemm", 0.08),
        ("B200-SXM", "gemm", 0.15),
        ("A100-80GB-PCIe", "grouped_gemm", 0.15),
        ("B200-SXM", "grouped_gemm", 0.30),
        ("A100-80GB-PCIe", "attention_forward", 0.12),
        ("A100-80GB-PCIe", "attention_backward", 0.16),
        ("B200-SXM", "attention_forward", 0.12),
        ("B200-SXM", "attention_backward", 0.16),
        ("A100-80GB-SXM", "activation", 0.12),
        ("H100-SXM", "activation", 0.12),
    ],
)
def test_catalogue_reproduces_published_timings_it_was_not_fitted_to(device: str, kind: str, bound: float) -> None:
    script = fitting()
    tables = script.Tables()
    kernels, work, keep = {
        "gemm": (("gemm",), script.matmul_work, script.large),
        "grouped_gemm": (("grouped_gemm",), script.matmul_work, lambda row: True),
        "attention_forward": (("sdp_fwd",), script.attention_work, lambda row: True),
        "attention_backward": (("sdp_bwd",), script.attention_work, lambda row: True),
        "activation": (("mem_mlp_act",), script.memory_work, lambda row: script.memory_work(row)[1] > 40e6),
    }[kind]
    rows = [r for r in tables.rows if r["device"] == device and r["kernel"] in kernels and keep(r)]
    timed = script.samples(rows, tables.devices[device], work)
    prices = model(device.lower())
    errors = [
        abs(prices.time(Kernel("k", kind, *work(row))).total_s / measured_s - 1)  # type: ignore[arg-type]
        for row, measured_s, unseen in zip(rows, timed.measured_s, timed.held_out, strict=True)
        if unseen
    ]
    mean = sum(errors) / len(errors)
    print(f"{device} {kind}: mean error {100 * mean:.1f} % on {len(errors)} held-out rows")
    assert mean < bound


def test_catalogue_holds_what_the_script_fits() -> None:
    script = fitting()
    tables = script.Tables()
    fits = script.fit_all(tables)
    for device, classes in fits.items():
        table = model(device.lower()).table
        for kind, result in classes.items():
            shipped = getattr(table, kind)
            if shipped.compute is not None:
                assert shipped.compute == pytest.approx(result.compute, abs=0.002), (device, kind)
            assert shipped.memory == pytest.approx(result.memory, abs=0.006), (device, kind)
    for kind, share in script.hopper(tables).items():
        assert getattr(model("h100-sxm").table, kind).compute == pytest.approx(share, abs=0.002)
    for device in script.DERIVED:
        share = script.derived_share(tables, fits, device)
        assert model(device.lower()).table.gemm.compute == pytest.approx(share, abs=0.002), device
