"""The figure and the drawing of schedules: slots where they ran, pairs in two halves, memory below."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import plotly.graph_objects as go
import pytest

from simtrain import schedules
from simtrain.report import schedule_figure as module
from simtrain.report.schedule_bars import color, slot_bars
from simtrain.report.schedule_figure import schedule_figure
from simtrain.report.schedule_svg import schedule_svg
from simtrain.schedules.order import Action
from simtrain.schedules.slot_costs import SlotCosts
from simtrain.step.schedule import ScheduleReport, evaluate_order, live_chunks
from tests.orders import small_order

NAMESPACE = "{http://www.w3.org/2000/svg}"


def report(name: str, ranks: int = 4, microbatches: int = 8, **costs: float) -> ScheduleReport:
    return evaluate_order(small_order(name, ranks, microbatches), SlotCosts(**costs))


def traces(figure: go.Figure, name: str) -> list[Any]:
    return [trace for trace in figure.data if trace.name == name and trace.x is not None and trace.base is not None]


@pytest.mark.parametrize("name", schedules.names())
def test_bars_are_the_slots(name: str) -> None:
    evaluated = report(name, f=1.0, i=1.5, w=0.5, comm=0.25)
    figure, slots = schedule_figure([evaluated]), slot_bars(evaluated)
    assert len(slots) == sum(map(len, evaluated.order.actions))
    for kind in Action:
        chosen = slots.kind == kind
        if not chosen.any():
            assert not traces(figure, kind.name)
            continue
        (trace,) = traces(figure, kind.name)
        halves = 2 if kind is Action.X else 1
        assert np.array(trace.base) == pytest.approx(np.tile(slots.start[chosen], halves))
        assert np.array(trace.x) == pytest.approx(np.tile((slots.end - slots.start)[chosen], halves))
        assert np.round(np.array(trace.y)).tolist() == np.tile(slots.rank[chosen], halves).tolist()


def test_a_pair_is_a_forward_above_a_backward() -> None:
    evaluated = report("dualpipe")
    (trace,) = traces(schedule_figure([evaluated]), "X")
    half = len(trace.x) // 2
    y = np.array(trace.y)
    assert (y[:half] < y[half:]).all()  # the axis points down
    forwards = {color(Action.F, group, 2) for group in (0, 1)}
    assert set(trace.marker.color[:half]) == forwards
    assert set(trace.marker.color[half:]) == {color(Action.B, group, 2) for group in (0, 1)}
    pairs = [slot for rank in evaluated.order.slots() for slot in rank if slot[0] == "X"]
    assert list(trace.text) == [str(slot[2]) for slot in pairs] + [str(slot[4]) for slot in pairs]
    stage, microbatch = pairs[0][1:3]
    assert trace.hovertext[0].startswith(f"<b>X, its forward: stage {stage}, micro batch {microbatch}</b><br>rank 0, ")


def test_dualpipe_is_two_mirrored_wedges_with_late_weight_gradients() -> None:
    """The picture of P=8, M=20: each direction fills the ranks from its own end, and ends in weight gradients."""
    slots = slot_bars(report("dualpipe", 8, 20, x=2.4))
    first = {
        (rank, group): slots.start[(slots.rank == rank) & (slots.group == group)].min()
        for rank in range(8)
        for group in (0, 1)
    }
    assert [first[rank, 0] for rank in range(4)] == [0, 1, 2, 3]
    assert all(first[rank, 0] == first[7 - rank, 1] for rank in range(8))
    last = slots.kind[[np.flatnonzero(slots.rank == rank)[-1] for rank in range(8)]]
    assert (last == Action.W).all()
    paired = [(slots.kind == Action.X)[slots.rank == rank].sum() for rank in range(8)]
    assert paired == paired[::-1]
    assert min(paired) >= 9


def test_later_chunks_are_lighter_and_one_legend_entry_stands_for_each_kind() -> None:
    figure = schedule_figure([report("zbv"), report("1f1b")])
    assert len(set(traces(figure, "F")[0].marker.color)) == 2
    assert len(set(traces(figure, "F")[1].marker.color)) == 1
    shown = [trace.name for trace in figure.data if trace.showlegend is not False]
    assert shown == [
        *("F forward", "I backward for inputs", "W backward for weights", "B full backward", "idle (bubble)")
    ]


def test_schedules_share_an_axis_on_which_equal_lengths_are_equal_work() -> None:
    figure = schedule_figure([report("1f1b"), report("zbv")])
    assert figure.layout.xaxis.range == figure.layout.xaxis2.range == pytest.approx((0, 33 * 1.002))
    ends = [max(np.array(t.base) + np.array(t.x)) for t in (traces(figure, "B")[0], traces(figure, "W")[0])]
    assert ends == [33, 51 / 2]
    assert figure.layout.xaxis2.title.text == "time / V: a chunk is 1/V of a stage"
    assert "makespan 51 (25.5 as drawn)" in figure.layout.annotations[1].text
    alone = schedule_figure([report("zbv")])
    assert alone.layout.xaxis.title.text == "time, in the unit of the costs"
    assert alone.layout.xaxis.range == pytest.approx((0, 51 * 1.002))


@pytest.mark.parametrize(("chunk_bytes", "scale"), [(None, 0.5), (3 * 2.0**30, 3.0)])
@pytest.mark.parametrize("free_at", ["W", "I"])
def test_memory_below(chunk_bytes: float | None, scale: float, free_at: str) -> None:
    evaluated = report("zbv", w=2.0)
    figure = schedule_figure([evaluated], memory=True, free_at=free_at, chunk_bytes=chunk_bytes)
    curves = [trace for trace in figure.data if isinstance(trace, go.Scatter)]
    assert [curve.name for curve in curves] == [f"rank {rank}" for rank in range(4)]
    for rank, curve in enumerate(curves):
        times, alive = live_chunks(evaluated, rank, free_at=free_at)
        assert np.array(curve.x) == pytest.approx(times)
        assert np.array(curve.y) == pytest.approx(alive * scale)
    words = figure.layout.annotations[1].text
    assert ("GiB" in words) is (chunk_bytes is not None)
    assert ("weight gradient" in words) is (free_at == "W")


def test_large_schedules_become_pictures_and_small_ones_stay_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BARS", 200)
    large, small = report("zb1p", 4, 40), report("1f1b")
    figure = schedule_figure([large, small])
    (picture,) = [trace for trace in figure.data if isinstance(trace, go.Heatmap)]
    codes = np.array(picture.z)
    assert codes.shape == (4, module.COLUMNS)
    slots = slot_bars(large)
    for kind in Action:
        share = (slots.end - slots.start)[slots.kind == kind].sum() / (4 * large.makespan)
        assert (codes == kind).mean() == pytest.approx(share, abs=0.01)
    assert (codes == -1).mean() == pytest.approx(large.bubble_fraction, abs=0.01)
    assert len(traces(figure, "B")) == 1


@pytest.mark.parametrize("name", schedules.names())
def test_the_drawing_has_the_slots(name: str, tmp_path: Path) -> None:
    evaluated = report(name)
    text = schedule_svg([evaluated], tmp_path / "drawing.svg")
    assert text == (tmp_path / "drawing.svg").read_text() == schedule_svg([evaluated])
    boxes = [box for box in ElementTree.fromstring(text).iter(f"{NAMESPACE}rect") if "class" in box.attrib]
    slots = slot_bars(evaluated)
    kinds = [Action(kind).name.lower() for kind in slots.kind]
    expected = [half for kind in kinds for half in (("x f", "x b") if kind == "x" else (kind,))]
    assert [box.attrib["class"] for box in boxes] == expected
    width = np.array([float(box.attrib["width"]) for box in boxes])
    repeats = np.where(slots.kind == Action.X, 2, 1)
    scale = (1200 - 80 - 24) / evaluated.makespan
    assert width == pytest.approx(np.repeat(slots.end - slots.start, repeats) * scale, abs=2e-3)


def test_drawings_share_an_axis() -> None:
    root = ElementTree.fromstring(schedule_svg([report("gpipe"), report("zbv")]))
    idle = [float(box.attrib["width"]) for box in root.iter(f"{NAMESPACE}rect") if box.attrib.get("x") == "80"]
    widths = sorted({width for width in idle if width > 100})
    assert widths == pytest.approx([1096 * 25.5 / 33, 1096], abs=2e-3)
    words = [element.text or "" for element in root.iter(f"{NAMESPACE}text")]
    assert any(re.match(r"zbv · P 4, V 2, M 8 · makespan 51 \(25.5 as drawn\)", word) for word in words)


def test_no_time_at_all_is_drawn() -> None:
    empty = report("1f1b", f=0.0, b=0.0)
    assert not traces(schedule_figure([empty], memory=True), "F")
    assert "idle" in schedule_svg([empty])
