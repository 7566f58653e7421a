"""``simtrain run``: one step and the job it belongs to."""

from __future__ import annotations

import typer

from simtrain.cli.options import Json, ScenarioName, Set, blame, console, notes, print_json, progress, shown

__all__ = ["run"]


def run(scenario: ScenarioName, set: Set = None, json: Json = False) -> None:
    """Simulate one step: speed, where the time goes, memory, cost.

    Exit status 3 when the layout does not fit in memory.
    """
    from simtrain.scenario.load import load
    from simtrain.step.fit import fit_advice
    from simtrain.step.simulate import simulate_step

    loaded = load(scenario, *(set or ()))
    with progress(f"simulating {loaded.name}"), blame(shown("scenario", scenario), loaded.name):
        step = simulate_step(loaded)
    notes(step)
    advice = None if step.memory.fits else fit_advice(loaded, step.memory)
    if json:
        print_json(step.document() | ({"misfit": advice.document()} if advice else {}))
    else:
        from simtrain.report.tables import memory_table, step_table, waterfall_table

        out = console()
        for table in (step_table(step), waterfall_table(step), memory_table(step.memory)):
            out.print(table)
        if advice:
            out.print(advice.text(), style="bold red")
    if advice:
        raise typer.Exit(3)
