"""What is trained: model, sequence, batch, tokens (``workloads/``)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from simtrain.quantities import Count, Seconds
from simtrain.scenario.model import Model
from simtrain.scenario.part import Part

__all__ = ["ExpertRouting", "Workload"]


class ExpertRouting(Part):
    """How tokens spread over the experts of a layer."""

    kind: Literal["balanced", "natural"] = "balanced"
    """balanced: every expert gets equally many tokens, as benchmarks enforce.  natural: some are more popular."""
    spread: float = Field(0.3, ge=0)
    """Coefficient of variation of the experts' popularity under natural routing (lognormal).  The default is an
    assumption: 256 experts on 64 ranks (DeepSeek-V3) then cost a step 13 to 15 %, in the middle of the 8 to 20 % that
    natural routing is known to cost against the enforced balance of published benchmarks."""
    seed: int = Field(0, ge=0, lt=2**64)
    """Of the draw of popularities, each layer by itself."""
    capacity_factor: float | None = Field(None, gt=0)
    """An expert takes at most this many times its even share of the tokens, the others are dropped (Switch
    Transformer, arXiv 2101.03961, section 2.2); absent: it takes all."""
    pad_to_capacity: bool = False
    """Every expert computes as many rows as its capacity, padding included."""

    @model_validator(mode="after")
    def _padding_needs_a_capacity(self) -> ExpertRouting:
        if self.pad_to_capacity and self.capacity_factor is None:
            message = "pad_to_capacity = true needs capacity_factor, a number above 0: what to pad to"
            raise PydanticCustomError("impossible", "{message}", {"message": message})
        return self


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
    routing: ExpertRouting = ExpertRouting()
    """How tokens spread over experts."""
    host_time_per_micro_batch: Seconds = 0.0
    """Time the host adds before each micro batch (data loading, Python); on the host stream."""
    source: str = ""
