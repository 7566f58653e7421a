"""What is trained: model, sequence, batch, tokens (``workloads/``)."""

from __future__ import annotations

from pydantic import Field

from simtrain.quantities import Count, Seconds
from simtrain.scenario.model import Model
from simtrain.scenario.part import Part

__all__ = ["Workload"]


class Workload(Part):
    """A training job's data: model, sequence length, batch and token budget."""

    title: str = ""
    model: Model | str
    sequence_length: int = Field(ge=1)
    """Tokens of one sequence."""
    global_batch: int = Field(ge=1)
    """Sequences per optimizer step over the whole job."""
    tokens: Count = Field(gt=0)
    """Tokens to train on."""
    host_time_per_micro_batch: Seconds = 0.0
    """Time the host adds before each micro batch (data loading, Python); on the host stream."""
    source: str = ""
