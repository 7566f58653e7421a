"""What one simulated step yields; every second in it is read from the Timeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simtrain.cluster.topology import Topology
from simtrain.program.timeline import Timeline
from simtrain.scenario.scenario import Scenario
from simtrain.step.network import NetworkReport
from simtrain.step.uncertainty import Uncertainty

__all__ = ["Contribution", "Coverage", "JobReport", "MemoryReport", "StepReport"]


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """Bytes on the worst GPU of each pipeline rank.

    Attributes:
        capacity_bytes: what a GPU has.
        peak_bytes: (pp,) peak over the step.
        parts: bytes by part (weights, gradients, optimizer, activations, buffers, framework), each (pp,).
        peak_time_s: (pp,) when the peak is reached.
        curve: per pipeline rank (times_s, bytes), a step function.
    """

    capacity_bytes: float
    peak_bytes: tuple[float, ...]
    parts: Mapping[str, tuple[float, ...]]
    peak_time_s: tuple[float, ...]
    curve: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]

    @property
    def fits(self) -> bool:
        """Whether every GPU holds its peak."""
        return max(self.peak_bytes) <= self.capacity_bytes

    def document(self) -> dict[str, Any]:
        """As JSON: peak and parts of the worst GPU of each pipeline rank."""
        return {
            "capacity_bytes": self.capacity_bytes,
            "peak_bytes": list(self.peak_bytes),
            "fits": self.fits,
            "parts": {name: list(values) for name, values in self.parts.items()},
            "peak_time_s": list(self.peak_time_s),
        }


@dataclass(frozen=True, slots=True)
class JobReport:
    """The whole training run without failures.

    ``cost_usd`` includes ``power_usd``; ``purchase_usd`` is what the cluster costs to buy.  Amounts that need a
    price nobody knows are None, and ``unknown`` says which price that is and the key that sets it.
    """

    days: float
    gpu_hours: float
    cost_usd: float | None
    power_usd: float | None
    purchase_usd: float | None
    usd_per_million_tokens: float | None
    usd_per_gpu_hour: float | None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contribution:
    """One line of ``simtrain explain``: what an operator or exchange adds to the step.

    ``exposed_s`` is GPU time of the mean rank that it held compute busy or waiting; ``busy_s`` all its time.
    """

    name: str
    kind: str
    count: int
    each_s: float
    busy_s: float
    exposed_s: float
    share: float
    formula: str
    inputs: str
    source: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the step rests on measurements of this very device."""

    operators: int
    extrapolated: int
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepReport:
    """One training step: times, rates, shares of GPU time, memory, job and money.

    ``network`` says what the links carried; it works that out when it is asked.  ``uneven``: groups of a pipeline rank
    load links differently, and the most loaded one stands for all, since there are too many GPUs to simulate each.
    ``unused_algorithms``: what the scenario asks for and no collective of the step can use.  ``uncertainty``: of the
    step time and what follows from it; None where no published step is like it.
    """

    scenario: Scenario
    engine: str
    time_s: float
    tokens_per_s: float
    tokens_per_s_per_gpu: float
    model_tflops_per_gpu: float
    mfu: float
    mfu_causal: float
    hfu: float
    bubble_fraction: float
    waterfall: Mapping[str, float]
    memory: MemoryReport
    job: JobReport
    coverage: Coverage
    contributions: tuple[Contribution, ...]
    timeline: Timeline = field(repr=False)
    topology: Topology = field(repr=False)
    network: NetworkReport = field(repr=False)
    uneven: bool = False
    unused_algorithms: tuple[str, ...] = ()
    uncertainty: Uncertainty | None = None

    def document(self) -> dict[str, Any]:
        """The JSON document of ``simtrain run``."""
        return {
            "scenario": self.scenario.model_dump(mode="json"),
            "engine": self.engine,
            "step": {
                "time_s": self.time_s,
                "tokens_per_s": self.tokens_per_s,
                "tokens_per_s_per_gpu": self.tokens_per_s_per_gpu,
                "model_tflops_per_gpu": self.model_tflops_per_gpu,
                "mfu": self.mfu,
                "mfu_causal": self.mfu_causal,
                "hfu": self.hfu,
                "bubble_fraction": self.bubble_fraction,
                "waterfall": dict(self.waterfall),
                "uncertainty": self.uncertainty.document() if self.uncertainty else None,
            },
            "memory": self.memory.document(),
            "job": asdict(self.job) | {"unknown": list(self.job.unknown)},
            "run": None,
            "coverage": asdict(self.coverage) | {"items": list(self.coverage.items)},
        }
