"""Fits without a publisher: planted coefficients are found; what nobody tells stays at what is known of its kind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simtrain.validation.leave_out import PRIOR, Slopes, fitted, leave_one_out, publisher_of
from simtrain.validation.rows import Row, read_rows
from simtrain.validation.steps import Predicted, measured_models, measured_steps

MATMUL, COPIES = ("matmul", "Ampere"), ("copies", "A stack")


def row(group: str, measured_s: float) -> Row:
    one = read_rows(measured_steps())[0]
    return replace(one, group=group, measured=replace(one.measured, step_s=measured_s, out_of_memory=False))


def slopes(group: str, base_s: float, truth: dict[tuple[str, str], float]) -> Slopes:
    """A row whose time is base - 8 (matmul - 0.95) + 0.2 (copies - 4) times base / 10, measured at ``truth``."""
    values = {MATMUL: 0.95, COPIES: 4.0}
    per_unit = {MATMUL: -0.8 * base_s, COPIES: 0.02 * base_s * (1 + base_s / 20)}
    found = Slopes(Predicted(row(group, 1.0), "predicted", step_s=base_s), values, per_unit)
    return replace(found, found=replace(found.found, row=row(group, found.step_s(truth))))


def test_planted_coefficients_are_found() -> None:
    truth = {MATMUL: 0.9, COPIES: 10.0}
    rows = [slopes(f"g{chr(97 + i)}", base, truth) for i, base in enumerate((1.0, 4.0, 9.0, 16.0, 25.0))]
    found = fitted(rows, rows)
    assert found[MATMUL] == pytest.approx(0.9, abs=0.01)
    assert found[COPIES] == pytest.approx(10.0, abs=1.0)


def test_what_no_row_tells_is_the_mean_of_its_kind() -> None:
    rows = [slopes("ga", 2.0, {MATMUL: 0.9, COPIES: 10.0})]
    other = replace(rows[0], values={("copies", "Another stack"): 1.0, ("calls_per_operator", "Another stack"): 1.0})
    found = fitted(rows, [*rows, other])
    assert found["copies", "Another stack"] == pytest.approx(found[COPIES])
    assert found["calls_per_operator", "Another stack"] == PRIOR["calls_per_operator"]


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


def test_the_table_sets_values_in_use_beside_fitted_ones() -> None:
    from simtrain.validation.calibrate.steps import main, table

    text = table(
        [slopes(f"g{i}", base, {MATMUL: 0.9, COPIES: 4.0}) for i, base in zip("abc", (1.0, 5.0, 9.0), strict=True)]
    )
    line = next(line for line in text.splitlines() if "Ampere" in line)
    assert "| matmul | Ampere | 0.95 | 0.9" in line
    assert line.endswith("| 3 |")
    assert main(["--check"]) == 2
