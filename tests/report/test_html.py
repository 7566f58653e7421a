"""Pages: self-contained, escaped, whole or absent."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go
import pytest

from simtrain.report.html import Section, Table, page, write_html, write_text
from tests.report import pages


def test_a_page_needs_no_network() -> None:
    text = page(go.Figure(go.Bar(x=[1.0], y=[2.0])), "a title")
    assert "Plotly.newPlot" in text
    assert "<script src" not in text
    assert "<link" not in text
    assert len(pages.figures(text)) == 1


def test_sections_hold_headings_text_tables_and_figures() -> None:
    table = Table(["a", "b"], [["x", "1"], ["y", "w" * 40]], "what it shows")
    text = page([Section("First", ["some words", table, go.Figure()]), "loose", go.Figure()], "All")
    for part in ("<h1>All</h1>", "<h2>First</h2>", "<p>some words</p>", "<th>b</th>", "<td>1</td>", "<p>loose</p>"):
        assert part in text
    assert f'<td class="words">{"w" * 40}</td>' in text
    assert "<caption>what it shows</caption>" in text
    assert 'id="figure-2"' in text
    assert text.count('class="figure-data"') == len(pages.figures(text)) == 2


def test_text_cannot_break_out_of_the_page() -> None:
    hostile = "</script><b>&"
    text = page([hostile, Table([hostile], [[hostile]]), go.Figure(layout={"title": {"text": hostile}})], hostile)
    assert hostile not in text
    assert pages.figures(text)[0]["layout"]["title"]["text"] == hostile


def test_writing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_html("old", tmp_path / "page.html")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_text(path, "new")
    assert "old" in path.read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
