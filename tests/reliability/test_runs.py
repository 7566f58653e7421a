"""Laws of runs, and answers known otherwise: formulas of Daly and of renewal theory, replays followed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtrain.reliability.engines import simulate
from simtrain.reliability.job import Checkpoint, FailureClass, Fleet, Job, Law, Recovery
from tests.reliability.jobs import blocking, fixed, recovery

HOUR, DAY = 3600.0, 86400.0
LLAMA_S = 54 * DAY / 419


def close(values, expected, errors=4.0):
    """The mean lies within ``errors`` standard errors."""
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert abs(np.mean(values) - expected) <= errors * error


@pytest.mark.parametrize("engine", ["des", "compiled"])
@pytest.mark.parametrize(
    ("interruptible", "instants", "work", "stall", "wall", "ledger"),
    [
        (True, (150.0, 180.0, 400.0), 300.0, 10.0, 560.0, (300.0, 100.0, 30.0, 0.0, 130.0)),
        (False, (235.0, 700.0), 400.0, 20.0, 655.0, (400.0, 100.0, 80.0, 15.0, 60.0)),
    ],
)
def test_replays_followed_by_hand(engine, interruptible, instants, work, stall, wall, ledger):
    law = Law("instants", table=instants)
    job = blocking(law, work, 100.0, stall, 50.0 if interruptible else 60.0, interruptible=interruptible)
    result = simulate(job, engine=engine)
    assert result.wall_s[0] == pytest.approx(wall, rel=1e-12)
    names = ("useful", "lost_work", "checkpoint", "lost_checkpoint", "recovery")
    assert [result.ledger[name][0] for name in names] == pytest.approx(list(ledger))
    assert result.recovery_can_fail == interruptible


def test_asynchronous_checkpoints_count_once_durable():
    instants = (700.0, 1500.0)  # 700: the one at 604 is durable at 784 only; 1500: that at 604 after the restart is
    checkpoint = Checkpoint(kind="async", interval_s=600.0, stall_s=4.0, persist_s=180.0)
    law = Law("instants", table=instants)
    job = Job(work_s=1800.0, classes=(FailureClass(name="a", law=law),), recovery=recovery(0.0), checkpoint=checkpoint)
    result = simulate(job)
    assert result.wall_s[0] == pytest.approx(1500.0 + 1200.0 + 8.0)
    assert result.ledger["lost_work"][0] == pytest.approx(696.0 + 196.0)
    assert result.ledger["lost_checkpoint"][0] == pytest.approx(4.0)


@settings(max_examples=40, deadline=None)
@given(
    interval=st.floats(1.0, 1e4),
    stall=st.floats(0.0, 1e3),
    count=st.integers(1, 10_000),
    engine=st.sampled_from(["des", "compiled"]),
)
def test_without_failures_goodput_is_work_over_work_and_stalls(interval, stall, count, engine):
    job = blocking(Law("instants"), count * interval, interval, stall, 60.0)
    assert simulate(job, engine=engine).goodput == pytest.approx(interval / (interval + stall), rel=1e-9)


@pytest.mark.parametrize("interruptible", [False, True])
@pytest.mark.parametrize("tau", [300.0, 600.0, 1200.0])
def test_exact_wall_time_of_blocking_checkpoints(interruptible, tau):
    """Daly 2006: (W/tau) M e^(R/M) (e^(L/M) - 1), or with M + R in place of M e^(R/M) where recovery is immune."""
    M, R, C, W = 1265.625, 600.0, 30.0, 36000.0
    away = M * math.exp(R / M) if interruptible else M + R
    job = blocking(Law("exponential", M), W, tau, C, R, interruptible=interruptible)
    close(simulate(job, 2000).wall_s, W / tau * away * math.expm1((tau + C) / M))


def test_only_the_mean_of_an_immune_recovery_matters():
    goodputs = []
    for law in (fixed(600.0), Law("exponential", 600.0), Law("lognormal", 600.0, 1.0)):
        away = Recovery(phases=(("recovery", law),), interruptible=False)
        job = blocking(Law("exponential", 3600.0), 100 * HOUR, 600.0, 10.0, 0.0)
        result = simulate(Job(work_s=job.work_s, classes=job.classes, recovery=away, checkpoint=job.checkpoint), 400)
        goodputs.append((result.goodput, result.standard_error))
    for goodput, error in goodputs[1:]:
        assert abs(goodput - goodputs[0][0]) < 4 * math.hypot(error, goodputs[0][1])


def test_asynchronous_long_run():
    """e^(-P/M) tau / ((e^((tau + stall)/M) - 1) (M + R))."""
    M, R, P, tau, stall = LLAMA_S, 480.0, 120.0, 600.0, 5.0
    checkpoint = Checkpoint(kind="async", interval_s=tau, stall_s=stall, persist_s=P)
    cause = FailureClass(name="all", law=Law("exponential", M))
    job = Job(horizon_s=200 * DAY, classes=(cause,), recovery=recovery(R, interruptible=False), checkpoint=checkpoint)
    result = simulate(job, 100)
    exact = math.exp(-P / M) * tau / (math.expm1((tau + stall) / M) * (M + R))
    assert abs(result.goodput - exact) < 4 * result.standard_error + 1e-4  # work at the horizon is not lost yet


def test_two_tiers():
    """Mean wall time 379,423.5 s by the recursion over micro segments."""
    checkpoint = Checkpoint(
        kind="tiered", interval_s=1800.0, stall_s=30.0, memory_interval_s=120.0, memory_stall_s=1.0,
        memory_recovery=recovery(180.0, interruptible=False),
    )  # fmt: skip
    cause = FailureClass(name="all", law=Law("exponential", LLAMA_S), survives_memory=0.95)
    job = Job(work_s=360_000.0, classes=(cause,), recovery=recovery(720.0, interruptible=False), checkpoint=checkpoint)
    close(simulate(job, 3000).wall_s, 379_423.50937755516)


def test_weibull_renewal_of_the_system():
    """tau sum S(j L) / (E[X] + R) = 0.87546 for shape 0.8."""
    cause = FailureClass(name="all", law=Law("weibull", LLAMA_S, 0.8), renewal="system")
    job = Job(
        horizon_s=400 * DAY, classes=(cause,), recovery=recovery(480.0, interruptible=False),
        checkpoint=Checkpoint(kind="blocking", interval_s=1800.0, stall_s=20.0),
    )  # fmt: skip
    result = simulate(job, 100)
    assert abs(result.goodput - 0.8754597095072886) < 4 * result.standard_error + 1e-4


def test_weibull_parts_are_renewed_one_by_one():
    """256 new parts, shape 0.75, 90 days: 136.42 failures in 30 days (renewal function), not 85.33."""
    cause = FailureClass(name="part", components=256, law=Law("weibull", 90 * DAY, 0.75))
    job = Job(horizon_s=30 * DAY, classes=(cause,), recovery=recovery(0.0))
    close(simulate(job, 2000).failures[:, 0], 136.42155451760763)


def test_weibull_of_shape_1_is_exponential():
    def failures(law):
        return simulate(Job(horizon_s=30 * DAY, classes=(FailureClass(name="p", components=64, law=law),)), 1500)

    close(failures(Law("weibull", 90 * DAY, 1.0)).failures[:, 0], 64 / 3)
    close(failures(Law("exponential", 90 * DAY)).failures[:, 0], 64 / 3)


@pytest.mark.parametrize("repair", [Law("exponential", 2 * DAY), Law("lognormal", 2 * DAY, 1.0)])
def test_waiting_for_spares_is_erlangs_loss(repair):
    """ErlangB(5, 256 * 2 / 150) = 0.14634, whatever the law of repair."""
    cause = FailureClass(name="node", components=256, law=Law("exponential", 150 * DAY), nodes_lost=1)
    job = Job(
        horizon_s=3000 * DAY, classes=(cause,), recovery=recovery(0.0), fleet=Fleet(nodes=256, spares=4, repair=repair)
    )
    close(simulate(job, 100).availability, 1 - 0.14634385272325573)


def test_events_that_take_several_nodes():
    """0.99520 and 0.73645 nodes down on average by the Markov chain on nodes down."""
    node = FailureClass(name="node", law=Law("exponential", 1 / 7.4074074074074075e-06), nodes_lost=1)
    switch = FailureClass(name="switch", law=Law("exponential", 1 / 2.8935185185185185e-07), nodes_lost=4)
    fleet = Fleet(nodes=96, spares=4, repair=Law("exponential", DAY))
    result = simulate(Job(horizon_s=3000 * DAY, classes=(node, switch), fleet=fleet), 200)
    close(result.availability, 0.9952017592460326)
    close(result.nodes_down, 0.736449301855039)


def test_replicas_that_go_on_alone():
    """64 nodes, 16 replicas of 4: sum of Binom(j; 64, a) min(16, floor((64 - j) / 4)) / 16 = 0.941676."""
    cause = FailureClass(name="node", components=64, law=Law("exponential", 30 * DAY), nodes_lost=1)
    fleet = Fleet(nodes=64, repair=Law("exponential", DAY), policy="replica", nodes_per_replica=4)
    result = simulate(Job(horizon_s=2000 * DAY, classes=(cause,), fleet=fleet), 150)
    close(result.useful_s / result.wall_s, 0.9416759033430021)
    close(result.full_width, 0.12263428311600315)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), engine=st.sampled_from(["des", "compiled"]))
def test_a_further_class_leaves_the_others_untouched(seed, engine):
    def times(*more):
        own = FailureClass(name="own", effect="slow", factor=0.9, components=3, law=Law("weibull", 500.0, 0.7))
        job = Job(horizon_s=3000.0, classes=(*more, own), recovery=recovery(5.0))
        return simulate(job, 1, seed, engine, events=1).failures[0, -1]

    other = FailureClass(name="other", law=Law("exponential", 300.0))
    assert times() == times(other)


def test_a_corruption_undoes_all_work_since():
    cause = FailureClass(
        name="sdc", effect="corrupt", law=Law("instants", table=(250.0,)), detection=Law("fixed", 500.0)
    )
    job = Job(
        work_s=1000.0,
        classes=(cause,),
        recovery=recovery(50.0),
        checkpoint=Checkpoint(kind="blocking", interval_s=100.0),
    )
    result = simulate(job)
    assert result.ledger["lost_work"][0] == 550.0  # found at 750, the last clean checkpoint is that at 200
    assert result.wall_s[0] == 1000 + 550 + 50


def test_slow_parts_slow_the_job_and_planned_stops_lose_nothing():
    slow = FailureClass(
        name="s", effect="slow", factor=0.5, law=Law("instants", table=(100.0,)), duration=Law("fixed", 60.0)
    )
    stop = FailureClass(name="p", effect="planned", law=Law("fixed", 400.0), duration=Law("fixed", 30.0))
    result = simulate(Job(work_s=500.0, classes=(slow, stop), recovery=recovery(9.0)))
    assert result.wall_s[0] == pytest.approx(500 + 30 + 30)
    assert result.ledger["degraded"][0] == pytest.approx(30)
    assert result.ledger["planned"][0] == pytest.approx(30)


def test_young_machines_fail_more_often():
    law = Law("exponential", 1000.0)
    young = FailureClass(name="a", law=law, infant_factor=5.0, infant_decay_s=2000.0)
    found = simulate(Job(horizon_s=10_000.0, classes=(young,)), 3000).failures[:, 0]
    close(found, 10 + 4 * 2 * -math.expm1(-5.0))


def test_the_cost_of_a_failure_does_not_depend_on_the_cluster():
    small, large = (
        simulate(Job(horizon_s=DAY, classes=(FailureClass(name="g", components=n, law=Law("exponential", n * HOUR)),)))
        for n in (8, 10**9)
    )
    assert small.failures[0, 0] == large.failures[0, 0]


def test_work_starts_over_where_no_clean_checkpoint_is_kept():
    cause = FailureClass(name="sdc", effect="corrupt", law=Law("instants", table=(250.0,)), detection=fixed(500.0))
    checkpoint = Checkpoint(kind="blocking", interval_s=100.0, keep_last=2)
    result = simulate(Job(work_s=1000.0, classes=(cause,), recovery=recovery(50.0), checkpoint=checkpoint))
    assert result.ledger["lost_work"][0] == 750.0
    assert result.wall_s[0] == 1000 + 750 + 50


def test_shrinking_goes_on_after_a_recovery_and_grows_again():
    """4 replicas of one node: one fails at 100, is back at 300; work at 3/4 of the speed in between."""
    cause = FailureClass(name="n", law=Law("instants", table=(100.0,)), nodes_lost=1)
    fleet = Fleet(nodes=4, repair=fixed(200.0), policy="shrink", reconfigure_s=5.0)
    checkpoint = Checkpoint(kind="blocking", interval_s=20.0)
    job = Job(work_s=1000.0, classes=(cause,), recovery=recovery(40.0), checkpoint=checkpoint, fleet=fleet)
    result = simulate(job)
    assert result.ledger["degraded"][0] == pytest.approx(160 / 4)
    assert result.ledger["communicator"][0] == 5.0
    assert result.wall_s[0] == pytest.approx(1000 + 40 + 160 / 4 + 5)


def test_crews_repair_one_after_the_other():
    """Two nodes fail at 10 and 20 and one crew takes 100 each: back at 110 and 210, and two spares are not enough."""
    cause = FailureClass(name="n", law=Law("instants", table=(10.0, 20.0)), nodes_lost=2)
    fleet = Fleet(nodes=4, spares=2, repair=fixed(100.0), crews=1)
    job = Job(work_s=1000.0, classes=(cause,), recovery=recovery(0.0), checkpoint=Checkpoint(), fleet=fleet)
    for engine in ("des", "compiled"):
        result = simulate(job, engine=engine)
        assert result.ledger["waiting_for_spares"][0] == pytest.approx(210 - 20)


@pytest.mark.parametrize("engine", ["des", "compiled"])
def test_a_pause_while_a_stall_waits_for_the_checkpoint_before_ends_the_wait(engine):
    """Work 10, stall 1, work 10, stall from 21 on until 111; a stop from 30 to 230 lets that time pass."""
    stop = FailureClass(name="stop", effect="planned", law=Law("instants", table=(30.0,)), duration=Law("fixed", 200.0))
    checkpoint = Checkpoint(kind="async", interval_s=10.0, stall_s=1.0, persist_s=100.0, after_last_segment=False)
    result = simulate(Job(work_s=30.0, classes=(stop,), checkpoint=checkpoint), engine=engine)
    assert result.wall_s[0] == pytest.approx(240.0)
    assert result.ledger["checkpoint"][0] == pytest.approx(1.0 + 9.0)
    assert result.ledger["planned"][0] == pytest.approx(200.0)


@pytest.mark.parametrize("engine", ["des", "compiled"])
def test_a_pause_while_the_last_stall_waits_ends_the_run(engine):
    """The same before the last checkpoint: it is saved as soon as work goes on, in no time."""
    stop = FailureClass(name="stop", effect="planned", law=Law("instants", table=(30.0,)), duration=Law("fixed", 200.0))
    checkpoint = Checkpoint(kind="async", interval_s=10.0, stall_s=1.0, persist_s=100.0)
    result = simulate(Job(work_s=20.0, classes=(stop,), checkpoint=checkpoint), engine=engine)
    assert result.wall_s[0] == pytest.approx(230.0)
    assert result.completed.all()


@pytest.mark.parametrize("engine", ["des", "compiled"])
def test_an_event_larger_than_what_is_idle_stops_a_job_that_shrank(engine):
    classes = (
        FailureClass(name="node", owner="node", components=4, law=Law("exponential", 2000.0), nodes_lost=1),
        FailureClass(name="rack", owner="rack", components=1, law=Law("exponential", 900.0), nodes_lost=3),
        FailureClass(name="stop", owner="job", law=fixed(50.0), effect="planned", duration=fixed(1.0)),
    )
    fleet = Fleet(nodes=4, repair=fixed(1000.0), policy="shrink", nodes_per_replica=2)
    job = Job(
        work_s=5000.0,
        classes=classes,
        recovery=recovery(5.0),
        checkpoint=Checkpoint(kind="blocking", interval_s=50.0),
        fleet=fleet,
    )
    result = simulate(job, 50, seed=1, engine=engine)
    assert result.completed.all()
    assert sum(result.shares().values()) == pytest.approx(1, abs=1e-9)
