"""The look all figures share."""

from __future__ import annotations

import plotly.graph_objects as go

from simtrain.report.palette import BACKGROUND, FONT, GRID, INK

__all__ = ["framed"]


def framed(figure: go.Figure, title: str, subtitle: str = "", height: int = 420, margin_left: int = 90) -> go.Figure:
    """White background, readable fonts, title with a smaller line below, legend under the plot."""
    figure.update_layout(
        template="none",
        title={
            "text": f"<b>{title}</b>",
            "subtitle": {"text": subtitle, "font": {"size": 13, "color": "#57606A"}},
            "x": 0.0,
            "xref": "container",
            "pad": {"l": 16},
            "y": 1.0,
            "yref": "container",
            "yanchor": "top",
            "font": {"size": 18},
        },
        title_pad_t=16,
        height=height,
        margin={"l": margin_left, "r": 30, "t": 84 + 19 * subtitle.count("<br>"), "b": 88},
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor=BACKGROUND,
        plot_bgcolor=BACKGROUND,
        legend={"orientation": "h", "x": 0.0, "y": 0.0, "yref": "container", "yanchor": "bottom", "font": {"size": 12}},
        hoverlabel={"font": {"family": FONT, "size": 12}, "bgcolor": BACKGROUND, "bordercolor": GRID, "align": "left"},
    )
    figure.update_xaxes(
        gridcolor=GRID, zeroline=False, ticks="outside", tickcolor=GRID, linecolor=GRID, automargin=True
    )
    figure.update_xaxes(title_font_size=13, title_standoff=6, exponentformat="none", separatethousands=True)
    figure.update_yaxes(title_font_size=13)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, linecolor=GRID, automargin=True)
    return figure
