"""Goodput on the terminal: a case answered, an outlook, a curve of intervals, a fitted log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from simtrain.quantities import format_quantity

if TYPE_CHECKING:
    from rich.table import Table

    from simtrain.reliability.fit import FittedClass
    from simtrain.reliability.intervals import Estimate
    from simtrain.reliability.outlook import CurvePoint, Outlook
    from simtrain.reliability.solve import Solved

__all__ = ["case_table", "curve_table", "fit_table", "outlook_table"]


def case_table(solved: Solved) -> Table:
    """Every figure of an answer with its standard error."""
    table = _table(f"{solved.id} ({solved.engine}, {solved.runs} runs)", "value", "standard error")
    for key, value in solved.answer.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in parts:
            error = solved.standard_error.get(key)
            table.add_row(f"{key} {part}".strip(), _number(number), "" if error is None else f"± {error:.3g}")
    return table


def outlook_table(outlook: Outlook, curve: Sequence[CurvePoint] = ()) -> Table:
    """Goodput by formula and by Monte Carlo, what it rests on, and where the time goes."""
    setup, closed = outlook.setup, outlook.closed_form
    table = _table(f"{setup.gpus:,} GPUs", "formula", f"Monte Carlo ({outlook.engine})")
    table.add_row("goodput", f"{closed.goodput:.2%}", _share(outlook.goodput))
    table.add_row("wall time", _time(closed.mean_wall_s), _estimate(outlook.wall))
    sampled = f"{outlook.failures.value:,.1f}" if outlook.failures else ""
    table.add_row("failures", f"{closed.expected_failures:,.1f}", sampled)
    table.add_row("MTBF of the job", _time(setup.mix().mtbf_s), "")
    can = "failures can strike it" if setup.recovery.interruptible else "immune to failures"
    table.add_row(f"recovery ({can})", _time(setup.mix().mean_recovery_s), "")
    table.add_row("checkpoint", _time(setup.checkpoint_s), "")
    table.add_row("interval", _time(float(setup.interval_s)), "")
    for name, best_s in outlook.best_s.items():
        table.add_row(f"best interval, {name}", "as short as possible" if best_s is None else _time(best_s), "")
    waiting = setup.waiting_share()
    if waiting is not None:
        table.add_row("waiting for nodes, Erlang-B", f"{waiting:.2%}", "")
    for bucket, share in outlook.ledger.items():
        if share >= 5e-5:
            table.add_row(f"  {bucket.replace('_', ' ')}", "", f"{share:.2%}")
    return table


def curve_table(points: Sequence[CurvePoint]) -> Table:
    """Goodput against the interval; the best of each column is marked."""
    table = _table("interval", "goodput, formula", "goodput, Monte Carlo")
    best = max(point.closed_form for point in points)
    for point in points:
        mark = " *" if point.closed_form == best else ""
        table.add_row(_time(point.interval_s), f"{point.closed_form:.2%}{mark}", _share(point.sampled))
    return table


def fit_table(classes: Sequence[FittedClass], components: int) -> Table:
    """What a log of incidents says about each class."""
    table = _table("class", "events", "MTBF of all", "95 % interval", f"MTBF of one of {components:,}", "law", "repair")
    for each in classes:
        low, high = each.interval_s
        law = each.laws[0].law
        shape = "" if law.kind == "exponential" else f" {law.shape:.2f}"
        median = f"median {_time(each.repair.parameters[0])}, sigma {each.repair.shape:.2f}" if each.repair else ""
        table.add_row(
            each.name,
            f"{each.events:,}",
            _time(each.mtbf_s),
            f"{_time(low)} to {_time(high)}",
            _time(each.mtbf_s * components),
            law.kind + shape,
            median,
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
    low, high = estimate.interval()
    return f"{estimate.value:.2%} ({low:.2%} to {high:.2%})"


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    low, high = estimate.interval()
    return f"{_time(estimate.value)} ({_time(low)} to {_time(high)})"
