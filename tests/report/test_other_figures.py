"""Waterfall, memory and topology figures hold the numbers they were given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simtrain import report
from simtrain.costs.collectives import price
from simtrain.report.palette import BUCKETS
from simtrain.report.topology_figure import UNUSED
from tests.report import samples


@pytest.mark.parametrize("unit", ["share", "seconds"])
def test_waterfall_stacks_every_bucket(unit: str) -> None:
    steps = [samples.step("one", 2.0), samples.step("two", 3.0)]
    figure = report.waterfall(steps, unit=unit)
    totals = np.sum([trace.x for trace in figure.data], axis=0)
    assert totals == pytest.approx([100.0, 100.0] if unit == "share" else [2.0, 3.0])
    used = [BUCKETS[bucket].label for bucket in BUCKETS if samples.WATERFALL[bucket]]
    assert [trace.name for trace in figure.data] == used
    assert list(figure.data[0].y) == ["one", "two"]


def test_waterfall_of_one_step() -> None:
    assert list(report.waterfall(samples.step("one")).data[0].y) == ["one"]


def test_bars_of_scenarios_with_one_title_stand_apart_under_their_names() -> None:
    steps = [samples.step(name, 2.0) for name in ("one", "two")]
    alike = [replace(step, scenario=step.scenario.model_copy(update={"title": "inherited"})) for step in steps]
    assert list(report.waterfall(alike).data[0].y) == ["one", "two"]
    nameless = [replace(step, scenario=step.scenario.model_copy(update={"name": "", "title": ""})) for step in steps]
    assert list(report.waterfall(nameless).data[0].y) == ["scenario 1", "scenario 2"]


def test_memory_draws_parts_curves_and_capacity() -> None:
    memory = samples.memory_report()
    figure = report.memory(memory)
    parts = {trace.name: trace.y for trace in figure.data if trace.type == "bar"}
    assert set(parts) == {"weights", "activations"}
    assert parts["weights"] + parts["activations"] == pytest.approx(np.array(memory.peak_bytes) / 2**30)
    curves = [trace for trace in figure.data if trace.type == "scatter"]
    assert len(curves) == 4
    assert curves[2].x == pytest.approx(memory.curve[2][0] * 1e3)
    assert curves[2].y == pytest.approx(memory.curve[2][1] / 2**30)
    assert {shape.y0 for shape in figure.layout.shapes} == {80.0}
    assert "fits" in figure.layout.title.text


def test_memory_says_by_how_much_it_does_not_fit() -> None:
    step = replace(samples.step(), memory=samples.memory_report(capacity_bytes=64 * 2.0**30))
    assert "68 GiB of 64 GiB on rank 0 · does not fit, 4 GiB over" in report.memory(step).layout.title.text


def test_memory_of_many_ranks_draws_some_curves_and_says_so() -> None:
    figure = report.memory(samples.memory_report(ranks=40))
    assert sum(trace.type == "scatter" for trace in figure.data) == 16
    assert "Curves of 16 of 40 ranks" in figure.layout.title.subtitle.text


def test_topology_draws_one_node_in_full_and_says_what_is_left_out() -> None:
    figure = report.topology(samples.cluster(nodes=4))
    labels = [text for trace in figure.data if trace.mode == "markers+text" for text in trace.hovertext]
    assert {"node 0 GPU 0", "node 0 GPU 1", "node 0 NIC 0", "switch 0"} <= set(labels)
    assert not any(label.startswith("node 1") for label in labels)
    assert figure.layout.title.text == "<b>8 GPUs in 4 nodes of 2</b>"
    assert "one node of 4" in figure.layout.title.subtitle.text
    assert "GPUs (2 of 8)" in figure.layout.yaxis.ticktext


def test_topology_hover_has_bandwidth_and_latency() -> None:
    figure = report.topology(samples.cluster(nodes=2))
    hover = [text for trace in figure.data if trace.mode == "markers" for text in trace.hovertext]
    assert any("25 GB/s each way, 1 us" in text for text in hover)
    assert {trace.name for trace in figure.data if trace.mode == "lines"} == {"PCIe", "host memory", "NIC to switch"}


def test_topology_colours_links_by_what_a_collective_uses() -> None:
    cluster = samples.cluster(nodes=2)
    found = price(cluster, "send_recv", np.array([[2, 0]]), 1e9)
    figure = report.topology(cluster, price=found)
    hover = [text for trace in figure.data if trace.mode == "markers" for text in trace.hovertext or ()]
    used = [text for text in hover if "NIC 0 – switch 0" in text]
    assert len(used) == 1
    edges, use = found.edge_use()
    share = float(use[cluster.edge_kind[edges] == "nic"].max())
    assert f"in use: 0.0% NIC 0 → switch 0, {share:.1%} back" in used[0]
    lines = {trace.line.color for trace in figure.data if trace.mode == "lines"}
    assert UNUSED in lines
    assert len(lines) > 1
    bars = [
        trace.marker.colorbar for trace in figure.data if trace.mode == "markers" and trace.marker.colorbar.title.text
    ]
    assert [bar.title.text for bar in bars] == ["capacity in use, busier direction (%)"]
    assert found.bottleneck in figure.layout.title.subtitle.text


def test_topology_draws_the_node_that_is_busiest() -> None:
    cluster = samples.cluster(nodes=3)
    figure = report.topology(cluster, price=price(cluster, "send_recv", np.array([[2, 4]]), 1e9))
    labels = [text for trace in figure.data if trace.mode == "markers+text" for text in trace.hovertext]
    assert "node 1 GPU 0" in labels
    assert "node 0 GPU 0" not in labels
    assert "one node of 3 (node 1)" in figure.layout.title.subtitle.text


def test_topology_colours_links_by_their_mean_use_over_a_step() -> None:
    network = samples.network()
    figure = report.topology(network.topology, network=network)
    busiest = network.busiest(1)[0]
    assert busiest.label in figure.layout.title.subtitle.text
    assert f"{busiest.utilisation:.1%} on average" in figure.layout.title.subtitle.text
    hover = [text for trace in figure.data if trace.mode == "markers" for text in trace.hovertext or ()]
    assert any(
        f"in use: {busiest.utilisation:.1%}" in text or f"{busiest.utilisation:.1%} back" in text for text in hover
    )
    (bar,) = [t.marker for t in figure.data if t.mode == "markers" and t.marker.colorbar.title.text]
    assert bar.colorbar.title.text == "mean use over the step, busier direction (%)"
    assert bar.cmax >= 100 * busiest.utilisation


def test_lazy_names() -> None:
    assert set(report.__all__) == set(dir(report))
    assert all(callable(getattr(report, name)) for name in report.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        report.nothing  # noqa: B018
