"""What a run yields: wall time in buckets, failures, and what happened when."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BUCKETS", "Event", "RunResult"]

Floats = NDArray[np.float64]

BUCKETS = (
    "useful",
    "lost_work",
    "checkpoint",
    "lost_checkpoint",
    "detection",
    "diagnose",
    "allocate",
    "start",
    "communicator",
    "load",
    "warmup",
    "recovery",
    "waiting_for_spares",
    "degraded",
    "planned",
)
"""Where wall time goes: work that counts; work done again; stalls of checkpoints that count and by what work takes
longer while one is persisted, and what of this a failure undoes with the work since the last checkpoint; from a failure
to its detection; phases of a recovery (``recovery``: one that is not told apart); waiting for nodes; what
work takes longer because GPUs are slow or missing; planned stops."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in one run.

    ``kind``: failure (value: seconds of work lost), rate (work goes on; value: speed, 1 is full), waiting (value: nodes
    missing), corrupt, found (value: work lost), planned, outage (value: seconds), notice (value: seconds until it
    strikes), back (value: spare nodes), done (value:
    work). ``cause`` is the name of a class, or empty; ``useful_s`` the work
    that counts so far, what this event undid left out.
    """

    time_s: float
    kind: str
    cause: str
    value: float
    useful_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RunResult:
    """What ``runs`` replicates of a Job yield.

    Attributes:
        engine: which ran; seed: of the random numbers.
        wall_s: (runs,) from the start to the end.
        useful_s: (runs,) work that counted.
        failures: (runs, classes) events that took effect, by class.
        ledger: bucket -> (runs,) seconds; they add up to ``wall_s``.
        availability: (runs,) share of time not spent waiting for nodes; full_width: (runs,) share with all replicas.
        completed: (runs,) whether the work was done before the horizon.
        nodes_down: (runs,) mean number of nodes, spare ones included, in repair or otherwise away.
        restarts: (runs,) how often the job came back after falling back.
        recovery_can_fail: whether failures strike during recovery; no number is meant without it.
        events: of the first replicates, where asked for.
    """

    engine: str
    seed: int
    classes: tuple[str, ...]
    wall_s: Floats
    useful_s: Floats
    failures: NDArray[np.int64]
    ledger: Mapping[str, Floats]
    availability: Floats
    full_width: Floats
    completed: NDArray[np.bool_]
    nodes_down: Floats
    restarts: Floats
    recovery_can_fail: bool
    events: tuple[tuple[Event, ...], ...] = ()

    @property
    def runs(self) -> int:
        """Number of replicates."""
        return len(self.wall_s)

    @property
    def goodput(self) -> float:
        """Useful over wall time, the ratio of the means."""
        return float(self.useful_s.mean() / self.wall_s.mean())

    @property
    def standard_error(self) -> float:
        """Of :attr:`goodput`, by the delta method for a ratio; NaN for a single run."""
        if self.runs < 2:
            return math.nan
        rest = self.useful_s - self.goodput * self.wall_s
        return float(rest.std(ddof=1) / math.sqrt(self.runs) / self.wall_s.mean())

    def shares(self) -> dict[str, float]:
        """Bucket -> share of the mean wall time."""
        return {bucket: float(self.ledger[bucket].mean() / self.wall_s.mean()) for bucket in BUCKETS}

    def document(self) -> dict[str, Any]:
        """As JSON, means over the runs."""
        return {
            "engine": self.engine,
            "seed": self.seed,
            "runs": self.runs,
            "goodput": self.goodput,
            "standard_error": self.standard_error,
            "recovery_can_fail": self.recovery_can_fail,
            "ledger": self.shares(),
        }
