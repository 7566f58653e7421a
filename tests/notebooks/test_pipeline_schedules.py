"""The notebook of pipeline schedules runs, draws its figures, and prints what its text says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from simtrain import schedules
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
    notebook = figures.executed_notebook(figures.SCHEDULES)
    return [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]


def printed(outputs) -> str:
    return "".join(out.text for out in outputs if out.output_type == "stream" and out.name == "stdout")


def percentages(text: str, name: str, heading: str) -> list[float]:
    """The figures beside a schedule in the table under a heading."""
    row = re.search(rf"^{name} .*%$", text[text.index(heading) :], re.MULTILINE)
    return [float(number) for number in re.findall(r"([\d.]+)%", row[0])]


def test_committed_outputs_are_what_the_notebook_prints_now(figures, outputs):
    import nbformat

    committed = nbformat.read(figures.SCHEDULES, as_version=4)
    saved = [out for cell in committed.cells if cell.cell_type == "code" for out in cell.outputs]
    assert printed(saved) == printed(outputs), "run: make figures"
    assert figures.SCHEDULES.stat().st_size < 60_000


def test_every_figure_is_drawn(outputs):
    drawn = [out["data"][PLOTLY] for out in outputs if PLOTLY in out.get("data", {})]
    assert len(drawn) == 6
    assert all(figure["data"] for figure in drawn)
    titles = [note["text"] for note in drawn[0]["layout"]["annotations"]]
    assert {title.partition(" ")[0].removeprefix("<b>") for title in titles} == set(schedules.names())


def test_every_schedule_is_in_every_table(outputs):
    text = printed(outputs)
    for name in schedules.names():
        assert len(re.findall(rf"^ ?{name} ", text, re.MULTILINE)) == 3, name


def test_what_the_text_says_of_equal_costs(outputs):
    text = printed(outputs)
    cells = {line.split()[0]: line.split() for line in text.splitlines() if re.match(r"^ \w+ +8 +\d +16 ", line)}
    bubble, span = ({name: row[k] for name, row in cells.items()} for k in (6, 7))
    assert bubble["1f1b"] == bubble["gpipe"] == "30.4%"
    assert span["zb_h2"] == span["zbv"] == "0"
    assert cells["zb_h2"][4] == cells["zb1p"][4]
    assert int(cells["interleaved_1f1b"][12]) > 2 * int(cells["1f1b"][12])
    assert cells["dualpipe"][11] == "2x"
    assert "1.00 of the activations of 1F1B: at best   6.8% bubble" in text


def test_what_the_text_says_of_uneven_costs_and_latency(outputs):
    text = printed(outputs)
    for name in ("zb1p", "zbv", "dualpipe"):
        equal, longer, longest, _ = percentages(text, name, "very long sequences")
        assert equal < longer < longest
    searched, more_memory = (percentages(text, name, "very long sequences")[2] for name in ("zb_auto_1p", "zb_auto_2p"))
    assert more_memory < searched <= percentages(text, "zb1p", "very long sequences")[2]
    latency = {name: percentages(text, name, "longer by, at a latency of") for name in schedules.names()}
    for slower in latency.values():
        assert slower == sorted(slower)
    assert latency["zb_h2"][-1] < latency["gpipe"][-1] < 11 < latency["1f1b"][-1]


def test_the_formula_of_dualpipe_against_the_pipeline(outputs):
    text = printed(outputs)
    assert "idle on each rank: 3.0 3.6 4.2 4.2 4.2 4.2 3.6 3.0" in text
    rows = text[text.index("formula   most idle rank") :].splitlines()[1:7]
    assert [row.split()[5] for row in rows] == ["60", "36", "66", "72", "645", "465"]
    assert [row.endswith("as the formula says") for row in rows] == [True, True, True, False, False, False]
    assert rows[4].endswith("formula off by +90")
    assert rows[5].endswith("formula off by -180")
