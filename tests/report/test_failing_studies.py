"""Shipped studies with failures: which assumption comes out ahead, and that sweeps carry the run."""

from __future__ import annotations

from dataclasses import replace

from simtrain.reliability.run import run_of
from simtrain.report.sweep_words import sweep_rows
from simtrain.scenario.load import load_study
from simtrain.step.compare import step_key
from simtrain.step.simulate import simulate_step
from simtrain.sweep.grid import load_sweep
from simtrain.sweep.run import run_sweep


def test_rarer_failures_leave_more_and_presets_share_their_step() -> None:
    scenarios = {scenario.name: scenario for scenario in load_study("4090-vs-h100", "reliability.runs=5")[1]}
    assert len({step_key(scenario) for scenario in scenarios.values()}) == 5
    ours = [scenarios[name] for name in ("4090, 1 NIC, 30 d", "4090, 1 NIC", "4090, 1 NIC, 2000 d")]
    assert len({step_key(scenario) for scenario in ours}) == 1
    assert all("assumption" in scenario.reliability.title for scenario in ours if scenario.reliability)
    assert {s.reliability.checkpoint.interval for s in scenarios.values() if s.reliability} == {"10 min"}
    step = simulate_step(ours[0])
    goodputs = [run_of(replace(step, scenario=scenario)).goodput for scenario in ours]
    assert goodputs == sorted(goodputs)
    assert 0.45 < goodputs[0] < 0.53
    assert goodputs[2] > 0.98


def test_the_sweep_of_failures_has_goodput_falling_with_either_axis() -> None:
    axes = ("reliability.mtbf_per_gpu=30 days,500 days", "reliability.checkpoint.interval=5 min,60 min")
    changes = ("cluster.nodes=16", "workload.global_batch=64", "reliability.runs=5", "workload.tokens=100B")
    table = run_sweep(load_sweep("4090-failures-sweep", *changes, axes=axes), workers=1)
    often_short, often_long, rare_short, rare_long = (row["run.goodput"] for row in table.rows)
    assert often_short > often_long
    assert rare_short > rare_long > often_long
    assert rare_short > often_short
    header = sweep_rows(table, "run.goodput")[0]
    assert "days with failures" in header
    assert "days" not in header
    assert all(row["run.days"] > row["job.days"] for row in table.rows)
