"""``simtrain compare``: several scenarios side by side, and what makes the difference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simtrain.cli.options import Json, Set, blame, console, notes, output_file, print_json, progress, say, shown

if TYPE_CHECKING:
    from simtrain.step.report import StepReport

__all__ = ["compare"]


def compare(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A YAML file, or the name of a shipped study.")],
    set: Set = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page with figures here.", callback=output_file),
    ] = None,
    json: Json = False,
) -> None:
    """Set the scenarios of a study side by side.

    Fit, step time, MFU, days, money, and what makes the difference to the first one, bucket by bucket, in seconds.
    Where scenarios have reliability, also what failures leave; those that differ by it alone share a column.
    """
    from simtrain.reliability.run import run_of
    from simtrain.scenario.load import load_study
    from simtrain.step.compare import differences, step_key
    from simtrain.step.simulate import simulate_step

    plan, scenarios = load_study(study, *(set or ()))
    document, all_steps, runs = shown("study", study), [], []
    distinct: dict[str, StepReport] = {}
    with progress("comparing", total=len(scenarios)) as advance:
        for scenario in scenarios:
            with blame(f"{document}, scenario {scenario.name!r}", scenario.name):
                key = step_key(scenario)
                if key not in distinct:
                    distinct[key] = simulate_step(scenario)
                step = replace(distinct[key], scenario=scenario)
                all_steps.append(step)
                runs.append(run_of(step) if scenario.reliability else None)
            advance(f"{scenario.name}: {step.time_s:.2f} s a step")
    steps, failing = list(distinct.values()), [run for run in runs if run]
    gaps = differences(steps)
    for step in steps:
        notes(step)
    if html:
        from simtrain.report.compare_page import write_compare_page

        write_compare_page(plan.title, plan.notes, steps, gaps, html, failing)
        say(f"wrote {html}")
    if json:
        print_json(
            {
                "scenarios": [
                    {"name": s.scenario.name, **s.document(), "run": run.document() if run else None}
                    for s, run in zip(all_steps, runs, strict=True)
                ],
                "differences": [gap.document() for gap in gaps],
            }
        )
        return
    from simtrain.report.run_tables import ledgers_table, runs_table
    from simtrain.report.tables import compare_table, difference_table

    out = console()
    out.print(compare_table(steps, gaps))
    if failing:
        out.print(runs_table(failing))
        out.print(ledgers_table(failing))
    if gaps:
        out.print(difference_table(gaps))
