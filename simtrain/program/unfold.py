"""Unfolding: write out the copies that a folded Program stands for.

Either every one, a simulated rank per GPU; or, where experts are uneven, two of each pipeline rank: the busiest of the
GPUs that share the experts, and one for all the others.  Dispatch and combine hold the whole group in every layer, so
that the busiest alone decides when it goes on; what the others do in between adds up as if all did the same.  Where
a slot overlaps a forward with a backward, one rank stands for the busiest of two layers at once, which may be two: such
a step comes out up to a few percent too slow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simtrain.layout.placement import Placement
from simtrain.program.blocks import SCOPES
from simtrain.program.builder import fifos
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
    labels = [placement.partition(scope) for scope in SCOPES]
    program, source, copy = _copies(lowered, labels)
    groups = np.array([flows.groups for flows in lowered.flows.flows], dtype=np.int64)
    sets = lowered.flows.sets(folded=False)
    program = _with_flows(program, lowered, source, copy, groups, sets)
    return Unfolded(_with_loads(program, lowered, source, copy, loads) if loads else program, source, sets)


def split_uneven(lowered: Lowered, share: float, loads: Loads) -> Unfolded:
    """Two copies of each pipeline rank: the busiest rank of each group that shares the experts, and the others.

    Args:
        lowered: the folded Program, with the prices of the busiest rank.
        share: of the GPUs that are the busiest of their group.
        loads: by layer, of the busiest (1) and of the others on average.
    """
    labels = [np.arange(2) if scope == "local" else np.zeros(2, dtype=np.int64) for scope in SCOPES]
    program, source, copy = _copies(lowered, labels)
    copies = np.ones(len(lowered.flows.flows), dtype=np.int64)
    local = lowered.program.flow[lowered.scope == SCOPES.index("local")]
    copies[local[local >= 0]] = 2
    sets = lowered.flows.sets().split(copies, np.array([share, 1.0 - share]))
    program = _with_flows(program, lowered, source, copy, copies, sets)
    gpus = np.outer(lowered.program.multiplicity, [share, 1.0 - share]).round().astype(np.int32)
    program = _with_loads(replace(program, multiplicity=gpus.ravel()), lowered, source, copy, loads)
    return Unfolded(program, source, sets)


def _copies(lowered: Lowered, labels: list[Ints]) -> tuple[Program, Ints, Ints]:
    """The copies, the folded operation of each, and its number among those of the same one."""
    copies = np.array([label.max() + 1 for label in labels])[lowered.scope]
    first = np.concatenate([[0], np.cumsum(copies)])
    source = np.repeat(np.arange(lowered.program.size), copies)
    op_ptr, lanes = _lanes(lowered, labels, first)
    dep_ptr, dep = _dependencies(lowered, labels, first)
    program = _assemble(lowered.program, source, op_ptr, lanes, dep_ptr, dep, len(labels[0]))
    return program, source, np.arange(len(source)) - first[source]


def _with_flows(program: Program, lowered: Lowered, source: Ints, copy: Ints, copies: Ints, sets: FlowSets) -> Program:
    """Each copy of a transfer takes what its own group takes of the links; ``copies`` of each folded set."""
    folded = lowered.program.flow[source]
    first = np.concatenate([[0], np.cumsum(copies)])
    flow = np.where(folded >= 0, first[folded] + copy, -1).astype(np.int32)
    sets = lowered.flows.contended(sets, flow, program.lanes[program.op_ptr[:-1]])
    return replace(
        program, flow=flow, flow_ptr=sets.ptr, flow_edge=sets.edge, flow_use=sets.use, flow_weight=sets.weight
    )


def _with_loads(program: Program, lowered: Lowered, source: Ints, copy: Ints, loads: Loads) -> Program:
    """Routed kernels of each copy take what its own rows take."""
    latency_s, work_s, useful_s = program.latency_s.copy(), program.work_s.copy(), program.useful_s.copy()
    routed = lowered.routed[source]
    of_layer = {layer: loads(layer) for layer in {kernel.layer for kernel in lowered.flows.routed}}
    for number, kernel in enumerate(lowered.flows.routed):
        load = of_layer[kernel.layer]
        mine = np.flatnonzero(routed == number)
        values, which = np.unique(load[copy[mine]], return_inverse=True)
        priced = [lowered.flows.less_busy(number, value) for value in values.tolist()]
        for column, key in ((latency_s, "latency_s"), (work_s, "work_s"), (useful_s, "useful_s")):
            column[mine] = np.array([getattr(one, key) for one in priced])[which]
    return replace(program, latency_s=latency_s, work_s=work_s, useful_s=useful_s)


def _lanes(lowered: Lowered, labels: list[Ints], first: Ints) -> tuple[Ints, Ints]:
    """Lanes of every copy: one per lane of the folded operation and member of the copy's group."""
    folded, replicas = lowered.program, len(labels[0])
    width = np.diff(folded.op_ptr)
    op_ptr = np.zeros(first[-1] + 1, dtype=np.int64)
    blocks = []
    for scope, label in enumerate(labels):
        members = np.argsort(label, kind="stable").reshape(label.max() + 1, -1)
        for n in np.unique(width[lowered.scope == scope]):
            ops = np.flatnonzero((lowered.scope == scope) & (width == n))
            own = folded.lanes[folded.op_ptr[ops][:, None] + np.arange(n)].astype(np.int64)
            rank = (own // STREAMS * replicas)[:, None, :, None] + members[None, :, None, :]
            copies = (first[ops][:, None] + np.arange(len(members))).ravel()
            op_ptr[copies + 1] = n * members.shape[1]
            blocks.append((copies, (rank * STREAMS + (own % STREAMS)[:, None, :, None]).reshape(len(copies), -1)))
    np.cumsum(op_ptr, out=op_ptr)
    lanes = np.empty(op_ptr[-1], dtype=np.int64)
    for copies, found in blocks:
        lanes[op_ptr[copies][:, None] + np.arange(found.shape[1])] = found
    return op_ptr, lanes


def _dependencies(lowered: Lowered, labels: list[Ints], first: Ints) -> tuple[Ints, Ints]:
    """A copy waits for every copy of its dependency that shares a member with it."""
    folded = lowered.program
    owner = np.repeat(np.arange(folded.size), np.diff(folded.dep_ptr))
    kinds = lowered.scope[owner].astype(np.int64) * len(labels) + lowered.scope[folded.dep]
    ops, deps = [], []
    for kind in np.unique(kinds):
        mine, theirs = labels[kind // len(labels)], labels[kind % len(labels)]
        meet = np.unique(np.stack((mine, theirs), axis=1), axis=0)  # (own group, group it waits for)
        chosen = kinds == kind
        ops.append((first[owner[chosen]][:, None] + meet[:, 0]).ravel())
        deps.append((first[folded.dep[chosen]][:, None] + meet[:, 1]).ravel())
    op, dep = np.concatenate(ops), np.concatenate(deps)
    order = np.argsort(op, kind="stable")
    dep_ptr = np.concatenate([[0], np.cumsum(np.bincount(op, minlength=first[-1]))])
    return dep_ptr, dep[order]


def _assemble(
    folded: Program, source: Ints, op_ptr: Ints, lanes: Ints, dep_ptr: Ints, dep: Ints, replicas: int
) -> Program:
    values: dict[str, Any] = {field.name: getattr(folded, field.name) for field in fields(Program)}
    values |= {key: values[key][source] for key in _PER_OPERATION}
    ranks = folded.ranks * replicas
    lanes = lanes.astype(np.int32)
    fifo_ptr, fifo = fifos(op_ptr, lanes, ranks * STREAMS)
    values |= {
        "ranks": ranks,
        "multiplicity": np.ones(ranks, dtype=np.int32),
        "stage_of_rank": np.repeat(folded.stage_of_rank, replicas),
        "op_ptr": op_ptr.astype(np.int32),
        "lanes": lanes,
        "fifo_ptr": fifo_ptr,
        "fifo": fifo,
        "dep_ptr": dep_ptr.astype(np.int32),
        "dep": dep.astype(np.int32),
        "lag_s": np.zeros(len(dep)),
    }
    return Program(**values)
