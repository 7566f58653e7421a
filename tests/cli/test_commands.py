"""Every command as a user types it: what it prints, what ``--json`` holds, how it exits."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from simtrain.scenario import library

BUCKETS = [
    "useful",
    "kernel_inefficiency",
    "non_matmul",
    "recompute",
    "exposed_tp",
    "exposed_cp",
    "exposed_ep",
    "exposed_pp",
    "exposed_dp",
    "comm_sms",
    "bubble_warmup",
    "bubble_steady",
    "bubble_cooldown",
    "optimizer",
    "host",
    "straggler",
]
STEP = [
    "time_s",
    "tokens_per_s",
    "tokens_per_s_per_gpu",
    "model_tflops_per_gpu",
    "mfu",
    "mfu_causal",
    "hfu",
    "bubble_fraction",
    "waterfall",
]
JOB = ["days", "gpu_hours", "cost_usd", "power_usd", "usd_per_million_tokens"]


def check_run_document(document: dict[str, Any]) -> None:
    assert {"scenario", "engine", "step", "memory", "job", "run", "coverage"} <= set(document)
    step, memory, job = document["step"], document["memory"], document["job"]
    assert list(step) == [*STEP, "uncertainty"]
    assert list(step["waterfall"]) == BUCKETS
    assert all(math.isfinite(value) and value > -1e-9 for value in step["waterfall"].values())
    assert sum(step["waterfall"].values()) == pytest.approx(1, abs=1e-9)
    assert all(math.isfinite(step[key]) and step[key] >= 0 for key in STEP if key != "waterfall")
    assert 0 < step["mfu_causal"] < step["mfu"] <= step["hfu"] < 1
    assert {"capacity_bytes", "peak_bytes", "fits"} <= set(memory)
    assert len(memory["peak_bytes"]) == document["scenario"]["layout"]["pp"]
    assert memory["fits"] is (max(memory["peak_bytes"]) <= memory["capacity_bytes"])
    assert all(math.isfinite(job[key]) and job[key] > 0 for key in JOB)
    assert document["run"] is None
    assert {"operators", "extrapolated", "items"} <= set(document["coverage"])
    assert len(document["coverage"]["items"]) == document["coverage"]["extrapolated"]


def test_run_prints_speed_waterfall_memory_and_cost(cli) -> None:
    ran = cli("run", "small.yaml")
    assert (ran.status, ran.err) == (0, "")
    for text in ("step time", "MFU", "useful matmul at peak", "activations", "USD per million tokens", "fits"):
        assert text in ran.out


def test_run_json_keeps_its_contract(cli) -> None:
    ran = cli("run", "small.yaml", "--set", "layout.micro_batch=2", "--json")
    assert (ran.status, ran.err) == (0, "")
    document = ran.document
    check_run_document(document)
    assert document["scenario"]["layout"]["micro_batch"] == 2
    assert document["scenario"]["cluster"]["node"]["device"]["title"] == "H100 SXM"
    step = document["step"]
    assert step["tokens_per_s"] == pytest.approx(16 * 1024 / step["time_s"])
    assert step["tokens_per_s_per_gpu"] == pytest.approx(step["tokens_per_s"] / 16)
    assert document["job"]["days"] == pytest.approx(1e9 / step["tokens_per_s"] / 86400)


def test_run_says_what_the_links_carried_only_when_asked(cli, folder) -> None:
    plain, asked = cli("run", "small.yaml", "--json").document, cli("run", "small.yaml", "--links", "--json").document
    network = asked.pop("network")
    assert asked == plain
    assert {kind["kind"] for kind in network["edge_kinds"]} >= {"nvlink", "nic", "pcie"}
    uses = [edge["utilisation"] for edge in network["edges"]]
    assert 0 < len(uses) <= 10
    assert uses == sorted(uses, reverse=True)
    assert 0 < uses[0] < 1
    assert {stream["stream"] for stream in network["transfers"]} == {"tp", "pp", "dp"}
    ran = cli("run", "small.yaml", "--links", "--html", "links.html")
    assert (ran.status, ran.err) == (0, "wrote links.html\n")
    assert "busiest links" in ran.out
    assert (folder / "links.html").read_text().endswith("</html>\n")


def test_run_draws_its_failures(cli, folder) -> None:
    failing = ("run", "small.yaml", "--set", "reliability=h100", "--set", "reliability.runs=3", "--html", "run.html")
    ran = cli(*failing)
    assert (ran.status, ran.err) == (0, "wrote run.html\n")
    alone = (folder / "run.html").read_text()
    assert "Done by when" in alone
    assert "Links during a step" not in alone
    assert cli(*failing, "--links").status == 0
    both = (folder / "run.html").read_text()
    assert "Done by when" in both
    assert "Links during a step" in both


def test_the_document_of_a_run_can_be_run(cli, folder) -> None:
    first = cli("run", "small.yaml", "--json").document
    (folder / "again.yaml").write_text(yaml.safe_dump(first["scenario"]))
    assert cli("run", "again.yaml", "--json").document["step"] == first["step"]


def test_compare_prints_both_and_the_difference(cli) -> None:
    ran = cli("compare", "study.yaml")
    assert (ran.status, ran.err) == (0, "")
    for text in ("two by two", "one by four", "first reason for the gap", "seconds per step"):
        assert text in ran.out


def test_compare_json_keeps_its_contract(cli) -> None:
    ran = cli("compare", "study.yaml", "--json", "--set", "workload.global_batch=32")
    assert (ran.status, ran.err) == (0, "")
    scenarios = ran.document["scenarios"]
    assert [entry["name"] for entry in scenarios] == ["two by two", "one by four"]
    for entry in scenarios:
        check_run_document(entry)
        assert entry["scenario"]["workload"]["global_batch"] == 32
    (gap,) = ran.document["differences"]
    assert list(gap["seconds"]) == BUCKETS
    times = [entry["step"]["time_s"] for entry in scenarios]
    assert gap["total_s"] == pytest.approx(times[1] - times[0])
    assert sum(gap["seconds"].values()) == pytest.approx(gap["total_s"])


def test_compare_writes_its_page_beside_the_json(cli, folder) -> None:
    ran = cli("compare", "study.yaml", "--html", "page.html", "--json")
    assert (ran.status, ran.err) == (0, "wrote page.html\n")
    assert len(ran.document["scenarios"]) == 2
    page = (folder / "page.html").read_text()
    assert "<h1>two splits</h1>" in page
    assert page.endswith("</html>\n")


def test_compare_shows_what_failures_leave_and_each_step_once(cli, folder) -> None:
    (folder / "failing.yaml").write_text(
        "extends: ./small.yaml\nscenarios:\n"
        "  - {name: often, set: {reliability: rtx4090-30-days}}\n"
        "  - {name: rarely, set: {reliability: h100, seed: 0}}\n"
        "  - {name: never, set: {layout.tp: 1, layout.pp: 4}}\n"
    )
    ran = cli("compare", "failing.yaml", "--set", "workload.tokens=500B", "--html", "page.html")
    assert (ran.status, ran.err) == (0, "wrote page.html\n")
    first = next(line.split() for line in ran.out.splitlines() if line.strip())
    assert first == ["often", "never"]
    for text in ("± s.e., %", "rarely", "Can failures strike recovery?", "(assumption)", "restarting"):
        assert text in ran.out, text
    page = (folder / "page.html").read_text()
    assert "± s.e., %" in page
    assert "With failures, cheapest: rarely" in page
    runs = [
        entry["run"]
        for entry in cli("compare", "failing.yaml", "--set", "workload.tokens=500B", "--json").document["scenarios"]
    ]
    assert runs[0]["goodput"] < runs[1]["goodput"] < 1
    assert runs[2] is None


def test_run_shows_goodput_only_with_reliability(cli) -> None:
    assert "goodput" not in cli("run", "small.yaml").out
    out = cli("run", "small.yaml", "--set", "reliability=rtx4090-30-days", "--set", "workload.tokens=500B").out
    for text in ("goodput", "standard error of 100 runs", "with failures", "time of the run", "starting processes"):
        assert text in out, text


def test_explain_names_formula_and_source(cli) -> None:
    ran = cli("explain", "small.yaml", "--top", "3")
    assert (ran.status, ran.err) == (0, "")
    for text in ("FLOP", "[1]", "Rule of thumb"):
        assert text in ran.out


def test_explain_json(cli) -> None:
    document = cli("explain", "small.yaml", "--top", "3", "--json").document
    assert len(document["contributions"]) == 3
    shares = [item["share"] for item in document["contributions"]]
    assert shares == sorted(shares, reverse=True)
    assert all(item["formula"] and item["source"] for item in document["contributions"])
    assert document["tensor_parallel_rule"]["tp"] == 2


def test_timeline_writes_every_form_asked_for(cli, folder) -> None:
    options = ("--html", "a.html", "--perfetto", "b.json", "--svg", "c.svg", "--lanes", "all")
    ran = cli("timeline", "small.yaml", *options, "--json")
    assert ran.status == 0
    assert ran.document["files"] == ["a.html", "b.json", "c.svg"]
    assert ran.err == "wrote a.html\nwrote b.json\nwrote c.svg\n"
    assert (folder / "a.html").read_text().endswith("</html>\n")
    assert json.loads((folder / "b.json").read_text())["traceEvents"]
    assert (folder / "c.svg").read_text().startswith("<svg")


def test_timeline_writes_a_page_unless_told_otherwise(cli, folder) -> None:
    assert cli("timeline", "small.yaml").err == "wrote timeline.html\n"
    assert (folder / "timeline.html").exists()


def test_memory_shows_the_parts_and_the_largest_micro_batch(cli, folder) -> None:
    ran = cli("memory", "small.yaml", "--html", "memory.html")
    assert ran.status == 0
    for text in ("weights", "optimizer", "peak", "Largest micro batch that fits"):
        assert text in ran.out
    assert (folder / "memory.html").exists()


def test_memory_json_agrees_with_run(cli) -> None:
    document = cli("memory", "small.yaml", "--json").document
    run = cli("run", "small.yaml", "--json").document
    assert document["peak_bytes"] == run["memory"]["peak_bytes"]
    for rank, peak in enumerate(document["peak_bytes"]):
        assert sum(values[rank] for values in document["parts"].values()) == pytest.approx(peak)
    largest = document["largest_micro_batch"]
    assert cli("run", "small.yaml", "--set", f"layout.micro_batch={largest}").status == 0


MISFITS = {
    "a small card": ("cluster.node.device.memory=3 GiB",),
    "a large micro batch": (
        "cluster.node.device.memory=24 GiB",
        "layout.micro_batch=16",
        "workload.sequence_length=8192",
        "workload.global_batch=64",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
@pytest.mark.parametrize("command", ["run", "memory"])
def test_a_misfit_exits_3_and_the_layout_it_proposes_fits(case, command, cli) -> None:
    changes = [option for text in MISFITS[case] for option in ("--set", text)]
    ran = cli(command, "small.yaml", *changes)
    assert ran.status == 3
    assert re.search(r"Does not fit: pipeline rank \d peaks at .* into the step, .* more than", ran.out)
    assert "Nearest layout that fits: --set layout." in ran.out
    misfit = cli(command, "small.yaml", *changes, "--json").document["misfit"]
    assert misfit["excess_bytes"] > 0
    proposed = [option for text in misfit["nearest_fit"]["set"] for option in ("--set", text)]
    again = cli("run", "small.yaml", *changes, *proposed, "--json")
    assert again.status == 0
    assert max(again.document["memory"]["peak_bytes"]) == pytest.approx(misfit["nearest_fit"]["peak_bytes"])


def test_where_nothing_near_fits_it_says_so(cli) -> None:
    ran = cli("run", "small.yaml", "--set", "cluster.node.device.memory=1 GiB")
    assert ran.status == 3
    assert "No layout near this one fits" in ran.out
    for command in ("explain", "timeline"):
        assert cli(command, "small.yaml", "--set", "cluster.node.device.memory=1 GiB").status == 0


NO_PRICE = {
    "price": (("cluster.node.price=null", "cluster.node.device.price=null"), "money.node_price"),
    "rent": (("money.mode=rent", "cluster.node.device.rent=null"), "money.gpu_rent"),
    "power": (("cluster.node.power=null", "cluster.node.device.power=null"), "cluster.node.power"),
}


@pytest.mark.parametrize("case", NO_PRICE)
def test_a_price_nobody_knows_leaves_the_cost_open_and_says_which_key_sets_it(case, cli) -> None:
    overrides, key = NO_PRICE[case]
    changes = [option for text in overrides for option in ("--set", text)]
    ran = cli("run", "small.yaml", *changes, "--json")
    assert ran.status == 0
    assert ran.document["job"]["cost_usd"] is None
    assert ran.document["job"]["usd_per_million_tokens"] is None
    assert ran.document["job"]["days"] > 0
    assert len(ran.err.splitlines()) == 1
    assert key in ran.err
    assert "not known" in cli("run", "small.yaml", *changes).out
    study = cli("compare", "study.yaml", *changes, "--html", "page.html")
    assert study.status == 0
    assert study.err.count(key) == 2


def test_topology_checks_and_draws(cli, folder) -> None:
    ran = cli("topology", "2x-hgx-h100", "--html", "graph.html")
    assert ran.status == 0
    assert "16 in 2 nodes of 8" in ran.out
    assert "PROBLEM" not in ran.out
    assert (folder / "graph.html").exists()
    document = cli("topology", "2x-hgx-h100", "--set", "nodes=3", "--json").document
    assert document["name"] == "2x-hgx-h100"
    assert {"name": "GPUs", "value": "24 in 3 nodes of 8", "ok": True} in document["findings"]


KINDS = (
    *("device", "node", "fabric", "cluster", "preset", "software", "model", "workload", "scenario", "study"),
    "schedule",
)


def test_catalog_lists_every_kind(cli) -> None:
    ran = cli("catalog", "--json")
    assert tuple(ran.document) == KINDS
    assert all(ran.document.values())
    assert all(row["source"] for kind in ("device", "node", "fabric", "model") for row in ran.document[kind])
    text = cli("catalog")
    assert text.status == 0
    assert "rtx4090" in text.out
    assert "interleaved_1f1b" in text.out


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_catalog_prints_every_entry_of_a_kind(kind, cli) -> None:
    rows = cli("catalog", kind, "--json").document[kind]
    assert rows
    name = rows[0]["name"]
    text = cli("catalog", kind, name).out
    assert isinstance(yaml.safe_load(text), dict)
    assert cli("catalog", kind, name, "--json").document == {"kind": kind, "name": name, "document": text}


def test_a_scenario_is_not_listed_as_a_study(cli) -> None:
    listed = cli("catalog", "--json").document
    scenarios, studies = ({row["name"] for row in listed[kind]} for kind in ("scenario", "study"))
    assert "4090-vs-h100" in studies
    assert scenarios.isdisjoint(studies)
    assert scenarios | studies == set(library.names("study"))


def test_schema_is_json_with_or_without_the_option(cli) -> None:
    document = cli("schema").document
    assert document == cli("schema", "--json").document
    assert {"cluster", "workload", "layout", "money"} <= set(document["properties"])


def test_every_kind_of_document_starts_from_init(cli, folder) -> None:
    for kind in ("scenario", "device", "node", "model"):
        path = f"own-{kind}.yaml"
        ran = cli("init", path, "--kind", kind)
        assert (ran.status, ran.out) == (0, "")
        assert ran.err.startswith(f"wrote {path}")
    assert cli("run", "own-scenario.yaml").status == 0
    node = (folder / "own-node.yaml").read_text().replace("device: h100-sxm", "device: ./own-device.yaml")
    (folder / "own-node.yaml").write_text(node)
    (folder / "own.yaml").write_text(
        "cluster: {node: ./own-node.yaml, nodes: 2, fabric: fat-tree-ndr400}\n"
        "workload: {extends: llama2-7b, model: ./own-model.yaml, global_batch: 16}\nlayout: {tp: 2, pp: 2}\n"
    )
    ran = cli("run", "own.yaml", "--json")
    assert ran.status == 0
    assert ran.document["scenario"]["cluster"]["node"]["device"]["title"] == "my-gpu"
    assert ran.document["scenario"]["workload"]["model"]["title"] == "my 7B model"


def test_the_study_of_init_compares(cli) -> None:
    assert cli("init", "mine.yaml", "--kind", "study", "--json").document == {"kind": "study", "file": "mine.yaml"}
    document = cli("compare", "mine.yaml", "--json").document
    for entry in document["scenarios"]:
        layout = entry["scenario"]["layout"]
        assert entry["name"] == f"tp {layout['tp']}, pp {layout['pp']}"


def test_init_into_a_folder_and_over_a_file(cli, folder) -> None:
    Path("cases").mkdir()
    assert cli("init", "cases").status == 0
    written = folder / "cases" / "scenario.yaml"
    written.write_text("mine")
    assert cli("init", "cases").status == 2
    assert written.read_text() == "mine"
    assert cli("init", "cases", "--force").status == 0
    assert written.read_text().startswith("# A scenario")


def test_help_and_version(cli) -> None:
    ran = cli("--help")
    assert ran.status == 0
    commands = ("init", "run", "explain", "compare", "timeline", "memory", "topology", "catalog", "schema")
    for command in commands:
        assert re.search(rf"^  {command} .*\.$", ran.out, re.MULTILINE), command
        assert cli(command, "--help").status == 0
    assert re.fullmatch(r"simtrain \d+\.\d+\.\d+\n", cli("--version").out)


def test_topology_prices_a_collective(cli) -> None:
    document = cli("topology", "2x-hgx-h100", "--collective", "all_to_all", "--bytes", "64 MiB", "--json").document
    priced = document["collective"]
    assert priced["gpus"] == 16
    assert priced["bytes"] == 64 * 2**20
    assert 0 < priced["latency_s"] < priced["time_s"]
    assert priced["bus_bandwidth_bytes_per_s"] == pytest.approx(15 / 16 * priced["bytes"] / priced["time_s"])
    inside = cli("topology", "2x-hgx-h100", "--collective", "all_to_all", "--gpus", "8", "--json").document[
        "collective"
    ]
    assert inside["time_s"] < priced["time_s"]
    assert "NIC" in priced["bottleneck"]
    assert "bus bandwidth" in cli("topology", "2x-hgx-h100", "--collective", "all_reduce").out


def test_topology_says_which_links_a_collective_uses(cli, folder) -> None:
    words = ("topology", "2x-hgx-h100", "--collective", "all_reduce", "--bytes", "1 GiB")
    priced = cli(*words, "--json").document["collective"]
    shares = [edge["utilisation"] for edge in priced["edges"]]
    assert len(shares) == 20
    assert shares == sorted(shares, reverse=True)
    assert 0.9 < shares[0] <= 1.0
    assert priced["edges"][0]["kind"] == "nic"
    assert priced["algorithm_bandwidth_bytes_per_s"] == pytest.approx(priced["bytes"] / priced["time_s"])
    staged = cli(*words, "--algorithm", "hierarchical", "--json").document["collective"]
    assert [phase["name"] for phase in staged["phases"]][1] == "all_reduce between nodes"
    assert staged["time_s"] == pytest.approx(sum(p["latency_s"] + p["transfer_s"] for p in staged["phases"]))
    ran = cli(*words, "--algorithm", "ring", "--set", "collectives.mode=ideal", "--html", "use.html")
    assert "ring, ideal" in ran.out
    assert "nic links in use" in ran.out
    assert "capacity in use" in (folder / "use.html").read_text()
    assert cli(*words[:4], "--bytes", "0").status == 0


def test_an_mfu_above_1_is_explained(cli) -> None:
    changes = ("global_batch=32", "sequence_length=65536", "model=llama2-7b", "model.attention.window=512")
    words = [word for change in changes for word in ("--set", f"workload.{change}")]
    ran = cli("run", "llama2-70b-on-344-h100", "--set", "cluster.nodes=2", *words, "--set", "layout.vpp=1", "--json",
              "--set", "layout.schedule=1f1b", "--set", "layout.recompute=full")  # fmt: skip
    assert ran.document["step"]["mfu"] > 1.0
    assert "is above 1" in ran.err


def test_goodput_takes_a_preset_that_extends_one(cli, tmp_path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: h100\nrecovery: {detection: 1 h}\n")
    run = cli("goodput", str(tmp_path / "mine.yaml"), "--engine", "closed_form", "--json")
    assert json.loads(run.out)["mean_recovery_s"] > 3600
