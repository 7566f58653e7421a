"""What storage does to training: persisting that slows it, outages, and checkpoints on notice of a stop."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simtrain.errors import InputError
from simtrain.reliability import closed_form as formula
from simtrain.reliability.engines import simulate
from simtrain.reliability.job import Checkpoint, FailureClass, Fleet, Job, Law, Recovery
from tests.reliability.jobs import blocking, fixed, recovery

ENGINES = st.sampled_from(["des", "compiled"])
both_engines = pytest.mark.parametrize("engine", ["des", "compiled"])


def at(*instants, **kind):
    return FailureClass(name="a", law=Law("instants", table=instants), **kind)


def outage(*instants, lasts):
    return at(*instants, owner="storage", effect="outage", duration=fixed(lasts))


@settings(max_examples=60, deadline=None)
@given(
    tau=st.floats(1.0, 1e3),
    stall=st.floats(0.0, 30.0),
    persist=st.floats(0.1, 2e3),
    speed=st.floats(0.05, 1.0),
    count=st.integers(1, 2000),
    engine=ENGINES,
)
def test_each_persist_takes_its_share_of_the_speed(tau, stall, persist, speed, count, engine):
    """All segments but the first are slow until the checkpoint before them is durable."""
    checkpoint = Checkpoint(kind="async", interval_s=tau, stall_s=stall, persist_s=persist, persist_speed=speed)
    result = simulate(Job(work_s=count * tau, checkpoint=checkpoint), engine=engine)
    later = max(tau + stall + min(persist, tau / speed) * (1 - speed), persist)
    assert result.wall_s[0] == pytest.approx(tau + stall + (count - 1) * later, rel=1e-9)
    assert result.ledger["checkpoint"][0] == pytest.approx(result.wall_s[0] - count * tau, rel=1e-6, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    micro=st.floats(1.0, 50.0),
    parts=st.integers(1, 40),
    stalls=st.tuples(st.floats(0, 9), st.floats(0, 9)),
    persist=st.floats(0.1, 900.0),
    speed=st.floats(0.05, 1.0),
    count=st.integers(3, 300),
)
def test_whole_segments_in_one_jump_are_the_same_as_one_by_one(micro, parts, stalls, persist, speed, count):
    """Class after class of events that change nothing break the jumps into short ones."""
    checkpoint = Checkpoint(
        kind="tiered", interval_s=parts * micro, stall_s=stalls[0], persist_s=persist, persist_speed=speed,
        memory_interval_s=micro, memory_stall_s=stalls[1],
    )  # fmt: skip
    job = Job(work_s=count * parts * micro, checkpoint=checkpoint)
    whole = simulate(job)
    idle = FailureClass(name="nothing", effect="slow", law=fixed(whole.wall_s[0] / (7 * count)))
    cut = simulate(replace(job, classes=(idle,)))
    assert cut.wall_s[0] == pytest.approx(whole.wall_s[0], rel=1e-9)
    assert cut.ledger["checkpoint"][0] == pytest.approx(whole.ledger["checkpoint"][0], rel=1e-6, abs=1e-6)


def test_segments_without_failures_cost_nothing_however_many():
    checkpoint = Checkpoint(
        kind="tiered", interval_s=100.0, stall_s=1.0, persist_s=50.0, persist_speed=0.9, memory_interval_s=1.0
    )
    job = Job(work_s=1e12, checkpoint=checkpoint)
    simulate(job)
    start = time.perf_counter()
    assert simulate(job).goodput == pytest.approx(100 / (101 + 50 * 0.1), rel=1e-6)
    assert time.perf_counter() - start < 0.1


@pytest.mark.parametrize(("persist", "speed"), [(120.0, 0.8), (120.0, 0.3), (550.0, 0.6), (1500.0, 0.5)])
def test_the_closed_form_of_persisting_that_slows_training(persist, speed):
    M, R, tau, stall = 2000.0, 300.0, 500.0, 5.0
    checkpoint = Checkpoint(kind="async", interval_s=tau, stall_s=stall, persist_s=persist, persist_speed=speed)
    cause = FailureClass(name="all", owner="job", law=Law("exponential", M))
    job = Job(horizon_s=2e7, classes=(cause,), recovery=recovery(R, interruptible=False), checkpoint=checkpoint)
    result = simulate(job, 60)
    goodput, lost = formula.async_goodput(M, tau, stall, persist, R, persist_speed=speed)
    assert abs(result.goodput - goodput) < 4 * result.standard_error + 1e-4
    buckets = ("lost_work", "checkpoint", "lost_checkpoint")
    per_failure = sum(result.ledger[name].sum() for name in buckets) / result.failures.sum()
    assert per_failure == pytest.approx(lost, rel=0.02)


@both_engines
def test_seconds_lost_to_a_persist_are_undone_with_the_work_since(engine):
    """Saved at 101, durable at 151, half speed between; a stop at 141 falls back to the start, one at 201 to 100."""
    checkpoint = Checkpoint(kind="async", interval_s=100.0, stall_s=1.0, persist_s=50.0, persist_speed=0.5)
    for instant, kept, lost in ((141.0, 0.0, 120.0), (201.0, 1.0, 75.0)):
        result = simulate(Job(horizon_s=instant, classes=(at(instant - 1e-9),), checkpoint=checkpoint), engine=engine)
        assert result.ledger["lost_work"][0] == pytest.approx(lost)
        assert result.ledger["checkpoint"][0] == kept
        assert result.ledger["lost_checkpoint"][0] == pytest.approx(instant - lost - kept - (100 if kept else 0))


@settings(max_examples=60, deadline=None)
@given(
    stall=st.floats(0.0, 20.0),
    persist=st.sampled_from([0.0, 7.0]),
    more=st.floats(0.0, 300.0),
    instant=st.floats(1.0, 5000.0),
    engine=ENGINES,
)
def test_a_stop_with_notice_loses_little(stall, persist, more, instant, engine):
    """At most the work since the checkpoint at the announcement: notice less its stall."""
    kind = "async" if persist else "blocking"
    checkpoint = Checkpoint(kind=kind, interval_s=400.0, stall_s=stall, persist_s=persist)
    notice = stall + persist + more + 1e-6
    job = Job(work_s=4000.0, classes=(at(instant, notice_s=notice),), recovery=recovery(30.0), checkpoint=checkpoint)
    announced = max(0.0, instant - notice)
    assume(announced % (400.0 + stall) < 400.0 and announced % (400.0 + stall) > persist)  # no other is under way
    assume(announced == instant - notice)
    result = simulate(job, engine=engine, events=1)
    assert result.ledger["lost_work"][0] <= notice - stall + 1e-6
    if result.failures[0, 0]:
        assert [event.kind for event in result.events[0]].count("notice") == 1


@settings(max_examples=40, deadline=None)
@given(stall=st.floats(1.0, 20.0), less=st.floats(0.01, 1.0), instant=st.floats(100.0, 3000.0), engine=ENGINES)
def test_notice_that_is_too_short_changes_nothing(stall, less, instant, engine):
    job = blocking(Law("instants"), 4000.0, 400.0, stall, 30.0)
    results = [
        simulate(replace(job, classes=(at(instant, notice_s=notice),)), engine=engine)
        for notice in (0.0, stall * (1 - less))
    ]
    assert results[0].wall_s == pytest.approx(results[1].wall_s, rel=1e-12)
    for bucket, seconds in results[0].ledger.items():
        assert seconds == pytest.approx(results[1].ledger[bucket], rel=1e-9, abs=1e-9)


def test_notice_moves_no_failure():
    law = Law("weibull", 300.0, 0.7)
    found = []
    for notice in (0.0, 1.0, 500.0):
        cause = FailureClass(name="spot", components=5, law=law, notice_s=notice)
        result = simulate(Job(horizon_s=5000.0, classes=(cause,)), events=1)
        found.append([event.time_s for event in result.events[0] if event.kind == "failure"])
    assert found[0] == found[1] == found[2]


def test_notice_of_a_node_that_stands_by_is_no_reason_to_save():
    cause = FailureClass(name="n", owner="node", components=4, law=Law("exponential", 4e3), nodes_lost=1, notice_s=60.0)
    fleet = Fleet(nodes=1, hot_spares=3, repair=fixed(10.0))
    checkpoint = Checkpoint(kind="blocking", interval_s=1e4, stall_s=5.0)
    result = simulate(Job(horizon_s=3e5, classes=(cause,), checkpoint=checkpoint, fleet=fleet), events=1)
    kinds = [event.kind for event in result.events[0]]
    stops = kinds.count("failure")
    saved = result.ledger["checkpoint"][0] + result.ledger["lost_checkpoint"][0]
    assert saved < 5.0 * (stops + 3e5 / 1e4 + 2) < 5.0 * kinds.count("notice")


@both_engines
def test_an_outage_holds_up_what_is_written_and_read(engine):
    away = Recovery(phases=(("start", fixed(10.0)), ("load", fixed(5.0)), ("warmup", fixed(1.0))))
    saved = Checkpoint(kind="blocking", interval_s=100.0, stall_s=10.0)
    written = simulate(Job(work_s=200.0, classes=(outage(95.0, lasts=30.0),), checkpoint=saved), engine=engine)
    assert written.ledger["checkpoint"][0] == pytest.approx(25 + 10 + 10)
    half = simulate(Job(work_s=200.0, classes=(outage(104.0, lasts=30.0),), checkpoint=saved), engine=engine)
    assert half.ledger["checkpoint"][0] == pytest.approx(4 + 30 + 6 + 10)
    stop = replace(at(250.0), name="stop")
    for instant, waits in ((255.0, 35.0), (245.0, 15.0), (264.0, 30.0), (265.5, 0.0)):  # the load is at 260 to 265
        classes = (stop, outage(instant, lasts=30.0 if instant != 255.0 else 40.0))
        read = simulate(Job(work_s=500.0, classes=classes, recovery=away, checkpoint=saved), engine=engine)
        assert read.ledger["load"][0] == pytest.approx(5 + waits)


@both_engines
def test_a_checkpoint_on_its_way_waits_for_storage_and_training_does_not(engine):
    """Saved at 101, durable at 151 but for an outage from 121 to 221: then at 251; one at 141 prolongs it to 271."""
    saved = Checkpoint(kind="async", interval_s=100.0, stall_s=1.0, persist_s=50.0)
    for instants, lasts, durable in (((121.0,), 100.0, 251.0), ((121.0, 141.0), 100.0, 271.0)):
        for instant, lost in ((durable - 0.5, 200.0), (durable + 0.5, 100.5)):  # the next stall waits for it
            classes = (outage(*instants, lasts=lasts), replace(at(instant), name="stop"))
            result = simulate(Job(horizon_s=instant + 0.1, classes=classes, checkpoint=saved), engine=engine)
            assert result.ledger["lost_work"][0] == pytest.approx(lost)


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0.05, 0.9), seed=st.integers(0, 99))
def test_outages_without_failures_only_delay(share, seed):
    """Asynchronous checkpoints whose persist is short: storage that is mostly there costs little, and no work."""
    cause = FailureClass(
        name="s", owner="storage", effect="outage", law=Law("exponential", 1000.0), duration=fixed(1000.0 * share)
    )
    saved = Checkpoint(kind="async", interval_s=50.0, stall_s=1.0, persist_s=10.0)
    job = Job(work_s=20_000.0, classes=(cause,), checkpoint=saved)
    result, free = simulate(job, 3, seed), simulate(replace(job, classes=()))
    assert (result.ledger["lost_work"] == 0).all()
    assert (result.wall_s >= free.wall_s[0] - 1e-6).all()
    assert np.sum(list(result.ledger.values()), axis=0) == pytest.approx(result.wall_s, rel=1e-9)


@both_engines
def test_storage_that_never_answers_again_stops_a_job_that_writes_to_it(engine):
    never = at(150.0, owner="storage", effect="outage", duration=Law("instants"))
    for kind in ("blocking", "async"):
        saved = Checkpoint(kind=kind, interval_s=100.0, stall_s=1.0, persist_s=50.0, persist_speed=0.5)
        result = simulate(Job(horizon_s=1e4, classes=(never,), checkpoint=saved), engine=engine)
        assert result.wall_s[0] == 1e4
        assert result.useful_s[0] == pytest.approx(200.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Checkpoint(kind="async", interval_s=1.0, persist_speed=0.0), "Checkpoint.persist_speed = 0.0"),
        (lambda: at(1.0, effect="outage"), "FailureClass.owner = 'node'"),
        (lambda: at(1.0, effect="slow", notice_s=3.0), "FailureClass.notice_s = 3.0"),
        (lambda: at(1.0, notice_s=math.inf), "FailureClass.notice_s = inf"),
        (lambda: at(1.0, effect="outtage"), "allowed: stop, hang, slow, degraded, corrupt, planned, outage"),
    ],
)
def test_the_impossible_is_refused_by_key_and_value(make, message):
    with pytest.raises(InputError, match=message):
        make()
