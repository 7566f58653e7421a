"""Tables of runs with failures: every figure beside the same without, and where the time goes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simtrain.reliability.result import BUCKETS
from simtrain.reliability.run import RunReport, run_of
from simtrain.report import run_tables
from simtrain.report.table_style import spread
from simtrain.step.simulate import simulate_step
from tests.report.test_tables import printed, row
from tests.small import small

TOKENS = "workload.tokens=500B"


@pytest.fixture(scope="module")
def runs() -> list[RunReport]:
    step = simulate_step(small(TOKENS, "name=often", "reliability=rtx4090-30-days"))
    rare = replace(step, scenario=small(TOKENS, "name=rarely", "reliability=h100"))
    return [run_of(step, runs=20), run_of(rare, runs=20)]


def test_every_bucket_has_words() -> None:
    assert set(run_tables.BUCKET_WORDS) == set(BUCKETS)
    grouped = [bucket for group in run_tables._GROUPS.values() for bucket in group]
    assert sorted(grouped) == sorted(BUCKETS)


def test_a_run_stands_beside_the_same_without_failures(runs: list[RunReport]) -> None:
    run = runs[0]
    rows = {name: (failing, free) for name, failing, free in run_tables.run_rows(run)}
    within = spread(run.step.uncertainty)
    assert within
    assert rows["effective MFU"] == (f"{run.effective_mfu:.1%}{within}", f"{run.step.mfu:.1%}{within}")
    assert rows["days"] == (f"{run.days:,.1f}{within}", f"{run.step.job.days:,.1f}{within}")
    assert rows["can failures strike recovery?"][0].startswith("yes")
    assert "standard error of 20 runs" in rows["goodput"][0]
    assert float(rows["failures a day"][0]) == pytest.approx(16 / 30, rel=0.25)
    assert "(assumption)" in printed(run_tables.run_table(run))


def test_immune_recovery_and_single_runs_are_said() -> None:
    step = simulate_step(small(TOKENS, "reliability=h100", "reliability.recovery.interruptible=false"))
    rows = {row[0]: row[1] for row in run_tables.run_rows(run_of(step, runs=1))}
    assert "one run" in rows["goodput"]
    assert rows["can failures strike recovery?"].startswith("no")


def test_the_ledger_adds_up_to_the_days_of_the_run(runs: list[RunReport]) -> None:
    rows = run_tables.ledger_rows(runs[0])
    assert sum(float(row[1].rstrip("%")) for row in rows) == pytest.approx(100, abs=0.1)
    assert sum(float(row[2].replace(",", "")) for row in rows) == pytest.approx(runs[0].days * 24, abs=1)
    assert "useful work" in printed(run_tables.ledger_table(runs[0]))


def test_several_runs_stand_one_to_a_row(runs: list[RunReport]) -> None:
    text = printed(run_tables.runs_table(runs))
    often, rarely = row(text, "often"), row(text, "rarely")
    assert f"{runs[0].goodput * 100:.2f} ± {runs[0].standard_error * 100:.2f}" in often
    assert f"{runs[1].days:,.1f} ({runs[1].step.job.days:,.1f})" in rarely
    assert often.split()[1] == "30"
    assert "Can failures strike recovery? yes" in text
    assert "rates of Llama 3" in text
    assert f"often and rarely{spread(runs[0].step.uncertainty)}" in " ".join(text.split())
    assert "useful" in printed(run_tables.ledgers_table(runs))


def test_an_unknown_price_is_said(runs: list[RunReport]) -> None:
    run = replace(runs[0], bill=replace(runs[0].bill, cost_usd=None, usd_per_million_tokens=None))
    assert run_tables.runs_rows([run])[1][-2:] == ("not known", "not known")
