"""Loading: references, ``extends``, overrides, studies, and the way back to a document."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml

from simtrain.errors import ScenarioError
from simtrain.scenario.load import dump, load, load_cluster, load_study, scenario_schema


def _split(scenario: dict[str, Any], write) -> None:
    """Write every part of the scenario to a file of its own, in different folders."""
    cluster, workload = scenario["cluster"], scenario["workload"]
    write("parts/card.yaml", cluster["node"].pop("device"))
    write("parts/server.yaml", {**cluster.pop("node"), "device": "card.yaml"})
    write("parts/switch.yaml", cluster.pop("fabric"))
    write("parts/model.yaml", workload.pop("model"))
    write("cluster.yaml", {**cluster, "node": "parts/server.yaml", "fabric": "./parts/switch.yaml"})
    write("sub/workload.yaml", {**workload, "model": "../parts/model.yaml"})
    scenario.update(cluster="./cluster.yaml", workload="sub/workload.yaml")
    write("main.yaml", scenario)


def test_parts_in_files_equal_the_same_parts_inline(scenario, write):
    inline = load({**copy.deepcopy(scenario), "name": "main"})
    _split(scenario, write)
    assert load("main.yaml") == inline
    assert load("main.yaml").name == "main"


def test_the_loaded_scenario_holds_no_references(scenario, write):
    _split(scenario, write)
    loaded = load("main.yaml")
    assert loaded.cluster.node.device.kernels.gemm.compute == 0.7
    assert loaded.workload.model.layers == 8


def test_overrides_of_a_cluster_reach_into_its_named_parts(scenario, write):
    _split(scenario, write)
    cluster = load_cluster("cluster.yaml", "node.nics=4", "node.device.memory=1 GB", "fabric.latency=2 us")
    assert cluster.node.nics == 4
    assert cluster.node.device.memory == 1e9
    assert cluster.fabric.latency == 2e-6


def test_a_scenario_survives_dumping_and_loading(scenario, write):
    _split(scenario, write)
    loaded = load("main.yaml", "cluster.node.device.memory=47.6837158203125 GiB", "money.utilisation=0.1")
    write("again.yaml", dump(loaded))
    assert load("again.yaml") == loaded
    assert load(json.loads(loaded.model_dump_json())) == loaded


def test_extends_merges_deeply_and_lists_replace(scenario, write):
    scenario["layout"]["layers_per_stage"] = [4, 4]
    write("base.yaml", scenario)
    write("mine.yaml", {"extends": "./base.yaml", "layout": {"layers_per_stage": [3, 5]}, "cluster": {"nodes": 16}})
    mine, base = load("mine.yaml"), load("base.yaml")
    assert mine.layout.layers_per_stage == (3, 5)
    assert (mine.layout.tp, mine.cluster.nodes) == (2, 16)
    assert mine.cluster.node == base.cluster.node


def test_extends_works_in_inline_parts_and_through_several_files(scenario, write):
    _split(scenario, write)
    write("bigger.yaml", {"extends": "./cluster.yaml", "nodes": 64})
    cluster = {"extends": "./bigger.yaml", "node": {"device": {"memory": "48 GB"}, "nics": 8}}
    loaded = load({"cluster": cluster, "workload": {"extends": "./sub/workload.yaml", "tokens": "3T"}})
    assert loaded.cluster.nodes == 64
    assert loaded.cluster.node.device.memory == 48e9
    assert loaded.cluster.node.nics == 8
    assert loaded.cluster.node.device.title == "Test card"
    assert loaded.workload.tokens == 3e12


def test_another_kind_replaces_the_part(scenario, write):
    write("base.yaml", scenario)
    tree = {"kind": "fat_tree", "leaf_latency": "1 us", "spine_latency": "1 us"}
    loaded = load({"extends": "./base.yaml", "cluster": {"fabric": tree}})
    assert loaded.cluster.fabric.kind == "fat_tree"


@pytest.mark.parametrize("files", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_a_circle_of_extends_is_refused(files, write):
    for this, following in zip(files, files[1:] + files[:1], strict=True):
        write(f"{this}.yaml", {"extends": f"./{following}.yaml"})
    with pytest.raises(ScenarioError, match=r"refers back to itself: a\.yaml -> .*a\.yaml"):
        load("a.yaml")


def test_a_circle_of_borrowed_kernels_is_refused(scenario, write):
    device = scenario["cluster"]["node"]["device"]
    write("a.yaml", {**device, "kernels": "./b.yaml"})
    write("b.yaml", {**device, "kernels": "./a.yaml"})
    with pytest.raises(ScenarioError, match="refers back to itself"):
        load(scenario, "cluster.node.device=./a.yaml")


def test_borrowed_kernels_keep_the_device_they_were_measured_on(scenario, write):
    device = scenario["cluster"]["node"]["device"]
    device["kernels"]["measured_on"] = "Test card"
    write("cards/first.yaml", device)
    write("cards/second.yaml", {**device, "title": "Second", "kernels": "./first.yaml"})
    write(
        "cards/third.yaml", {**device, "title": "Third", "kernels": {"extends": "./second.yaml", "measured_on": None}}
    )
    second = load(scenario, "cluster.node.device=cards/second.yaml").cluster.node.device
    third = load(scenario, "cluster.node.device=cards/third.yaml").cluster.node.device
    assert second.kernels.measured_on == "Test card"
    assert second.kernels == load(scenario).cluster.node.device.kernels
    assert third.kernels == second.kernels.model_copy(update={"measured_on": None})


def test_a_device_without_kernels_lends_none(scenario, write):
    write("bare.yaml", {"title": "Bare"})
    with pytest.raises(ScenarioError, match=r"cluster\.node\.device\.kernels = './bare\.yaml': that device has no"):
        load(scenario, "cluster.node.device.kernels=./bare.yaml")


def test_overrides_reach_into_parts_given_by_name_and_apply_in_order(scenario, write):
    _split(scenario, write)
    loaded = load(
        "main.yaml",
        "cluster.nodes=256",
        'cluster.node.device.memory="48 GB"',
        "cluster.node.device.memory=96 GB",
        "layout.tp=1",
        "layout.tp=4",
        "workload.model.moe={experts: 8, top_k: 2, expert_ffn_hidden: 64}",
        "layout.layers_per_stage=[3, 5]",
    )
    assert loaded.cluster.nodes == 256
    assert loaded.cluster.node.device.memory == 96e9
    assert loaded.cluster.node.device.title == "Test card"
    assert loaded.layout.tp == 4
    assert loaded.workload.model.moe.experts == 8
    assert loaded.layout.layers_per_stage == (3, 5)


def test_an_override_replaces_a_part_by_name(scenario, write):
    write("other.yaml", {**scenario["workload"]["model"], "layers": 16})
    assert load(scenario, "workload.model=./other.yaml", "workload.model.hidden=1024").workload.model.layers == 16


def test_loading_changes_neither_the_mapping_nor_later_loads(scenario):
    before = copy.deepcopy(scenario)
    first = load(scenario)
    load(scenario, "cluster.node.device.memory=1 GB", "layout.tp=8")
    assert scenario == before
    assert load(scenario) == first


def test_a_study_gives_its_scenarios_in_order(scenario, write):
    write("base.yaml", scenario)
    write("cheap.yaml", {"extends": "./base.yaml", "money": {"pue": 1.5}})
    entries = [
        {"name": "plain"},
        {"name": "wide", "title": "Wide", "set": {"layout.tp": 8, "cluster": {"nodes": 9}}},
        {"name": "cheap", "extends": "./cheap.yaml"},
    ]
    write("study.yaml", {"title": "All", "extends": "./base.yaml", "scenarios": entries})
    study, scenarios = load_study("study.yaml", "layout.pp=4")
    assert study.title == "All"
    assert [s.name for s in scenarios] == ["plain", "wide", "cheap"]
    assert [s.title for s in scenarios] == ["Test scenario", "Wide", "Test scenario"]
    assert [s.layout.tp for s in scenarios] == [2, 8, 2]
    assert [s.cluster.nodes for s in scenarios] == [4, 9, 4]
    assert [s.money.pue for s in scenarios] == [1.1, 1.1, 1.5]
    assert {s.layout.pp for s in scenarios} == {4}


def test_a_study_needs_no_base(scenario, write):
    entry = {"name": "all", "set": {"cluster": scenario["cluster"], "workload": scenario["workload"]}}
    _, (only,) = load_study({"scenarios": [entry]})
    assert only.cluster == load(scenario).cluster


def test_references_of_a_study_start_at_its_folder(scenario, write):
    write("deep/model.yaml", {**scenario["workload"]["model"], "layers": 24})
    write("deep/base.yaml", scenario)
    entry = {"name": "a", "set": {"workload.model": "./model.yaml"}}
    write("deep/study.yaml", {"extends": "./base.yaml", "scenarios": [entry]})
    assert load_study("deep/study.yaml")[1][0].workload.model.layers == 24


def test_anchors_and_merge_keys_of_yaml_work(write, scenario):
    write("mine.yaml", yaml.safe_dump(scenario) + "money: &m\n  pue: 1.2\n")
    assert load("mine.yaml").money.pue == 1.2
    text = "money: {<<: {pue: 1.3}, utilisation: 0.5}\n"
    write("mine.yaml", yaml.safe_dump(scenario) + text)
    assert load("mine.yaml").money.pue == 1.3


def test_the_schema_allows_what_users_write():
    schema = scenario_schema()
    assert {"type": "string"} in schema["properties"]["cluster"]["anyOf"]
    cluster = schema["$defs"]["Cluster"]
    assert cluster["properties"]["extends"]["type"] == "string"
    assert {"required": ["extends"]} in cluster["anyOf"]
    assert cluster["additionalProperties"] is False
    assert schema["$defs"]["Device"]["properties"]["memory"]["examples"]
    assert json.loads(json.dumps(schema)) == schema
