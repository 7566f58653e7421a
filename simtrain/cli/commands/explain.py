"""``simtrain explain``: what makes up a step, each figure with its formula and source."""

from __future__ import annotations

from typing import Annotated

import typer

from simtrain.cli.options import Json, ScenarioName, Set, blame, console, print_json, progress, shown

__all__ = ["explain"]


def explain(
    scenario: ScenarioName,
    set: Set = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many contributors to show.")] = 10,
    json: Json = False,
) -> None:
    """Explain a step: its largest parts, each with its formula.

    Also the inputs and the source of each, its share of the step, and the tensor-parallel rule of thumb.
    """
    from dataclasses import asdict

    from simtrain.scenario.load import load
    from simtrain.step.rules import tensor_parallel_rule
    from simtrain.step.simulate import simulate_step

    loaded = load(scenario, *(set or ()))
    with progress(f"simulating {loaded.name}"), blame(shown("scenario", scenario), loaded.name):
        step = simulate_step(loaded)
    rule = tensor_parallel_rule(step)
    if json:
        print_json(
            {
                "scenario": loaded.name,
                "time_s": step.time_s,
                "contributions": [asdict(c) for c in step.contributions[:top]],
                "coverage": asdict(step.coverage),
                "tensor_parallel_rule": asdict(rule),
            }
        )
        return
    from simtrain.report.tables import explain_table

    out = console()
    out.print(explain_table(step, largest=top))
    out.print(rule.text())
