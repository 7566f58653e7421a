"""Tables of runs with failures: what a run comes to beside one in which nothing fails, and where its time goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from simtrain.quantities import format_quantity
from simtrain.report.table_style import bar, spread, table, usd

if TYPE_CHECKING:
    from rich.table import Table

    from simtrain.reliability.run import RunReport

__all__ = [
    "BUCKET_WORDS",
    "ledger_rows",
    "ledger_table",
    "ledgers_table",
    "run_rows",
    "run_table",
    "runs_notes",
    "runs_rows",
    "runs_table",
]

BUCKET_WORDS = {
    "useful": "useful work",
    "lost_work": "work done again",
    "checkpoint": "stalls for checkpoints",
    "lost_checkpoint": "stalls for checkpoints that were lost",
    "detection": "until a failure is noticed",
    "diagnose": "finding the culprit",
    "allocate": "getting nodes",
    "start": "starting processes",
    "communicator": "process groups",
    "load": "loading the checkpoint",
    "warmup": "first steps",
    "recovery": "recovery",
    "waiting_for_spares": "waiting for nodes",
    "degraded": "slow or missing GPUs",
    "planned": "planned stops",
}
"""Buckets of :data:`simtrain.reliability.result.BUCKETS` in words."""
_GROUPS = {
    "useful": ("useful",),
    "done again": ("lost_work",),
    "checkpoints": ("checkpoint", "lost_checkpoint"),
    "unnoticed": ("detection",),
    "restarting": ("diagnose", "allocate", "start", "communicator", "load", "warmup", "recovery"),
    "no nodes": ("waiting_for_spares",),
    "slow": ("degraded",),
    "planned": ("planned",),
}
_LEAST = 5e-5
"""Shares below print as 0.00 %."""
_DAY_S = 86400.0


def run_rows(run: RunReport) -> list[tuple[str, str, str]]:
    """What a run comes to, as (quantity, with failures, without) in words."""
    step, rate = run.step, run.job.rate_per_s
    within = spread(step.uncertainty)
    days = [f"{d:,.1f}" if d else "not by the horizon" for d in run.days_quantiles(0.05, 0.5, 0.95)]
    return [
        ("goodput", _goodput(run), "100%"),
        ("effective MFU", f"{run.effective_mfu:.1%}{within}", f"{step.mfu:.1%}{within}"),
        ("days", f"{run.days:,.1f}{within}", f"{step.job.days:,.1f}{within}"),
        ("5, 50, 95 % of runs done after days", " / ".join(days), ""),
        ("cost of the run", usd(run.cost_usd, within=within), usd(step.job.cost_usd, within=within)),
        (
            "USD per million useful tokens",
            usd(run.usd_per_million_tokens, ".4g", "", within=within),
            usd(step.job.usd_per_million_tokens, ".4g", "", within=within),
        ),
        ("failures a day", f"{_failures_a_day(run):,.2f}", "0"),
        ("failures in the run", f"{_failures_a_day(run) * run.days:,.0f}", "0"),
        ("between two that stop the job", format_quantity(1 / rate, "time") if rate else "never", ""),
        ("can failures strike recovery?", _strikes(run), ""),
        ("checkpoints", _checkpoint(run), ""),
    ]


def run_table(run: RunReport) -> Table:
    """A run with failures beside the same without."""
    return table(("the run", "with failures", "without"), run_rows(run), notes=runs_notes([run]))


def ledger_rows(run: RunReport) -> list[tuple[str, str, str, str]]:
    """(bucket, share, hours, bar) of the wall time of a run; buckets that would print as 0.00 % are left out."""
    hours = run.days * 24.0
    return [
        (BUCKET_WORDS[bucket], f"{share:.2%}", f"{share * hours:,.1f}", bar(share))
        for bucket, share in run.ledger.items()
        if share >= _LEAST
    ]


def ledger_table(run: RunReport) -> Table:
    """Where the wall time of a run goes."""
    return table(("time of the run", "share", "hours", ""), ledger_rows(run), left=(0, 3))


def runs_rows(runs: Sequence[RunReport]) -> list[tuple[str, ...]]:
    """A header and a row for each run: what it comes to, in brackets without failures."""
    header = (
        "with failures\n(without)", "GPU-days\nbetween", "\na day", "goodput\n± s.e., %", "effective\nMFU, %", "\ndays",
        "cost,\n1000 USD", "USD per M\nuseful tokens",
    )  # fmt: skip
    rows = [
        (
            run.step.scenario.name,
            f"{run.step.topology.gpus / run.job.rate_per_s / _DAY_S:,.0f}" if run.job.rate_per_s else "never",
            f"{_failures_a_day(run):,.1f}",
            f"{run.goodput * 100:.2f}" + (f" ± {run.standard_error * 100:.2f}" if run.result.runs > 1 else ""),
            _pair(run.effective_mfu, run.step.mfu, ".1f", 100.0),
            _pair(run.days, run.step.job.days, ",.1f", 1.0),
            _pair(run.cost_usd, run.step.job.cost_usd, ",.0f", 1e-3),
            _pair(run.usd_per_million_tokens, run.step.job.usd_per_million_tokens, ".3f", 1.0),
        )
        for run in runs
    ]
    return [header, *rows]


def runs_table(runs: Sequence[RunReport]) -> Table:
    """Runs with failures, one to a row."""
    header, *rows = runs_rows(runs)
    return table(header, rows, whole=range(1, len(header)), notes=runs_notes(runs))


def runs_notes(runs: Sequence[RunReport]) -> str:
    """What failures, checkpoints and recovery the figures rest on, each said once."""
    failures = dict.fromkeys(run.step.scenario.reliability.title for run in runs if run.step.scenario.reliability)
    lines = [f"Failures: {'; '.join(title for title in failures if title)}."] if any(failures) else []
    if len(runs) > 1:
        lines += [
            f"Checkpoints: {'; '.join(dict.fromkeys(_checkpoint(run) for run in runs))}.",
            f"Can failures strike recovery? {' / '.join(dict.fromkeys(_strikes(run) for run in runs))}.",
            *_spreads(runs),
        ]
    lines += [
        f"Warning{f', {run.step.scenario.name}' if len(runs) > 1 else ''}: {warning}."
        for run in runs
        for warning in run.warnings
    ]
    late = [run.step.scenario.name for run in runs if not run.completed]
    lines += [f"Not all tokens trained by the horizon: {', '.join(late)}."] if late else []
    return "\n".join(lines)


def ledgers_table(runs: Sequence[RunReport]) -> Table:
    """Where the wall time of several runs goes, one to a row: share and hours, restarting as a whole."""
    shares = [{name: sum(run.ledger[key] for key in keys) for name, keys in _GROUPS.items()} for run in runs]
    groups = [name for name in _GROUPS if any(share[name] >= _LEAST for share in shares)]
    rows = [
        (run.step.scenario.name, *(f"{share[name]:.1%} {share[name] * run.days * 24:,.0f} h" for name in groups))
        for run, share in zip(runs, shares, strict=True)
    ]
    return table(("time of the run", *groups), rows, whole=(0,))


def _spreads(runs: Sequence[RunReport]) -> list[str]:
    """Uncertainties of step times, and of what follows from them, with the runs that share each."""
    names: dict[str, list[str]] = {}
    for run in runs:
        names.setdefault(spread(run.step.uncertainty), []).append(run.step.scenario.name)
    known = [f"{' and '.join(of)}{within}" for within, of in names.items() if within]
    return [f"Uncertainty of MFU, days and cost: {'; '.join(known)}."] if known else []


def _goodput(run: RunReport) -> str:
    if run.result.runs < 2:
        return f"{run.goodput:.2%} (one run)"
    return f"{run.goodput:.2%} ± {run.standard_error:.2%} (standard error of {run.result.runs:,} runs)"


def _failures_a_day(run: RunReport) -> float:
    return float(run.stops.sum() / run.result.wall_s.sum() * _DAY_S)


def _strikes(run: RunReport) -> str:
    return "yes, and start it again" if run.result.recovery_can_fail else "no, recovery is immune"


def _checkpoint(run: RunReport) -> str:
    checkpoint = run.job.checkpoint
    if checkpoint.kind == "none":
        return "never"
    every = f"{checkpoint.kind}, every {format_quantity(checkpoint.interval_s, 'time')}"
    if checkpoint.kind == "blocking":
        return f"{every}, stalls {format_quantity(checkpoint.stall_s, 'time')}"
    safe_s = float(f"{checkpoint.stall_s + checkpoint.persist_s:.2g}")
    return f"{every}, safe {format_quantity(safe_s, 'time')} later"


def _pair(failing: float | None, free: float | None, style: str, scale: float) -> str:
    if failing is None or free is None:
        return "not known"
    return f"{failing * scale:{style}} ({free * scale:{style}})"
