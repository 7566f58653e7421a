"""``simtrain goodput`` as a user types it."""

from __future__ import annotations

import json
from typing import Any

import pytest

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
    "set": (("--mtbf", "3 days", "--set", "a=b"), ["--set changes a preset or a scenario"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_command_typed_wrong(case, cli, files) -> None:
    arguments, said = WRONG[case]
    ran = cli(*arguments)
    assert ran.status == 2, ran.err
    assert ran.out == ""
    assert [words for words in said if words not in ran.err] == [], ran.err
    assert "Traceback" not in ran.err
