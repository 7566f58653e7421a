"""``simtrain compare``: several scenarios side by side, and what makes the difference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simtrain.cli.options import Json, Set, blame, console, notes, output_file, print_json, progress, say, shown

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
    """
    from simtrain.reliability.run import run_of
    from simtrain.scenario.load import load_study
    from simtrain.step.compare import differences
    from simtrain.step.simulate import simulate_step

    plan, scenarios = load_study(study, *(set or ()))
    document, steps, runs = shown("study", study), [], []
    with progress("comparing", total=len(scenarios)) as advance:
        for scenario in scenarios:
            with blame(f"{document}, scenario {scenario.name!r}", scenario.name):
                steps.append(simulate_step(scenario))
                runs.append(run_of(steps[-1]) if scenario.reliability else None)
            advance(f"{scenario.name}: {steps[-1].time_s:.2f} s a step")
    gaps = differences(steps)
    for step in steps:
        notes(step)
    if html:
        from simtrain.report.compare_page import write_compare_page

        write_compare_page(plan.title, plan.notes, steps, gaps, html)
        say(f"wrote {html}")
    if json:
        print_json(
            {
                "scenarios": [
                    {"name": s.scenario.name, **s.document(), "run": run.document() if run else None}
                    for s, run in zip(steps, runs, strict=True)
                ],
                "differences": [gap.document() for gap in gaps],
            }
        )
        return
    from simtrain.report.tables import compare_table, difference_table, run_table

    out = console()
    out.print(compare_table(steps, gaps))
    if gaps:
        out.print(difference_table(gaps))
    if any(runs):
        out.print(run_table(*filter(None, runs)))
