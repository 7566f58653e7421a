"""Engines: a Job goes in, a RunResult comes out."""

from __future__ import annotations

from simtrain.engines import Engine
from simtrain.errors import UnsupportedError
from simtrain.reliability.job import Job
from simtrain.reliability.result import RunResult


def simulate(
    job: Job, runs: int = 1, seed: int = 0, engine: Engine = "auto", events: int = 0, first: int = 0
) -> RunResult:
    """Run a Job."""
    raise UnsupportedError("no engine")
