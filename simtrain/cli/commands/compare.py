"""``simtrain compare``: several scenarios side by side, and what makes the difference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simtrain.cli.options import Json, Set, console, print_json, progress, say

__all__ = ["compare"]


def compare(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A YAML file, or the name of a shipped study.")],
    set: Set = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with figures here.")] = None,
    json: Json = False,
) -> None:
    """Compare the scenarios of a study: fit, step time, MFU, days, money, and the difference bucket by bucket."""
    from simtrain.scenario.load import load_study
    from simtrain.step.compare import differences
    from simtrain.step.simulate import simulate_step

    plan, scenarios = load_study(study, *(set or ()))
    steps = []
    with progress("comparing", total=len(scenarios)) as advance:
        for scenario in scenarios:
            steps.append(simulate_step(scenario))
            advance(f"{scenario.name}: {steps[-1].time_s:.2f} s a step")
    gaps = differences(steps)
    if html:
        from simtrain.report.compare_page import write_compare_page

        write_compare_page(plan.title, plan.notes, steps, gaps, html)
        say(f"wrote {html}")
    if json:
        print_json(
            {
                "scenarios": [{"name": s.scenario.name, **s.document()} for s in steps],
                "differences": [gap.document() for gap in gaps],
            }
        )
        return
    from simtrain.report.tables import compare_table, difference_table

    out = console()
    out.print(compare_table(steps, gaps))
    if gaps:
        out.print(difference_table(gaps))
