"""Kernel timings: any file of the format runs, measurements never enter predictions, errors are as small as said."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import pytest

from simtrain.errors import ScenarioError
from simtrain.validation.calibrate.kernels import Tables, fit
from simtrain.validation.calibrate.search import Range, minimise
from simtrain.validation.calibrate.tasks import TASKS
from simtrain.validation.errors_of import error_figures
from simtrain.validation.kernels import NEEDED, KernelReport, measured_table, predict_kernels
from simtrain.validation.table import read_table

MEASURED = ("time_us", "tflops", "gbps", "kind", "source", "gpu")


@cache
def report() -> KernelReport:
    return predict_kernels(measured_table())


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def predicted(path: Path) -> list[float | None]:
    return [row.predicted_time_us for row in predict_kernels(path).rows]


@pytest.mark.parametrize("drop", [True, False])
def test_predictions_do_not_read_what_was_measured(tmp_path: Path, drop: bool) -> None:
    rows = read_table(measured_table(), NEEDED)
    blank = [
        {key: "" if key in MEASURED else value for key, value in row.items() if not (drop and key in MEASURED)}
        for row in rows
    ]
    assert predicted(write(tmp_path / "blank.csv", blank)) == [row.predicted_time_us for row in report().rows]


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    backwards = write(tmp_path / "backwards.csv", read_table(measured_table(), NEEDED)[::-1])
    assert predicted(backwards)[::-1] == [row.predicted_time_us for row in report().rows]


def test_all_rows_of_catalogued_devices_are_predicted_but_for_those_without_shape() -> None:
    skipped = {row.group for row in report().rows if row.status == "skipped"}
    assert sum(row.status == "skipped" for row in report().rows) == 9
    assert {group for group in skipped if group.endswith("SXM")} == {
        "grouped_gemm_overlapped_aggregate H800-SXM",
        "moe_combine_overlapped H800-SXM",
        "moe_dispatch_fwd_overlapped H800-SXM",
    }
    assert all(row.reason and row.predicted_time_us is None for row in report().rows if row.status == "skipped")


@pytest.mark.parametrize(
    ("group", "bound"),
    [
        ("gemm A100-80GB-SXM", 0.06),
        ("gemm H100-SXM", 0.07),
        ("gemm A100-80GB-PCIe", 0.03),
        ("gemm B200-SXM", 0.10),
        ("gemm H800-SXM", 0.08),
        ("grouped_gemm A100-80GB-PCIe", 0.05),
        ("grouped_gemm B200-SXM", 0.13),
        ("grouped_gemm H800-SXM", 0.08),
        ("sdp_fwd A100-80GB-PCIe", 0.04),
        ("sdp_bwd A100-80GB-PCIe", 0.06),
        ("sdp_fwd B200-SXM", 0.06),
        ("sdp_bwd B200-SXM", 0.06),
        ("fa3_fwd H100-SXM", 0.06),
        ("fa2_fwd H100-SXM", 0.08),
        ("mem_mlp_act A100-80GB-SXM", 0.06),
        ("mem_mlp_act H100-SXM", 0.06),
        ("mem_add H100-SXM", 0.08),
    ],
)
def test_errors_are_as_small_as_the_documentation_says(group: str, bound: float) -> None:
    figures = report().groups[group]
    assert figures.mean_abs is not None
    assert figures.mean_abs < bound
    assert figures.predicted == figures.rows
    assert abs(figures.bias or 0) < 0.1


@pytest.mark.parametrize(
    ("target", "device"),
    [("attention_forward", "a100-80gb-pcie"), ("elementwise", "h100-sxm"), ("grouped_gemm_fp8", "h100-sxm")],
)
def test_a_fit_gives_the_digits_of_the_catalogue(target: str, device: str) -> None:
    tables = Tables()
    task = next(task for task in TASKS if (task.device, task.target) == (device, target))
    before = tables.table(device)[target]
    tables.put((device, target), fit(task, tables, held_out=False).values, before["source"], not task.rows_of)
    assert tables.table(device)[target] == before


def row(**values: str) -> dict[str, str]:
    return {"device": "H100-SXM", "kernel": "gemm", "dtype": "bf16", "m": "512", "n": "512", "k": "512"} | values


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"device": ""}, "no device"),
        ({"device": "H1000"}, "device 'h1000' is not in the catalogue"),
        ({"kernel": "fancy"}, "kernel 'fancy' is not known"),
        ({"kernel": "mem_fancy"}, "kernel 'mem_fancy' is not known"),
        ({"kernel": "mem_add", "m": ""}, "bytes, or rows and width, are missing"),
        ({"dtype": "int3"}, "dtype 'int3' is not known"),
        ({"device": "A100-80GB-SXM", "dtype": "fp8"}, "has no fp8 matmul"),
        ({"n": ""}, "m, n or k is missing"),
        ({"m": "many"}, "m = 'many' is not a number"),
        ({"m": "nan"}, "m = 'nan' is not a whole number"),
        ({"m": "1e30"}, "is not a whole number"),
        ({"m": "-4"}, "is not a whole number"),
        ({"kernel": "sdp_fwd", "m": ""}, "sequence length or head size is missing"),
        ({"kernel": "sdp_fwd"}, "heads or batch are missing"),
    ],
)
def test_a_row_that_cannot_be_predicted_says_why(tmp_path: Path, values: dict[str, str], reason: str) -> None:
    found = predict_kernels(write(tmp_path / "rows.csv", [row(), row(**values)]))
    assert found.rows[0].status == "predicted"
    assert found.rows[1].status == "skipped"
    assert reason in found.rows[1].reason


@pytest.mark.parametrize(
    "values",
    [
        {"kernel": "grouped_gemm", "groups": "8", "extra": "stage=bwd_grad_w;m=per group"},
        {"dtype": "fp8_blockscaled"},
        {"device": "h800-sxm", "dtype": "mxfp8"} | {"device": "b200-sxm"},
        {"kernel": "fa3_fwd", "n": "128", "extra": "batch*seq=16k;hidden=2048;head_dim=128;causal=False"},
        {"kernel": "fa3_bwd", "n": "128", "extra": "batch*seq=8k;hidden=1024;head_dim=64;causal=True"},
        {"kernel": "mem_rms_norm_forward_liger"},
        {"kernel": "mem_adam", "extra": "bytes=1000000"},
        {"device": "RTX4090"},
        {"device": "H20", "kernel": "mem_cross_entropy_full_liger"},
        {"extra": "layout=NT;accumulate=True;out=fp32", "time_us": "fast", "tflops": "inf"},
    ],
)
def test_rows_of_other_shapes_software_and_devices_are_predicted(tmp_path: Path, values: dict[str, str]) -> None:
    known = predict_kernels(write(tmp_path / "rows.csv", [row(**values)])).rows[0]
    if "mxfp8" in values.values():
        assert "has no mxfp8 matmul" in known.reason or known.status == "predicted"
        return
    assert known.status == "predicted", known.reason
    assert known.predicted_time_us is not None
    assert 0.5 < known.predicted_time_us < 1e5
    assert known.measured_time_us is None


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot be read"):
        predict_kernels(tmp_path / "absent.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScenarioError, match="not a text file"):
        predict_kernels(tmp_path / "binary.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ScenarioError, match="lacks device, kernel"):
        predict_kernels(tmp_path / "other.csv")
    (tmp_path / "empty.csv").write_text("device,kernel\n")
    assert predict_kernels(tmp_path / "empty.csv").rows == ()


def test_figures_by_hand() -> None:
    figures = error_figures(4, 3, [(1.1, 1.0), (1.8, 2.0), (3.0, 3.0)])
    assert figures.mean_abs == pytest.approx(0.2 / 3)
    assert figures.bias == pytest.approx(0)
    assert figures.spearman == pytest.approx(1)
    assert error_figures(2, 0, []).mean_abs is None


def test_a_search_finds_the_bottom_of_a_bowl_at_three_digits() -> None:
    ranges = {"a": Range(0.1, 10, (1.0,)), "b": Range(0.1, 10, (5.0, 0.2))}
    point, least = minimise(lambda p: abs(p["a"] - 2.5) + abs(p["b"] - 0.7), ranges)
    assert point == {"a": pytest.approx(2.5, rel=0.01), "b": pytest.approx(0.7, rel=0.01)}
    assert least < 0.03
    assert all(value == float(f"{value:.3g}") for value in point.values())
