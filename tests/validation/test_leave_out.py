"""Fits without a publisher: planted coefficients are found; what nobody tells stays at what is known of its kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from simtrain.errors import ScenarioError
from simtrain.importers.model_table import read_models
from simtrain.validation.calibrate.steps import main, rounded, table, written
from simtrain.validation.leave_out import leave_one_out
from simtrain.validation.rows import Row, read_rows
from simtrain.validation.step_fit import PRIOR, Slopes, fitted, publisher_of, slopes_of
from simtrain.validation.steps import Predicted, measured_models, measured_steps

MATMUL, COPIES = ("matmul", "Ampere GA100: a100"), ("copies", "A stack")
SIZES = (1.0, 2.0, 4.0, 6.0, 9.0, 12.0, 16.0, 25.0)


def row(group: str, measured_s: float) -> Row:
    one = read_rows(measured_steps())[0]
    return replace(one, group=group, measured=replace(one.measured, step_s=measured_s, out_of_memory=False))


def slopes(group: str, base_s: float, truth: dict[tuple[str, str], float]) -> Slopes:
    """A row of which 80 % are matmuls at the prior's share, and 2 % and more each copy; measured at ``truth``."""
    values = {MATMUL: 0.95, COPIES: 4.0}
    per_step = {MATMUL: 0.8 * base_s * (0.95 / 0.9 - 1), COPIES: 0.2 * base_s * (1 + base_s / 20)}
    found = Slopes(Predicted(row(group, 1.0), "predicted", step_s=base_s), values, base_s, per_step)
    return replace(found, found=replace(found.found, row=row(group, found.step_s(truth))))


def several(group: str, truth: dict[tuple[str, str], float]) -> list[Slopes]:
    return [slopes(group, size, truth) for size in SIZES]


def test_planted_coefficients_are_found() -> None:
    rows = [one for group in "abcdefgh" for one in several(f"g{group}", {MATMUL: 0.9, COPIES: 10.0})]
    found = fitted(rows, rows)
    assert found[MATMUL] == pytest.approx(0.9, abs=0.01)
    assert found[COPIES] == pytest.approx(10.0, abs=1.0)


def test_a_publisher_of_few_rows_counts_nothing() -> None:
    rows = several("ga", {MATMUL: 0.9, COPIES: 10.0})
    few = several("gb", {MATMUL: 0.75, COPIES: 0.0})[:5]
    assert fitted([*rows, *few], rows) == fitted(rows, rows)
    assert fitted(few, few) == {key: PRIOR[key[0]] for key in (MATMUL, COPIES)}


def test_what_no_row_tells_is_the_mean_of_its_chip_or_kind() -> None:
    rows = several("ga", {MATMUL: 0.9, COPIES: 10.0})
    unknown = [("copies", "Another stack"), ("matmul", "Ampere GA100: pcie"), ("calls_per_recompute", "Another stack")]
    found = fitted(rows, [*rows, replace(rows[0], values=dict.fromkeys(unknown, 1.0))])
    assert found[unknown[0]] == pytest.approx(found[COPIES])
    assert found[unknown[1]] == pytest.approx(found[MATMUL])
    assert found[unknown[2]] == PRIOR["calls_per_recompute"]


def test_what_of_a_row_is_fitted() -> None:
    """Shares of the device whose steps they were fitted to, early ones apart; no counts of software without Python."""
    models = read_models(measured_models())
    of = {one.id: one for one in read_rows(measured_steps())}

    def keys(name: str) -> set[tuple[str, str]]:
        return set(slopes_of(of[name], models[of[name].model]).values)

    chip = "Hopper GH100: h100-sxm"
    assert keys("llmq_other-0003") == {("matmul", chip), ("stream", chip)}
    stack = "PyTorch FSDP with llm-foundry, 2023"
    assert keys("llmfoundry-0001") == {(kind, f"{chip} until 2023") for kind in ("matmul", "stream")} | {
        ("copies", stack)
    }


def test_groups_of_one_publisher() -> None:
    assert publisher_of(row("simumax_a100", 1.0)) == publisher_of(row("simumax_b200", 1.0)) == "simumax"
    assert publisher_of(row("llmq4090", 1.0)) == publisher_of(row("llmq_other", 1.0)) == "llmq"


def test_rows_of_one_publisher_are_predicted_without_them(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows of two publishers: what is reported of one does not change with the times of its own rows."""
    import simtrain.validation.leave_out as module

    every = {one.id: one for one in read_rows(measured_steps())}
    chosen = [
        next(r for r in every.values() if r.group == g and r.measured.step_s) for g in ("korthikanti", "llmq4090")
    ]
    monkeypatch.setattr(module, "independent_rows", lambda *_: chosen)
    first = leave_one_out(measured_steps(), measured_models(), workers=1)
    slower = replace(chosen[0], measured=replace(chosen[0].measured, step_s=2 * (chosen[0].measured.step_s or 1.0)))
    monkeypatch.setattr(module, "independent_rows", lambda *_: [slower, chosen[1]])
    second = leave_one_out(measured_steps(), measured_models(), workers=1)
    assert first.rows[0].step_s == second.rows[0].step_s
    assert first.rows[1].row == second.rows[1].row


def test_rows_that_do_not_count_say_so(tmp_path: Path) -> None:
    lines = measured_steps().read_text(encoding="utf-8").splitlines()
    (tmp_path / "rows.csv").write_text(lines[0] + "\n", encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"rows\.csv: no row has a complete layout"):
        leave_one_out(tmp_path / "rows.csv", measured_models())


def test_the_table_sets_values_in_use_beside_fitted_ones() -> None:
    rows = several("ga", {MATMUL: 0.9, COPIES: 10.0})
    found = rounded(fitted(rows, rows))
    assert found[COPIES].is_integer()
    text = table(rows, found)
    assert f"| matmul | {MATMUL[1]} | 0.95 | {found[MATMUL]:g} | 8 |" in text
    assert main(["--nothing"]) == 2


def test_coefficients_go_where_the_catalogue_states_them() -> None:
    device = "kernels:\n  in_training:\n    matmul: 0.9\n  in_training_early:\n    until: 2023\n    matmul: 0.8\n"
    assert written(device, ("matmul", "C: d"), 0.95) == device.replace("0.9\n", "0.95\n")
    assert written(device, ("matmul", "C: d until 2023"), 0.7) == device.replace("0.8\n", "0.7\n")
    borrower = "kernels: e\nin_training:\n  matmul: 0.9\n  stream: 1.0\n"
    assert written(borrower, ("stream", "C: d"), 0.8) == borrower.replace("1.0", "0.8")
    assert written("copies: 3   # few\n", ("copies", "A stack"), 12.0) == "copies: 12   # few\n"
    with pytest.raises(ScenarioError, match="A stack: its document does not state copies"):
        written("title: A stack\n", ("copies", "A stack"), 12.0)
