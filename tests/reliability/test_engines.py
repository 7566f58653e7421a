import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtrain.reliability.engines import simulate
from simtrain.reliability.job import BUCKETS, Checkpoint, FailureClass, Fleet, Job, Law
from tests.reliability.jobs import jobs


@settings(max_examples=60, deadline=None)
@given(job=jobs(), seed=st.integers(0, 2**40))
def test_both_engines_agree_event_by_event(job, seed):
    fast, plain = (simulate(job, 2, seed, engine, events=2) for engine in ("compiled", "des"))
    for ours, theirs in zip(fast.events, plain.events, strict=True):
        assert [(e.kind, e.cause) for e in ours] == [(e.kind, e.cause) for e in theirs]
        assert [e.time_s for e in ours] == pytest.approx([e.time_s for e in theirs], rel=1e-9, abs=1e-9)
        assert [e.value for e in ours] == pytest.approx([e.value for e in theirs], rel=1e-9, abs=1e-6)
    assert fast.wall_s == pytest.approx(plain.wall_s, rel=1e-9)
    assert (fast.failures == plain.failures).all()
    for bucket in BUCKETS:
        assert fast.ledger[bucket] == pytest.approx(plain.ledger[bucket], rel=1e-9, abs=1e-6)
    assert fast.availability == pytest.approx(plain.availability, abs=1e-9)
    assert fast.full_width == pytest.approx(plain.full_width, abs=1e-9)


def test_what_is_due_at_one_instant_comes_in_one_order():
    """Parts of three classes that all strike at the same times, some of them announced."""
    classes = tuple(
        FailureClass(name=name, components=4, law=Law("fixed", 188.1), notice_s=notice, nodes_lost=1)
        for name, notice in (("a", 7.3), ("b", 0.0), ("c", 31.7))
    )
    fleet = Fleet(nodes=3, hot_spares=1, repair=Law("exponential", 100.0))
    checkpoint = Checkpoint(kind="blocking", interval_s=50.0, stall_s=1.0)
    job = Job(horizon_s=9000.0, classes=classes, checkpoint=checkpoint, fleet=fleet)
    found = [
        [(e.time_s, e.kind, e.cause) for e in simulate(job, 1, 3, how, 1).events[0]] for how in ("des", "compiled")
    ]
    assert found[0] == found[1]


@settings(max_examples=60, deadline=None)
@given(job=jobs(), seed=st.integers(0, 99))
def test_the_ledger_closes_and_work_is_conserved(job, seed):
    result = simulate(job, 3, seed, "compiled")
    total = np.sum([result.ledger[bucket] for bucket in BUCKETS], axis=0)
    assert total == pytest.approx(result.wall_s, rel=1e-9)
    assert all((seconds >= -1e-7).all() for seconds in result.ledger.values())
    assert result.useful_s[result.completed] == pytest.approx(job.work_s, rel=1e-9)
    assert (result.useful_s <= job.work_s * (1 + 1e-9)).all()
    assert (result.wall_s <= job.horizon_s).all()
