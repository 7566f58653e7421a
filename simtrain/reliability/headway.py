"""How often a run is stopped, and whether it gets anywhere, in words."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from simtrain.quantities import format_quantity
from simtrain.reliability.job import Job
from simtrain.reliability.result import RunResult

__all__ = ["LEAST", "LONGEST", "headway", "stops"]

GOES_ON = ("slow", "degraded", "outage")
"""Effects under which a job works on."""

LONGEST = 20.0
"""Times the run without failures after which a run ends that was given no horizon."""
LEAST = 1.0 / LONGEST
"""Goodput below which a run makes no headway: it would not be done by then."""


def headway(job: Job, goodput: float, ledger: Mapping[str, float]) -> str:
    """Why so little of the time is useful, in one sentence; empty where a run gets on.

    ``ledger`` has the shares of wall time by bucket, and nothing where nothing was run.
    """
    if goodput >= LEAST:
        return ""
    often = format_quantity(1.0 / job.rate_per_s, "time") if job.rate_per_s else "never"
    saved = "nothing is saved"
    if job.checkpoint.kind != "none":
        saved = f"checkpoints are {format_quantity(job.checkpoint.interval_s, 'time')} of work apart"
    most = max(ledger, key=lambda bucket: ledger[bucket], default="")
    spent = f" ({ledger[most]:.0%} is {most.replace('_', ' ')})" if most else ""
    return (
        f"hardly any headway, {goodput:.2%} of the time is useful{spent}: what stops the job strikes every {often}, "
        f"recovery takes {format_quantity(job.recovery.mean_s, 'time')}, and {saved}"
    )


def stops(job: Job, result: RunResult) -> NDArray[np.int64]:
    """(runs,) events that stopped a run or undid work of it, hardware that was only slow left out."""
    counted = [c.effect not in GOES_ON for c in job.classes]
    found: NDArray[np.int64] = result.failures[:, counted].sum(axis=1)
    return found
