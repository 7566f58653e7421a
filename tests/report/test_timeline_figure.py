"""The bubble timeline: its data are the Timeline's arrays, and it says what it leaves out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simtrain import report
from simtrain.program.program import Stream
from simtrain.program.timeline import Timeline
from simtrain.report import timeline_figure
from simtrain.report.bars import bars
from simtrain.report.palette import STYLES, Kind
from tests.report import pages, samples


def bar_traces(figure: dict) -> dict[str, dict]:
    return {trace["name"]: trace for trace in figure["data"] if trace["type"] == "bar"}


@pytest.mark.parametrize("detail", ["action", "operation"])
@pytest.mark.parametrize("lanes", ["compute", "all"])
def test_bars_of_the_page_equal_the_arrays(tmp_path: Path, detail: str, lanes: str) -> None:
    timeline = samples.pipeline("interleaved_1f1b", 3, 6, 2)
    path = report.write_html(report.timeline(timeline, detail=detail, lanes=lanes), tmp_path / "page.html")
    traces = bar_traces(pages.figures(path.read_text())[0])
    drawn = bars(timeline, streams=tuple(Stream) if lanes == "all" else (Stream.COMPUTE,), detail=detail)
    assert traces.pop("idle (bubble)")
    assert set(traces) == {STYLES[Kind(kind)].label for kind in set(drawn.kind.tolist())}
    for kind in set(drawn.kind.tolist()):
        trace, expected = traces[STYLES[Kind(kind)].label], drawn.select(drawn.kind == kind)
        base, width = pages.array(trace["base"]), pages.array(trace["x"])
        assert base == pytest.approx(expected.start_s * 1e3, rel=1e-9, abs=0.0)
        assert width == pytest.approx((expected.end_s - expected.start_s) * 1e3, rel=1e-9, abs=0.0)
        assert pages.array(trace["customdata"])[:, 1] == pytest.approx(expected.busy_s * 1e3, rel=1e-9)
        assert len(trace["hovertext"]) == len(expected)


def test_operations_of_the_page_are_the_timeline(tmp_path: Path) -> None:
    timeline = samples.pipeline("1f1b", 1, 3)
    figure = report.timeline(timeline, ranks=[0])
    path = report.write_html(figure, tmp_path / "page.html")
    traces = bar_traces(pages.figures(path.read_text())[0])
    traces.pop("idle (bubble)")
    base = np.sort(np.concatenate([pages.array(trace["base"]) for trace in traces.values()]))
    assert base == pytest.approx(np.sort(timeline.start_s[timeline.lane(0, Stream.COMPUTE)]) * 1e3, rel=1e-9)


def test_typed_arrays_and_no_text_on_bars() -> None:
    figure = report.timeline(samples.pipeline())
    for trace in figure.data:
        if trace.type == "bar":
            assert trace.y.dtype == trace.x.dtype == np.float64
            assert trace.textposition == "none"


def test_rank_zero_is_on_top_and_named() -> None:
    axis = report.timeline(samples.pipeline()).layout.yaxis
    assert list(axis.ticktext) == ["rank 0", "rank 1", "rank 2", "rank 3"]
    assert axis.range[0] > axis.range[1]


def test_hover_names_stage_and_micro_batch() -> None:
    figure = report.timeline(samples.pipeline())
    forward = next(trace for trace in figure.data if trace.name == "forward")
    assert forward.hovertext[0] == "forward, stage 0, micro batch 0<br>rank 0, compute"
    assert "ms" in forward.hovertemplate


def test_title_of_a_step_and_of_a_bare_timeline() -> None:
    step = samples.step()
    assert "step 114.6 ms · bubble 13.0% · MFU 42.0%" in report.timeline(step).layout.title.text
    timeline = samples.pipeline("gpipe", 1, 2)
    assert "compute idle" in report.timeline(timeline).layout.title.text
    assert "mine" in report.timeline(timeline, title="mine").layout.title.text


def test_communication_lanes_are_thinner() -> None:
    figure = report.timeline(samples.pipeline(), lanes="all")
    assert "pp send next" in figure.layout.yaxis.ticktext
    thick = {trace.name: trace.width.max() for trace in figure.data if trace.type == "bar"}
    assert thick["communication"] < thick["forward"]


def test_too_many_bars_become_a_picture_and_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline_figure, "MAX_BARS", 30)
    figure = report.timeline(samples.pipeline("1f1b", 4, 6))
    picture = next(trace for trace in figure.data if trace.type == "heatmap")
    assert picture.z.shape == (4, timeline_figure.COLUMNS)
    assert "bars of 2 of 4 ranks" in figure.layout.title.subtitle.text
    drawn = sum(len(trace.x) for trace in figure.data if trace.type == "bar" and trace.name != "idle (bubble)")
    assert 0 < drawn <= 30


def test_one_rank_too_large_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline_figure, "MAX_BARS", 5)
    timeline = samples.pipeline("1f1b", 4, 6)
    figure = report.timeline(timeline)
    note = figure.layout.title.subtitle.text
    assert "bars of 1 of 4 ranks, its first" in note
    starts = np.sort(bars(timeline, ranks=[0]).start_s)[:5] * 1e3
    drawn = [trace.base for trace in figure.data if trace.type == "bar" and trace.name != "idle (bubble)"]
    assert np.sort(np.concatenate(drawn)) == pytest.approx(starts, rel=1e-9)


def test_raster_equals_the_bars_column_by_column() -> None:
    timeline = samples.pipeline("1f1b", 3, 4)
    drawn = bars(timeline)
    picture = timeline_figure.raster(drawn, timeline.makespan_s, columns=97)
    middle = (np.arange(97) + 0.5) * timeline.makespan_s / 97
    expected = np.full((3, 97), -1)
    for i in range(len(drawn)):
        expected[drawn.row[i], (middle >= drawn.start_s[i]) & (middle < drawn.end_s[i])] = drawn.kind[i]
    assert np.array_equal(picture, expected)


def test_what_stands_for_many_and_what_is_left_out_is_said() -> None:
    timeline = samples.pipeline()
    assert "Each row stands for 8 GPUs" in report.timeline(timeline).layout.title.subtitle.text
    assert "1 of 4 simulated ranks" in report.timeline(timeline, ranks=[1]).layout.title.subtitle.text


def test_an_empty_timeline_is_still_a_figure() -> None:
    timeline = samples.run(samples.ProgramBuilder(ranks=2).build())
    assert isinstance(timeline, Timeline)
    assert "step" in report.timeline(timeline).layout.title.text
