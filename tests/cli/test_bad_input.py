"""Bad input as a user types it: exit status 2, nothing on standard output, one clear message, nothing written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

NOT_TYPED_WELL = {
    "no arguments": ((), ["Usage: simtrain", "Commands:"]),
    "unknown command": (("rnu", "small.yaml"), ["'rnu'", "Did you mean 'run'?"]),
    "unknown option": (("run", "small.yaml", "--jsn"), ["--jsn", "--json"]),
    "no scenario": (("run",), ["Missing argument 'SCENARIO'"]),
    "one argument too many": (("run", "small.yaml", "again.yaml"), ["unexpected extra argument", "again.yaml"]),
    "option without its value": (("run", "small.yaml", "--set"), ["'--set' requires an argument"]),
    "choice": (("timeline", "small.yaml", "--lanes", "foo"), ["--lanes", "'foo'", "'compute', 'all'"]),
    "kind of document": (("init", "--kind", "nod"), ["--kind", "'nod'", "'scenario', 'study', 'device', 'node'"]),
    "top 0": (("explain", "small.yaml", "--top", "0"), ["--top", "1"]),
    "top x": (("explain", "small.yaml", "--top", "x"), ["--top", "integer"]),
    "missing file": (("run", "smal.yaml"), ["no scenario file 'smal.yaml'", "did you mean 'small.yaml'?"]),
    "folder": (("run", "./"), ["'./' is a folder, not a scenario file"]),
    "unknown scenario": (("run", "llama2-70b-on-2048-h10"), ["Did you mean 'llama2-70b-on-2048-h100'?"]),
    "unknown study": (("compare", "4090-vs-h10"), ["no study is called '4090-vs-h10'", "Did you mean '4090-vs-h100'?"]),
    "unknown cluster": (("topology", "2x-hgx-h10"), ["no cluster is called", "Did you mean '2x-hgx-h100'?"]),
    "study to run": (("run", "study.yaml"), ["study.yaml is a study", "simtrain compare"]),
    "scenario to compare": (("compare", "small.yaml"), ["small.yaml", "one scenario, not a study", "simtrain run"]),
    "scenario to topology": (("topology", "small.yaml"), ["small.yaml is a scenario, not a cluster"]),
    "unknown kind": (("catalog", "devcies"), ["'devcies'", "Did you mean 'devices'?", "schedules"]),
    "unknown entry": (("catalog", "devices", "rtx409"), ["no device is called 'rtx409'", "Did you mean 'rtx4090'?"]),
    "schedule as a document": (("catalog", "schedules", "1f1b"), ["'1f1b' has no document"]),
    "init over a file": (("init", "small.yaml"), ["small.yaml exists", "--force"]),
    "links drawn unasked": (
        ("run", "small.yaml", "--html", "a.html"),
        ["--html", "give --links as well", "no reliability"],
    ),
    "init in no folder": (("init", "no/such/a.yaml"), ["no/such/a.yaml cannot be written: there is no folder no/such"]),
}


@pytest.mark.parametrize("case", NOT_TYPED_WELL)
def test_a_command_typed_wrong(case, cli, folder) -> None:
    arguments, said = NOT_TYPED_WELL[case]
    refused(cli, folder, arguments, said)


FILES = {
    "empty": ("", ["bad.yaml: the file is empty"]),
    "binary": (b"\x89PNG\xff\x00", ["bad.yaml: not a text file"]),
    "a list": ("- a\n- b\n", ["bad.yaml, line 1", "a mapping", "not a list"]),
    "syntax": ("title: a\ncluster: [1, 2\n", ["bad.yaml, line 3"]),
    "duplicate key": ("title: a\nseed: 1\ntitle: b\n", ["bad.yaml, line 3: the key 'title' stands twice", "line 1"]),
    "nothing needed": ("title: a\n", ["bad.yaml: cluster is missing", "bad.yaml: workload is missing"]),
    "unknown key": ("extends: ./small.yaml\nlayot: {tp: 2}\n", ["bad.yaml: layot", "did you mean 'layout'?"]),
    "cycle": ("extends: ./bad.yaml\n", ["bad.yaml: extends", "refers back to itself"]),
    "unknown base": ("extends: no-such\n", ["bad.yaml: extends: no scenario is called 'no-such'"]),
    "a switch for a number": ("extends: ./small.yaml\nlayout: {tp: yes}\n", ["layout.tp = true", "a whole number"]),
    "text for a list": (
        "extends: ./small.yaml\nlayout: {layers_per_stage: 2}\n",
        ["bad.yaml: layout.layers_per_stage = 2", "a list"],
    ),
    "layout of another cluster": (
        "extends: ./small.yaml\nlayout: {dp: 3}\n",
        ["bad.yaml: layout.dp = 3", "16 GPUs", "layout.dp = 4 would fit"],
    ),
}


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("command", ["run", "memory"])
def test_a_file_written_wrong(case, command, cli, folder) -> None:
    content, said = FILES[case]
    (folder / "bad.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(cli, folder, (command, "bad.yaml"), said)


VALUES = {
    # keys
    "key at the top": ("layot=3", ["--set: layot = 3", "did you mean 'layout'?"]),
    "key of the layout": ("layout.recompte=full", ["layout.recompte", "did you mean 'recompute'?"]),
    "key of the cluster": ("cluster.node_count=3", ["cluster.node_count", "nodes"]),
    "key of the node": ("cluster.node.devise=h100-sxm", ["no such key in cluster.node", "did you mean 'device'?"]),
    "key of the device": ("cluster.node.device.memmory=80 GiB", ["cluster.node.device", "did you mean 'memory'?"]),
    "key of the links": ("cluster.node.links.nvl=true", ["cluster.node.links", "did you mean 'nvls'?"]),
    "key of the NIC": ("cluster.node.nic.bandwith=400 Gbps", ["did you mean 'bandwidth'?"]),
    "key of the fabric": ("cluster.fabric.latncy=1 us", ["no such key in cluster.fabric"]),
    "key of the workload": ("workload.batch=8", ["no such key in workload", "global_batch"]),
    "key of the model": ("workload.model.layer=8", ["did you mean 'layers'?"]),
    "key of the money": ("money.electricty=0.1 USD/kWh", ["did you mean 'electricity'?"]),
    "key below a number": ("layout.tp.deep=3", ["layout.tp = {'deep': 3}", "a whole number"]),
    "no equals sign": ("layout.tp", ["--set: 'layout.tp' is not of the form key=value"]),
    "no key": ("=3", ["--set: '' is not a key path"]),
    "no value": ("layout.tp=", ["layout.tp = null", "a whole number"]),
    "not YAML": ("layout.tp=[1", ["layout.tp = '[1' is not a YAML value"]),
    # values
    "bare number": ("cluster.node.device.memory=80", ["= 80 has no unit", '"80 GiB"']),
    "bits for bytes": ("cluster.node.device.memory=80 Gb", ["'Gb' are bits", "'GB'"]),
    "size for a rate": ("cluster.node.nic.bandwidth=400 GB", ["is a size in bytes", '"400 Gbps"']),
    "unknown unit": ("money.amortisation=3 yeers", ["'3 yeers'", "did you mean 'years'?"]),
    "negative": ("layout.tp=-2", ["layout.tp = -2", "at least 1"]),
    "negative price": ("money.node_price=-5 USD", ["'-5 USD'", "not negative"]),
    "nan": ("money.pue=.nan", ["money.pue = nan", "a finite number"]),
    "infinite": ("money.pue=.inf", ["money.pue = inf", "a finite number"]),
    "zero tokens": ("workload.tokens=0", ["workload.tokens = 0", "above 0"]),
    "zero bandwidth": ("cluster.node.nic.bandwidth=0 Gbps", ["'0 Gbps'", "above 0"]),
    "zero peak": ("cluster.node.device.peaks.bf16=0 TFLOPS", ["peaks.bf16 = '0 TFLOPS'", "above 0"]),
    "switch for a whole number": ("layout.tp=true", ["layout.tp = true", "a whole number"]),
    "switch for a number": ("money.pue=true", ["money.pue = true", "it must be a number"]),
    "number for a switch": ("layout.sp=1", ["layout.sp = 1", "true or false"]),
    "text for a number": ("layout.pp=two", ["layout.pp = 'two'", "a whole number"]),
    "fraction": ("cluster.nodes=1.5", ["cluster.nodes = 1.5", "a whole number"]),
    "number for a name": ("cluster.node=5", ["cluster.node = 5", "or the name of a node"]),
    "choice": ("layout.recompute=fulll", ["none, selective, full", "did you mean 'full'?"]),
    "precision misspelt": ("layout.precision=bf61", ["did you mean 'bf16'?"]),
    "mode of paying": ("money.mode=lease", ["'lease'", "purchase, rent"]),
    "no failures": ("reliability=off", ["reliability = false", "the name of a preset; null: nothing fails"]),
    "none for null": ("reliability=none", ["no preset is called 'none'", "null"]),
    "failures too many": (
        "reliability={mtbf_per_gpu: 0.1 ms}",
        ["small.yaml: reliability: a failure each 6.25e-06 s", "allowed: a longer mtbf"],
    ),
    "key of a class": ("reliability={classes: {a: {mtbff: 1 s}}}", ["no such key in reliability.classes.a", "'mtbf'"]),
    # names
    "model": ("workload.model=llama2-8b", ["--set: workload.model: no model is called 'llama2-8b'", "Did you mean"]),
    "device": ("cluster.node.device=h100-sx", ["no device is called", "Did you mean 'h100-sxm'?"]),
    "node": ("cluster.node=hgx-h10", ["no node is called", "Did you mean 'hgx-h100'?"]),
    "fabric": ("cluster.fabric=single-swich", ["no fabric is called", "Did you mean 'single-switch'?"]),
    "cluster": ("cluster=2x-hgx-h10", ["no cluster is called", "Did you mean '2x-hgx-h100'?"]),
    "workload": ("workload=llama2-7c", ["no workload is called", "Did you mean 'llama2-7b'?"]),
    "schedule": ("layout.schedule=1f1", ["small.yaml: layout.schedule: no pipeline", "Did you mean '1f1b'?"]),
    "file of a model": ("workload.model=./none.yaml", ["workload.model: there is no model file './none.yaml'"]),
}


@pytest.mark.parametrize("case", VALUES)
def test_a_value_set_wrong(case, cli, folder) -> None:
    change, said = VALUES[case]
    refused(cli, folder, ("run", "small.yaml", "--set", change), said)


MOE = "workload.model={extends: mixtral-8x7b, layers: 4}"
IMPOSSIBLE = {
    "product": (("layout.tp=3",), ["layout.tp * layout.cp * layout.pp = 3 * 1 * 2", "16 GPUs", "nearest"]),
    "product with dp": (("layout.dp=3",), ["layout.dp = 3", "layout.dp = 4 would fit"]),
    "heads": (("cluster.nodes=3", "layout.tp=3"), ["layout.tp = 3", "attention.heads = 32", "1, 2, 4, 8"]),
    "layers": (
        ("workload.model.layers=5",),
        ["layout.pp * layout.vpp = 2", "layers = 5", "layers_per_stage", "[3, 2]"],
    ),
    "micro batch": (("layout.micro_batch=3",), ["layout.micro_batch = 3", "allowed: 1, 2, 4"]),
    "global batch": (("workload.global_batch=18",), ["workload.global_batch = 18", "16 and 20"]),
    "experts of a dense model": (("layout.ep=2",), ["layout.ep = 2", "no experts"]),
    "experts": ((MOE, "layout.ep=3"), ["layout.ep = 3", "experts = 8", "1, 2, 4, 8"]),
    "chunks without a pipeline": (("layout.pp=1", "layout.vpp=2"), ["layout.vpp = 2 needs layout.pp above 1"]),
    "chunks of 1f1b": (("layout.vpp=2",), ["layout.schedule = 1f1b", "layout.vpp = 2", "interleaved_1f1b"]),
    "groups of micro batches": (
        ("layout.vpp=2", "layout.schedule=interleaved_1f1b", "workload.global_batch=20"),
        ["layout.schedule = interleaved_1f1b", "5 micro batches", "workload.global_batch 20", "dp 4", "multiple of 2"],
    ),
    "sp without tp": (("layout.tp=1", "layout.sp=true"), ["layout.sp = true needs layout.tp above 1"]),
    "split too long": (("layout.layers_per_stage=[1, 1, 2]",), ["[1, 1, 2]", "2 numbers", "it has 3"]),
    "split of another sum": (("layout.layers_per_stage=[1, 2]",), ["[1, 2]", "4 layers", "add up to 3"]),
    "precision": (("layout.precision=nvfp4",), ["layout.precision = nvfp4", "H100 SXM", "bf16, fp16"]),
    "no NICs": (("cluster.node.nics=0",), ["cluster.nodes = 2", "nics = 0"]),
    "no fabric": (("cluster.fabric=null",), ["cluster.nodes = 2 needs cluster.fabric"]),
    "switches too small": (
        ("cluster.fabric={extends: fat-tree-ndr400, radix: 4}", "cluster.nodes=256", "workload.global_batch=512"),
        ["cluster.nodes = 256", "cluster.fabric.radix = 4"],
    ),
    "sequence over cp": (("workload.sequence_length=1022", "layout.cp=4"), ["layout.cp = 4", "sequence_length = 1022"]),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
@pytest.mark.parametrize("command", ["run", "explain", "timeline", "memory"])
def test_parts_that_do_not_fit_together_name_the_file_and_the_key(case, command, cli, folder) -> None:
    changes, said = IMPOSSIBLE[case]
    options = [option for change in changes for option in ("--set", change)]
    refused(cli, folder, (command, "small.yaml", *options), ["simtrain: small.yaml: ", *said])


def test_a_device_without_a_16_bit_peak_is_refused(cli, folder) -> None:
    cli("init", "card.yaml", "--kind", "device")
    card = (folder / "card.yaml").read_text()
    (folder / "card.yaml").write_text(card.replace("bf16: 900", "fp32: 60").replace("  fp16: 900 TFLOPS\n", ""))
    said = ["card.yaml: cluster.node.device.peaks = {", "bf16 or fp16 is missing"]
    refused(cli, folder, ("run", "small.yaml", "--set", "cluster.node.device=./card.yaml"), said)


def test_an_impossible_scenario_of_a_study_is_named(cli, folder) -> None:
    (folder / "study.yaml").write_text(
        "extends: ./small.yaml\nscenarios:\n  - name: good\n  - {name: bad one, set: {layout.micro_batch: 3}}\n"
    )
    said = ["study.yaml, scenario 'bad one': layout.micro_batch = 3"]
    refused(cli, folder, ("compare", "study.yaml", "--html", "page.html"), said)


STUDIES = {
    "no scenarios": ("scenarios: []\n", ["bad.yaml: scenarios = [] is too short"]),
    "a name twice": ("scenarios: [{name: a}, {name: a}]\n", ["the name 'a' stands twice"]),
    "unknown key of a scenario": ("scenarios: [{nam: a}]\n", ["did you mean 'name'?"]),
    "unknown key in set": (
        "extends: ./small.yaml\nscenarios: [{name: a, set: {layout.ttp: 2}}]\n",
        ["bad.yaml, scenario 'a': layout.ttp = 2", "did you mean 'tp'?"],
    ),
}


@pytest.mark.parametrize("case", STUDIES)
def test_a_study_written_wrong(case, cli, folder) -> None:
    content, said = STUDIES[case]
    (folder / "bad.yaml").write_text(content)
    refused(cli, folder, ("compare", "bad.yaml"), said)


CLUSTERS = {
    "unknown key": ("node: hgx-h100\nnods: 2\n", ["bad.yaml: nods = 2", "did you mean 'nodes'?"]),
    "no nodes": ("node: hgx-h100\n", ["bad.yaml: nodes is missing"]),
    "no node": ("nodes: 1\n", ["bad.yaml: node is missing", "the name of a node"]),
    "no fabric": ("node: hgx-h100\nnodes: 2\n", ["bad.yaml: ", "needs cluster.fabric"]),
    "empty": ("", ["bad.yaml: the file is empty"]),
    "no socket link": (
        "node: {extends: 8x4090, links: {socket_link: null}}\nnodes: 1\n",
        ["bad.yaml: ", "links.sockets = 2 needs cluster.node.links.socket_link"],
    ),
}


@pytest.mark.parametrize("case", CLUSTERS)
def test_a_cluster_written_wrong(case, cli, folder) -> None:
    content, said = CLUSTERS[case]
    (folder / "bad.yaml").write_text(content)
    refused(cli, folder, ("topology", "bad.yaml", "--html", "page.html"), said)


OUTPUTS = {
    "compare": ("compare", "study.yaml", "--html"),
    "timeline page": ("timeline", "small.yaml", "--html"),
    "timeline trace": ("timeline", "small.yaml", "--html", "good.html", "--perfetto"),
    "timeline picture": ("timeline", "small.yaml", "--perfetto", "good.json", "--svg"),
    "memory": ("memory", "small.yaml", "--html"),
    "topology": ("topology", "2x-hgx-h100", "--html"),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is(case, cli, folder) -> None:
    (folder / "is-a-folder").mkdir()
    refused(cli, folder, (*OUTPUTS[case], "no/page.html"), ["no/page.html cannot be written: there is no folder no"])
    refused(cli, folder, (*OUTPUTS[case], "small.yaml/a"), ["small.yaml/a cannot be written: there is no folder"])
    refused(cli, folder, (*OUTPUTS[case], "is-a-folder"), ["is-a-folder is a folder"])
    refused(cli, folder, (*OUTPUTS[case], os.devnull), [f"{os.devnull} is not a file; give the name of a file"])


def refused(cli, folder: Path, arguments: tuple[str, ...], said: list[str]) -> None:
    """Status 2, an empty standard output, the texts of ``said`` on standard error, no file more or less."""
    before = sorted(folder.rglob("*"))
    ran = cli(*arguments)
    assert ran.status == 2, ran.err
    assert ran.out == ""
    assert [text for text in said if text not in ran.err] == [], ran.err
    assert "Traceback" not in ran.err
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--collective", "all_reduc"), "Did you mean 'all_reduce'"),
        (("--collective", "alltoall"), "Did you mean 'all_to_all'"),
        (("--collective", "allreduce", "--json"), "Did you mean 'all_reduce'"),
        (("--collective", "all_reduce", "--algorithm", "rign"), "--algorithm: no algorithm for all_reduce"),
        (("--collective", "all_reduce", "--gpus", "8", "--algorithm", "tree"), "can run all_reduce"),
        (("--collective", "all_reduce", "--gpus", "17"), "2 to 16"),
        (("--collective", "send_recv"), "one sends, one receives"),
        (("--collective", "all_reduce", "--bytes", "64"), "has no unit"),
    ],
)
def test_a_collective_that_cannot_be_priced(cli, words, said) -> None:
    ran = cli("topology", "2x-hgx-h100", *words)
    assert ran.status == 2
    assert ran.out == ""
    assert said in ran.err
