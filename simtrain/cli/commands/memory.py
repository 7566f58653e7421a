"""``simtrain memory``: does it fit, and what is the largest micro batch that does."""

from __future__ import annotations

import typer

from simtrain.cli.options import Json, Output, ScenarioName, Set, blame, console, print_json, progress, say, shown

__all__ = ["memory"]


def memory(scenario: ScenarioName, set: Set = None, json: Json = False, html: Output = None) -> None:
    """Show what fills the memory of each pipeline rank.

    By part, with the peak over the step, and the largest micro batch that fits.

    Exit status 3 when the layout does not fit.
    """
    from simtrain.scenario.load import load
    from simtrain.step.fit import fit_advice, largest_micro_batch
    from simtrain.step.simulate import simulate_memory

    loaded = load(scenario, *(set or ()))
    with progress(f"simulating {loaded.name}"), blame(shown("scenario", scenario), loaded.name):
        found = simulate_memory(loaded)
        largest = largest_micro_batch(loaded)
    advice = None if found.fits else fit_advice(loaded, found)
    if html:
        from simtrain.report import memory as figure
        from simtrain.report import write_html

        write_html([figure(found)], html, title=f"Memory of {loaded.name}")
        say(f"wrote {html}")
    if json:
        document = found.document() | {"largest_micro_batch": largest}
        print_json(document | ({"misfit": advice.document()} if advice else {}))
    else:
        from simtrain.report.tables import memory_table

        out = console()
        out.print(memory_table(found))
        out.print(f"Largest micro batch that fits with everything else unchanged: {largest or 'none'}")
        if advice:
            out.print(advice.text(), style="bold red")
    if advice:
        raise typer.Exit(3)
