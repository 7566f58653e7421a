"""Jobs for tests."""

import math

from hypothesis import strategies as st

from simtrain.reliability.job import Checkpoint, FailureClass, Fleet, Job, Law, Recovery


def fixed(time_s):
    return Law("fixed", time_s)


def recovery(time_s, *, interruptible=True):
    return Recovery(phases=(("recovery", fixed(time_s)),), interruptible=interruptible)


def blocking(law, work_s, interval_s, stall_s, recovery_s, *, interruptible=True, **job):
    """One class that stops the job, blocking checkpoints, one fixed recovery."""
    return Job(
        work_s=work_s,
        classes=(FailureClass(name="all", owner="job", law=law),),
        recovery=recovery(recovery_s, interruptible=interruptible),
        checkpoint=Checkpoint(kind="blocking", interval_s=interval_s, stall_s=stall_s),
        **job,
    )


def times(low=0.0, high=100.0):
    return st.floats(low, high, allow_nan=False).map(lambda x: round(x, 6))


@st.composite
def laws(draw, low=1.0, high=200.0):
    kind = draw(st.sampled_from(["fixed", "exponential", "weibull", "lognormal", "hazard"]))
    mean = draw(st.floats(low, high))
    if kind == "hazard":
        return Law("hazard", table=(0.0, mean), rates_per_s=(draw(st.floats(0, 2 / mean)), 1 / mean))
    return Law(kind, mean, draw(st.floats(0.5, 1.7)))


@st.composite
def recoveries(draw):
    buckets = draw(st.lists(st.sampled_from(["diagnose", "start", "load", "recovery"]), max_size=3, unique=True))
    return Recovery(
        phases=tuple((bucket, draw(laws(0.1, 30.0))) for bucket in buckets),
        interruptible=draw(st.booleans()),
        failure_probability=draw(st.sampled_from([0.0, 0.3])),
    )


@st.composite
def checkpoints(draw):
    kind = draw(st.sampled_from(["none", "blocking", "async", "tiered", "just_in_time"]))
    interval = draw(st.floats(5.0, 60.0))
    return Checkpoint(
        kind=kind,
        interval_s=interval,
        stall_s=draw(times(0, 5)),
        persist_s=draw(times(0, 90)),
        persist_speed=draw(st.sampled_from([1.0, 0.9, 0.3])),
        memory_interval_s=interval / draw(st.sampled_from([1, 3, 20])),
        memory_stall_s=draw(times(0, 0.5)),
        memory_recovery=draw(st.none() | recoveries()),
        after_last_segment=draw(st.booleans()),
        keep_last=draw(st.none() | st.integers(1, 3)),
    )


@st.composite
def classes(draw, name):
    effect = draw(st.sampled_from(["stop", "stop", "hang", "slow", "degraded", "corrupt", "planned", "outage"]))
    system = draw(st.integers(0, 5)) == 0
    law = draw(laws(150.0, 900.0))
    return FailureClass(
        name=name,
        owner="storage" if effect == "outage" else draw(st.sampled_from(["node", "gpu", "job", "storage"])),
        components=1 if system else draw(st.integers(1, 5)),
        law=law,
        renewal="system" if system else "replaced",
        effect=effect,
        factor=draw(st.floats(0.2, 1.0)),
        duration=draw(laws(1.0, 50.0)),
        notice_s=draw(times(0, 200)) if effect == "stop" and not system and draw(st.booleans()) else 0.0,
        nodes_lost=draw(st.integers(0, 2)),
        detection=draw(st.sampled_from([fixed(0.0), fixed(3.0), Law("exponential", 5.0)])),
        recovery=draw(st.none() | recoveries()),
        survives_memory=draw(st.sampled_from([0.0, 0.5, 1.0])),
        repair=draw(st.none() | laws(1.0, 300.0)),
        infant_factor=3.0 if law.kind == "exponential" and draw(st.booleans()) else 1.0,
        infant_decay_s=200.0,
        lemon_share=draw(st.sampled_from([0.0, 0.5])),
        lemon_factor=3.0,
        burst_probability=draw(st.sampled_from([0.0, 0.4])),
        burst_events=draw(st.integers(0, 2)),
        burst_window_s=20.0,
    )


@st.composite
def fleets(draw):
    per_replica = draw(st.integers(1, 3))
    replicas = draw(st.integers(1, 4))
    return Fleet(
        nodes=per_replica * replicas,
        spares=draw(st.integers(0, 2)),
        hot_spares=draw(st.integers(0, 2)),
        swap_s=draw(times(0, 9)),
        repair=draw(laws(5.0, 300.0)),
        crews=draw(st.none() | st.integers(1, 2)),
        repair_success=draw(st.sampled_from([1.0, 0.7])),
        failures_while_stopped=draw(st.booleans()),
        idle_nodes_fail=draw(st.booleans()),
        policy=draw(st.sampled_from(["wait", "spare", "shrink", "replica"])),
        nodes_per_replica=per_replica,
        min_replicas=draw(st.integers(1, replicas)),
        reconfigure_s=draw(times(0, 4)),
    )


@st.composite
def jobs(draw):
    names = ["a", "b", "c"][: draw(st.integers(0, 3))]
    return Job(
        work_s=draw(st.sampled_from([500.0, 3000.0, math.inf])),
        horizon_s=draw(st.floats(1000.0, 9000.0)),
        classes=tuple(draw(classes(name)) for name in names),
        recovery=draw(recoveries()),
        checkpoint=draw(checkpoints()),
        fleet=draw(st.none() | fleets()),
    )
