"""``simtrain goodput`` as a user types it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import SMALL

CASE: dict[str, Any] = {
    "id": "small",
    "kind": "blocking_exponential",
    "params": {
        "system_mtbf_s": 1000.0,
        "work_s": 6000.0,
        "segment_work_s": 300.0,
        "checkpoint_s": 10.0,
        "recovery_s": 100.0,
        "failure_during_recovery": "ignored",
        "checkpoint_after_last_segment": True,
        "segments": 20,
    },
}
KEYS = {
    "mean_wall_s",
    "sd_wall_s",
    "goodput",
    "expected_failures",
    "young_segment_s",
    "daly_segment_s",
    "exact_optimal_segment_s",
}
LOG = "start,class,end,node\n0.5 days,gpu,1.5 days,n1\n30 h,link,31 h,\n9 days,gpu,10 days,n1\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "case.json").write_text(json.dumps(CASE))
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


@pytest.mark.parametrize("engine", ["des", "compiled"])
def test_a_case_is_sampled(engine, cli, files) -> None:
    ran = cli("--case", "case.json", "--engine", engine, "--runs", "50", "--seed", "2", "--json")
    assert ran.status == 0, ran.err
    document = ran.document
    assert set(document) == {"id", "kind", "engine", "runs", "answer", "standard_error"}
    assert (document["id"], document["engine"], document["runs"]) == ("small", engine, 50)
    assert set(document["answer"]) == KEYS
    assert set(document["standard_error"]) == {"mean_wall_s", "sd_wall_s", "goodput", "expected_failures"}
    assert all(error > 0 for error in document["standard_error"].values())


def test_engines_and_seeds(cli, files) -> None:
    def answer(*options: str) -> Any:
        return cli("--case", "case.json", "--runs", "20", "--json", *options).document["answer"]

    assert answer("--engine", "des") == pytest.approx(answer("--engine", "compiled"), rel=1e-9)
    assert answer() != answer("--seed", "1")


def test_default_runs_are_enough_and_said(cli, files) -> None:
    ran = cli("--case", "case.json", "--json")
    document = ran.document
    for key in ("mean_wall_s", "goodput", "expected_failures"):
        assert document["standard_error"][key] <= 0.0105 * document["answer"][key]
    assert f"{document['runs']} runs, chosen" in ran.err
    assert document["runs"] > 100


def test_a_case_as_a_table(cli, files) -> None:
    ran = cli("--case", "case.json", "--engine", "closed_form")
    assert ran.status == 0
    assert "exact_optimal_segment_s" in ran.out


def test_one_setup_with_its_curve(cli) -> None:
    words = ("--mtbf", "30 days", "--gpus", "64", "--work", "20 days", "--runs", "30", "--curve")
    document = cli(*words, "--json").document
    assert document["closed_form"]["goodput"] == pytest.approx(document["goodput"]["value"], rel=0.02)
    assert document["best_interval_s"]["daly"] == pytest.approx(document["best_interval_s"]["exact"], rel=1e-3)
    assert len(document["curve"]) == 9
    ran = cli(*words)
    assert "best interval, young" in ran.out
    assert "failures can strike it" in ran.out


def test_a_preset_and_a_change_to_it(cli) -> None:
    plain = cli("h100", "--gpus", "16384", "--engine", "closed_form", "--json").document
    assert plain["system_mtbf_s"] == pytest.approx(3.1 * 3600, rel=0.02)
    words = ("--set", "classes.gpu.mtbf=600 days", "--engine", "closed_form", "--json")
    assert cli("h100", "--gpus", "16384", *words).document["system_mtbf_s"] < plain["system_mtbf_s"] / 2


def test_a_log_is_fitted_to_a_preset_that_loads(cli, files) -> None:
    ran = cli("--fit", "log.csv", "--gpus", "64", "--out", "mine.yaml", "--json")
    gpu = ran.document["classes"][0]
    assert (gpu["name"], gpu["events"], gpu["mtbf_per_gpu_s"]) == ("gpu", 2, pytest.approx(320 * 86400))
    again = cli("./mine.yaml", "--gpus", "64", "--engine", "closed_form", "--json").document
    assert again["system_mtbf_s"] == pytest.approx(10 / 3 * 86400, rel=1e-5)
    assert again["mean_recovery_s"] == pytest.approx(600.0, abs=1.0)


def test_a_log_is_replayed(cli, files) -> None:
    ran = cli("--replay", "log.csv", "--gpus", "64", "--spares", "0", "--interval", "1 h", "--json")
    document = ran.document
    assert document["fraction_time_job_can_run"] == pytest.approx(0.8)
    assert document["failures"] == 3
    assert sum(document["ledger"].values()) == pytest.approx(1, abs=1e-9)


WRONG = {
    "nothing": ((), ["give one of", "--mtbf", "given: none"]),
    "two": (("h100", "--mtbf", "3 days"), ["PRESET or SCENARIO and --mtbf"]),
    "no unit": (("--mtbf", "30"), ["--mtbf = '30' has no unit"]),
    "zero": (("--mtbf", "0 s"), ["--mtbf = '0 s' is not allowed"]),
    "interval": (("--mtbf", "3 days", "--interval", "yung"), ["--interval = 'yung'"]),
    "engine": (("--mtbf", "3 days", "--engine", "fast"), ["--engine", "'fast'"]),
    "runs": (("--mtbf", "3 days", "--runs", "1"), ["--runs"]),
    "never": (("--mtbf", "1 s", "--interval", "1 h"), ["never done"]),
    "too often": (("--mtbf", "1 day", "--interval", "10 min"), ["one run would fail"]),
    "replicas": (("--mtbf", "3 days", "--replicas", "7"), ["--replicas = 7", "256 nodes"]),
    "preset": (("h10",), ["no preset or scenario is called 'h10'", "Did you mean 'h100'?"]),
    "class": (("h100", "--set", "classes.gpu.mtbf=-3 days"), ["classes.gpu.mtbf"]),
    "no case": (("--case", "none.json"), ["no case file 'none.json'"]),
    "no log": (("--fit", "none.csv"), ["no incident file 'none.csv'"]),
    "replay": (("--replay", "log.csv", "--engine", "closed_form"), ["--engine closed_form cannot replay a log"]),
    "short": (("--fit", "log.csv", "--observed", "1 day"), ["log.csv", "line 4"]),
    "out": (("--fit", "log.csv", "--out", "no/a.yaml"), ["no/a.yaml cannot be written"]),
    "set": (("--mtbf", "3 days", "--set", "a=b"), ["--set says nothing about --mtbf", "PRESET or SCENARIO"]),
    "set and case": (("--case", "case.json", "--set", "a=b"), ["--set says nothing about --case"]),
    "trace": (("h100", "--trace", "log.csv"), ["--trace says nothing about PRESET", "--case"]),
    "curve of a log": (("--replay", "log.csv", "--curve"), ["--curve says nothing about --replay"]),
    "seed of a log": (("--replay", "log.csv", "--seed", "2"), ["--seed", "nothing in it is random"]),
    "nodes of a log": (("--replay", "log.csv", "--gpus", "64"), ["--gpus", "--spares or --replicas"]),
    "out without fit": (("h100", "--out", "a.yaml"), ["--out says nothing about PRESET", "--fit"]),
    "recovery of a fit": (("--fit", "log.csv", "--recovery", "9 min"), ["--recovery", "--out FILE"]),
    "gpus of a scenario": (("small.yaml", "--gpus", "8"), ["--gpus says nothing about SCENARIO", "cluster.nodes=N"]),
    "replicas of a scenario": (("small.yaml", "--replicas", "2"), ["reliability.spares.policy=shrink"]),
    "scenario that fails never": (("small.yaml",), ["small.yaml has no reliability", "--set reliability=h100"]),
    "repair of nothing": (("h100", "--repair", "1 day"), ["--repair says nothing", "--spares"]),
    "runs of a formula": (("h100", "--engine", "closed_form", "--runs", "9"), ["--runs", "closed_form"]),
    "interval of nothing": (
        ("h100", "--set", "checkpoint.kind=none", "--interval", "1 h"),
        ["--interval says nothing about checkpoint.kind = 'none'"],
    ),
    "persist of blocking": (
        ("h100", "--set", "checkpoint.kind=blocking", "--persist", "1 min"),
        ["--persist says nothing about checkpoint.kind = 'blocking'"],
    ),
    "storage without a model": (("h100", "--set", "storage.write=1 GB/s"), ["h100.yaml: storage", "checkpoint.stall"]),
    "async without times": (("h100", "--set", "checkpoint.kind=async"), ["checkpoint.stall and checkpoint.persist"]),
    "steps without a step": (("h100", "--interval", "100 steps"), ["checkpoint.interval = '100 steps'", "give a time"]),
    "shrink without replicas": (("h100", "--set", "spares.policy=shrink"), ["spares.policy = 'shrink'", "--replicas"]),
    "key of a class": (("h100", "--set", "classes.gpu.mtbff=3 d"), ["--set: classes.gpu.mtbff", "did you mean 'mtbf'"]),
    "curve of nothing": (("h100", "--curve", "--set", "checkpoint.kind=none"), ["no interval to vary"]),
    "one run": (("h100", "--set", "runs=1"), ["runs = 1", "2 or more"]),
    "shares": (("h100", "--set", "mtbf_per_gpu=3 days"), ["--set: cannot be: mtbf_per_gpu needs classes with a share"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_command_typed_wrong(case, cli, files) -> None:
    arguments, said = WRONG[case]
    ran = cli(*arguments)
    assert ran.status == 2, ran.err
    assert ran.out == ""
    assert [words for words in said if words not in ran.err] == [], ran.err
    assert "Traceback" not in ran.err


def test_every_key_of_a_preset_has_its_say(cli) -> None:
    plain = ("h100", "--gpus", "16384", "--work", "10 days", "--runs", "10", "--json")
    before = cli(*plain).document

    def after(*changes: str) -> Any:
        return cli(*plain, *(word for change in changes for word in ("--set", change))).document

    assert after("checkpoint.kind=none")["closed_form"] is None
    assert after("checkpoint.kind=none")["ledger"]["checkpoint"] == 0
    assert after("checkpoint.stall=5 min")["checkpoint_s"] == 300
    assert after("checkpoint.interval=20 min")["interval_s"] == 1200
    assert after("checkpoint.stall=1 s", "checkpoint.persist=5 min")["goodput"] != before["goodput"]
    assert after("spares.cold=1")["ledger"]["waiting_for_spares"] > before["ledger"]["waiting_for_spares"] == 0
    assert after("horizon=2 days")["completed"] == 0
    runs = ("h100", "--gpus", "16384", "--work", "1 days", "--set", "runs=7", "--json")
    assert cli(*runs).document["runs"] == 7


def test_a_preset_in_two_tiers_keeps_what_memory_holds(cli) -> None:
    words = ("h100", "--gpus", "16384", "--work", "10 days", "--runs", "20", "--json")
    slow = ("--checkpoint", "1 s", "--persist", "30 min", "--interval", "2 h")
    durable = cli(*words, *slow, "--set", "checkpoint.kind=async").document
    memory = (
        "--set",
        "checkpoint.kind=tiered",
        "--set",
        "checkpoint.memory_interval=1 min",
        "--set",
        "checkpoint.memory_load=20 s",
    )
    assert cli(*words, *slow, *memory).document["ledger"]["lost_work"] < durable["ledger"]["lost_work"] / 3


def test_recovery_and_immunity_hold_for_every_class(cli) -> None:
    words = ("h100", "--set", "classes.gpu.recovery={detection: 1 h}", "--engine", "closed_form", "--json")
    assert cli(*words, "--recovery", "7 min").document["mean_recovery_s"] == pytest.approx(420)
    document = cli(*words, "--immune").document
    assert document["recovery_can_fail"] is False
    assert not any("strike" in what for what in document["closed_form"]["left_out"])


FAILING = """\
extends: ./small.yaml
reliability:
  classes: {gpu: {owner: gpu, mtbf: 3 days}}
  recovery: {start: 2 min}
