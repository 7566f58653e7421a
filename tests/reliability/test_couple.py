"""From a scenario with reliability to a run: counts from the cluster, presets, money, and what is refused."""

import dataclasses
import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

import simtrain as st
from simtrain.reliability.couple import checkpoint_bytes, job_of
from simtrain.reliability.engines import simulate
from simtrain.reliability.job import Recovery
from simtrain.reliability.optimum import best_interval
from simtrain.reliability.run import run_of
from simtrain.reliability.saving import persist_s, speed_while_persisting
from simtrain.reliability.slowdown import speed_with
from simtrain.report.run_tables import runs_notes
from simtrain.scenario import library
from tests.small import small

DAY = 86400.0


def step(*overrides):
    return st.simulate_step(small("workload.tokens=20B", *overrides))


@pytest.fixture(scope="module")
def plain():
    return step("reliability=h100")


def with_(plain, *overrides):
    """The step with another reliability; the step itself does not depend on it."""
    return dataclasses.replace(plain, scenario=small("workload.tokens=20B", *overrides))


def gpu_days(job, gpus):
    return gpus / sum(c.rate_per_s for c in job.classes) / DAY


@pytest.mark.parametrize(
    ("preset", "expected"),
    [("h100", 2111), ("a100-rsc1", 1231), ("a100-rsc2", 3419), ("rtx4090-30-days", 30), ("rtx4090-500-days", 500)],
)
def test_presets_add_up_to_their_published_total(plain, preset, expected):
    assert gpu_days(job_of(with_(plain, f"reliability={preset}")), 16) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("preset", library.names("preset"))
def test_every_preset_runs_and_names_its_source(plain, preset):
    run = run_of(with_(plain, f"reliability={preset}", "reliability.horizon=30 days"), runs=3)
    assert run.goodput > 0.5
    assert sum(run.ledger.values()) == pytest.approx(1, abs=1e-9)
    assert run.step.scenario.reliability.source


def test_llama_3(plain):
    """419 unexpected interruptions of 16,384 GPUs in 54 days, within two standard deviations; above 90 %."""
    job = job_of(plain)
    classes = tuple(dataclasses.replace(c, components=c.components * 1024) for c in job.classes)
    run = simulate(dataclasses.replace(job, classes=classes, work_s=math.inf, horizon_s=54 * DAY), 200)
    assert abs(run.failures.sum(axis=1).mean() - 419) < 41
    assert run.goodput > 0.9


def test_no_failure_no_loss_but_stalls(plain):
    run = run_of(with_(plain, "reliability={checkpoint: {kind: blocking, interval: 10 min, stall: 30 s}}"), runs=2)
    segments = math.ceil(run.job.work_s / 600)
    assert run.result.wall_s == pytest.approx(run.job.work_s + 30 * segments, rel=1e-9)
    assert run.step.mfu * run.goodput == run.effective_mfu
    assert run.days == pytest.approx(run.step.job.days / run.goodput)


def test_money_counts_the_longer_run_and_the_spares(plain):
    bare = run_of(with_(plain, "reliability=rtx4090-30-days", "reliability.mtbf_per_gpu=2 days"), runs=5)
    assert bare.cost_usd == pytest.approx(bare.step.job.cost_usd / bare.goodput)
    often = ("reliability=rtx4090-30-days", "reliability.mtbf_per_gpu=2 days")
    for key, power in (("cold", 1), ("hot", 2)):
        spare = run_of(with_(plain, *often, f"reliability.spares.{key}=2"), runs=5)
        free, bill = spare.step.job, spare.bill
        assert bill.power_usd == pytest.approx(free.power_usd / spare.goodput * power, rel=1e-9)
        hardware = (free.cost_usd - free.power_usd) / spare.goodput * 2
        assert bill.cost_usd - bill.power_usd == pytest.approx(hardware, rel=1e-9)


def test_parts_and_blast_radius_come_from_the_cluster(plain):
    job = job_of(
        with_(
            plain,
            "reliability={classes: {leaf: {owner: leaf_switch, mtbf: 9 days},"
            " rack: {owner: rack, mtbf: 9 days, span: 2},"
            " nic: {owner: nic, mtbf: 9 days}, job: {owner: job, mtbf: 9 days}, gpu: {owner: gpu, mtbf: 9 days}}}",
        )
    )
    assert {c.name: (c.components, c.nodes_lost) for c in job.classes} == {
        "leaf": (1, 2),
        "rack": (1, 2),
        "nic": (16, 1),
        "job": (1, 0),
        "gpu": (16, 1),
    }


