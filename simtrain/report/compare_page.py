"""The page of a comparison: table, what makes the difference, waterfall, and every bubble timeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simtrain.report.html import Content, Section, Table, write_html
from simtrain.report.run_tables import runs_notes, runs_rows
from simtrain.report.stacked import scenario_names
from simtrain.report.tables import compare_rows, difference_rows
from simtrain.report.timeline_figure import timeline
from simtrain.report.waterfall_figure import waterfall
from simtrain.step.compare import Difference
from simtrain.step.report import StepReport

if TYPE_CHECKING:
    from simtrain.reliability.run import RunReport

__all__ = ["write_compare_page"]


def write_compare_page(
    title: str,
    notes: str,
    steps: Sequence[StepReport],
    gaps: Sequence[Difference],
    path: str | Path,
    runs: Sequence[RunReport] = (),
) -> Path:
    """Write the page of a comparison; ``gaps`` are the differences to the first scenario, ``runs`` have failures."""
    names = [step.scenario.name for step in steps]
    opening: list[Content] = [notes] if notes else []
    opening += [_verdict(steps, runs), Table(("", *names), compare_rows(steps, gaps))]
    if runs:
        header, *rows = runs_rows(runs)
        opening.append(Table(header, rows, runs_notes(runs)))
    sections = [
        Section("", opening),
        Section("Where the GPU time goes", [waterfall(list(steps))]),
        *([_seconds(names[0], gaps)] if gaps else []),
        *(
            Section(f"One step: {name}", [timeline(step)])
            for name, step in zip(scenario_names([step.scenario for step in steps]), steps, strict=True)
        ),
    ]
    return write_html(sections, path, title)


def _seconds(baseline: str, gaps: Sequence[Difference]) -> Section:
    return Section(
        f"Seconds against {baseline}, bucket by bucket",
        [
            "Each column adds up to the difference in step time. Batches of another size are scaled to the "
            "tokens of the first scenario's step.",
            Table(("seconds per step", *(gap.name for gap in gaps)), difference_rows(gaps)),
        ],
    )


def _verdict(steps: Sequence[StepReport], runs: Sequence[RunReport]) -> str:
    """Which scenario is fastest and which is cheapest, without failures and with them."""
    fitting = [step for step in steps if step.memory.fits] or list(steps)
    fastest = min(fitting, key=lambda step: step.job.days)
    verdict = f"Fastest: {fastest.scenario.name}, {fastest.job.days:,.1f} days. "
    prices = [(step.job.usd_per_million_tokens, step) for step in fitting]
    priced = [(usd, step) for usd, step in prices if usd is not None]
    if priced:
        usd, cheapest = min(priced, key=lambda pair: pair[0])
        cost_usd = usd * cheapest.scenario.workload.tokens / 1e6
        verdict += (
            f"Cheapest: {cheapest.scenario.name}, {cost_usd / 1e6:,.2f} M USD ({usd:.3f} USD per million tokens). "
        )
    verdict += "Failures and downtime are not in these figures. "
    bills = [(run.usd_per_million_tokens, run) for run in runs if run.step.memory.fits]
    known = [(usd, run) for usd, run in bills if usd is not None]
    if known:
        usd, cheapest_run = min(known, key=lambda pair: pair[0])
        verdict += (
            f"With failures, cheapest: {cheapest_run.step.scenario.name}, {usd:.3f} USD per million useful tokens, "
            f"{cheapest_run.days:,.1f} days."
        )
    return verdict
