"""``simtrain timeline``: the bubble timeline as a page, a Perfetto trace, a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from simtrain.cli.options import Json, ScenarioName, Set, blame, output_file, print_json, progress, say, shown

__all__ = ["timeline"]


def timeline(
    scenario: ScenarioName,
    set: Set = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Page (default: timeline.html).", callback=output_file)
    ] = None,
    perfetto: Annotated[
        Path | None, typer.Option("--perfetto", metavar="FILE", help="Perfetto trace (JSON).", callback=output_file)
    ] = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Picture (SVG).", callback=output_file)
    ] = None,
    lanes: Annotated[Literal["compute", "all"], typer.Option("--lanes", help="Streams to draw.")] = "compute",
    json: Json = False,
) -> None:
    """Draw the bubble timeline of one step.

    As a page to look at in a browser, a trace for Perfetto, or a picture; a page unless told otherwise.
    """
    from simtrain import report
    from simtrain.scenario.load import load
    from simtrain.step.simulate import simulate_step

    loaded = load(scenario, *(set or ()))
    with progress(f"simulating {loaded.name}"), blame(shown("scenario", scenario), loaded.name):
        step = simulate_step(loaded)
    if html is None and perfetto is None and svg is None:
        html = Path("timeline.html")
    written = []
    if html:
        report.write_html([report.timeline(step, lanes=lanes)], html, title=f"{loaded.title or loaded.name}: one step")
        written.append(html)
    if perfetto:
        report.perfetto(step, perfetto)
        written.append(perfetto)
    if svg:
        report.svg(step, svg)
        written.append(svg)
    for path in written:
        say(f"wrote {path}")
    if json:
        print_json({"scenario": loaded.name, "time_s": step.time_s, "files": [str(path) for path in written]})
