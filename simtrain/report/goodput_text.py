"""Goodput on the terminal: a case answered, an outlook, a curve of intervals, a fitted log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from simtrain.quantities import format_quantity

if TYPE_CHECKING:
    from rich.table import Table

    from simtrain.reliability.fit import FittedClass
    from simtrain.reliability.intervals import Estimate
    from simtrain.reliability.outlook import CurvePoint, Outlook
    from simtrain.reliability.replay import Replay
    from simtrain.reliability.solve import Solved
    from simtrain.reliability.study import Study

KNOBS = {
    "mtbf": "time between failures",
    "recovery": "recovery time",
    "interval": "checkpoint interval",
    "checkpoint": "cost of a checkpoint",
    "spares": "spare nodes",
}
"""Names of what a study halves and doubles."""

__all__ = ["KNOBS", "case_table", "curve_table", "fit_table", "outlook_table", "replay_table", "what_if_table"]


def case_table(solved: Solved) -> Table:
    """Every figure of an answer with its standard error."""
    table = _table(f"{solved.id} ({solved.engine}, {solved.runs} runs)", "value", "standard error")
    for key, value in solved.answer.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in parts:
            error = solved.standard_error.get(key)
            table.add_row(f"{key} {part}".strip(), _number(number), "" if error is None else f"± {error:.3g}")
    return table


def outlook_table(outlook: Outlook) -> Table:
    """Goodput by formula and by Monte Carlo, what it rests on, and where the time goes.

    The formula knows no fleet: its column says so where the simulated job has one.
    """
    setup, closed, mix = outlook.setup, outlook.closed_form, outlook.setup.mix()
    fleet = setup.job.fleet
    table = _table(
        f"{setup.gpus:,} GPU{'' if setup.gpus == 1 else 's'}", "formula" + (", always enough nodes" if fleet else "")
    )
    if outlook.goodput:
        spare = fleet.spares + fleet.hot_spares if fleet else 0
        spares = f", {spare:,} spare node{'' if spare == 1 else 's'}" if fleet else ""
        table.add_column(f"{outlook.engine}, {outlook.goodput.runs:,} runs{spares} (95 % interval)", justify="right")
    for name, formula, sampled in (
        ("goodput", closed and f"{closed.goodput:.2%}", _share(outlook.goodput)),
        ("wall time", closed and _time(closed.mean_wall_s), _estimate(outlook.wall)),
        (
            "failures",
            closed and f"{closed.expected_failures:,.1f}",
            f"{outlook.failures.value:,.1f}" if outlook.failures else "",
        ),
    ):
        table.add_row(name, formula or "none", *[sampled] * bool(outlook.goodput))
    can = "failures can strike it" if setup.job.recovery.interruptible else "immune to failures"
    saved = setup.job.checkpoint
    table.add_row("MTBF of the job", _time(mix.mtbf_s))
    table.add_row(f"recovery ({can})", _time(mix.mean_recovery_s))
    table.add_row(f"checkpoint ({saved.kind})", "" if saved.kind == "none" else _time(saved.stall_s))
    table.add_row("interval", "never" if saved.kind == "none" else _time(setup.interval_s))
    for name, best_s in outlook.best_s.items():
        table.add_row(f"best interval, {name}", "as short as possible" if best_s is None else _time(best_s))
    waiting = setup.waiting_share()
    if waiting is not None:
        table.add_row("waiting for nodes, Erlang-B", f"{waiting:.2%}")
    _add_ledger(table, outlook.ledger)
    return table


def _add_ledger(table: Table, ledger: Mapping[str, float]) -> None:
    blanks = [""] * (len(table.columns) - 2)
    for bucket, share in ledger.items():
        if share >= 5e-5:
            table.add_row(f"  {bucket.replace('_', ' ')}", *blanks, f"{share:.2%}")


def what_if_table(study: Study) -> Table:
    """The policies of a study, and what each knob moves."""
    table = _table("what if", "goodput (95 % interval)", "change in points (95 % interval)")
    for policy in study.policies:
        table.add_row(
            policy.name, _share(policy.goodput), "" if policy is study.policies[0] else _points(policy.change)
        )
    for bar in study.sensitivities:
        for words, change in (("half", bar.half), ("twice", bar.twice)):
            table.add_row(f"{words} the {KNOBS[bar.knob]}", "", _points(change))
    return table


def _points(estimate: Estimate) -> str:
    low, high = estimate.interval()
    return f"{estimate.value * 100:+.2f} ({low * 100:+.2f} to {high * 100:+.2f})"


def curve_table(points: Sequence[CurvePoint]) -> Table:
    """Goodput against the interval; the best by formula is marked."""
    table = _table("interval", "goodput, formula", "goodput, Monte Carlo (95 % interval)")
    best = max((point.closed_form or 0.0 for point in points), default=0.0)
    for point in points:
        mark = " *" if point.closed_form == best else ""
        closed = "none" if point.closed_form is None else f"{point.closed_form:.2%}{mark}"
        table.add_row(_time(point.interval_s), closed, _share(point.sampled))
    return table


def replay_table(found: Replay, interval_s: float) -> Table:
    """What a job would have made of a recorded time."""
    table = _table(f"{_time(found.observed_s)} replayed", found.engine)
    can = "failures can strike recovery" if found.recovery_can_fail else "recovery is immune"
    table.add_row(f"goodput ({can})", f"{found.goodput:.2%}")
    table.add_row("failures that struck", f"{found.failures:,}")
    table.add_row("interval", _time(interval_s))
    table.add_row("nodes down, mean", f"{found.mean_down:.2f}")
    table.add_row("nodes down, most", f"{found.most_down}")
    if found.can_run is not None:
        table.add_row("time with enough nodes", f"{found.can_run:.2%}")
    if found.throughput is not None:
        table.add_row("width when shrinking", f"{found.throughput:.2%}")
    _add_ledger(table, found.ledger)
    return table


def fit_table(classes: Sequence[FittedClass], components: int) -> Table:
    """What a log of incidents says about each class."""
    table = _table("class", "events", "MTBF of all", "95 % interval", f"MTBF of one of {components:,}", "law", "repair")
    for each in classes:
        low, high = each.interval_s
        law = each.laws[0].law
        shape = "" if law.kind == "exponential" else f" {law.shape:.2f}"
        repair = f"mean {_time(each.repair.mean_s)}, sigma {each.repair.shape:.2f}" if each.repair else ""
        table.add_row(
            each.name,
            f"{each.events:,}",
            _time(each.mtbf_s),
            f"{_time(low)} to {_time(high)}",
            _time(each.mtbf_s * components),
            law.kind + shape,
            repair,
        )
    return table


def _table(first: str, *others: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    table.add_column(first, justify="left")
    for title in others:
        table.add_column(title, justify="right")
    return table


def _time(value_s: float) -> str:
    return format_quantity(value_s, "time")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:,.7g}"


def _share(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    low, high = estimate.share_interval()
    return f"{estimate.value:.2%} ({low:.2%} to {high:.2%})"


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    low, high = estimate.interval()
    return f"{_time(estimate.value)} ({_time(low)} to {_time(high)})"