def test_memory_checkpoints_survive_events_smaller_than_their_copies(plain):
    text = "reliability={checkpoint: {kind: tiered, interval: 30 min, memory_copies: %d}, classes: {a: {mtbf: 9 days}}}"
    assert [job_of(with_(plain, text % n)).classes[0].survives_memory for n in (1, 2)] == [0.0, 1.0]


def test_bytes_and_bandwidth_make_the_times_of_checkpoints(plain):
    job = job_of(with_(plain, "reliability={storage: {write: 1 GB/s, read: 2 GB/s}, checkpoint: {kind: blocking}}"))
    size = checkpoint_bytes(plain.scenario)
    assert job.checkpoint.stall_s == pytest.approx(size / 1e9)
    phases = {bucket: law.mean_s for bucket, law in job.recovery.phases}
    assert phases == pytest.approx({"load": size / 2e9, "communicator": 0.003 * 16})


def test_slow_gpus_and_ports_simulate_the_step_again(plain):
    text = "reliability={classes: {a: {owner: %s, mtbf: 9 days, effect: %s, factor: 0.5, duration: 1 h}}}"
    slow = job_of(with_(plain, text % ("gpu", "slow"))).classes[0].factor
    port = job_of(with_(plain, text % ("nic", "degraded"))).classes[0].factor
    assert 0.5 <= slow < 0.8 < port <= 1.0


@pytest.mark.parametrize("stall", [1.0, 30.0, 180.0])
def test_the_best_interval_is_a_maximum(stall):
    M = 1265.625
    best = best_interval("exact", M, stall)
    goodput = lambda t: t / math.expm1((t + stall) / M)  # noqa: E731
    assert goodput(best) > max(goodput(best * 1.01), goodput(best / 1.01))
    known = {30.0: (255.94115306582373, 275.56759606310754, 255.93048343240878)}
    for rule, value in zip(("exact", "young", "daly"), known.get(stall, ()), strict=False):
        assert best_interval(rule, M, stall) == pytest.approx(value, rel=1e-9)


def test_intervals_are_whole_steps(plain):
    for text, steps in (("7 steps", 7), ("1 step", 1), ("3steps", 3)):
        job = job_of(with_(plain, f"reliability.checkpoint={{kind: blocking, interval: {text}, stall: 1 s}}"))
        assert job.checkpoint.interval_s == pytest.approx(steps * plain.time_s)
    job = job_of(with_(plain, "reliability=h100", "reliability.checkpoint.kind=blocking"))
    assert job.checkpoint.interval_s / plain.time_s == pytest.approx(round(job.checkpoint.interval_s / plain.time_s))


def test_replicas_must_be_whole_nodes(plain):
    shrink = "reliability.spares.policy=shrink"
    assert job_of(with_(plain, "reliability=h100", shrink)).fleet.nodes_per_replica == 1
    other = with_(plain, "reliability=h100", shrink, "layout.tp=1", "layout.pp=1")
    assert job_of(other).fleet.nodes == 2


def test_both_engines_run_the_same_scenario(plain):
    fast, des = (
        run_of(with_(plain, "reliability=rtx4090-30-days", f"engine={engine}"), runs=2)
        for engine in ("compiled", "des")
    )
    assert (fast.result.engine, des.result.engine) == ("compiled", "des")
    assert fast.result.wall_s == pytest.approx(des.result.wall_s, rel=1e-9)


def test_the_timeline_ends_where_the_run_ends(plain):
    run = run_of(with_(plain, "reliability=rtx4090-30-days", "reliability.mtbf_per_gpu=5 days"), seed=3, runs=4)
    line = run.timeline
    assert line.time_s[-1] == run.result.wall_s[0]
    assert line.useful_s[-1] == pytest.approx(run.job.work_s)
    assert (np.diff(line.time_s) >= 0).all()
    end = line.time_s[-1:]
    assert line.cumulative(end)[0] == pytest.approx(run.job.work_s / end[0])
    assert line.sliding(end, end[0])[0] == pytest.approx(line.cumulative(end)[0])
    assert {e.cause for e in line.events if e.kind == "failure"} <= set(run.result.classes)
    assert set(line.speed) <= {0.0, 1.0}


