"""Self-contained pages: headings, text, tables and figures in one file that needs no network."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import plotly.graph_objects as go
from plotly.io import to_json
from plotly.offline import get_plotlyjs

from simtrain.report.files import replacing
from simtrain.report.palette import BACKGROUND, FONT, GRID, INK

__all__ = ["Content", "Section", "Table", "page", "write_html", "write_text"]

_STYLE = f"""
:root {{ color-scheme: light; }}
body {{ margin: 0; background: {BACKGROUND}; color: {INK}; font: 15px/1.5 {FONT}; }}
main {{ max-width: 1400px; margin: 0 auto; padding: 24px 28px 60px; }}
h1 {{ font-size: 26px; margin: 8px 0 18px; }}
h2 {{ font-size: 20px; margin: 40px 0 10px; padding-top: 14px; border-top: 1px solid {GRID}; }}
p {{ max-width: 80ch; margin: 8px 0; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; margin: 14px 0; font-variant-numeric: tabular-nums; }}
caption {{ caption-side: bottom; text-align: left; color: #57606A; font-size: 13px; padding-top: 6px; }}
th, td {{ padding: 6px 14px; border-bottom: 1px solid {GRID}; text-align: right; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
td.words {{ text-align: left; white-space: normal; min-width: 14em; }}
thead th {{ background: #F4F6F8; border-bottom: 2px solid {GRID}; }}
tbody tr:hover {{ background: #FAFBFC; }}
.figure {{ margin: 12px 0; min-height: 260px; }}
"""
_SCRIPT = """
for (const data of document.querySelectorAll('script.figure-data')) {
  const figure = JSON.parse(data.textContent);
  const config = {responsive: true, displaylogo: false};
  Plotly.newPlot(data.dataset.target, figure.data, figure.layout, config);
}
"""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a header; the first column is left-aligned, numbers to the right, long text wraps."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


Content: TypeAlias = str | Table | go.Figure
"""A paragraph, a table, or a figure."""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading (may be empty) and what stands under it."""

    heading: str
    content: Sequence[Content]


def write_html(contents: Content | Section | Iterable[Content | Section], path: str | Path, title: str = "") -> Path:
    """Write one page; the file is complete or absent.

    Args:
        contents: sections, or paragraphs, tables and figures, in order.
        path: file to write; its folder must exist.
        title: heading of the page and of the browser window.

    Returns:
        The path.
    """
    return write_text(path, page(contents, title))


def page(contents: Content | Section | Iterable[Content | Section], title: str = "") -> str:
    """The page as text: see :func:`write_html`."""
    items = [contents] if isinstance(contents, str | Table | Section | go.Figure) else list(contents)
    sections = [item if isinstance(item, Section) else Section("", [item]) for item in items]
    numbers = iter(range(sum(len(section.content) for section in sections)))
    body = "\n".join(_section(section, numbers) for section in sections)
    heading = f"<h1>{html.escape(title)}</h1>" if title else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title or 'simtrain')}</title>\n<style>{_STYLE}</style>\n"
        f"<script>{get_plotlyjs()}</script>\n</head>\n<body>\n<main>\n{heading}\n{body}\n</main>\n"
        f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file through a temporary one beside it, so that nothing half-written is ever seen."""
    target = Path(path)
    with replacing(target) as file:
        file.write_text(text, encoding="utf-8")
    return target


def _section(section: Section, numbers: Iterable[int]) -> str:
    heading = f"<h2>{html.escape(section.heading)}</h2>\n" if section.heading else ""
    parts = [_content(content, number) for content, number in zip(section.content, numbers, strict=False)]
    return f"<section>\n{heading}{''.join(parts)}</section>"


def _content(content: Content, number: int) -> str:
    if isinstance(content, str):
        return f"<p>{html.escape(content)}</p>\n"
    if isinstance(content, Table):
        return _table(content)
    data = to_json(content, validate=False).replace("</", "<\\/")
    name = f"figure-{number}"
    return (
        f'<div class="figure" id="{name}"></div>\n'
        f'<script type="application/json" class="figure-data" data-target="{name}">{data}</script>\n'
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.header)
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    caption = f"<caption>{html.escape(table.caption)}</caption>" if table.caption else ""
    rows = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    return f'<div class="scroll"><table>{caption}\n{rows}</table></div>\n'


def _cell(text: str) -> str:
    kind = ' class="words"' if len(text) > 32 else ""
    return f"<td{kind}>{html.escape(text)}</td>"
