"""A job to look at from several sides, and how it would be under other failures, checkpoints or spares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from simtrain.reliability.outlook import Setup
from simtrain.scenario.reliability import Reliability
from simtrain.step.report import StepReport

__all__ = ["Subject"]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is looked at.

    Attributes:
        setup: the job.
        nodes: that it runs on.
        part: its reliability.
        setup_of: the same job under another one.
        step: of a scenario; absent for a preset.
        seed, engine: of the scenario.
        runs: of the scenario or the preset where it says; otherwise as many as are needed.
    """

    setup: Setup
    nodes: int
    part: Reliability
    setup_of: Callable[[Reliability], Setup]
    step: StepReport | None = None
    seed: int = 0
    runs: int | None = None
    engine: Literal["auto", "des", "compiled"] = "auto"