def test_the_timeline_counts_no_work_that_is_lost_later(plain):
    slow = json.dumps({"owner": "job", "mtbf": "20 min", "effect": "slow", "factor": 0.9, "duration": "5 min"})
    stop = json.dumps({"owner": "job", "mtbf": "4 h"})
    policy = json.dumps({"kind": "blocking", "interval": "2 h"})
    reliability = (f"reliability.classes={{slow: {slow}, stop: {stop}}}", f"reliability.checkpoint={policy}")
    line = run_of(with_(plain, *reliability), seed=3, runs=1).timeline
    assert {e.kind for e in line.events} >= {"rate", "failure"}
    assert (np.diff(line.useful_s) >= 0).all()


def test_hardware_that_is_only_slow_does_not_count_as_a_failure(plain):
    slow = "reliability.classes={flap: {owner: link, mtbf: 1 h, effect: degraded, factor: 0.5, duration: 9 s}}"
    with_flaps, without = (run_of(with_(plain, "reliability=rtx4090-30-days", *more), runs=5) for more in ((slow,), ()))
    assert with_flaps.failures["flap"] > 100 * with_flaps.stops.mean()
    assert with_flaps.stops.mean() < 1.5 * without.stops.mean()
    assert without.stops.tolist() == without.result.failures.sum(axis=1).tolist()


def test_completion_dates(plain):
    run = run_of(with_(plain, "reliability=rtx4090-30-days"), runs=40)
    p5, p50, p95 = run.days_quantiles(0.05, 0.5, 0.95)
    assert p5 <= p50 <= p95
    assert run.chance_by(p95) >= 0.95
    assert run.chance_by(p5 * 0.99) < 0.06
    cut = run_of(with_(plain, "reliability=rtx4090-30-days", "reliability.horizon=1 h"), runs=4)
    assert not cut.completed
    assert cut.days_quantiles(0.5) == (None,)


def test_the_document_has_the_keys_scripts_rely_on():
    from simtrain.cli.main import app

    result = CliRunner().invoke(
        app, ["run", "llama2-70b-on-240-h100", "--set", "reliability=h100", "--set", "reliability.runs=3", "--json"]
    )
    run = json.loads(result.stdout)["run"]
    keys = {"goodput", "effective_mfu", "days", "cost_usd", "usd_per_million_tokens", "ledger", "recovery_can_fail"}
    assert keys <= run.keys()
    assert sum(run["ledger"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("reliability.checkpoint.interval=0 s", "reliability.checkpoint.interval = '0 s' is no interval"),
        ("reliability.classes.gpu={extends: h100}", "extends"),
        ("reliability.mtbf_per_gpu=30 days", "mtbf_per_gpu needs classes with a share"),
        ("reliability.recovery.start=3", "reliability.recovery.start = 3 has no unit"),
        ("reliability.spares.policy=hope", "allowed: wait, spare, shrink, replica"),
        ("reliability.checkpoint={kind: tiered, local: {}}", "allowed with local: kind blocking or async"),
        ("reliability.checkpoint={kind: none, local: {}}", "kind = none saves nothing"),
        ("reliability.checkpoint.memory_placement=spred", "allowed: neighbour, spread (did you mean 'spread'?)"),
        ("reliability.storage.network=trainin", "allowed: frontend, training (did you mean 'training'?)"),
    ],
)
def test_the_impossible_is_refused(override, message):
    with pytest.raises(st.InputError) as caught:
        small("reliability=h100", override)
    assert message in str(caught.value)


def test_a_run_needs_reliability():
    with pytest.raises(st.InputError, match="has no reliability"):
        st.simulate_run(small())


def test_a_run_that_gets_nowhere_says_why(plain):
    hopeless = "reliability={mtbf_per_gpu: 1 min, recovery: {start: 10 h}, runs: 2, horizon: 1 h}"
    with pytest.raises(st.InputError, match="no work outlives a failure"):
        run_of(with_(plain, hopeless, "reliability.checkpoint.interval=10 min"))


@pytest.mark.parametrize(("text", "seconds"), [(".5 h", 1800.0), ("10 min", 600.0), ("1e2 s", 100.0)])
def test_intervals_may_be_any_time(plain, text, seconds):
    job = job_of(with_(plain, f"reliability.checkpoint={{kind: blocking, interval: {text}, stall: 1 s}}"))
    assert job.checkpoint.interval_s == seconds


CLASSIC = (
    "cluster.nodes=7",
    "cluster.fabric={extends: fat-tree-ndr400, radix: 48, rail_optimised: false}",
    "layout.pp=1",
    "layout.tp=8",
    "workload.global_batch=14",
)


