"""Notebooks run from top to bottom, and print what is committed and what their text says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documentation import figures_module

pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")

ROOT = Path(__file__).resolve().parents[2]
PLOTLY = "application/vnd.plotly.v1+json"


def printed(notebook) -> str:
    return "".join(out.text for out in outputs(notebook) if out.output_type == "stream" and out.name == "stdout")


def outputs(notebook) -> list:
    return [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]


@pytest.fixture(scope="module")
def figures():
    return figures_module()


@pytest.fixture(scope="module")
def executed(figures):
    return figures.executed_notebook()


@pytest.fixture(scope="module")
def text(executed) -> str:
    return printed(executed)


def test_committed_outputs_are_what_the_notebook_prints_now(figures, text):
    import nbformat

    assert printed(nbformat.read(figures.NOTEBOOK, as_version=4)) == text, "run: make figures"


def test_committed_notebook_is_small(figures):
    assert figures.NOTEBOOK.stat().st_size < 60_000


def test_memory_of_the_envelope(text):
    assert "weights 140 GB + gradients 140 GB + Adam 840 GB + activations 730 GB = 1850 GB" in text
    assert "at least 24 GPUs of 80 GB, or 78 of 24 GB" in text


def test_tensor_parallel_rule(text):
    for quoted, dense in ((2.38, 4.76), (5.59, 11.18), (2.48, 4.97), (0.79, 1.59)):
        assert re.search(rf"t <= {quoted:.2f} +t <= {dense:.2f}", text)


def test_one_stage_per_layer(text):
    assert "196.6 TFLOP: 0.60 s of compute; gradients: 0.125 s each way" in text
    assert "a step of 48 s, of which 0.25 s can be exposed" in text
    exposed = re.search(r"kernels (\d+) s, gradients exposed (\d+\.\d+) s", text)
    assert 45 <= int(exposed[1]) <= 52
    assert float(exposed[2]) < 1.0


def test_deepseek_v3(text):
    assert "327 TFLOPS of GEMM + 91 of attention counted full (45 causal): MFU 42% of 989" in text
    assert "343 TFLOPS of GEMM + 95 of attention counted full" in text
    assert "MFU 44% of 989" in text
    assert "with 118 for attention it would be 45%" in text


def test_every_scenario_of_the_study_is_in_the_bill(text):
    for name in ("4090, 1 NIC", "4090, 8 NICs", "2048 H100", "H100, equal price", "H100, equal peak"):
        assert text.count(name) >= 4


def test_every_figure_is_drawn(executed):
    drawn = [out["data"][PLOTLY] for out in outputs(executed) if PLOTLY in out.get("data", {})]
    titles = [figure["layout"]["title"]["text"] for figure in drawn]
    assert len(drawn) == sum(cell.source.count(".show()") for cell in executed.cells) == 5
    assert all(figure["data"] for figure in drawn)
    assert len(set(titles)) == 5
