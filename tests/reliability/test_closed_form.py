"""Closed forms against the set of independent answers, and the laws they must keep."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtrain.reliability import availability, intervals
from simtrain.reliability import closed_form as formula
from simtrain.reliability.engines import simulate
from simtrain.reliability.job import Checkpoint, FailureClass, Job, Law, Recovery

TIMES = st.floats(1.0, 1e5)
SHARES = st.floats(0.01, 0.99)


@given(
    mtbf=TIMES, segment=st.floats(0.001, 5), checkpoint=st.floats(0, 1), recovery=st.floats(0, 3), n=st.integers(1, 9)
)
def test_the_two_recoveries_are_the_published_forms(mtbf, segment, checkpoint, recovery, n) -> None:
    tau, c, r = segment * mtbf, checkpoint * mtbf, recovery * mtbf
    immune = formula.blocking(mtbf, n * tau, tau, c, r, restarts=False)
    struck = formula.blocking(mtbf, n * tau, tau, c, r, restarts=True)
    grown = math.expm1(segment + checkpoint)
    assert immune.mean_wall_s == pytest.approx(n * (mtbf + r) * grown, rel=1e-9)
    assert struck.mean_wall_s == pytest.approx(n * mtbf * math.exp(recovery) * grown, rel=1e-9)
    assert struck.expected_failures == pytest.approx(struck.mean_wall_s / mtbf, rel=1e-9)
    assert immune.sd_wall_s <= struck.sd_wall_s * (1 + 1e-12)


def test_nothing_that_fails_leaves_the_checkpoints_alone() -> None:
    quiet = formula.blocking(math.inf, 1000.0, 300.0, 10.0, 60.0, restarts=True)
    assert (quiet.mean_wall_s, quiet.sd_wall_s, quiet.expected_failures) == (1040.0, 0.0, 0.0)
    assert formula.blocking(math.inf, 900.0, 300.0, 10.0, 60.0, restarts=True, checkpoint_last=False).mean_wall_s == 920


def test_the_variance_is_that_of_many_runs() -> None:
    random, mtbf, length, recovery = np.random.default_rng(5), 1000.0, 900.0, 300.0
    walls = np.zeros(20_000)
    for i in range(len(walls)):
        while (gap := random.exponential(mtbf)) < length:
            walls[i] += gap + recovery
        walls[i] += length
    found = formula.blocking(mtbf, length, length, 0.0, recovery, restarts=False)
    sampled = intervals.deviation(walls)
    assert abs(sampled.value - found.sd_wall_s) < 4 * sampled.error
    assert abs(walls.mean() - found.mean_wall_s) < 4 * intervals.mean(walls).error


@given(mtbf=TIMES, ratio=st.floats(1e-7, 50))
def test_no_segment_beats_the_exact_optimum(mtbf, ratio) -> None:
    checkpoint = ratio * mtbf
    best = formula.optimal_segment_s(mtbf, checkpoint)
    assert best is not None

    def cost(tau: float) -> float:
        return math.expm1((tau + checkpoint) / mtbf) / tau

    assert all(cost(best) <= cost(best * factor) * (1 + 1e-12) for factor in (0.5, 0.9, 1.1, 2.0))
    daly, young = formula.daly_segment_s(mtbf, checkpoint), formula.young_segment_s(mtbf, checkpoint)
    if ratio < 1e-3:
        assert daly == pytest.approx(best, rel=1e-5)
        assert young == pytest.approx(best, rel=0.03)


def test_reference_lines_of_published_formulas() -> None:
    per_node_s = 6.5e-3 / 86400
    failures = 2000 * per_node_s
    assert formula.ettr(failures, 300.0, 3600.0, 0.0) == pytest.approx(0.684, abs=5e-4)
    assert formula.ettr(failures, 300.0, 300.0, 0.0) == pytest.approx(0.932, abs=5e-4)
    assert [1 / (nodes * per_node_s) / 3600 for nodes in (2048, 16384)] == pytest.approx([1.80, 0.225], rel=0.005)


@given(mtbf=TIMES, tau=st.floats(0.01, 2), stall=st.floats(0, 0.5), recovery=st.floats(0, 2))
def test_asynchronous_without_a_persist_delay_is_blocking(mtbf, tau, stall, recovery) -> None:
    goodput, lost = formula.async_goodput(mtbf, tau * mtbf, stall * mtbf, 0.0, recovery * mtbf)
    plain = formula.blocking(mtbf, tau * mtbf, tau * mtbf, stall * mtbf, recovery * mtbf, restarts=False)
    assert goodput == pytest.approx(plain.goodput, rel=1e-9)
    assert 0 <= lost <= mtbf


@settings(max_examples=60, deadline=None)
@given(
    segment=st.floats(0.01, 1), work=st.floats(0.001, 9), stall=st.floats(0, 0.3), recovery=st.floats(0, 2),
    last=st.booleans(),
)  # fmt: skip
def test_an_asynchronous_run_whose_persist_takes_no_time_is_a_blocking_one(
    segment, work, stall, recovery, last
) -> None:
    found = formula.asynchronous(1.0, work, segment, stall, 0.0, recovery, checkpoint_last=last)
    plain = formula.blocking(1.0, work, segment, stall, recovery, restarts=False, checkpoint_last=last)
    assert found.mean_wall_s == pytest.approx(plain.mean_wall_s, rel=1e-9)
    assert found.expected_failures == pytest.approx(plain.expected_failures, rel=1e-9)


@given(segment=st.floats(0.01, 1), persist=st.floats(0, 2), speed=st.floats(0.1, 1), stall=st.floats(0, 0.3))
def test_the_ends_of_an_asynchronous_run_fade(segment, persist, speed, stall) -> None:
    args = (segment, stall, persist, 0.5)
    runs = [formula.asynchronous(1.0, n * segment, *args, persist_speed=speed).mean_wall_s for n in (3000, 3001)]
    goodput, _ = formula.async_goodput(1.0, *args, persist_speed=speed)
    assert segment / (runs[1] - runs[0]) == pytest.approx(goodput, rel=1e-6)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(("work", "segment", "persist", "speed"), [
    (1.0, 600.0, 60.0, 1.0), (1700.0, 500.0, 200.0, 1.0), (1700.0, 500.0, 450.0, 0.5), (1000.0, 500.0, 900.0, 0.5),
    (2600.0, 500.0, 300.0, 0.8),
])  # fmt: skip
def test_an_asynchronous_run_takes_as_long_as_engines_say(work, segment, persist, speed, last) -> None:
    found = formula.asynchronous(1000.0, work, segment, 9.0, persist, 100.0, persist_speed=speed, checkpoint_last=last)
    saved = Checkpoint(
        kind="async", interval_s=segment, stall_s=9.0, persist_s=persist, persist_speed=speed, after_last_segment=last
    )
    cause = FailureClass(name="all", owner="job", law=Law("exponential", 1000.0))
    after = Recovery(phases=(("recovery", Law("fixed", 100.0)),), interruptible=False)
    result = simulate(Job(work_s=work, classes=(cause,), recovery=after, checkpoint=saved), 20_000)
    for values, known in ((result.wall_s, found.mean_wall_s), (result.failures[:, 0], found.expected_failures)):
        sampled = intervals.mean(values)
        assert abs(sampled.value - known) < 4.5 * sampled.error
    quiet = formula.asynchronous(
        math.inf, work, segment, 9.0, persist, 100.0, persist_speed=speed, checkpoint_last=last
    )
    assert quiet.mean_wall_s == pytest.approx(simulate(Job(work_s=work, checkpoint=saved)).wall_s[0], rel=1e-12)


def test_a_segment_longer_than_the_work_is_all_of_it() -> None:
    run = formula.blocking(1e9, 1.0, 1e12, 30.0, 0.0, restarts=False)
    assert run.mean_wall_s == pytest.approx(31.0)


def test_classes_that_never_fail_mix_to_nothing() -> None:
    mix = formula.failure_mix([0.0, 0.0], [9.0, 9.0], restarts=True)
    assert (mix.mtbf_s, mix.recovery_s, mix.strikes) == (math.inf, 0.0, 1.0)
    assert formula.optimal_segment_s(math.inf, 5.0) == math.inf


def test_without_failures_persisting_costs_what_it_slows() -> None:
    assert formula.async_goodput(math.inf, 600.0, 5.0, 100.0, 9.0, persist_speed=0.5)[0] == 600 / (605 + 50)
    assert formula.async_goodput(math.inf, 600.0, 5.0, 700.0, 9.0)[0] == 600 / 700


@given(mtbf=TIMES, micro=st.floats(0.01, 0.5), micros=st.integers(1, 9), recovery=st.floats(0, 2))
def test_two_tiers_reduce_to_one(mtbf, micro, micros, recovery) -> None:
    lengths, r = [micro * mtbf] * micros, recovery * mtbf
    all_memory = formula.two_tier_wall_s(mtbf, 1.0, lengths, r, 9 * r)
    all_storage = formula.two_tier_wall_s(mtbf, 0.0, lengths, 9 * r, r)
    one = formula.blocking(mtbf, sum(lengths), micro * mtbf, 0.0, r, restarts=False).mean_wall_s
    whole = formula.blocking(mtbf, sum(lengths), sum(lengths), 0.0, r, restarts=False).mean_wall_s
    assert all_memory == pytest.approx(one, rel=1e-9)
    assert all_storage == pytest.approx(whole, rel=1e-9)


@given(mean=TIMES, tau=st.floats(0.01, 2), recovery=st.floats(0, 2))
def test_weibull_of_shape_one_is_exponential(mean, tau, recovery) -> None:
    plain = formula.blocking(mean, tau * mean, tau * mean, 0.0, recovery * mean, restarts=False).goodput
    assert formula.weibull_goodput(mean, 1.0, tau * mean, 0.0, recovery * mean) == pytest.approx(plain, rel=1e-9)


@given(rates=st.lists(st.floats(1e-6, 1e-3), min_size=1, max_size=4), recovery=st.floats(0, 1e4))
def test_equal_classes_mix_to_their_sum(rates, recovery) -> None:
    for restarts in (False, True):
        mix = formula.failure_mix(rates, [recovery] * len(rates), restarts=restarts)
        one = formula.blocking(1 / sum(rates), 100.0, 10.0, 1.0, recovery, restarts=restarts)
        same = formula.blocking(mix.mtbf_s, 100.0, 10.0, 1.0, mix.recovery_s, restarts=False)
        assert same.mean_wall_s == pytest.approx(one.mean_wall_s, rel=1e-9)
        assert same.expected_failures * mix.strikes == pytest.approx(one.expected_failures, rel=1e-9)


@given(active=st.integers(1, 300), spares=st.integers(0, 8), share=st.floats(1e-4, 0.5))
def test_a_spare_pool_is_erlang_b_and_a_batch_of_one(active, spares, share) -> None:
    down = availability.spare_pool(active, spares, 1.0, share)
    assert down[-1] == pytest.approx(availability.erlang_b(spares + 1, active * share), rel=1e-9)
    batches = availability.nodes_down(active, spares, [float(active)], [1], share)
    assert batches == pytest.approx(down, abs=1e-12)


@given(nodes=st.integers(1, 200), share=st.floats(1e-4, 0.5))
def test_nodes_that_always_age_are_binomial(nodes, share) -> None:
    chain = availability.spare_pool(nodes, 0, 1 - share, share, stopped_ages=True)
    assert chain == pytest.approx(availability.binomial(nodes, share), abs=1e-12)
    mean, full = availability.elastic(nodes, nodes, 1, 1 - share, share)
    assert mean == pytest.approx(1 - share)
    assert full == pytest.approx((1 - share) ** nodes)


@pytest.mark.parametrize(("time", "shape"), [(0.4, 0.75), (3.0, 0.5), (10.0, 0.75), (3.0, 2.0), (10.0, 2.0)])
def test_renewals_by_series_and_by_grid_agree(time, shape) -> None:
    value, error = availability.renewal_function(time, shape, 1.0)
    grid, _ = availability._renewal_grid(time, shape)
    assert error < 1e-6
    assert value == pytest.approx(grid, abs=1e-6)


def test_renewals_of_exponential_parts_are_time_over_mean() -> None:
    assert availability.renewal_function(30.0, 1.0, 90.0) == (30 / 90, 0.0)


def test_renewals_of_a_gamma_like_law_follow_poisson_in_the_end() -> None:
    mean, spread = math.gamma(1.5), math.gamma(2.0) - math.gamma(1.5) ** 2
    late = 8.0 / mean + (spread / mean**2 - 1) / 2  # renewal theorem, second order
    assert availability.renewal_function(8.0, 2.0, 1.0)[0] == pytest.approx(late, abs=1e-6)


@pytest.mark.parametrize(
    ("confidence", "freedom", "value"),
    [
        (0.95, 1, 12.7062),
        (0.95, 2, 4.3027),
        (0.95, 10, 2.2281),
        (0.99, 29, 2.7564),
        (0.95, 40, 2.0211),
        (0.9, 120, 1.6577),
    ],
)
def test_student_quantiles(confidence, freedom, value) -> None:
    assert intervals.student_t(confidence, freedom) == pytest.approx(value, abs=5e-5)


def test_a_ratio_is_that_of_the_means() -> None:
    above, below = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 8.0])
    assert intervals.ratio(above, below).value == pytest.approx(0.5)
    assert intervals.ratio(below * 3, below).error == pytest.approx(0.0, abs=1e-12)


@given(
    replicas=st.integers(1, 6), size=st.integers(1, 4), more=st.integers(0, 5), share=st.floats(0.01, 0.5),
    idle=st.booleans(),
)  # fmt: skip
def test_elastic_jobs_are_the_chain_on_nodes_down(replicas, size, more, share, idle) -> None:
    """Balance of each state, solved as a linear system."""
    nodes = replicas * size + more
    running = [min(replicas, (nodes - down) // size) for down in range(nodes + 1)]
    flows = np.zeros((nodes + 1, nodes + 1))
    for down in range(nodes):
        flows[down, down + 1] = (nodes - down if idle else size * running[down]) / (1 - share)
        flows[down + 1, down] = (down + 1) / share
    balance = (flows - np.diag(flows.sum(axis=1))).T
    balance[0] = 1.0
    chances = np.linalg.solve(balance, np.eye(nodes + 1)[0])
    mean, full = availability.elastic(nodes, replicas, size, 1 - share, share, idle_fail=idle)
    assert mean == pytest.approx(float(chances @ running) / replicas, abs=1e-9)
    assert full == pytest.approx(float(chances[np.array(running) == replicas].sum()), abs=1e-9)
    lost, _ = availability.elastic(nodes, replicas, size, 1 - share, share, idle_fail=idle, lost_work_s=0.1)
    assert lost == pytest.approx(max(0.0, mean * (1 - 0.1 * replicas * size / (1 - share))))


def test_one_replica_whose_idle_nodes_do_not_fail_is_a_spare_pool() -> None:
    mean, full = availability.elastic(12, 1, 9, 50.0, 1.0, idle_fail=False)
    assert mean == full == pytest.approx(1 - availability.erlang_b(4, 9 / 50))