@pytest.fixture(scope="module")
def seven():
    """Seven nodes, three on each of two leaves and one on a third."""
    return step(*CLASSIC, "reliability=h100")


def on_seven(seven, *overrides):
    return job_of(dataclasses.replace(seven, scenario=small("workload.tokens=20B", *CLASSIC, *overrides)))


def test_parts_of_different_size_are_classes_of_their_own_and_leave_others_as_they_were(seven):
    gpu = "gpu: {owner: gpu, mtbf: 90 days}"
    leaf = "leaf: {owner: leaf_switch, mtbf: 9 days}"
    job = on_seven(seven, f"reliability={{classes: {{{gpu}, {leaf}}}}}")
    assert {c.name: (c.components, c.nodes_lost) for c in job.classes} == {
        "gpu": (56, 1),
        "leaf, 3 nodes": (2, 3),
        "leaf, 1 node": (1, 1),
    }
    alone = on_seven(seven, f"reliability={{classes: {{{gpu}}}}}")
    endless = [dataclasses.replace(j, work_s=math.inf, horizon_s=300 * DAY, fleet=None) for j in (job, alone)]
    together, single = (simulate(dataclasses.replace(j, recovery=Recovery()), 3) for j in endless)
    assert together.failures[:, 0].tolist() == single.failures[:, 0].tolist()


def test_one_clock_for_all_parts_keeps_its_rate_when_parts_differ(seven):
    text = "reliability={classes: {leaf: {owner: leaf_switch, mtbf: 9 days, renewal: system}}}"
    job = on_seven(seven, text)
    assert [c.rate_per_s * 9 * DAY for c in job.classes] == pytest.approx([2, 1])
    assert [c.components for c in job.classes] == [1, 1]


def test_hot_spares_stand_on_leaves_too(seven):
    text = "reliability={spares: {hot: 2}, classes: {leaf: {owner: leaf_switch, mtbf: 9 days}, node: {mtbf: 1 day}}}"
    job = on_seven(seven, text)
    assert [(c.name, c.components, c.nodes_lost) for c in job.classes] == [("leaf", 3, 3), ("node", 9, 1)]


def test_total_rates_do_not_depend_on_spares_but_for_those_that_run(seven):
    job = on_seven(seven, "reliability=a100-rsc1", "reliability.spares.hot=7")
    assert gpu_days(job, 56) == pytest.approx(1231 / 2, rel=1e-6)


def test_copies_on_another_leaf_outlive_a_leaf_and_neighbours_do_not(seven):
    text = (
        "reliability={checkpoint: {kind: tiered, interval: 30 min, memory_placement: %s},"
        " classes: {leaf: {owner: leaf_switch, mtbf: 9 days}, node: {mtbf: 9 days},"
        " two: {mtbf: 9 days, nodes_lost: 2}}}"
    )
    kept = {
        placement: {c.name: c.survives_memory for c in on_seven(seven, text % placement).classes}
        for placement in ("neighbour", "spread")
    }
    # leaves 0-2, 3-5, 6; groups 0-1, 2-3, and a ring of 4, 5, 6; of six pairs in a row two are groups, two in the ring
    assert kept["neighbour"] == {"leaf, 3 nodes": 0, "leaf, 1 node": 1, "node": 1, "two": pytest.approx(1 / 3)}
    assert kept["spread"] == {"leaf, 3 nodes": 1, "leaf, 1 node": 1, "node": 1, "two": 1}  # i and i + 3


def test_local_disks_hold_what_a_node_that_stays_has_saved(plain):
    classes = "classes: {gpu: {owner: gpu, mtbf: 9 days}, software: {owner: job, mtbf: 9 days}}"
    local = "checkpoint: {interval: 1 h, local: {interval: 10 min, write: 2 GB/s, read: 4 GB/s}}"
    job = job_of(with_(plain, f"reliability={{{classes}, {local}}}"))
    size = checkpoint_bytes(plain.scenario)
    assert {c.name: c.survives_memory for c in job.classes} == {"gpu": 0.0, "software": 1.0}
    assert (job.checkpoint.kind, job.checkpoint.memory_interval_s) == ("tiered", 600.0)
    assert job.checkpoint.memory_stall_s == pytest.approx(size / 2 / 2e9)
    assert dict(job.checkpoint.memory_recovery.phases)["load"].mean_s == pytest.approx(size / 2 / 4e9)
    waiting = job_of(with_(plain, f"reliability={{{classes}, {local}, spares: {{policy: wait}}}}"))
    assert {c.survives_memory for c in waiting.classes} == {1.0}


