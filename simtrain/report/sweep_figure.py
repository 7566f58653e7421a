"""A sweep drawn: a line over one axis, a heat map over two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from simtrain.report.frame import framed
from simtrain.report.html import Content, Section, write_html
from simtrain.report.html import Table as PageTable
from simtrain.report.palette import BACKGROUND, INK, STYLES, Kind, lighten
from simtrain.report.sweep_words import failures, measure, sweep_rows, value_text
from simtrain.sweep.axes import Axis
from simtrain.sweep.table import Cell, Table, best_cell, higher_is_better

__all__ = ["sweep_figure", "write_sweep_page"]

_BLUE = STYLES[Kind.FORWARD].color
_ORANGE = STYLES[Kind.BACKWARD].color
_SCALE = [[0.0, lighten(_BLUE, 0.9)], [1.0, _BLUE]]
_EMPTY = "#ECEEF1"
_MOST_LABELS = 400
"""Cells of a heat map that still have room for a number."""
_MOST_TICKS = 24
"""Values of an axis that still have room for all their labels; of more, some are left out."""
_TALLEST = 1100
"""Pixels of all rows of a heat map together, at most."""
_LONGEST = 36
"""Characters of a label beside an axis; hovering tells the whole value."""
_MOST_ROWS = 500
"""Rows of the table below a figure."""


def sweep_figure(table: Table, metric: str) -> go.Figure:
    """Draw one metric of a sweep; the best point has a star.

    One axis is a line (seeds: their mean, and a bar from the least to the most); two are a heat map; of more, the
    first two are, each cell the best over all others.

    Args:
        table: a finished sweep.
        metric: a column, see :meth:`simtrain.sweep.table.Table.metric`.
    """
    cells = table.cells(metric)
    best = best_cell(cells, metric)
    best = best if best and best.fits else None
    axes = table.shown_axes
    if len(axes) == 1:
        figure = _line(table, axes[0], cells, best, metric)
    else:
        figure = _heat_map(table, _best_of_each(cells, metric), best, metric)
    title = f"{measure(metric).name} by {' and '.join(axis.name for axis in axes[:2])}"
    if len(axes) == 1:
        framed(figure, title, _subtitle(table, metric, best), height=460)
        figure.update_layout(margin_b=110)
    else:
        rows = min(_TALLEST, 46 * len(axes[0].values))
        framed(figure, title, _subtitle(table, metric, best), height=max(380, 180 + rows))
        figure.update_layout(margin_b=70, plot_bgcolor=_EMPTY)
    return figure


def write_sweep_page(table: Table, metric: str, path: str | Path, notes: str = "") -> Path:
    """Write a page with the figure and the rows."""
    header, rows = sweep_rows(table, metric)
    more = f" {len(rows) - _MOST_ROWS} more rows are left out." if len(rows) > _MOST_ROWS else ""
    caption = f"* is the best {measure(metric).name} of all that fit in memory.{more}"
    opening: list[Content] = [notes] if notes else []
    sections = [
        Section("", [*opening, sweep_figure(table, metric)]),
        Section("All points", [PageTable(header, rows[:_MOST_ROWS], caption)]),
    ]
    if table.failed:
        sections.append(Section("Failed", [*failures(table, _MOST_ROWS)]))
    return write_html(sections, path, table.title or "Sweep")


def _subtitle(table: Table, metric: str, best: Cell | None) -> str:
    words = measure(metric)
    said = f"{'higher' if higher_is_better(metric) else 'lower'} is better"
    if best is not None:
        said += f" · ★ best: {words.text(best.value)}{_unit(words.unit)} at {_where(table, best)}"
    if len(table.shown_axes) > 2:
        said += f"<br>each cell is the best over {', '.join(axis.name for axis in table.shown_axes[2:])}"
    if table.shown_axes != table.axes:
        said += f"<br>mean over {len(table.axes[-1].values)} seeds"
    return said


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""


def _where(table: Table, cell: Cell) -> str:
    row = table.rows[cell.rows[0]]
    return ", ".join(
        f"{key} {value_text(row[key])}" for axis in table.shown_axes if len(axis.values) > 1 for key in axis.keys
    )


def _best_of_each(cells: Sequence[Cell], metric: str) -> list[Cell]:
    """For every position on the first two axes the best cell over all others; where none has the metric, the first."""
    groups: dict[tuple[int, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.position[:2], []).append(cell)
    return [best_cell(group, metric) or group[0] for group in groups.values()]


def _heat_map(table: Table, cells: Sequence[Cell], best: Cell | None, metric: str) -> go.Figure:
    """First axis from top to bottom, second from left to right; what does not fit or failed is grey."""
    down, across = table.shown_axes[:2]
    words = measure(metric)
    drawn: list[list[float | None]] = [[None] * len(across.values) for _ in down.values]
    hover = [[""] * len(across.values) for _ in down.values]
    for cell in cells:
        row, column = cell.position[:2]
        hover[row][column] = _hover(table, cell, metric)
        if cell.fits and cell.value is not None:
            drawn[row][column] = cell.value * words.scale
    figure = go.Figure(
        go.Heatmap(
            z=drawn,
            x=list(range(len(across.values))),
            y=list(range(len(down.values))),
            customdata=hover,
            hovertemplate="%{customdata}<extra></extra>",
            hoverongaps=True,
            colorscale=_SCALE,
            reversescale=not higher_is_better(metric),
            xgap=2,
            ygap=2,
            colorbar={
                "title": {"text": words.title, "side": "right", "font": {"size": 13}},
                "outlinewidth": 0,
                "thickness": 16,
            },
        )
    )
    if len(cells) <= _MOST_LABELS:
        _label(figure, cells, best, metric)
    if best is not None:
        row, column = best.position[:2]
        box = {"x0": column - 0.49, "x1": column + 0.49, "y0": row - 0.48, "y1": row + 0.48}
        figure.add_shape(type="rect", **box, line={"color": _ORANGE, "width": 3})
    figure.update_xaxes(title_text=across.name, **_ticks(across), showgrid=False)
    figure.update_yaxes(title_text=down.name, **_ticks(down), showgrid=False, autorange="reversed")
    return figure


def _ticks(axis: Axis) -> dict[str, Any]:
    shown = _labelled(axis)
    return {
        "tickmode": "array",
        "tickvals": shown,
        "ticktext": [_short(axis.values[number][0]) for number in shown],
        "automargin": True,
        "title_standoff": 12,
    }


def _labelled(axis: Axis) -> list[int]:
    """Numbers of the values that have a label."""
    return list(range(0, len(axis.values), -(-len(axis.values) // _MOST_TICKS)))


def _short(value: Any) -> str:
    text = value_text(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _label(figure: go.Figure, cells: Sequence[Cell], best: Cell | None, metric: str) -> None:
    """The number in every cell, white on dark blue."""
    words = measure(metric)
    values = [cell.value for cell in cells if cell.fits and cell.value is not None]
    low, high = min(values, default=0.0), max(values, default=0.0)
    for cell in cells:
        text, color = "failed", "#57606A"
        if cell.value is not None:
            share = (cell.value - low) / (high - low) if high > low else 0.0
            dark = cell.fits and (share if higher_is_better(metric) else 1.0 - share) > 0.55
            color = BACKGROUND if dark else INK
            text = words.text(cell.value) if cell.fits else "does not fit"
        if best is not None and cell.position == best.position:
            text = f"★ <b>{text}</b>"
        row, column = cell.position[:2]
        figure.add_annotation(
            x=column, y=row, text=text, showarrow=False, font={"size": 12, "color": color}, captureevents=False
        )


def _line(table: Table, axis: Axis, cells: Sequence[Cell], best: Cell | None, metric: str) -> go.Figure:
    words = measure(metric)
    numbers = [value[0] for value in axis.values]
    numeric = all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)
    places = numbers if numeric else [value_text(number) for number in numbers]
    figure = go.Figure()
    for name, fits, symbol in (("fits in memory", True, "circle"), ("does not fit", False, "circle-open")):
        chosen = [cell for cell in cells if cell.value is not None and cell.fits == fits]
        if not chosen:
            continue
        spread = {
            "array": [((c.high or 0.0) - (c.value or 0.0)) * words.scale for c in chosen],
            "arrayminus": [((c.value or 0.0) - (c.low or 0.0)) * words.scale for c in chosen],
        }
        figure.add_trace(
            go.Scatter(
                name=name,
                x=[places[cell.position[0]] for cell in chosen],
                y=[(cell.value or 0.0) * words.scale for cell in chosen],
                mode="lines+markers" if fits else "markers",
                line={"color": _BLUE, "width": 2},
                marker={"size": 9, "symbol": symbol, "color": _BLUE if fits else "#57606A"},
                error_y={"type": "data", "symmetric": False, **spread, "visible": any(len(c.rows) > 1 for c in chosen)},
                customdata=[_hover(table, cell, metric) for cell in chosen],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    if best is not None and best.value is not None:
        figure.add_trace(
            go.Scatter(
                name="best",
                x=[places[best.position[0]]],
                y=[best.value * words.scale],
                mode="markers",
                marker={"size": 17, "symbol": "star", "color": _ORANGE},
                customdata=[_hover(table, best, metric)],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    _line_axes(figure, axis, places, numeric, words.title)
    return figure


def _line_axes(figure: go.Figure, axis: Axis, places: Sequence[Any], numeric: bool, title: str) -> None:
    figure.update_xaxes(title_text=axis.name, automargin=True, title_standoff=12)
    if not numeric or len(places) <= _MOST_TICKS:
        shown = _labelled(axis)
        texts = [_short(axis.values[number][0]) for number in shown]
        figure.update_xaxes(tickmode="array", tickvals=[places[number] for number in shown], ticktext=texts)
    if numeric:
        if min(places) > 0 and max(places) >= 8 * min(places):
            figure.update_xaxes(type="log")
    else:
        figure.update_xaxes(type="category", categoryorder="array", categoryarray=list(places))
    figure.update_yaxes(title_text=title)


def _hover(table: Table, cell: Cell, metric: str) -> str:
    row, words = table.rows[cell.rows[0]], measure(metric)
    lines = [f"{key}: {value_text(row[key])}" for axis in table.shown_axes for key in axis.keys]
    if cell.value is not None:
        lines.insert(0, f"<b>{words.name}: {words.text(cell.value)}{_unit(words.unit)}</b>")
        if len(cell.rows) > 1:
            lines.append(f"{words.text(cell.low)} to {words.text(cell.high)} over {len(cell.rows)} seeds")
    if not cell.fits:
        lines.append("does not fit in memory")
    if cell.error:
        lines.append(f"failed: {cell.error[:160]}")
    return "<br>".join(lines)
