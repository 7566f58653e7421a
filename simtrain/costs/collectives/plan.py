"""What an algorithm does to the links and how many steps it takes, whatever the size: a :class:`Plan`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simtrain.costs.collectives.groups import Groups
from simtrain.costs.collectives.protocol import Family
from simtrain.costs.collectives.traffic import Traffic
from simtrain.model.operators import Collective

__all__ = ["Algorithm", "Plan", "Stage", "passes"]


@dataclass(frozen=True, slots=True)
class Stage:
    """What moves as one pipeline; the stages of a plan follow one another.

    Attributes:
        traffic: who sends how much to whom.
        near_steps, far_steps: successive hops inside nodes and between nodes, of the slowest group.
        family: whose latencies count.
        seconds_per_byte: least transfer time whatever the links say (a measured rate); 0 without.
        crossings: how often the data crosses the network, all channels together, where channels set a limit; else 0.
        reduces_in_ring: an all-reduce over a ring, which NCCL counts slower between nodes.
    """

    name: str
    traffic: Traffic
    near_steps: int
    far_steps: int
    family: Family = "ring"
    seconds_per_byte: float = 0.0
    crossings: float = 0.0
    reduces_in_ring: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """One algorithm on some groups, whatever the size.

    Attributes:
        stages: one for a pipelined algorithm, otherwise one after the other.
        protocols: names of the protocols the algorithm can use.
        formula: the transfer in words, for explanations.
        ramped: whether it is a pipeline of several hops, which has to fill.
    """

    algorithm: str
    stages: tuple[Stage, ...]
    protocols: tuple[str, ...]
    formula: str
    ramped: bool = True


@dataclass(frozen=True, slots=True)
class Algorithm:
    """An algorithm: ``plan`` returns None where it does not apply.

    Attributes:
        collectives: those it can run; nccl, mscclpp, ideal: whether it is tried in that mode without being asked for.
        preferred: taken wherever it applies, without comparing it with others.
    """

    name: str
    collectives: Sequence[Collective]
    plan: Callable[[Groups, Collective], Plan | None]
    nccl: bool = True
    mscclpp: bool = False
    ideal: bool = False
    preferred: bool = False


def passes(collective: Collective) -> int:
    """How often the data goes around: an all-reduce is a reduce-scatter and an all-gather."""
    return 2 if collective == "all_reduce" else 1
