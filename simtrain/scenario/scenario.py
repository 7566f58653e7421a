"""A scenario: everything one simulation needs; a study: several side by side; a sweep: a grid of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from simtrain.scenario.cluster import Cluster
from simtrain.scenario.layout import Layout
from simtrain.scenario.money import Money
from simtrain.scenario.part import Part
from simtrain.scenario.reliability import Reliability
from simtrain.scenario.software import Software
from simtrain.scenario.workload import Workload

__all__ = ["Range", "Scenario", "Study", "StudyEntry", "Sweep"]


class Scenario(Part):
    """One cluster, one workload, one layout, and what money costs."""

    name: str = ""
    title: str = ""
    notes: str = ""
    cluster: Cluster
    workload: Workload
    layout: Layout = Layout()
    software: Software = Software()
    """The training software; absent: a current Megatron-LM."""
    money: Money = Money()
    reliability: Reliability | None = None
    """Failures, checkpoints and recovery; absent: nothing fails."""
    engine: Literal["auto", "des", "compiled"] = "auto"
    """Event engine; ``auto`` takes the fastest that applies and says which."""
    fold: bool | None = None
    """Simulate one GPU for all that behave alike.  Absent: where groups of a pipeline rank load links alike, or there
    are too many GPUs to do otherwise, which a note then says.  false: every GPU by itself, slowly; true: always one,
    the most loaded group standing for all."""
    seed: int = Field(0, ge=0)

    def settled(self) -> Scenario:
        """The same with everything the layout leaves to the software filled in."""
        filled = {
            key: getattr(self.software, key)
            for key in ("overlap_grad_reduce", "tp_overlap", "blocking_sends", "prefetch", "grad_precision", "master")
            if getattr(self.layout, key) is None
        }
        if self.layout.overlap_param_gather is None:
            reduces = self.layout.overlap_grad_reduce
            filled["overlap_param_gather"] = self.software.overlap_param_gather if reduces is None else reduces
        once = self.layout.pp > 1 and self.software.zero_once_in_pipeline
        whole = {"reshard_after_forward": not once, "reduce_once": once}
        filled |= {key: value for key, value in whole.items() if getattr(self.layout, key) is None}
        if not filled:
            return self
        return self.model_copy(update={"layout": self.layout.model_copy(update=filled)})


class StudyEntry(Part):
    """One scenario of a study: a name, a base, and what differs from it."""

    name: str
    title: str = ""
    extends: str | None = None
    """Scenario this one starts from; absent: the study's ``extends``."""
    set: dict[str, Any] = {}
    """Changes as ``a.b.c: value``."""


class Study(Part):
    """Several scenarios compared."""

    kind: Literal["comparison"] = "comparison"
    title: str = ""
    notes: str = ""
    extends: str | None = None
    scenarios: Annotated[tuple[StudyEntry, ...], Field(min_length=1, strict=False)]


class Range(Part):
    """Values of an axis at equal distances, or in equal ratios; whole numbers stay whole (write 1.0 for fractions)."""

    from_: Annotated[int | float | str, Field(alias="from")]
    """First value: a number, or one with a unit, such as 5 min."""
    to: int | float | str
    """Last value, in the unit of the first."""
    steps: int = Field(ge=2)
    """How many values, both ends included."""
    scale: Literal["linear", "log"] = "linear"
    """``linear``: equal distances; ``log``: equal ratios."""


class Sweep(Part):
    """A grid of scenarios: one for every combination of the values of its axes."""

    kind: Literal["sweep"] = "sweep"
    title: str = ""
    notes: str = ""
    extends: str
    """Scenario that every point starts from."""
    set: dict[str, Any] = {}
    """Changes to all points, as ``a.b.c: value``."""
    axes: dict[str, Any] = {}
    """Per key path a list of values, or a Range; the first axis varies slowest."""
    zip: Annotated[tuple[dict[str, Any], ...], Field(strict=False)] = ()
    """Axes of several key paths that change together; all lists of one entry are equally long."""
    seeds: Annotated[int, Field(ge=1)] | Annotated[tuple[int, ...], Field(strict=False)] | None = None
    """One more axis: how many seeds (0, 1, 2 ...), or which; absent: the scenario's own."""
    metric: str = "step.mfu"
    """Column that figures show and by which the best point is chosen."""
