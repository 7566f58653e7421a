"""Rows of published step times: read, predicted from their columns alone, and scored."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from simtrain.errors import ScenarioError, UnknownNameError
from simtrain.importers.model_table import read_models
from simtrain.scenario.scenario import Scenario
from simtrain.validation.floor import Baseline, floor
from simtrain.validation.hardware import HardwareColumns, cluster_of
from simtrain.validation.rows import COLUMNS, read_rows
from simtrain.validation.scenarios import candidates
from simtrain.validation.stacks import profile_of
from simtrain.validation.steps import measured_models, measured_steps, predict_steps
from simtrain.validation.within import Compared, independent_errors, rank_layouts

MEASURED = ("measured_mfu", "measured_tflops_per_gpu", "measured_step_s", "measured_tokens_s_gpu", "peak_mem_gb")
WORDS = ("group", "source", "provenance", "notes", "mfu_std", "mfu_std_ratio", "mfu_definition", "step_s_kind", "oom")
SOME = ("simumax_b200-0003", "korthikanti-0002", "narayanan-0001", "llmq_other-0003", "llmfoundry-0210")


def some(*ids: str) -> list[dict[str, str]]:
    with measured_steps().open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["id"] in ids]


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def scenario(folder: Path, row: dict[str, str]) -> Scenario:
    (read,) = read_rows(write(folder / "row.csv", [row]))
    return candidates(read, read_models(measured_models())[read.model])[0]


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("", (None, None, None, "all_gather")),
        ("No TP overlap,  synchronous PP p2p", ("none", True, None, "all_gather")),
        ("no TP comm overlap; blocking sends", ("none", True, None, "all_gather")),
        ("synchronous PP p2p, CP all-to-all", (None, True, None, "all_to_all")),
        ("no gradient-bucket overlap", (None, None, False, "all_gather")),
        ("something nobody has heard of", (None, None, None, "all_gather")),
    ],
)
def test_the_overlap_column_sets_the_layout(tmp_path: Path, words: str, settings: tuple[object, ...]) -> None:
    (row,) = some("simumax_b200-0003")
    layout = scenario(tmp_path, row | {"overlap_flags": words}).layout
    found = (layout.tp_overlap, layout.blocking_sends, layout.overlap_grad_reduce, layout.cp_comm)
    assert found == settings


@pytest.mark.parametrize(
    ("words", "kernel"),
    [
        ("flash-attention-1.0.8", "fa1"),
        ("flash-attention-2", "fa2"),
        ("TransformerEngine/cuDNN fused", "cudnn"),
        ("TransformerEngine fused", "triton"),
        ("TE + flash-attention-3", "fa3"),
        ("flash-attention (triton/v1/v2 not stated)", "triton"),
        ("", "triton"),
    ],
)
def test_the_attention_column_or_the_stack_names_the_kernel(tmp_path: Path, words: str, kernel: str) -> None:
    (row,) = some("llmfoundry-0210")
    assert scenario(tmp_path, row | {"attention_kernel": words}).software.attention_kernel == kernel


def test_predictions_need_no_measured_column_name_or_note(tmp_path: Path) -> None:
    rows = some(*SOME)
    blank = [{**row, **dict.fromkeys((*MEASURED, *WORDS), ""), "id": f"x{i}"} for i, row in enumerate(rows)]
    plain = predict_steps(write(tmp_path / "plain.csv", rows), measured_models(), workers=1)
    blanked = predict_steps(write(tmp_path / "blank.csv", blank), measured_models(), workers=1)
    assert len(plain.rows) == len(SOME)
    assert [one.step_s for one in plain.rows] == [one.step_s for one in blanked.rows]
    assert [one.peak_memory_gib for one in plain.rows] == [one.peak_memory_gib for one in blanked.rows]
    assert all(one.status == "predicted" and one.step_s for one in plain.rows)
    assert all(one.error is None for one in blanked.rows)


def test_an_unknown_micro_batch_is_the_fastest_that_fits(tmp_path: Path) -> None:
    (row,) = some("narayanan-0001")
    path = write(
        tmp_path / "rows.csv", [row, *({**row, "id": m, "micro_batch": m} for m in ("1", "2", "4", "8", "16"))]
    )
    best, *fixed = predict_steps(path, measured_models(), workers=1).rows
    assert best.step_s == min(one.step_s for one in fixed if not one.out_of_memory)
    assert "micro batch" in best.settings


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "nothing"}, "table of models"),
        ({"tp": ""}, "tp is not known"),
        ({"dp": "3"}, "is not n_gpus"),
        ({"device": "H900"}, "H900"),
        ({"precision": "fp3"}, "precision"),
        ({"task": "lora"}, "lora"),
    ],
)
def test_rows_that_cannot_be_predicted_say_why(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    (row,) = some("korthikanti-0002")
    (one,) = predict_steps(write(tmp_path / "rows.csv", [row | changes]), measured_models(), workers=1).rows
    assert one.status == "skipped"
    assert reason in one.reason


def test_skipped_complete_rows_count_as_wrong(tmp_path: Path) -> None:
    (row,) = some("korthikanti-0002")
    path = write(tmp_path / "rows.csv", [row, {**row, "id": "other", "model": "nothing"}])
    report = predict_steps(path, measured_models(), workers=1)
    (group,) = report.groups.values()
    assert group.steps.worst_abs == pytest.approx(1.0)
    assert group.steps.measured == 2


def test_the_newest_of_rows_alike_counts(tmp_path: Path) -> None:
    (row,) = some("korthikanti-0002")
    versions = [{**row, "id": version, "stack_version": version} for version in ("24.07", "25.10", "25.09")]
    report = predict_steps(write(tmp_path / "rows.csv", versions), measured_models(), workers=1)
    assert [one.row.id for one in report.rows if one.counts] == ["25.10"]


def test_rows_that_differ_in_depth_and_micro_batches_count_once(tmp_path: Path) -> None:
    (row,) = some("vtrain_single-0003")
    deeper = {"id": "deeper", "model": "vtrain-gpt-h2048-l12", "measured_step_s": "0.3"}
    changes = [{}, deeper, {"id": "longer", "global_batch": "32"}, {"id": "other", "micro_batch": "2"}]
    report = predict_steps(write(tmp_path / "rows.csv", [row | new for new in changes]), measured_models(), workers=1)
    (group,) = report.groups.values()
    *alike, other = [abs(one.error or 0.0) for one in report.rows]
    assert group.independent == pytest.approx((sum(alike) / 3, other))
    assert group.mean_abs_combinations == pytest.approx((sum(alike) / 3 + other) / 2)
    assert group.steps.measured == 4


def test_shipped_rows_composed_from_parts_hold_71_combinations() -> None:
    models = read_models(measured_models())
    rows = [Compared(row, 1.0, 1.0) for row in read_rows(measured_steps()) if row.group == "vtrain_single"]
    assert len(rows) == 716
    assert independent_errors(rows, models) == (0.0,) * 71


def test_layouts_are_ranked_within_one_job_alone() -> None:
    rows = [row for row in read_rows(measured_steps()) if row.group == "aleph" and row.measured.step_s]
    times = [row.measured.step_s or 0.0 for row in rows]
    right = rank_layouts([Compared(row, 3 * step_s, step_s) for row, step_s in zip(rows, times, strict=True)])
    wrong = rank_layouts([Compared(row, 1 / step_s, step_s) for row, step_s in zip(rows, times, strict=True)])
    assert {(job.model, job.sequence) for job in right} == {(row.model, row.sequence) for row in rows}
    assert all(job.spearman == pytest.approx(1.0) for job in right)
    assert all(job.spearman == pytest.approx(-1.0) for job in wrong)
    assert rank_layouts([Compared(rows[0], 1.0, 1.0), Compared(rows[1], 2.0, 2.0)]) == ()


@pytest.mark.parametrize(
    ("column", "value"), [("n_gpus", "eight"), ("n_gpus", "0"), ("tp", "1.5"), ("oom", "yes"), ("nic_gbps", "-1")]
)
def test_a_cell_that_cannot_be_read_is_named(tmp_path: Path, column: str, value: str) -> None:
    (row,) = some("korthikanti-0002")
    with pytest.raises(ScenarioError, match=f"data row 1 .*column {column}: '{value}'"):
        read_rows(write(tmp_path / "rows.csv", [row | {column: value}]))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    (row,) = some("korthikanti-0002")
    with pytest.raises(ScenarioError, match="lacks stack_year"):
        read_rows(write(tmp_path / "rows.csv", [{key: row[key] for key in COLUMNS if key != "stack_year"}]))


def test_all_shipped_rows_can_be_read() -> None:
    rows = read_rows(measured_steps())
    assert len(rows) > 1600
    assert len({row.id for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("columns", "nodes", "gpus", "nics"),
    [
        (HardwareColumns("A100-80GB-SXM", 64, 8, 8, "nvlink", 300, 4, 100), 8, 8, 4),
        (HardwareColumns("H100-SXM", 4, 8, 8, "nvlink", 450, 8, 400), 1, 4, 0),
        (HardwareColumns("GB200", 256, 4, 72, "nvlink", 900, 4, 400), 4, 64, 64),
        (HardwareColumns("RTX4090", 4, 4, 1, "pcie", 31.5, 0, 0), 1, 4, 0),
        (HardwareColumns("A100-40GB-PCIe", 16, 8, 1, "pcie"), 2, 8, 1),
        (HardwareColumns("RTX3090", 8, 8, 1, "pcie"), 1, 8, 0),
    ],
)
def test_hardware_columns_become_clusters(columns: HardwareColumns, nodes: int, gpus: int, nics: int) -> None:
    cluster = cluster_of(columns)
    assert (cluster.nodes, cluster.node.gpus, cluster.node.nics) == (nodes, gpus, nics)
    if columns.nic_gbps and nodes > 1:
        assert cluster.node.nic.bandwidth == columns.nic_gbps * 1e9 / 8


def test_a_network_said_to_be_infiniband_has_no_software_of_another() -> None:
    columns = HardwareColumns("B200-SXM", 64, 8, 8, "nvlink", 900, 8, 400)
    assert cluster_of(columns).node.network_software > 0
    assert cluster_of(replace(columns, infiniband=True)).node.network_software == 0


def test_gpus_that_do_not_fill_nodes_and_unknown_devices_are_refused() -> None:
    with pytest.raises(ScenarioError, match="12 GPUs"):
        cluster_of(HardwareColumns("H100-SXM", 12))
    with pytest.raises(UnknownNameError):
        cluster_of(HardwareColumns("H99", 8))


def test_stacks_have_profiles_by_year_and_unknown_ones_a_generic_one() -> None:
    assert profile_of("megatron-lm", 2021) == profile_of("some-other-stack", 2021)
    assert not profile_of("megatron-lm", 2023).overlap_grad_reduce
    assert profile_of("", None).overlap_grad_reduce


def test_megatron_core_of_a_container_is_run_by_recipes_and_else_by_its_command_line() -> None:
    assert profile_of("megatron-core", 2025, "26.04.01").overlap_grad_reduce
    assert not profile_of("megatron-core", 2025, "").overlap_grad_reduce
    assert not profile_of("megatron-core", 2025, "0.12.0").overlap_grad_reduce


def test_the_floor_is_the_best_single_constant_for_each_device() -> None:
    rows = [Baseline("a", (4.0, 1.0), 2.0), Baseline("a", (8.0, 1.0), 4.0), Baseline("b", (1.0, 1.0), 1.0)]
    assert floor(rows) == pytest.approx(0.0)
    assert floor([Baseline("a", (1.0,), 1.0), Baseline("a", (2.0,), 1.0)]) == pytest.approx(0.25)
    assert floor([]) is None


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "simtrain", "validate", *arguments], capture_output=True, text=True, check=False
    )


def test_the_command_prints_one_document(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", some("korthikanti-0002", "korthikanti-0010"))
    done = run("--data", str(path), "--models", str(measured_models()), "--html", str(tmp_path / "p.html"), "--json")
    document = json.loads(done.stdout)
    first = document["rows"][0]
    assert {"id", "group", "status", "reason", "predicted_step_s", "measured_step_s", "error"} <= first.keys()
    assert {"predicted_peak_mem_gb", "measured_peak_mem_gb", "predicted_oom", "measured_oom"} <= first.keys()
    figures = {"rows", "predicted", "mean_abs", "median_abs", "p90_abs", "worst_abs", "bias", "spearman", "floor"}
    assert figures <= document["groups"]["korthikanti"].keys()
    assert {"mean_abs_combinations", "spearman_within"} <= document["groups"]["korthikanti"].keys()
    assert "plotly" in (tmp_path / "p.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--models", "x.csv"), "--models needs --data"),
        (("--kernels", "a", "--collectives", "b"), "leave out --collectives"),
        (("--kernels", "a", "--html", "p.html"), "leave out --html"),
        (("--data", "nothing.csv"), "nothing.csv: cannot be read"),
    ],
)
def test_wrong_arguments_end_in_one_message(arguments: tuple[str, ...], words: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert not done.stdout
