"""What a collective takes of every link while it moves, for whoever shares links among transfers under way.

A collective moves at rate 1 when it has the cluster to itself.  At rate r a group takes ``r * use`` of each
directed edge it crosses, so that transfers that run at once fit as long as no edge adds up to more than 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Flows", "Phase", "mean_use"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Flows:
    """The links that each group of a collective uses; groups in the order in which they were priced.

    Attributes:
        group_ptr: (groups + 1,) bounds of each group in ``edge`` and ``use``.
        edge: (k,) directed edges that each group crosses, ascending within a group.
        use: (k,) share of the edge's capacity that the group takes while it moves at rate 1.
        bundle_bytes_per_s: what a group moves at rate 1 over the edge it fills most; the largest of all groups.
    """

    group_ptr: Ints
    edge: Ints
    use: Floats
    bundle_bytes_per_s: float

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.group_ptr) - 1

    @property
    def alike(self) -> bool:
        """Whether every group fills its busiest edge as much as the others do theirs, or nearly so."""
        if self.groups < 2 or not self.use.size:
            return True
        most = np.maximum.reduceat(self.use, self.group_ptr[:-1][np.diff(self.group_ptr) > 0])
        return bool(np.ptp(most) <= 1e-3 * most.max())

    def summed(self) -> tuple[Ints, Floats]:
        """Edges that any group crosses, ascending, and the use of all groups together: each (edges,)."""
        return _summed(self.edge, self.use)


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of a collective; its parts follow one another, and inside one all flows move as one bundle.

    Attributes:
        name: what it does.
        latency_s: fixed time that moves no bytes; transfer_s: time at rate 1 after it.
        flows: what it takes of the links during ``transfer_s``.
    """

    name: str
    latency_s: float
    transfer_s: float
    flows: Flows


def mean_use(phases: Sequence[Phase]) -> tuple[Ints, Floats]:
    """Edges crossed in any phase, ascending, and the mean share of each that is taken over all transfers."""
    whole_s = sum(phase.transfer_s for phase in phases)
    parts = [(*phase.flows.summed(), phase.transfer_s / whole_s) for phase in phases]
    edges = np.concatenate([np.empty(0, dtype=np.int64), *(edges for edges, _, _ in parts)])
    return _summed(edges, np.concatenate([np.empty(0), *(use * part for _, use, part in parts)]))


def _summed(edge: Ints, use: Floats) -> tuple[Ints, Floats]:
    edges, place = np.unique(edge, return_inverse=True)
    return edges, np.bincount(place, weights=use, minlength=len(edges)).astype(np.float64)
