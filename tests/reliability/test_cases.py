"""Every kind of case against the set of independent answers, by formula and by the engines; bad files."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from simtrain.errors import InputError, SimtrainError, UnsupportedError
from simtrain.reliability import cases
from simtrain.reliability.solve import read_case, solve

REPOSITORY = Path(__file__).parents[2]
FILE = Path(os.environ.get("SIMTRAIN_ORACLES", REPOSITORY / "../shared/oracles")) / "goodput.json"
TRACES = Path(os.environ.get("SIMTRAIN_TRACES", REPOSITORY / "../shared/traces"))
TRACE = TRACES / "infinitehbd_fault_trace.json"
KNOWN = {case["id"]: case for case in json.loads(FILE.read_text())["cases"]} if FILE.exists() else {}
pytestmark = pytest.mark.skipif(not KNOWN, reason=f"no independent answers in {FILE}")
EXACT = [name for name, case in KNOWN.items() if "exact" in case]
SAMPLED = [name for name in KNOWN if name not in EXACT]
FIRST = {case["kind"]: name for name, case in reversed(KNOWN.items())}


def opened(tmp_path: Path, case: dict[str, Any], trace: Path | None = None):
    path = tmp_path / "case.json"
    path.write_text(json.dumps(case))
    return read_case(path, trace)


def question(name: str) -> dict[str, Any]:
    case = copy.deepcopy(KNOWN[name])
    for block in ("analytic", "exact", "monte_carlo"):
        case.pop(block, None)
    return case


def asked(tmp_path: Path, name: str):
    return opened(tmp_path, question(name), TRACE if KNOWN[name]["kind"].startswith("trace") else None)


def numbers(block: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if not isinstance(value, str)}


def near(value: Any, error: float) -> Any:
    return None if value is None else pytest.approx(value, rel=1e-9, abs=error)


def test_every_kind_is_known() -> None:
    assert set(FIRST) <= set(cases.names())


@pytest.mark.parametrize("name", SAMPLED)
def test_closed_forms(name, tmp_path) -> None:
    found = solve(asked(tmp_path, name), "closed_form")
    known = numbers(KNOWN[name]["analytic"])
    error = known.pop("numerical_error_estimate", 0.0)
    assert found.answer.pop("numerical_error_estimate", 0.0) <= 1e-6
    assert found.answer == {key: near(value, error) for key, value in known.items()}
    assert found.standard_error == {}


@pytest.mark.parametrize("engine", ["des", "compiled"])
@pytest.mark.parametrize("name", EXACT)
def test_replays_are_exact(name, engine, tmp_path) -> None:
    file = asked(tmp_path, name)
    found = solve(file, engine)
    assert found.engine == engine
    known = dict(KNOWN[name]["exact"])
    ledger = known.pop("ledger", None)
    assert found.answer.pop("ledger", None) == (ledger and pytest.approx(ledger, rel=1e-6, abs=1e-6))
    assert found.answer == pytest.approx(known, rel=1e-6)


def test_a_trace_is_counted_unless_an_engine_is_asked_for(tmp_path) -> None:
    name = "trace_spares_16"
    found = solve(asked(tmp_path, name))
    assert found.engine == "closed_form"
    assert found.answer == pytest.approx(KNOWN[name]["exact"], rel=1e-9)


@pytest.mark.parametrize("name", EXACT[:1])
def test_replays_have_no_closed_form(name, tmp_path) -> None:
    with pytest.raises(UnsupportedError, match="no closed form"):
        solve(asked(tmp_path, name), "closed_form")


@pytest.mark.parametrize("engine", ["des", "compiled"])
@pytest.mark.parametrize("name", [name for kind, name in FIRST.items() if name in SAMPLED])
def test_engines_agree_with_the_closed_form(name, engine, tmp_path) -> None:
    file = asked(tmp_path, name)
    found = solve(file, engine, runs=20 if engine == "des" else 200, seed=3)
    assert found.engine == engine
    known = numbers(KNOWN[name]["analytic"])
    assert set(found.answer) == set(known)
    for key, error in found.standard_error.items():
        assert error > 0
        assert abs(found.answer[key] - known[key]) < 4.5 * error, key


VARIANTS = {
    "crews": ("spares_256_nodes_4", {"repair_crews": 3}),
    "ageing while stopped": ("spares_256_nodes_4", {"failures_while_stopped": True}),
    "fixed repair": ("spares_256_nodes_4", {"repair_distribution": "fixed"}),
    "no last checkpoint": ("seed_2048gpu_tau10min_C30s", {"checkpoint_after_last_segment": False}),
    "a shorter last segment": ("seed_2048gpu_tau10min_C30s", {"work_s": 100_000.0, "segments": 167}),
    "struck recoveries of classes": ("mixture_h100_2048", {"failure_during_recovery": "restarts_recovery"}),
    "struck recoveries": ("async_snapshot_5s_persist_120s", {"failure_during_recovery": "restarts_recovery"}),
    "late durability": ("async_snapshot_5s_persist_120s", {"persist_delay_s": 600.0, "system_mtbf_s": 2000.0}),
    "ageing parts": ("weibull075_components", {"weibull_shape": 1.5, "weibull_scale_s": None}),
    "idle nodes": ("elastic_dp16", {"nodes": 66}),
    "idle nodes that do not fail": ("elastic_dp16", {"nodes": 66, "idle_nodes_fail_too": False}),
    "work that is lost": ("elastic_dp16", {"lost_work_s": 3600.0}),
    "slow persisting": ("async_snapshot_5s_persist_120s", {"persist_slows_training": 0.3, "system_mtbf_s": 2000.0}),
    "queueing snapshots": ("async_snapshot_5s_persist_120s", {"persist_delay_s": 900.0, "system_mtbf_s": 4000.0}),
    "both": (
        "async_snapshot_5s_persist_120s",
        {"persist_delay_s": 700.0, "persist_slows_training": 0.5, "failure_during_recovery": "restarts_recovery"},
    ),
    "half from memory": ("two_tier_memory_95pct", {"prob_recover_from_memory": 0.5, "system_mtbf_s": 3000.0}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_formulas_and_engines_agree_away_from_the_known_answers(name, tmp_path) -> None:
    base, changes = VARIANTS[name]
    document = question(base)
    document["params"] |= changes
    file = opened(tmp_path, document)
    formula, sampled = solve(file, "closed_form"), solve(file, "auto", runs=60, seed=11)
    for key, error in sampled.standard_error.items():
        assert abs(sampled.answer[key] - formula.answer[key]) < 4.5 * error, key


BAD = {
    "missing": ({"work_s": None}, "params.work_s is missing"),
    "negative": ({"recovery_s": -1}, "params.recovery_s = -1 is not allowed; it must be a finite number of at least 0"),
    "NaN": ({"system_mtbf_s": float("nan")}, "params.system_mtbf_s = nan is not allowed"),
    "infinite": ({"work_s": float("inf")}, "params.work_s = inf is not allowed"),
    "text": ({"work_s": "long"}, "params.work_s = 'long' is not allowed"),
    "true": ({"work_s": True}, "params.work_s = True is not allowed"),
    "zero": ({"segment_work_s": 0}, "params.segment_work_s = 0 is not allowed; it must be a finite number above 0"),
    "word": ({"failure_during_recovery": "ignord"}, "did you mean 'ignored'?"),
    "segments": ({"segments": 7}, "params.segments = 7 is not allowed; it must be work_s / segment_work_s = 2400"),
    "never done": ({"segment_work_s": 144000.0 * 3, "work_s": 144000.0 * 3, "segments": 1}, "is never done"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_value_is_named(case, tmp_path) -> None:
    changes, said = BAD[case]
    document = question("seed_2048gpu_tau1min_ignored")
    document["params"] |= changes
    for key in [key for key, value in changes.items() if value is None]:
        del document["params"][key]
    for engine in ("closed_form", "auto"):
        with pytest.raises(SimtrainError) as caught:
            solve(opened(tmp_path, document), engine)
        assert caught.value.exit_status == 2
        assert said in str(caught.value)


@pytest.mark.parametrize("value", [True, 1, -0.1, "half"])
@pytest.mark.parametrize("name", ["async_snapshot_5s_persist_120s", "det_async_20"])
def test_how_much_persisting_slows_must_be_said(name, value, tmp_path) -> None:
    document = question(name)
    document["params"]["persist_slows_training"] = value
    with pytest.raises(InputError, match=r"persist_slows_training = .* it must be false, or the share of its speed"):
        opened(tmp_path, document)


def test_a_replay_with_persisting_that_slows(tmp_path) -> None:
    """No failure: each of 60 segments but the first works 180 s at 3/4 of its speed while the last is persisted."""
    document = question("det_async_20")
    document["params"] |= {"persist_slows_training": 0.25, "failure_instants_s": []}
    found = solve(opened(tmp_path, document))
    assert found.answer["wall_s"] == pytest.approx(60 * 604 + 59 * 180 * 0.25)
    assert found.answer["ledger"]["stall"] == pytest.approx(60 * 4 + 59 * 180 * 0.25)


def test_a_kind_says_what_it_cannot_answer(tmp_path) -> None:
    replays, random = (opened(tmp_path, question(name)).case for name in ("det_hand_checked", "spares_256_nodes_4"))
    with pytest.raises(UnsupportedError, match="nothing is sampled"):
        replays.sampled()
    with pytest.raises(UnsupportedError, match="one run is no answer"):
        random.replayed(None)


KINDS = {
    "unknown kind": ({"kind": "blocking_exponentail", "params": {}}, "Did you mean 'blocking_exponential'?"),
    "no kind": ({"params": {}}, "kind = None must be one of"),
    "no params": ({"kind": "blocking_exponential"}, "params = None must be a mapping"),
    "a list": ([], "it must be a mapping"),
    "many": ({"cases": []}, "--case takes one of them"),
}


@pytest.mark.parametrize("case", KINDS)
def test_what_is_no_case(case, tmp_path) -> None:
    document, said = KINDS[case]
    with pytest.raises(InputError) as caught:
        opened(tmp_path, document)
    assert said in str(caught.value)


def test_an_unknown_distribution_is_named(tmp_path) -> None:
    document = question("spares_256_nodes_4")
    document["params"]["repair_distribution"] = "lognormel"
    with pytest.raises(InputError, match=r"repair_distribution = 'lognormel'.*did you mean 'lognormal'"):
        opened(tmp_path, document)


@pytest.mark.parametrize("instants", [[5.0, 4.0], [-1.0], ["x"], "x", [float("nan")]])
def test_bad_instants_are_named(instants, tmp_path) -> None:
    document = question("det_hand_checked")
    document["params"]["failure_instants_s"] = instants
    with pytest.raises(InputError, match="failure_instants_s"):
        opened(tmp_path, document)


TRACES_WRONG = {
    "not JSON": ("x", "is not JSON"),
    "no list": ("{}", "must be a list of events"),
    "no events": ("[]", "has no events"),
    "no time": ('[{"node_id": "a", "event_type": "fault_start"}]', "event 0 has no event_time"),
    "NaN": ('[{"node_id": "a", "event_type": "fault_start", "event_time": NaN}]', "event_time = nan"),
    "type": (
        '[{"node_id": "a", "event_type": "fault", "event_time": 1}]',
        "event_type = 'fault'; allowed: fault_start",
    ),
    "end alone": ('[{"node_id": "a", "event_type": "fault_end", "event_time": 1}]', "event 0 ends a fault of node 'a'"),
}


@pytest.mark.parametrize("case", TRACES_WRONG)
def test_a_bad_trace_is_named(case, tmp_path) -> None:
    text, said = TRACES_WRONG[case]
    (tmp_path / "trace.json").write_text(text)
    with pytest.raises(InputError) as caught:
        opened(tmp_path, question("trace_spares_16"), tmp_path / "trace.json")
    assert said in str(caught.value)


def test_a_trace_case_needs_its_trace(tmp_path) -> None:
    with pytest.raises(InputError, match="--trace FILE"):
        opened(tmp_path, question("trace_spares_16"))
