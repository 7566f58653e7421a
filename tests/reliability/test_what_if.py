"""What-if analyses: the formulas where they hold, common random numbers, and what more of anything does."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from simtrain.errors import InputError
from simtrain.reliability.engines import simulate
from simtrain.reliability.job import Checkpoint, FailureClass, Fleet, Job, Law, Recovery
from simtrain.reliability.what_if import (
    KNOBS,
    blocking_goodput,
    goodput_map,
    interval_curve,
    long_run,
    nodes_away,
    repair_load,
    scaled,
    sensitivities,
    size_curve,
    size_lines,
    spare_curve,
)

DAY = 86400.0
MTBF_S = 30 * DAY / 2048


def seed_case(stall_s: float = 30.0, interruptible: bool = True) -> Job:
    """2048 GPUs, each failing every 30 days, 10 minutes to restore."""
    return Job(
        work_s=DAY,
        classes=(FailureClass(name="gpu", owner="gpu", components=2048, law=Law("exponential", 30 * DAY)),),
        recovery=Recovery(phases=(("recovery", Law(mean_s=600.0)),), interruptible=interruptible),
        checkpoint=Checkpoint(kind="blocking", interval_s=600.0, stall_s=stall_s),
    )


@pytest.mark.parametrize(("interruptible", "free", "best"), [(False, 0.530, 0.541), (True, 0.487, 0.497)])
def test_the_figures_of_2048_gpus(interruptible: bool, free: float, best: float) -> None:
    curve = interval_curve(seed_case(0.0, interruptible), [600.0], runs=20)
    assert curve.closed_form[0] == pytest.approx(free, abs=5e-4)
    assert abs(curve.sampled[0].value - free) < 4 * curve.sampled[0].error + 5e-4
    at_best = size_curve("", 30.0, 600.0, 30.0, [2048], restarts=interruptible)
    assert at_best.goodput[0] == pytest.approx(best, abs=5e-4)
    assert at_best.interval_s[0] == pytest.approx(4.27 * 60, rel=2e-3)


def test_simulated_intervals_agree_with_the_formula_and_its_optimum() -> None:
    times = [60.0, 120.0, 180.0, 256.0, 400.0, 600.0, 1200.0]
    curve = interval_curve(seed_case(), times, runs=20, seed=3)
    gaps = [abs(e.value - c) / e.error for e, c in zip(curve.sampled, curve.closed_form, strict=True)]
    assert max(gaps) < 5
    assert 120 <= (curve.best_s["simulated"] or 0) <= 600
    assert curve.recovery_can_fail


def test_goodput_falls_with_size_and_with_recovery_time() -> None:
    sizes = [2**k for k in range(10, 18)]
    fast, slow = (size_curve("", 2111.0, r, 10.0, sizes) for r in (120.0, 600.0))
    assert (np.diff(fast.goodput) < 0).all()
    assert (fast.goodput > slow.goodput).all()
    assert slow.goodput[-1] > 0


def test_scaling_by_one_changes_nothing_and_other_factors_what_they_say() -> None:
    job = replace(seed_case(), fleet=Fleet(nodes=256, spares=4))
    assert scaled(job) == job
    other = scaled(job, mtbf=2, recovery=0.5, interval=3, checkpoint=4, spares=0.5)
    assert other.rate_per_s == pytest.approx(job.rate_per_s / 2)
    assert other.recovery.mean_s == 300.0
    assert (other.checkpoint.interval_s, other.checkpoint.stall_s) == (1800.0, 120.0)
    assert other.fleet is not None
    assert other.fleet.spares == 2


def test_sensitivities_have_the_right_signs_and_are_paired() -> None:
    bars = {bar.knob: bar for bar in sensitivities(seed_case(), runs=20)}
    assert set(bars) == set(KNOBS) - {"spares"}
    for knob, good in {"mtbf": 1, "recovery": -1, "checkpoint": -1}.items():
        assert good * bars[knob].half.value < 0 < good * bars[knob].twice.value
    one, two = (simulate(long_run(j), 20, 0) for j in (seed_case(), scaled(seed_case(), recovery=2)))
    unpaired = np.hypot(one.standard_error, two.standard_error)
    assert bars["recovery"].twice.error < unpaired


def test_map_matches_the_formula() -> None:
    job = seed_case(interruptible=False)
    found = goodput_map(job, 2048, [30.0, 300.0], [300.0, 1200.0], runs=10)
    for i, days in enumerate(found.gpu_days):
        for j, interval_s in enumerate(found.interval_s):
            assert found.goodput[i, j] == pytest.approx(
                blocking_goodput(days * DAY / 2048, 600.0, 30.0, interval_s), abs=0.02
            )


def test_spares_against_erlang_b() -> None:
    node = FailureClass(name="node", components=64, law=Law("exponential", 100 * DAY), nodes_lost=1)
    job = Job(
        work_s=DAY,
        classes=(node,),
        checkpoint=Checkpoint(kind="blocking", interval_s=3600.0),
        fleet=Fleet(nodes=64, repair=Law("exponential", 5 * DAY)),
    )
    curve = spare_curve(job, [0, 2, 4, 8], runs=20)
    assert (curve.quantiles[:, 0] >= curve.quantiles[:, 1]).all()
    assert curve.down[:4] == pytest.approx(poisson(3.2, 4))
    assert (curve.down_at_most(0.5), curve.down_at_most(0.99)) == (3, 8)
    assert (np.diff(curve.erlang_b) > 0).all()
    for estimate, exact in zip(curve.sampled, curve.erlang_b, strict=True):
        assert abs(estimate.value - exact) < 5 * estimate.error + 0.01


def poisson(mean: float, terms: int) -> list[float]:
    return [math.exp(-mean) * mean**k / math.factorial(k) for k in range(terms)]


def test_events_that_take_several_nodes_count_each() -> None:
    pair = FailureClass(name="rack", components=10, law=Law("exponential", 50 * DAY), nodes_lost=2)
    plain = FailureClass(name="node", components=10, law=Law("exponential", 50 * DAY), nodes_lost=1)
    job = Job(work_s=DAY, classes=(pair, plain), fleet=Fleet(nodes=10, repair=Law("exponential", 5 * DAY)))
    away = nodes_away(job)
    assert away.sum() == pytest.approx(1)
    assert np.arange(len(away)) @ away == pytest.approx(3) == repair_load(job)[0]
    one = poisson(1.0, 3)
    assert away[2] == pytest.approx(one[0] * one[2] + one[1] * one[0])


def test_lines_of_size_agree_with_the_formula_and_fall() -> None:
    lines = size_lines(seed_case(interruptible=False), 2048, [1024, 2048, 8192], [300.0, 600.0], runs=10)
    assert [line.name for line in lines] == ["5 min to recover", "10 min to recover"]
    exact = size_curve("", 30.0, 600.0, 30.0, [1024, 2048, 8192], restarts=False)
    assert lines[1].goodput == pytest.approx(exact.goodput, abs=0.02)
    assert lines[1].interval_s == pytest.approx(exact.interval_s)
    assert (lines[0].goodput > lines[1].goodput).all()


def test_the_best_simulated_interval_has_a_band_around_the_optimum() -> None:
    curve = interval_curve(seed_case(), [60.0, 200.0, 256.0, 320.0, 1800.0], runs=20)
    low, high = curve.near_best_s
    assert 200 <= low <= 256 <= high <= 320


def test_nothing_to_compare_without_failures_or_spares_without_a_fleet() -> None:
    with pytest.raises(InputError, match="nothing to compare"):
        long_run(replace(seed_case(), classes=()))
    with pytest.raises(InputError, match="it one"):
        spare_curve(seed_case(), [1])
