"""Bad input: every message names the file, the key, the value, what is allowed and the nearest valid name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from simtrain.errors import InputError, ScenarioError
from simtrain.scenario.load import load, load_study
from tests.scenario.conftest import MODEL

BAD_VALUES = {
    "literal misspelt": ("layout.recompute", "fulll", ["'fulll'", "none, selective, full", "did you mean 'full'?"]),
    "literal far off": ("engine", "quantum", ["'quantum'", "auto, des"]),
    "unknown key": ("layout.recompte", "full", ["'full'", "no such key in layout", "did you mean 'recompute'?"]),
    "unknown top key": ("layot", 3, ["= 3", "no such key", "cluster", "did you mean 'layout'?"]),
    "unknown key in a union": ("cluster.node.links.pcie.bandwith", "1 GB/s", ["latency", "did you mean 'bandwidth'?"]),
    "negative size": ("layout.tp", -3, ["-3", "at least 1"]),
    "zero nodes": ("cluster.nodes", 0, ["= 0", "at least 1"]),
    "fraction": ("cluster.node.gpus", 7.5, ["7.5", "a whole number"]),
    "text for a number": ("layout.pp", "two", ["'two'", "a whole number"]),
    "number for text": ("title", 4090, ["4090", "text; put it in quotes"]),
    "text for a switch": ("layout.sp", "maybe", ["'maybe'", "true or false"]),
    "list for a part": ("layout", [1], ["[1]", "a mapping of keys"]),
    "number for a named part": ("cluster.node", 5, ["= 5", "a mapping of keys, or the name of a node"]),
    "number for a list": ("layout.layers_per_stage", 4, ["= 4", "a list"]),
    "wrong list item": ("layout.layers_per_stage", [4, "x"], ["'x'", "a whole number"]),
    "null": ("layout.tp", None, ["null", "a whole number"]),
    "no unit": ("cluster.node.device.memory", 24, ["24 has no unit", '"80 GiB"']),
    "bits for bytes": ("cluster.node.device.memory", "24 Gb", ["'24 Gb'", "are bits", "'GB'"]),
    "size for a rate": ("cluster.node.nic.bandwidth", "400 GB", ["'400 GB' is a size in bytes", '"400 Gbps"']),
    "unit misspelt": ("money.amortisation", "3 yeers", ["'3 yeers'", "did you mean 'years'?"]),
    "negative quantity": ("cluster.node.price", "-5 USD", ["'-5 USD'", "not negative"]),
    "no number": ("money.electricity", "cheap", ["'cheap'", '"0.10 USD/kWh"']),
    "above its limit": ("money.utilisation", 1.5, ["1.5", "at most 1"]),
    "below its limit": ("money.pue", 0.5, ["0.5", "at least 1"]),
    "zero where positive": ("cluster.node.device.kernels.norm.memory", 0, ["= 0", "above 0"]),
    "not a number": ("money.pue", float("nan"), ["nan", "finite"]),
    "infinite": ("cluster.fabric.latency", "1e999 s", ["'1e999 s'", "finite"]),
    "unknown kind": ("workload.model.attention", {"kind": "mqa"}, ["kind = 'mqa'", "gqa, mla", "did you mean 'mla'?"]),
    "kind missing": ("cluster.node.links", {"pcie": 1}, ["no key 'kind'", "nvswitch, mesh, pcie"]),
    "precision misspelt": ("cluster.node.device.peaks", {"bf61": "1 TFLOPS"}, ["bf61", "did you mean 'bf16'?"]),
    "kernel above its peak": ("cluster.node.device.kernels.gemm.compute", 1.2, ["= 1.2", "at most 1"]),
    "unequal key-value groups": (
        "workload.model.attention",
        {"kind": "gqa", "heads": 8, "kv_heads": 3},
        ["workload.model.attention", "kv_heads = 3 does not divide heads = 8"],
    ),
    "more key-value heads": (
        "workload.model.attention",
        {"kind": "gqa", "heads": 8, "kv_heads": 16},
        ["kv_heads = 16 does not divide heads = 8"],
    ),
    "part of a head": (
        "workload.model",
        MODEL | {"attention": {"kind": "gqa", "heads": 7}},
        ["workload.model", "heads = 7 does not divide hidden = 512", "attention.head_dim"],
    ),
    "more experts a token": (
        "workload.model.moe",
        {"experts": 4, "top_k": 5, "expert_ffn_hidden": 64},
        ["workload.model.moe", "top_k = 5 is more than experts = 4"],
    ),
    "unknown name of a node": ("cluster.node", "no-such-node", ["'no-such-node'", "no node is called"]),
    "unknown name of a model": ("workload.model", "no-such-model", ["'no-such-model'", "no model is called"]),
    "no such file": ("workload.model", "./none.yaml", ["'./none.yaml'", "no model file"]),
}


def _set(document: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for key in parents:
        document = document.setdefault(key, {})
    document[last] = value


@pytest.mark.parametrize("case", BAD_VALUES)
def test_a_wrong_value_names_file_key_value_and_what_is_allowed(case, scenario, write):
    path, value, expected = BAD_VALUES[case]
    _set(scenario, path, value)
    write("mine.yaml", scenario)
    with pytest.raises(InputError) as caught:
        load("mine.yaml")
    message = str(caught.value)
    first = next(line for line in message.splitlines() if path in line)
    assert first.startswith("mine.yaml: ")
    for text in expected:
        assert text in first


@pytest.mark.parametrize(
    ("path", "meaning"),
    [
        ("workload.tokens", ["Tokens to train on", "tokens: 2T"]),
        ("cluster.nodes", ["nodes: 8"]),
        ("cluster.node.links.host", ["Host bridge and memory of one socket"]),
        ("cluster.node.nic.bandwidth", ["Line rate in one direction", "400 Gbps"]),
        ("cluster", ["a mapping of keys, or the name of a cluster"]),
        ("cluster.node.device.kernels", ["or the name of the device whose table is borrowed"]),
    ],
)
def test_a_missing_key_says_what_it_is_and_shows_an_example(path, meaning, scenario, write):
    *parents, last = path.split(".")
    inner: Any = scenario
    for key in parents:
        inner = inner[key]
    del inner[last]
    write("mine.yaml", scenario)
    with pytest.raises(ScenarioError) as caught:
        load("mine.yaml")
    message = str(caught.value)
    assert message.startswith(f"mine.yaml: {path} is missing")
    for text in meaning:
        assert text in message


BROKEN_FILES = {
    "missing.yaml": (None, ["no scenario file 'missing.yaml'"]),
    "empty.yaml": ("", ["empty.yaml: the file is empty"]),
    "list.yaml": ("- a\n- b\n", ["list.yaml, line 1", "a list"]),
    "text.yaml": ("hello", ["text.yaml, line 1", "'hello'"]),
    "twice.yaml": ("title: a\nseed: 1\ntitle: b\n", ["twice.yaml, line 3", "'title' stands twice", "line 1"]),
    "syntax.yaml": ("title: a\ncluster: [1, 2\n", ["syntax.yaml, line 3"]),
    "indent.yaml": ("title: a\n  seed: 3\n", ["indent.yaml, line 2"]),
    "tab.yaml": ("cluster:\n\tnodes: 3\n", ["tab.yaml, line 2"]),
    "binary.yaml": (b"\x89PNG\xff\x00", ["binary.yaml: not a text file"]),
    "control.yaml": (b"title: \x00", ["control.yaml: not a text file"]),
    "number.yaml": ("1: a\n", ["number.yaml, line 1", "'1' is not text"]),
    "two.yaml": ("title: a\n---\ntitle: b\n", ["two.yaml, line 2"]),
    "tag.yaml": ("title: !!python/name:os.system\n", ["tag.yaml, line 1", "python/name"]),
    "alias.yaml": ("title: *nobody\n", ["alias.yaml, line 1", "undefined alias"]),
    "endless.yaml": ("cluster: &a\n  node: *a\n", ["endless.yaml", "holds itself"]),
    "date.yaml": ("title: 2024-99-99\n", ["date.yaml"]),
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_broken_file_is_one_clear_message(name, write):
    content, expected = BROKEN_FILES[name]
    if content is not None:
        write(name, content)
    else:
        write("other.yaml", {"title": "x"})
    with pytest.raises(ScenarioError) as caught:
        load(name)
    assert len(str(caught.value).splitlines()) == 1
    for text in expected:
        assert text in str(caught.value)


def test_a_file_that_is_nearly_named_so_is_proposed(write):
    write("cases/big-cluster.yaml", {"title": "x"})
    with pytest.raises(ScenarioError, match=r"did you mean 'cases/big-cluster.yaml'\?"):
        load("cases/big-clutser.yaml")


def test_a_folder_is_no_file(write):
    write("cases/x.yaml", {"title": "x"})
    with pytest.raises(ScenarioError, match="'cases/' is a folder"):
        load("cases/")


def test_the_message_names_the_file_the_value_was_written_in(scenario, write):
    device = scenario["cluster"]["node"]["device"]
    device["memory"] = "24 parsecs"
    scenario["cluster"]["node"]["device"] = "./parts/card.yaml"
    write("parts/card.yaml", device)
    write("base.yaml", scenario)
    write("mine.yaml", {"extends": "./base.yaml", "layout": {"tp": 0}})
    with pytest.raises(ScenarioError) as caught:
        load("mine.yaml", "layout.pp=0")
    lines = str(caught.value).splitlines()
    assert [line.split(" = ")[0] for line in lines] == [
        "parts/card.yaml: cluster.node.device.memory",
        "mine.yaml: layout.tp",
        "--set: layout.pp",
    ]


def test_a_missing_name_is_reported_where_it_was_written(scenario, write):
    scenario["cluster"]["node"] = "no-such-node"
    write("mine.yaml", scenario)
    with pytest.raises(InputError, match=r"^mine\.yaml: cluster\.node: no node is called 'no-such-node'"):
        load("mine.yaml")


def test_all_problems_are_listed_but_at_most_ten(scenario, write):
    scenario["layout"] = {f"key_{n}": n for n in range(14)}
    write("mine.yaml", scenario)
    with pytest.raises(ScenarioError) as caught:
        load("mine.yaml")
    lines = str(caught.value).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "... and 4 more problems"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("layout.tp=-3", ["--set: layout.tp = -3", "at least 1"]),
        ("layout.recompute=ful", ["--set: layout.recompute = 'ful'", "did you mean 'full'?"]),
        ("layout.recompte=full", ["--set: layout.recompte", "did you mean 'recompute'?"]),
        ("layout.tp", ["'layout.tp' is not of the form key=value"]),
        ("=3", ["'' is not a key path"]),
        ("layout..tp=3", ["'layout..tp' is not a key path"]),
        ("layout.tp=[1", ["--set: layout.tp = '[1' is not a YAML value"]),
        ("layout.tp=", ["--set: layout.tp = null", "a whole number"]),
        ("layout.tp.deep=3", ["--set: layout.tp = {'deep': 3}", "a whole number"]),
        ("cluster.node.device.memory=24", ["--set: cluster.node.device.memory = 24 has no unit"]),
        ("cluster.fabric={kind: ring}", ["--set: cluster.fabric has kind = 'ring'", "single_switch, fat_tree"]),
    ],
)
def test_overrides_are_validated_again(override, expected, scenario):
    with pytest.raises(ScenarioError) as caught:
        load(scenario, override)
    for text in expected:
        assert text in str(caught.value)


def test_a_study_is_no_scenario_and_a_scenario_no_study(scenario, write):
    write("one.yaml", scenario)
    write("many.yaml", {"extends": "./one.yaml", "scenarios": [{"name": "a"}]})
    with pytest.raises(ScenarioError, match=r"many\.yaml is a study .* load_study"):
        load("many.yaml")
    with pytest.raises(ScenarioError, match=r"one\.yaml has no 'scenarios'.* load\(\)"):
        load_study("one.yaml")
    write("below.yaml", {"extends": "./many.yaml"})
    with pytest.raises(ScenarioError, match=r"many\.yaml is a study"):
        load("below.yaml")


def test_a_wrong_value_in_a_study_names_the_scenario(scenario, write):
    write("one.yaml", scenario)
    write("many.yaml", {"extends": "./one.yaml", "scenarios": [{"name": "a"}, {"name": "b", "set": {"layout.tp": 0}}]})
    with pytest.raises(ScenarioError, match=r"^many\.yaml, scenario 'b': layout\.tp = 0"):
        load_study("many.yaml")


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        ({"scenarios": []}, "scenarios = [] is too short"),
        ({"scenarios": [{"name": "a"}, {"name": "a"}]}, "the name 'a' stands twice"),
        ({"scenarios": [{"nam": "a"}]}, "did you mean 'name'?"),
        ({"scenarios": [{"name": "a", "set": 3}]}, "scenarios.0.set = 3"),
        ({"kind": "sweep", "scenarios": [{"name": "a"}]}, "allowed: comparison"),
        ({"scenarios": [{"name": "a"}]}, "cluster is missing"),
        ({"extends": "./nowhere.yaml", "scenarios": [{"name": "a"}]}, "no scenario file './nowhere.yaml'"),
    ],
)
def test_a_wrong_study_is_refused(study, expected, write):
    write("many.yaml", study)
    with pytest.raises(InputError) as caught:
        load_study("many.yaml")
    assert str(caught.value).startswith("many.yaml")
    assert expected in str(caught.value)


@pytest.mark.parametrize("source", [5, None, ["a"]])
def test_a_source_of_another_type_is_refused(source):
    with pytest.raises(ScenarioError, match="a library name, a path or a mapping"):
        load(source)


def test_keys_of_a_mapping_are_text(scenario):
    scenario["layout"] = {1: 2}
    with pytest.raises(ScenarioError, match="the key 1 is not text"):
        load(scenario)


def test_an_empty_mapping_lists_what_is_missing():
    empty: Mapping[str, Any] = {}
    with pytest.raises(ScenarioError) as caught:
        load(empty)
    assert "cluster is missing" in str(caught.value)
    assert "workload is missing" in str(caught.value)
