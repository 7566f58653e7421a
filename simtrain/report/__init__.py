"""Everything a person sees of a result: figures, pages, traces, drawings, tables.

Each name is imported from its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simtrain.report.html import Section as Section
    from simtrain.report.html import Table as Table
    from simtrain.report.html import write_html as write_html
    from simtrain.report.memory_figure import memory as memory
    from simtrain.report.perfetto_json import perfetto as perfetto
    from simtrain.report.svg_drawing import svg as svg
    from simtrain.report.timeline_figure import timeline as timeline
    from simtrain.report.topology_figure import topology as topology
    from simtrain.report.waterfall_figure import waterfall as waterfall

__all__ = ["Section", "Table", "memory", "perfetto", "svg", "timeline", "topology", "waterfall", "write_html"]

_HOMES = {
    "Section": "html",
    "Table": "html",
    "memory": "memory_figure",
    "perfetto": "perfetto_json",
    "svg": "svg_drawing",
    "timeline": "timeline_figure",
    "topology": "topology_figure",
    "waterfall": "waterfall_figure",
    "write_html": "html",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
