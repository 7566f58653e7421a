"""Unfolding: write out every symmetric copy of a folded Program, one simulated rank per GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simtrain.layout.placement import Placement
from simtrain.program.blocks import SCOPES
from simtrain.program.lower import Lowered
from simtrain.program.program import STREAMS, Program

__all__ = ["Unfolded", "unfold"]

_PER_OPERATION = (
    "name",
    "phase",
    "bucket",
    "stage",
    "microbatch",
    "layer",
    "latency_s",
    "work_s",
    "useful_s",
    "bytes",
    "sms",
    "grid",
)


Ints = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Unfolded:
    """A Program of every GPU; ``source[o]`` is the folded operation that operation o is a copy of."""

    program: Program
    source: NDArray[np.int64]


def unfold(lowered: Lowered, placement: Placement) -> Unfolded:
    """Write out all copies: a kernel once per GPU, a collective once per group with a lane of each member.

    Rank numbers are pipeline rank * (tp * cp * dp) + coordinate.
    """
    groups = np.array([placement.partition(scope) for scope in SCOPES])
    copies = (groups.max(axis=1) + 1)[lowered.scope]
    first = np.concatenate([[0], np.cumsum(copies)])
    op_ptr, lanes = _lanes(lowered, groups, copies)
    values = _assemble(lowered.program, groups.shape[1], copies, op_ptr, lanes)
    fifo_ptr, fifo = _fifos(lowered, groups, first)
    dep_ptr, dep = _dependencies(lowered, groups, first)
    source = np.repeat(np.arange(lowered.program.size), copies)
    program = Program(
        **values,
        fifo_ptr=fifo_ptr,
        fifo=fifo,
        dep_ptr=dep_ptr,
        dep=dep,
        lag_s=np.zeros(len(dep)),
        **_flows(lowered, first, copies, lanes[op_ptr[:-1]]),
    )
    return Unfolded(program, source)


def _flows(lowered: Lowered, first: Ints, copies: Ints, lane: Ints) -> dict[str, Any]:
    """Each copy of a transfer, whose first lane is ``lane``, takes what its own group takes of the links."""
    groups = np.array([flows.groups for flows in lowered.flows.flows], dtype=np.int64)
    folded, begin = lowered.program.flow, np.concatenate([[0], np.cumsum(groups)])
    flow = np.repeat((begin[folded] - first[:-1]).astype(np.int32), copies)
    flow += np.arange(len(flow), dtype=np.int32)
    flow[np.repeat(folded < 0, copies)] = -1
    sets = lowered.flows.sets(folded=False).contended(flow, lane)
    return {
        "flow": flow,
        "flow_ptr": sets.ptr,
        "flow_edge": sets.edge,
        "flow_use": sets.use,
        "flow_weight": sets.weight,
    }


def _lanes(lowered: Lowered, groups: Ints, copies: Ints) -> tuple[Ints, Ints]:
    """Lanes of every copy: one per lane of the folded operation and member of the copy's group.

    All copies together have one lane per lane of the folded operation and coordinate, so that these are rows.
    """
    folded, replicas = lowered.program, groups.shape[1]
    width = np.diff(folded.op_ptr)
    op_ptr = _bounds(np.repeat(width * (replicas // copies), copies))
    own = (folded.lanes // STREAMS * (replicas * STREAMS) + folded.lanes % STREAMS).astype(np.int32)
    coordinate = (np.argsort(groups, axis=1, kind="stable") * STREAMS).astype(np.int32)  # group by group
    lanes = coordinate[np.repeat(lowered.scope, width)]
    lanes += own[:, None]
    for n, count in np.unique(np.stack((width, copies))[:, width > 1], axis=1).T:  # lanes of a copy lie together
        ops = np.flatnonzero((width == n) & (copies == count))
        rows = folded.op_ptr[ops][:, None] + np.arange(n)
        by_copy = lanes[rows].reshape(len(ops), n, count, -1).swapaxes(1, 2)
        lanes[rows] = by_copy.reshape(len(ops), n, replicas)
    return op_ptr, lanes.ravel()


def _fifos(lowered: Lowered, groups: Ints, first: Ints) -> tuple[Ints, Ints]:
    """FIFO of every lane: that of the folded lane, each operation as the copy that this coordinate takes part in."""
    folded, replicas = lowered.program, groups.shape[1]
    length = np.diff(folded.fifo_ptr).reshape(-1, 1, STREAMS)
    blocks = []
    for rank in range(folded.ranks):
        queue = folded.fifo[folded.fifo_ptr[rank * STREAMS] : folded.fifo_ptr[(rank + 1) * STREAMS]]
        block = groups.T.astype(np.int32)[:, lowered.scope[queue]]
        block += first[queue].astype(np.int32)
        blocks.append(block.ravel())
    return _bounds(np.broadcast_to(length, (folded.ranks, replicas, STREAMS)).ravel()), np.concatenate(blocks)


def _dependencies(lowered: Lowered, groups: Ints, first: Ints) -> tuple[Ints, Ints]:
    """A copy waits for every copy of its dependency that shares a member with it."""
    folded = lowered.program
    owner = np.repeat(np.arange(folded.size), np.diff(folded.dep_ptr))
    kinds = lowered.scope[owner].astype(np.int64) * len(groups) + lowered.scope[folded.dep]
    ops, deps = [], []
    for kind in np.unique(kinds):
        mine, theirs = groups[kind // len(groups)], groups[kind % len(groups)]
        meet = np.unique(np.stack((mine, theirs), axis=1), axis=0).astype(np.int32)  # (own group, group it waits for)
        chosen = kinds == kind
        ops.append((first[owner[chosen]].astype(np.int32)[:, None] + meet[:, 0]).ravel())
        deps.append((first[folded.dep[chosen]].astype(np.int32)[:, None] + meet[:, 1]).ravel())
    op, dep = np.concatenate(ops), np.concatenate(deps)
    order = np.argsort(op, kind="stable")
    return _bounds(np.bincount(op, minlength=first[-1])), dep[order]


def _bounds(lengths: Ints) -> Ints:
    """Where each of several rows begins that follow one another, and where the last one ends."""
    bounds = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, dtype=np.int32, out=bounds[1:])
    return bounds


def _assemble(folded: Program, replicas: int, copies: Ints, op_ptr: Ints, lanes: Ints) -> dict[str, Any]:
    """What copies take over from the folded operations, and their ranks and lanes."""
    values: dict[str, Any] = {key: np.repeat(getattr(folded, key), copies) for key in _PER_OPERATION}
    ranks = folded.ranks * replicas
    return values | {
        "ranks": ranks,
        "multiplicity": np.ones(ranks, dtype=np.int32),
        "stage_of_rank": np.repeat(folded.stage_of_rank, replicas),
        "names": folded.names,
        "sharing": folded.sharing,
        "op_ptr": op_ptr,
        "lanes": lanes,
    }
