"""``simtrain run``: one step and the job it belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simtrain.cli.options import (
    Json,
    ScenarioName,
    Set,
    blame,
    console,
    notes,
    output_file,
    print_json,
    progress,
    say,
    shown,
)
from simtrain.errors import InputError

if TYPE_CHECKING:
    from simtrain.reliability.run import RunReport
    from simtrain.step.report import StepReport

__all__ = ["run"]


def run(
    scenario: ScenarioName,
    set: Set = None,
    links: Annotated[
        bool, typer.Option("--links", help="Also say what the links carried and which were busiest.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Draw the run with failures here; with --links also the cluster, links coloured by use.",
            callback=output_file,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Simulate one step and, where the scenario has reliability, the run: speed, where time goes, memory, cost.

    Exit status 3 when the layout does not fit in memory.
    """
    from simtrain.reliability.run import run_of
    from simtrain.scenario.load import load
    from simtrain.step.fit import fit_advice
    from simtrain.step.simulate import simulate_step

    loaded = load(scenario, *(set or ()))
    if html and not links and not loaded.reliability:
        raise InputError(
            "--html draws a run with failures, and the scenario has no reliability; set it, or give --links as well "
            "(timelines: simtrain timeline)"
        )
    with progress(f"simulating {loaded.name}"), blame(shown("scenario", scenario), loaded.name):
        step = simulate_step(loaded)
        whole = run_of(step) if loaded.reliability else None
    notes(step)
    if html:
        _draw(step, whole, links, html)
    advice = None if step.memory.fits else fit_advice(loaded, step.memory)
    if json:
        network = {"network": step.network.document()} if links else {}
        print_json(
            step.document()
            | {"run": whole.document() if whole else None}
            | network
            | ({"misfit": advice.document()} if advice else {})
        )
    else:
        from simtrain.report.run_tables import ledger_table, run_table
        from simtrain.report.tables import memory_table, network_tables, step_table, waterfall_table

        out = console()
        for table in (step_table(step), waterfall_table(step), memory_table(step.memory)):
            out.print(table)
        if whole:
            out.print(run_table(whole))
            out.print(ledger_table(whole))
        for table in network_tables(step.network) if links else ():
            out.print(table)
        if advice:
            out.print(advice.text(), style="bold red")
    if advice:
        raise typer.Exit(3)


def _draw(step: StepReport, whole: RunReport | None, links: bool, html: Path) -> None:
    """Write a page of the run with failures, where there is one, and of the links, where they are asked for."""
    from simtrain.report import Section, run_sections, topology, write_html

    name = step.scenario.title or step.scenario.name
    sections = run_sections(whole) if whole else []
    title = f"Run of {name}"
    if links:
        figure = topology(step.topology, title=f"Links during a step of {name}", network=step.network)
        sections.append(Section("Links" if whole else "", [figure]))
        title = title if whole else f"Links of {step.scenario.name}"
    write_html(sections, html, title=title)
    say(f"wrote {html}")
