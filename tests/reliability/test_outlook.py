"""The formula beside Monte Carlo, the best interval, and recorded failures replayed."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from simtrain.errors import InputError
from simtrain.reliability.alone import classes_of_preset, recovery_of_preset
from simtrain.reliability.incidents import Incident, IncidentLog, read_incidents
from simtrain.reliability.job import Checkpoint, FailureClass, Fleet, Job, Law, Recovery
from simtrain.reliability.many import simulate_many
from simtrain.reliability.outlook import Setup, curve_intervals, look, sweep_intervals
from simtrain.reliability.replay import merged, replay
from simtrain.scenario.load import load_preset

DAY = 86400.0
TEN_MINUTES = Recovery(phases=(("recovery", Law(mean_s=600.0)),))
TRACES = Path(os.environ.get("SIMTRAIN_TRACES", Path(__file__).parents[2] / "../shared/traces"))
TRACE = TRACES / "infinitehbd_fault_trace.json"


def one_class(gpus: int, mtbf_s: float) -> tuple[FailureClass, ...]:
    return (FailureClass(name="gpu", owner="gpu", components=gpus, law=Law("exponential", mtbf_s), nodes_lost=1),)


def job_alone(classes, recovery, work_s, stall_s, persist_s=None, fleet=None) -> Job:
    kind = Checkpoint(
        kind="blocking" if persist_s is None else "async",
        interval_s=work_s,
        stall_s=stall_s,
        persist_s=persist_s or 0.0,
    )
    return Job(work_s=work_s, classes=classes, recovery=recovery, checkpoint=kind, fleet=fleet)


def seed_setup(interval: float | str = 600.0, **changes) -> Setup:
    return Setup(2048, job_alone(one_class(2048, 30 * DAY), TEN_MINUTES, 2 * DAY, 30.0, **changes), interval)


def test_the_formula_lies_in_the_interval_of_confidence() -> None:
    found = look(seed_setup(), runs=60)
    assert found.closed_form is not None
    assert found.closed_form.goodput == pytest.approx(0.457, abs=1e-3)
    low, high = found.goodput.interval(0.9999)
    assert low < found.closed_form.goodput < high
    assert sum(found.ledger.values()) == pytest.approx(1, abs=1e-9)
    assert found.document()["recovery_can_fail"] is True


def test_the_best_interval_does_not_depend_on_recovery() -> None:
    setup = seed_setup("exact")
    longer = replace(setup, job=replace(setup.job, recovery=Recovery()))
    assert setup.interval_s == longer.interval_s == pytest.approx(255.94, abs=0.01)
    points = sweep_intervals(setup, curve_intervals(setup), "closed_form")
    assert max(points, key=lambda point: point.closed_form).interval_s == pytest.approx(setup.interval_s)


def test_asynchronous_checkpoints_keep_their_formula() -> None:
    setup = Setup(64, job_alone(one_class(64, 20 * DAY), TEN_MINUTES, 60 * DAY, 5.0, persist_s=120.0), 900.0)
    found = look(setup, runs=60)
    low, high = found.goodput.interval(0.9999)
    assert low < found.closed_form.goodput < high


def test_free_checkpoints_have_no_best_interval() -> None:
    setup = Setup(8, job_alone(one_class(8, DAY), TEN_MINUTES, DAY, 0.0), "exact")
    with pytest.raises(InputError, match="the checkpoint is free"):
        look(setup)


def test_runs_added_are_those_of_one_call() -> None:
    job = seed_setup().run()
    first = simulate_many(job, 3, 5, "auto")
    assert list(simulate_many(job, 7, 5, "auto", first).wall_s) == list(simulate_many(job, 7, 5, "auto").wall_s)


def test_a_preset_keeps_its_total() -> None:
    preset = load_preset("h100")
    classes = classes_of_preset(preset, 16384, 2048)
    assert 1 / sum(c.rate_per_s for c in classes) == pytest.approx(2111 * DAY / 16384, rel=0.01)
    assumed = load_preset("rtx4090-30-days")
    job = job_alone(classes_of_preset(assumed, 2048, 256), recovery_of_preset(assumed.recovery, 2048), DAY, 30.0)
    assert 1 / job.rate_per_s == pytest.approx(1265.625, rel=1e-9)


def test_a_switch_needs_a_network() -> None:
    preset = load_preset({"classes": {"leaf": {"owner": "leaf_switch", "mtbf": "9 days"}}})
    with pytest.raises(InputError, match=r"class leaf: .* give a scenario"):
        classes_of_preset(preset, 8, 1)


def test_overlaps_on_a_node_are_one_incident() -> None:
    found = merged(
        IncidentLog(
            (Incident(0.0, "gpu", "a", 5.0), Incident(3.0, "nic", "a", 9.0), Incident(4.0, "gpu", "b", None)), 20.0
        )
    )
    assert found == (Incident(0.0, "gpu", "a", 12.0), Incident(4.0, "gpu", "b", 0.0))


def test_a_log_is_replayed_to_the_second() -> None:
    log = IncidentLog((Incident(250.0, "gpu", "a", 100.0), Incident(700.0, "gpu", "b", 50.0)), 1000.0)
    plain = replay(log, 90.0, 10.0, Recovery(phases=(("recovery", Law(mean_s=20.0)),)))
    assert plain.failures == 2
    assert plain.ledger["lost_work"] == pytest.approx((50 + 30) / 1000)
    assert plain.ledger["recovery"] == pytest.approx(40 / 1000)
    waiting = replay(log, 90.0, 10.0, Recovery(), Fleet(nodes=4, failures_while_stopped=True))
    assert waiting.ledger["waiting_for_spares"] == pytest.approx(150 / 1000)
    assert waiting.can_run == pytest.approx(0.85)
    spared = replay(log, math.inf, 0.0, Recovery(), Fleet(nodes=4, spares=1, failures_while_stopped=True))
    assert spared.can_run == 1.0


@pytest.mark.skipif(not TRACE.exists(), reason=f"no trace {TRACE}")
def test_a_job_waits_as_long_as_the_trace_says() -> None:
    found = replay(
        read_incidents(TRACE), 1800.0, 30.0, TEN_MINUTES, Fleet(nodes=384, spares=16, failures_while_stopped=True)
    )
    assert found.can_run == pytest.approx(0.8304354578689083, rel=1e-9)
    assert 1 - found.ledger["waiting_for_spares"] == pytest.approx(found.can_run, abs=1e-3)
