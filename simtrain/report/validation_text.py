"""Errors of predictions as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from simtrain.report.table_style import table
from simtrain.validation.errors_of import ErrorFigures
from simtrain.validation.steps import GroupFigures, StepsReport

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["error_table", "skipped_table", "step_errors_table", "steps_document", "timing_document"]


def step_errors_table(report: StepsReport) -> Table:
    """One row a group: errors of step times beside the floor, memory, fit."""
    header = (
        *("group", "rows", "scored", *_HEADER[:1], "once", "floor"),
        *(*_HEADER[1:], "layouts", "memory", "fits right"),
    )
    notes = (
        "predicted / measured - 1 of step times; once: the mean with rows alike in all but the numbers of layers and "
        "micro batches counted once; floor: the best of one constant a GPU and precision, fitted on these very rows; "
        "layouts: the lowest rank correlation among the layouts of one model, sequence length, device and number of "
        "GPUs; memory: mean error of the peak"
    )
    return table(header, [_step_row(name, group) for name, group in report.groups.items()], notes=notes)


_HEADER = ("mean", "median", "p90", "worst", "bias", "rank corr.")


def _step_row(name: str, group: GroupFigures) -> list[str]:
    mean, *others = _errors(group.steps)
    fits = f"{group.fits_right} of {group.fits}" if group.fits else ""
    counts = [str(group.steps.rows), str(group.steps.measured)]
    means = [mean, _share(group.mean_abs_combinations), _share(group.floor)]
    return [name, *counts, *means, *others, _rank(group.lowest_rank), _share(group.memory.mean_abs), fits]


def error_table(groups: Mapping[str, ErrorFigures]) -> Table:
    """One row a group: errors of kernel or collective times."""
    rows = [
        [name, str(group.rows), str(group.measured), *_errors(group)]
        for name, group in groups.items()
        if group.measured
    ]
    return table(("group", "rows", "scored", *_HEADER), rows, notes="predicted / measured - 1 of times")


def skipped_table(rows: Any) -> Table | None:
    """Reasons for rows without a prediction, and how many have each; None where all have one."""
    reasons = Counter(row.reason for row in rows if row.status == "skipped")
    if not reasons:
        return None
    return table(("skipped because", "rows"), [(reason, str(count)) for reason, count in reasons.most_common()])


def _errors(figures: ErrorFigures) -> list[str]:
    """The cells under :data:`_HEADER`."""
    shares = [_share(getattr(figures, key)) for key in ("mean_abs", "median_abs", "p90_abs", "worst_abs")]
    return [*shares, _share(figures.bias, sign=True), _rank(figures.spearman)]


def _rank(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _share(value: float | None, *, sign: bool = False) -> str:
    if value is None:
        return ""
    return f"{value:+.1%}" if sign else f"{value:.1%}"


def steps_document(report: StepsReport) -> dict[str, Any]:
    """As JSON; memory in GiB, times in s."""
    return {
        "rows": [
            {
                "id": one.row.id,
                "group": one.row.group,
                "status": one.status,
                "reason": one.reason,
                "predicted_step_s": one.step_s,
                "measured_step_s": one.row.measured.step_s,
                "error": one.error,
                "counts": one.counts,
                "predicted_peak_mem_gb": one.peak_memory_gib,
                "measured_peak_mem_gb": one.row.measured.peak_memory_gib,
                "predicted_oom": one.out_of_memory,
                "measured_oom": one.row.measured.out_of_memory,
                "settings": one.settings,
                "coverage": {"operators": one.operators, "extrapolated": one.extrapolated},
            }
            for one in report.rows
        ],
        "groups": {name: _group(group) for name, group in report.groups.items()},
    }


def _group(group: GroupFigures) -> dict[str, Any]:
    return {
        **_figures(group.steps),
        "mean_abs_combinations": group.mean_abs_combinations,
        "combinations": len(group.independent),
        "spearman_within": {"lowest": group.lowest_rank, "combinations": [asdict(job) for job in group.layouts]},
        "floor": group.floor,
        "memory": _figures(group.memory),
        "fits": group.fits,
        "fits_right": group.fits_right,
    }


def _figures(figures: ErrorFigures) -> dict[str, Any]:
    keys = ("rows", "predicted", "measured", "mean_abs", "median_abs", "p90_abs", "worst_abs", "bias", "spearman")
    return {key: getattr(figures, key) for key in keys}


def timing_document(report: Any) -> dict[str, Any]:
    """A report of kernels or collectives as JSON; times in us."""
    keys = ("index", "group", "status", "reason", "predicted_time_us", "measured_time_us", "error")
    return {
        "rows": [{key: getattr(row, key) for key in keys} for row in report.rows],
        "groups": {name: _figures(group) for name, group in report.groups.items()},
    }
