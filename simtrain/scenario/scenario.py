"""A scenario: everything one simulation needs; and a study: several scenarios side by side."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from simtrain.scenario.cluster import Cluster
from simtrain.scenario.layout import Layout
from simtrain.scenario.money import Money
from simtrain.scenario.part import Part
from simtrain.scenario.workload import Workload

__all__ = ["Scenario", "Study", "StudyEntry"]


class Scenario(Part):
    """One cluster, one workload, one layout, and what money costs."""

    name: str = ""
    title: str = ""
    notes: str = ""
    cluster: Cluster
    workload: Workload
    layout: Layout = Layout()
    money: Money = Money()
    engine: Literal["auto", "des", "compiled"] = "auto"
    """Event engine; ``auto`` takes the fastest that applies and says which."""
    fold: bool = True
    """Simulate one GPU for all that behave alike; otherwise every GPU by itself, slowly: the same result where groups
    of a pipeline rank load links alike, else within a few percent."""
    seed: int = Field(0, ge=0)


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
