"""The shipped devices, nodes, fabrics and clusters: they validate, say where they come from, and keep traps out."""

from __future__ import annotations

import csv
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from simtrain.cluster.build import build
from simtrain.quantities import parse_quantity
from simtrain.scenario.cluster import Cluster, Device, Fabric, KernelTable, Node, PcieTree, SwitchedLinks

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("SIMTRAIN_DATA", ROOT / ".." / "shared" / "data"))
MODELS: dict[str, TypeAdapter[Any]] = {
    "devices": TypeAdapter(Device),
    "nodes": TypeAdapter(Node),
    "fabrics": TypeAdapter(Fabric),
    "clusters": TypeAdapter(Cluster),
}
PARTS = {"nodes": {"device": "devices"}, "clusters": {"node": "nodes", "fabric": "fabrics"}}
ENTRIES = [(kind, path.stem) for kind in MODELS for path in sorted((ROOT / "topologies" / kind).glob("*.yaml"))]
DEVICES = [name for kind, name in ENTRIES if kind == "devices"]
NODES = [name for kind, name in ENTRIES if kind == "nodes"]
HARDWARE_COLUMNS = {
    "bf16": "fp16_bf16_fp32acc_tflops",
    "fp16": "fp16_bf16_fp32acc_tflops",
    "tf32": "tf32_tflops",
    "fp32": "fp32_tflops",
    "fp8": "fp8_tflops",
    "mxfp8": "fp8_tflops",
    "nvfp4": "fp4_tflops",
}


