"""Figures of runs with failures hold the numbers they were given, with a unit on every axis."""

from __future__ import annotations

import numpy as np
import pytest

from simtrain import report
from simtrain.reliability.intervals import Estimate
from simtrain.reliability.run import RunReport, simulate_run
from simtrain.reliability.what_if import GoodputMap, IntervalCurve, SensitivityBar, SpareCurve, size_curve
from tests.small import small


@pytest.fixture(scope="module")
def run() -> RunReport:
    often = ("reliability=rtx4090-30-days", "reliability.mtbf_per_gpu=1 day", "workload.tokens=2e10")
    return simulate_run(small(*often, "reliability.runs=20"))


@pytest.mark.parametrize("unit", ["share", "hours", "usd"])
def test_ledger_adds_up(run: RunReport, unit: str) -> None:
    figure = report.run_ledger(run, unit)
    total = sum(trace.x[0] for trace in figure.data)
    assert total == pytest.approx({"share": 100, "hours": run.bill.gpu_hours / 1e3, "usd": run.cost_usd / 1e3}[unit])
    assert figure.layout.xaxis.title.text


def test_cost_adds_up(run: RunReport) -> None:
    total = sum(trace.x[0] for trace in report.run_cost([run, run]).data)
    assert total == pytest.approx(run.usd_per_million_tokens)


def test_timeline_ends_at_the_goodput_of_its_replicate(run: RunReport) -> None:
    figure = report.run_timeline(run)
    whole = next(trace for trace in figure.data if "since the start" in (trace.name or ""))
    assert whole.y[-1] == pytest.approx(100 * run.result.useful_s[0] / run.result.wall_s[0])
    assert max(figure.data[0].y) == pytest.approx(100 * run.step.mfu)
    failures = next(trace for trace in figure.data if trace.name == "failure")
    assert 0 < len(failures.x) <= 60


def test_completion_rises_to_all_runs(run: RunReport) -> None:
    figure = report.completion(run)
    line, *points = figure.data
    assert (np.diff(line.y) >= 0).all()
    assert line.y[-1] == 100
    assert [point.x[0] for point in points] == list(run.days_quantiles(0.05, 0.5, 0.95))
    assert run.chance_by(points[1].x[0]) >= 0.5


def test_a_page_has_every_figure_of_a_run(run: RunReport, tmp_path) -> None:
    sections = report.run_sections(run)
    assert sum(len(section.content) for section in sections) == 5
    report.write_html(sections, tmp_path / "run.html")


def test_what_if_figures_hold_their_numbers() -> None:
    sampled = (Estimate(0.4, 0.01, 10), Estimate(0.5, 0.01, 10))
    best = {"exact": 256.0, "young": 275.0, "daly": None, "simulated": 600.0}
    curve = report.goodput_by_interval(
        IntervalCurve(np.array([60.0, 600.0]), sampled, np.array([0.4, 0.5]), best, (60.0, 600.0), True)
    )
    assert [trace.name for trace in curve.data][3:] == [
        "best, exact: 4.27 min",
        "best, Young: 4.58 min",
        "best, simulated: 10 min",
    ]
    assert list(curve.data[1].x) == [1, 10]
    size = report.goodput_by_size([size_curve("fast", 2111.0, 60.0, 10.0, [1024, 131072])])
    assert size.data[0].y[0] > size.data[0].y[1] > 0
    bars = report.sensitivity([SensitivityBar("mtbf", Estimate(-0.2, 0.01, 10), Estimate(0.3, 0.01, 10))])
    assert [trace.x[0] for trace in bars.data] == pytest.approx([-20, 30])
    heat = report.goodput_by_rate(GoodputMap(np.array([30.0]), np.array([60.0, 600.0]), np.array([[0.4, 0.5]]), 600.0))
    assert list(heat.data[0].z[0]) == pytest.approx([40, 50])
    assert heat.data[3].x[0] == "10 min"
    assert [trace.name for trace in heat.data[1:3]] == ["goodput 50 %", "goodput 90 %"]
    pool = report.spares(
        SpareCurve(
            np.array([0, 4]), sampled, np.array([[0.4, 0.3], [0.5, 0.2]]), np.array([0.4, 0.5]), 9e5, np.ones(3) / 3
        )
    )
    assert list(pool.data[0].y) == pytest.approx([40, 50])
    for figure in (curve, size, bars, heat, pool):
        assert figure.layout.xaxis.title.text
