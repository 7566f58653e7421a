"""Unfolding: write out the copies that a folded Program stands for.

Either every one, a simulated rank per GPU; or, where experts are uneven, two of each pipeline rank: the busiest of the
GPUs that share the experts, and one for all the others.  Dispatch and combine hold the whole group in every layer, so
that the busiest alone decides when it goes on; what the others do in between adds up as if all did the same.  Where
a slot overlaps a forward with a backward, one rank stands for the busiest of two layers at once, which may be two: such
a step comes out up to a few percent too slow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simtrain.layout.placement import Placement
from simtrain.program.blocks import SCOPES
from simtrain.program.flows import FlowSets
from simtrain.program.lower import Lowered
from simtrain.program.program import STREAMS, Program
from simtrain.program.timeline import Timeline

__all__ = ["Loads", "Unfolded", "split_uneven", "unfold"]

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


Loads = Callable[[int], NDArray[np.float64]]
"""Rows that the experts of each copy have in a layer, relative to the busiest."""


@dataclass(frozen=True, slots=True)
class Unfolded:
    """A Program of several copies; ``source[o]`` is the folded operation that operation o is a copy of.

    ``sets`` is what each set of ``program.flow`` takes of all links, those on which nobody can wait included.
    """

    program: Program
    source: NDArray[np.int64]
    sets: FlowSets

    def folded(self, timeline: Timeline, program: Program) -> Timeline:
        """The Timeline of the first copies alone, as one of the folded Program."""
        first = np.searchsorted(self.source, np.arange(program.size))
        return Timeline(program, timeline.start_s[first], timeline.end_s[first], timeline.engine)


def unfold(lowered: Lowered, placement: Placement, loads: Loads | None = None) -> Unfolded:
    """Write out all copies: a kernel once per GPU, a collective once per group with a lane of each member.

    Rank numbers are pipeline rank * (tp * cp * dp) + coordinate.

    Args:
        lowered: the folded Program.
        placement: where its ranks are.
        loads: by layer, of the coordinates of a pipeline rank; absent: all alike.
    """
    groups = np.array([placement.partition(scope) for scope in SCOPES])
    sets = np.array([flows.groups for flows in lowered.flows.flows], dtype=np.int64)
    return _written(lowered, groups, lowered.flows.sets(folded=False), sets, loads)


def split_uneven(lowered: Lowered, share: float, loads: Loads) -> Unfolded:
    """Two copies of each pipeline rank: the busiest rank of each group that shares the experts, and the others.

    Args:
        lowered: the folded Program, with the prices of the busiest rank.
        share: of the GPUs that are the busiest of their group.
        loads: by layer, of the busiest (1) and of the others on average.
    """
    groups = np.array([np.arange(2) if scope == "local" else np.zeros(2, dtype=np.int64) for scope in SCOPES])
    sets = np.ones(len(lowered.flows.flows), dtype=np.int64)
    local = lowered.program.flow[lowered.scope == SCOPES.index("local")]
    sets[local[local >= 0]] = 2
    shares = np.array([share, 1.0 - share])
    two = _written(lowered, groups, lowered.flows.sets().split(sets, shares), sets, loads)
    gpus = np.outer(lowered.program.multiplicity, shares).round().astype(np.int32)
    return replace(two, program=replace(two.program, multiplicity=gpus.ravel()))


def _written(lowered: Lowered, groups: Ints, flows: FlowSets, sets: Ints, loads: Loads | None) -> Unfolded:
    """All copies.

    Args:
        lowered: the folded Program.
        groups: (scopes, coordinates) group of each coordinate.
        flows: what each copy of a transfer takes of the links, folded set after folded set.
        sets: how many copies of each folded set there are.
        loads: by layer and coordinate.
    """
    copies = (groups.max(axis=1) + 1)[lowered.scope]
    first = np.concatenate([[0], np.cumsum(copies)])
    op_ptr, lanes = _lanes(lowered, groups, copies)
    values = _assemble(lowered.program, groups.shape[1], copies, op_ptr, lanes)
    fifo_ptr, fifo = _fifos(lowered, groups, first)
    dep_ptr, dep = _dependencies(lowered, groups, first)
    source = np.repeat(np.arange(lowered.program.size), copies)
    if loads is not None:
        values |= _with_loads(values, lowered, source, np.arange(len(source)) - first[source], loads)
    flow = _flow(lowered.program.flow, first, copies, sets)
    full = lowered.flows.contended(flows, flow, lanes[op_ptr[:-1]])
    program = Program(
        **values,
        fifo_ptr=fifo_ptr,
        fifo=fifo,
        dep_ptr=dep_ptr,
        dep=dep,
        lag_s=np.zeros(len(dep)),
        flow=flow,
        flow_ptr=full.ptr,
        flow_edge=full.edge,
        flow_use=full.use,
        flow_weight=full.weight,
        pace=lowered.program.pace,
    )
    return Unfolded(program, source, flows)


def _flow(folded: Ints, first: Ints, copies: Ints, sets: Ints) -> Ints:
    """Set of flows of each copy; -1 without."""
    begin = np.concatenate([[0], np.cumsum(sets)])
    flow = np.repeat((begin[folded] - first[:-1]).astype(np.int32), copies)
    flow += np.arange(len(flow), dtype=np.int32)
    flow[np.repeat(folded < 0, copies)] = -1
    return flow


def _with_loads(
    values: dict[str, Any], lowered: Lowered, source: Ints, copy: Ints, loads: Loads
) -> dict[str, NDArray[np.float64]]:
    """Times of routed kernels of each copy: what its own rows take."""
    columns = {key: values[key].copy() for key in ("latency_s", "work_s", "useful_s")}
    routed = lowered.routed[source]
    of_layer = {layer: loads(layer) for layer in {kernel.layer for kernel in lowered.flows.routed}}
    for number, kernel in enumerate(lowered.flows.routed):
        mine = np.flatnonzero(routed == number)
        shares, which = np.unique(of_layer[kernel.layer][copy[mine]], return_inverse=True)
        priced = [lowered.flows.less_busy(number, share) for share in shares.tolist()]
        for key, column in columns.items():
            column[mine] = np.array([getattr(one, key) for one in priced])[which]
    return columns


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