@cache
def document(kind: str, name: str) -> dict[str, Any]:
    """One document with the parts it names put in."""
    text = (ROOT / "topologies" / kind / f"{name}.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    for key, part in PARTS.get(kind, {}).items():
        if isinstance(values.get(key), str):
            values[key] = document(part, values[key])
    return values


def device(name: str) -> Device:
    return Device.model_validate(document("devices", name))


def node(name: str) -> Node:
    return Node.model_validate(document("nodes", name))


@cache
def hardware() -> dict[str, dict[str, str]]:
    path = DATA / "hardware.csv"
    if not path.exists():
        pytest.skip(f"needs {path} (SIMTRAIN_DATA)")
    with path.open(newline="") as file:
        return {row["gpu"].lower(): row for row in csv.DictReader(file)}


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_entry_validates_and_says_where_it_comes_from(kind: str, name: str) -> None:
    entry = MODELS[kind].validate_python(document(kind, name))
    assert len(entry.source) > 20


def test_the_promised_entries_exist() -> None:
    devices = "rtx3090 rtx4090 rtx5090 l40s a10 a100-40gb-pcie a100-40gb-sxm a100-80gb-pcie a100-80gb-sxm a800-80gb-sxm"
    devices += " h100-pcie h100-sxm h800-sxm h20 h200-sxm gh200-141gb b200-sxm b300-sxm gb200 gb300 mi300x"
    nodes = "dgx-a100 hgx-a800 hgx-h100 hgx-h800 hgx-h20 hgx-h200 hgx-b200 gb200-nvl72 8x4090 8x4090-8nic 8xa100-pcie"
    clusters = "256x-8x4090 256x-8x4090-8nic 256x-hgx-h100 deepseek-h800-2048 384x-dgx-a100 fire-flyer-2 1x-hgx-h100"
    assert set(devices.split()) <= set(DEVICES)
    assert set(nodes.split()) <= set(NODES)
    assert set(clusters.split()) <= {name for kind, name in ENTRIES if kind == "clusters"}


@pytest.mark.parametrize("name", DEVICES)
def test_kernel_table_is_given_or_borrowed_from_one_that_is(name: str) -> None:
    entry = device(name)
    table = device(entry.kernels).kernels if isinstance(entry.kernels, str) else entry.kernels
    assert isinstance(table, KernelTable)
    assert table.gemm.compute
    assert table.grouped_gemm.compute
    assert table.attention_forward.compute
    assert table.attention_backward.compute


@pytest.mark.parametrize("name", DEVICES)
def test_title_reads_like_the_name(name: str) -> None:
    assert re.sub(r"[^a-z0-9]", "", device(name).title.lower()) == name.replace("-", "")


@pytest.mark.parametrize("name", DEVICES)
def test_figures_equal_the_hardware_table(name: str) -> None:
    row, entry = hardware()[name], device(name)
    for precision, peak in entry.peaks.items():
        assert peak == pytest.approx(float(row[HARDWARE_COLUMNS[precision]]) * 1e12), precision
    assert entry.memory_bandwidth == pytest.approx(float(row["mem_bw_gbs"]) * 1e9)
    assert entry.memory == float(row["mem_gb"]) * 2**30
    assert entry.power == float(row["tdp_w"])
    assert bool(entry.popular_error) == bool(row["popular_error"])


@pytest.mark.parametrize("name", DEVICES)
def test_advertised_peaks_are_higher_and_of_known_precisions(name: str) -> None:
    entry = device(name)
    for precision, peak in entry.advertised_peaks.items():
        assert peak >= entry.peaks[precision]


def test_popular_peaks_are_kept_out() -> None:
    dense = {
        ("h100-sxm", "bf16"): 989.4,
        ("h100-sxm", "fp8"): 1979,
        ("h100-pcie", "bf16"): 756,
        ("h800-sxm", "bf16"): 989.4,
        ("h20", "bf16"): 148,
        ("rtx4090", "bf16"): 165.2,
        ("rtx4090", "fp8"): 330.3,
        ("rtx5090", "bf16"): 209.5,
        ("rtx3090", "bf16"): 71,
        ("l40s", "bf16"): 362,
        ("a10", "bf16"): 125,
        ("a100-80gb-sxm", "bf16"): 312,
        ("b200-sxm", "fp8"): 4500,
        ("b200-sxm", "nvfp4"): 9000,
        ("gb200", "fp8"): 5000,
    }
    for (name, precision), tflops in dense.items():
        assert device(name).peaks[precision] == pytest.approx(tflops * 1e12), (name, precision)  # type: ignore[index]
    assert device("rtx4090").advertised_peaks["fp16"] == pytest.approx(330.3e12)
    assert device("h100-sxm").advertised_peaks["bf16"] == pytest.approx(1979e12)
    assert not {"fp8", "mxfp8", "nvfp4"} & set(device("a100-80gb-sxm").peaks)
    assert "mxfp8" not in device("h100-sxm").peaks


def test_memory_capacities() -> None:
    assert device("b200-sxm").memory == 180 * 2**30
    assert device("h20").memory == 96 * 2**30
    assert device("rtx4090").memory == 24 * 2**30


def test_links_count_one_direction() -> None:
    one_way = {"dgx-a100": 300, "hgx-a800": 200, "hgx-h100": 450, "hgx-h800": 200, "hgx-h20": 450, "hgx-h200": 450}
    for name, gb_per_s in (one_way | {"hgx-b200": 900, "gb200-nvl72": 900}).items():
        links = node(name).links
        assert isinstance(links, SwitchedLinks)
        assert links.gpu.bandwidth == pytest.approx(gb_per_s * 1e9), name
        assert 0.7 < links.gpu.efficiency < 0.85, name
    mesh = node("mi300x-8").links
    assert mesh.kind == "mesh"
    assert mesh.pair.bandwidth == pytest.approx(64e9)


def test_the_4090_server_has_no_peer_to_peer_and_one_network_port_in_its_price() -> None:
    server = node("8x4090")
    assert isinstance(server.links, PcieTree)
    assert not server.links.peer_to_peer
    assert not server.gpu_direct
    assert server.links.sockets == 2
    assert (server.nics, server.nics_in_price) == (1, 1)
    assert server.price == 40_000
    assert server.power == 5_000
    many = node("8x4090-8nic")
    assert many.nics == 8
    assert many.nics_in_price == 1
    assert many.price is not None
    assert server.price is not None
    assert many.price > server.price


def test_h100_server_price_says_which_network_it_holds() -> None:
    server = node("hgx-h100")
    assert server.price == 310_000
    assert server.nics_in_price == 0
    assert "with its 8 NICs" in server.source
    assert "switches and cables apart" in server.source


@pytest.mark.parametrize("name", NODES)
def test_power_and_price_of_a_node_exceed_those_of_its_cards(name: str) -> None:
    entry, card = node(name), device_of(name)
    assert entry.power is not None
    assert card.power is not None
    assert entry.gpus * card.power < entry.power < 2.5 * entry.gpus * card.power
    if entry.price is not None and card.price is not None:
        assert entry.gpus * card.price < entry.price < 4.0 * entry.gpus * card.price


def device_of(name: str) -> Device:
    return Device.model_validate(document("nodes", name)["device"])


@pytest.mark.parametrize("name", [name for kind, name in ENTRIES if kind == "clusters"])
def test_cluster_has_the_ports_that_its_size_needs(name: str) -> None:
    cluster = Cluster.model_validate(document("clusters", name))
    assert isinstance(cluster.node, Node)
    assert (cluster.fabric is not None) == (cluster.nodes > 1)
    if cluster.nodes > 1:
        assert cluster.node.nics > 0
        assert cluster.node.nic is not None


@pytest.mark.parametrize("name", [name for kind, name in ENTRIES if kind == "clusters"])
def test_cluster_becomes_a_connected_graph(name: str) -> None:
    cluster = Cluster.model_validate(document("clusters", name))
    assert isinstance(cluster.node, Node)
    topology = build(cluster)
    assert topology.gpus == cluster.nodes * cluster.node.gpus
    assert next(finding.ok for finding in topology.check() if finding.name == "connected")


def test_assumed_port_prices_say_so() -> None:
    for name in ("fat-tree-200g", "fat-tree-hdr200"):
        fabric = document("fabrics", name)
        assert "ASSUMED" in fabric["source"]
        assert 2 * parse_quantity(fabric["price_per_port"], "money") == pytest.approx(4247, rel=0.01)
