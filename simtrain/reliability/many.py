"""Runs in batches: more added to those at hand, and word of how far they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from simtrain.engines import Engine
from simtrain.reliability.engines import simulate
from simtrain.reliability.job import Job
from simtrain.reliability.result import RunResult

__all__ = ["BATCHES", "join", "simulate_many"]

BATCHES = 20
"""Batches of one call, after each of which ``done`` is called."""


def simulate_many(
    job: Job,
    runs: int,
    seed: int,
    engine: Engine,
    at_hand: RunResult | None = None,
    done: Callable[[float], None] = lambda share: None,
) -> RunResult:
    """``runs`` replicates of a Job, numbered from 0, of which ``at_hand`` are the first.

    ``done`` is called with the share of the runs that each batch adds.
    """
    first = at_hand.runs if at_hand else 0
    size = max(1, math.ceil((runs - first) / BATCHES))
    for start in range(first, runs, size):
        batch = simulate(job, min(size, runs - start), seed, engine, first=start)
        at_hand = join(at_hand, batch) if at_hand else batch
        done(batch.runs / runs)
    if at_hand is None:
        return simulate(job, runs, seed, engine)
    return at_hand


def join(one: RunResult, other: RunResult) -> RunResult:
    """The runs of two results of one Job as one result."""
    arrays = ("wall_s", "useful_s", "failures", "availability", "full_width", "completed", "nodes_down", "restarts")
    both: dict[str, Any] = {name: np.concatenate((getattr(one, name), getattr(other, name))) for name in arrays}
    ledger = {bucket: np.concatenate((times, other.ledger[bucket])) for bucket, times in one.ledger.items()}
    return replace(one, **both, ledger=ledger, events=one.events + other.events)
