"""A page of a what-if study."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simtrain.quantities import format_quantity
from simtrain.reliability.intervals import Estimate
from simtrain.reliability.study import Study
from simtrain.report.html import Section, Table, write_html
from simtrain.report.what_if_figures import goodput_by_interval, goodput_by_rate, sensitivity
from simtrain.report.what_if_more_figures import (
    cost_by_rate,
    failures_by_size,
    goodput_by_size,
    nodes_away,
    policies,
    spares,
)

__all__ = ["what_if_sections", "write_what_if"]


def write_what_if(study: Study, path: Path, title: str = "") -> Path:
    """Write the page; the file is complete or absent."""
    return write_html(what_if_sections(study), path, title or f"What if? {study.gpus:,} GPUs that fail")


def what_if_sections(study: Study) -> list[Section]:
    """Every figure of a study, with what it rests on."""
    sized = "Simulated; the best interval of each size, the stall of a checkpoint the same, always enough nodes."
    sections = [
        Section("", [_words(study)]),
        Section("How often to save", [goodput_by_interval(study.interval), *_formula_words(study)]),
        Section("How often it fails, how often it saves, how fast it recovers", [goodput_by_rate(*study.maps)]),
        Section("What matters most", [sensitivity(study.sensitivities)]),
        Section("What else could be done", [policies(study.policies), _policy_table(study), *study.left_out]),
        Section(
            "How large a job can be",
            [
                goodput_by_size(study.sizes, sized),
                failures_by_size(study.rates, study.recovery_s, study.job.checkpoint.interval_s),
            ],
        ),
        Section("How many spare nodes", [_repair_words(study), spares(study.spares), nodes_away(study.spares)]),
    ]
    if study.costs and study.usd_without_failures:
        figure = cost_by_rate(study.costs, study.usd_without_failures, study.gpu_days)
        sections.append(Section("What a useful token costs", [figure]))
    return sections


def _words(study: Study) -> str:
    saved, strikes = study.job.checkpoint, study.job.recovery.interruptible
    return (
        f"{study.gpus:,} GPUs in {study.nodes:,} nodes. One failure in {study.gpu_days:,.0f} GPU-days stops the job "
        f"each {_time(1 / study.job.rate_per_s)}; {_time(study.recovery_s)} later it works again, and failures "
        f"{'can' if strikes else 'cannot'} strike that recovery. Checkpoints: {saved.kind}, each "
        f"{_time(saved.interval_s)}, standing still for {_time(saved.stall_s)}. All that is compared meets the same "
        "failures; goodput is useful work over wall time in an endless run."
    )


def _formula_words(study: Study) -> list[str]:
    if not np.isfinite(study.interval.closed_form).any():
        return [f"Checkpoints of kind {study.job.checkpoint.kind} have no formula."]
    left = study.approximations
    return [f"The formula leaves out {'; '.join(left)}."] if left else []


def _repair_words(study: Study) -> str:
    if study.job.fleet is None:
        return (
            "The job says nothing of repair: a node is taken to be away as long as in a scenario that says nothing "
            "(lognormal, mean 5.67 days, median 0.94), and to be replaced at once while there are spares."
        )
    return f"A node is away for {_time(study.job.fleet.repair.mean)} on average."


def _policy_table(study: Study) -> Table:
    priced = any(policy.usd_per_million_tokens is not None for policy in study.policies)
    header = ["policy", "goodput (95 %)", "change, points (95 %)", "spare nodes", "goodput per node paid"]
    rows = []
    for policy in study.policies:
        row = [
            policy.name,
            _share(policy.goodput),
            "" if policy is study.policies[0] else _points(policy.change),
            f"{policy.spares:,}",
            f"{policy.goodput.value * study.nodes / (study.nodes + policy.spares):.1%}",
        ]
        usd = policy.usd_per_million_tokens
        rows.append(row + ([] if not priced else ["" if usd is None else f"{usd:.4g}"]))
    caption = (
        "Other ways to save are at their best interval; spare nodes: as many as are not exceeded 99 % of the time."
    )
    return Table(header + ["USD per million useful tokens"] * priced, rows, caption)


def _share(estimate: Estimate) -> str:
    low, high = estimate.share_interval()
    return f"{estimate.value:.1%} ({low:.1%} to {high:.1%})"


def _points(estimate: Estimate) -> str:
    low, high = estimate.interval()
    return f"{estimate.value * 100:+.2f} ({low * 100:+.2f} to {high * 100:+.2f})"


def _time(value_s: float) -> str:
    return format_quantity(value_s, "time", 3)
