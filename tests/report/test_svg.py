"""The SVG drawing: well-formed, deterministic, the same bars."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from simtrain import report
from simtrain.report.bars import bars
from simtrain.report.palette import Kind
from simtrain.report.svg_drawing import ticks
from tests.report import samples

NAMESPACE = "{http://www.w3.org/2000/svg}"


def test_rectangles_are_the_bars(tmp_path: Path) -> None:
    timeline = samples.pipeline()
    text = report.svg(timeline, tmp_path / "step.svg")
    assert (tmp_path / "step.svg").read_text() == text == report.svg(timeline)
    rectangles = [r for r in ElementTree.fromstring(text).iter(f"{NAMESPACE}rect") if "class" in r.attrib]
    drawn = bars(timeline)
    assert [r.attrib["class"] for r in rectangles] == [Kind(kind).name.lower() for kind in drawn.kind]
    x, width = (np.array([float(r.attrib[key]) for r in rectangles]) for key in ("x", "width"))
    scale = (1200 - 96 - 24) / timeline.makespan_s
    assert (x - 96) / scale == pytest.approx(drawn.start_s, abs=1e-8)
    assert width / scale == pytest.approx(drawn.end_s - drawn.start_s, abs=1e-8)


def test_title_is_escaped_and_micro_batches_are_written() -> None:
    text = report.svg(samples.split_pipeline(), title="a < b & c")
    words = [element.text for element in ElementTree.fromstring(text).iter(f"{NAMESPACE}text")]
    assert words[0] == "a < b & c"
    assert {"F0", "I1", "W0", "rank 1", "time (ms)", "idle (bubble)"} <= set(words)


@pytest.mark.parametrize("whole_ms", [0.003, 1.0, 7.9, 114.6, 48_000.0])
def test_ticks_are_few_and_round(whole_ms: float) -> None:
    shown = ticks(whole_ms)
    assert 3 <= len(shown) <= 9
    assert shown[0] == 0.0
    assert shown[-1] <= whole_ms