"""


def test_options_change_a_scenario_as_its_keys_would(cli, files) -> None:
    (files / "failing.yaml").write_text(FAILING)

    def told(*options: str) -> Any:
        ran = cli("failing.yaml", "--engine", "closed_form", "--json", *options)
        assert ran.status == 0, ran.err
        return ran.document

    plain, slow = told(), told("--checkpoint", "10 min")
    assert slow["interval_s"] > 2 * plain["interval_s"]
    assert slow["interval_s"] == told("--set", "reliability.checkpoint.stall=10 min")["interval_s"]
    assert told("--interval", "7 steps")["interval_s"] < plain["interval_s"]
    assert told("--work", "9 days")["work_s"] == 9 * 86400
    assert told("--spares", "1")["waiting_share_erlang_b"] > 0
    assert plain["gpus"] == 16


def test_a_hopeless_job_is_told(cli) -> None:
    ran = cli("--mtbf", "30 days", "--interval", "2 h", "--work", "1 day", "--runs", "5")
    assert ran.status == 0
    assert "what stops the job strikes every 21.09 min" in ran.err
    assert "of the runs did all of the work within 20 days" in ran.err


def test_an_interval_of_confidence_of_a_share_ends_at_one(cli) -> None:
    words = ("--mtbf", "3000 days", "--gpus", "8", "--work", "3 days", "--checkpoint", "0.1 s", "--runs", "2")
    assert cli(*words, "--json").document["goodput"]["interval_95"][1] <= 1


def test_columns_say_what_they_are(cli) -> None:
    table = cli("--mtbf", "3 days", "--gpus", "1", "--engine", "closed_form").out
    assert "1 GPU " in table
    assert "interval)" not in table
    spared = cli("--mtbf", "300 days", "--gpus", "64", "--spares", "1", "--runs", "5", "--work", "9 days").out
    assert "formula, always enough nodes" in spared
    assert "1 spare node (" in spared
