"""The notebook of failures runs, draws its figures, and prints what its text says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documentation import figures_module

pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")

ROOT = Path(__file__).resolve().parents[2]
PLOTLY = "application/vnd.plotly.v1+json"


@pytest.fixture(scope="module")
def figures():
    return figures_module()


@pytest.fixture(scope="module")
def outputs(figures) -> list:
    notebook = figures.executed_notebook(figures.FAILURES)
    return [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]


@pytest.fixture(scope="module")
def text(outputs) -> str:
    return printed(outputs)


def printed(outputs) -> str:
    return "".join(out.text for out in outputs if out.output_type == "stream" and out.name == "stdout")


def test_committed_outputs_are_what_the_notebook_prints_now(figures, text):
    import nbformat

    committed = nbformat.read(figures.FAILURES, as_version=4)
    saved = [out for cell in committed.cells if cell.cell_type == "code" for out in cell.outputs]
    assert printed(saved) == text, "run: make figures"
    assert figures.FAILURES.stat().st_size < 60_000


def test_every_figure_is_drawn(outputs):
    drawn = [out["data"][PLOTLY] for out in outputs if PLOTLY in out.get("data", {})]
    assert len(drawn) == 5
    assert all(figure["data"] for figure in drawn)


def test_half_of_the_time_is_lost(text):
    assert "one of 2048 fails every 21.09 minutes" in text
    for words, free, best in (("no failure strikes", "53.0", "54.1"), ("failures strike", "48.7", "49.7")):
        line = re.search(rf"^{words} recovery: .*", text, re.MULTILINE)
        assert f"each 10 min {free}%" in line[0]
        assert line[0].endswith(f"each 4.27 min {best}%")


def test_what_helps(text):
    order = re.findall(r"^(\w+) +half", text, re.MULTILINE)
    assert order[:2] == ["mtbf", "recovery"]
    assert order[-1] == "interval"
    saves = re.findall(r"([\d.]+)% \+- .*restore: ([\d.]+)%", text)
    assert len(saves) == 4
    for column in zip(*saves, strict=True):
        assert [float(share) for share in column] == sorted(float(share) for share in column)


def test_spares_are_as_erlang_b_says(text):
    rows = re.findall(r"enough nodes +([\d.]+)% of the time, by Erlang-B +([\d.]+)%", text)
    assert len(rows) == 6
    assert all(abs(float(one) - float(two)) < 2 for one, two in rows)
