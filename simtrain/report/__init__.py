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
    from simtrain.report.run_figures import completion as completion
    from simtrain.report.run_figures import run_cost as run_cost
    from simtrain.report.run_figures import run_ledger as run_ledger
    from simtrain.report.run_figures import run_sections as run_sections
    from simtrain.report.run_figures import run_timeline as run_timeline
    from simtrain.report.svg_drawing import svg as svg
    from simtrain.report.timeline_figure import timeline as timeline
    from simtrain.report.topology_figure import topology as topology
    from simtrain.report.waterfall_figure import waterfall as waterfall
    from simtrain.report.what_if_figures import goodput_by_interval as goodput_by_interval
    from simtrain.report.what_if_figures import goodput_by_rate as goodput_by_rate
    from simtrain.report.what_if_figures import sensitivity as sensitivity
    from simtrain.report.what_if_more_figures import goodput_by_size as goodput_by_size
    from simtrain.report.what_if_more_figures import spares as spares

__all__ = [
    "Section",
    "Table",
    "completion",
    "goodput_by_interval",
    "goodput_by_rate",
    "goodput_by_size",
    "memory",
    "perfetto",
    "run_cost",
    "run_ledger",
    "run_sections",
    "run_timeline",
    "sensitivity",
    "spares",
    "svg",
    "timeline",
    "topology",
    "waterfall",
    "write_html",
]

_HOMES = {
    "Section": "html",
    "Table": "html",
    "completion": "run_figures",
    "goodput_by_interval": "what_if_figures",
    "goodput_by_rate": "what_if_figures",
    "goodput_by_size": "what_if_more_figures",
    "memory": "memory_figure",
    "perfetto": "perfetto_json",
    "run_cost": "run_figures",
    "run_ledger": "run_figures",
    "run_sections": "run_figures",
    "run_timeline": "run_figures",
    "sensitivity": "what_if_figures",
    "spares": "what_if_more_figures",
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