def test_local_disks_beside_a_blocking_checkpoint_are_durable_when_it_ends(plain):
    """By rule they are not written: every failure here takes a node, and its disk."""
    text = "reliability={mtbf_per_gpu: 30 days, checkpoint: {kind: blocking, stall: 9 s, local: {}}}"
    job = job_of(with_(plain, text))
    assert (job.checkpoint.kind, job.checkpoint.stall_s, job.checkpoint.persist_s) == ("blocking", 9.0, 0.0)
    policy = "reliability.checkpoint.local.interval=1 step"
    assert job_of(with_(plain, text, policy)).checkpoint.kind == "tiered"


def test_local_disks_less_often_than_durable_checkpoints_are_refused(plain):
    text = "reliability={mtbf_per_gpu: 30 days, checkpoint: {interval: 5 min, local: {interval: 10 min}}}"
    with pytest.raises(st.ScenarioError, match=r"local\.interval = '10 min' is longer than the 5 min between"):
        job_of(with_(plain, text))


def test_local_disks_lose_less_work_where_processes_die(plain):
    text = "reliability={classes: {software: {owner: job, mtbf: 2 h}}, checkpoint: {interval: 1 h%s}}"
    plainly, locally = (run_of(with_(plain, text % more), runs=20) for more in ("", ", local: {interval: 5 min}"))
    assert locally.ledger["lost_work"] < plainly.ledger["lost_work"] / 4
    assert locally.goodput > plainly.goodput


def test_storage_by_the_ports_of_training_slows_it_by_what_it_takes(plain):
    text = "reliability={mtbf_per_gpu: 30 days, storage: {write: %s, network: %s}}"
    part = {
        key: with_(plain, text % key)
        for key in (("1 GB/s", "frontend"), ("1 GB/s", "training"), ("100 GB/s", "training"), ("100 TB/s", "training"))
    }
    speed = {key: speed_while_persisting(s.scenario.reliability, s) for key, s in part.items()}
    assert speed["1 GB/s", "frontend"] == 1.0
    assert 0.5 <= speed["100 GB/s", "training"] < speed["1 GB/s", "training"] <= 1.0
    assert speed["100 TB/s", "training"] == speed_with(plain, "degraded", 0.5)
    assert {key: job_of(s).checkpoint.persist_speed for key, s in part.items()} == speed
    told = with_(plain, text % ("1 GB/s", "training"), "reliability.checkpoint.persist_speed=0.9")
    assert job_of(told).checkpoint.persist_speed == 0.9
    half = 2 * 8 * 50e9 * 0.96 / 2
    fast = part["100 TB/s", "training"]
    assert persist_s(fast.scenario.reliability, fast) == pytest.approx(checkpoint_bytes(plain.scenario) / half)
    blocking = with_(plain, text % ("100 TB/s", "training"), "reliability.checkpoint.kind=blocking")
    assert job_of(blocking).checkpoint.stall_s == pytest.approx(checkpoint_bytes(plain.scenario) / half / 2)


def test_storage_by_ports_that_are_not_there(plain):
    one = step("cluster.nodes=1", "cluster.node.nics=0", "reliability={storage: {network: training}}")
    with pytest.raises(st.ScenarioError, match=r"reliability\.storage\.network = 'training', but"):
        speed_while_persisting(one.scenario.reliability, one)


def test_a_run_that_hardly_gets_on_says_so(plain):
    text = "reliability={mtbf_per_gpu: 90 min, recovery: {start: 10 min}, horizon: 20 days, checkpoint: {interval: %s}}"
    slow, fast = (run_of(with_(plain, text % every), runs=3) for every in ("30 min", "5 s"))
    assert 0 < slow.goodput < 0.05 < fast.goodput
    (warning,) = slow.document()["warnings"]
    assert warning.startswith("hardly any headway")
    assert "strikes every 5.6" in warning
    assert warning in runs_notes([slow])
    assert fast.document()["warnings"] == []


def test_a_node_that_is_preempted_with_notice_loses_less_work(plain):
    text = "reliability={classes: {spot: {mtbf: 6 h, nodes_lost: 0, notice: %s}}, checkpoint: {interval: 1 h}}"
    told, untold = (run_of(with_(plain, text % notice), runs=10).ledger for notice in ("2 min", "0 s"))
    assert told["lost_work"] < untold["lost_work"] / 4
