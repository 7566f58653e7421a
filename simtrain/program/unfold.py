"""Unfolding: write out every symmetric copy of a folded Program, one simulated rank per GPU."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simtrain.layout.placement import Placement
from simtrain.program.blocks import SCOPES
from simtrain.program.builder import fifos
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
    labels = [placement.partition(scope) for scope in SCOPES]
    copies = np.array([label.max() + 1 for label in labels])[lowered.scope]
    first = np.concatenate([[0], np.cumsum(copies)])
    source = np.repeat(np.arange(lowered.program.size), copies)
    op_ptr, lanes = _lanes(lowered, labels, first)
    dep_ptr, dep = _dependencies(lowered, labels, first)
    program = _assemble(lowered.program, source, op_ptr, lanes, dep_ptr, dep, len(labels[0]))
    copy = np.arange(len(source)) - first[source]
    return Unfolded(_with_flows(program, lowered, source, copy), source)


def _with_flows(program: Program, lowered: Lowered, source: Ints, copy: Ints) -> Program:
    """Each copy of a transfer takes what its own group takes of the links."""
    groups = np.array([flows.groups for flows in lowered.flows.flows], dtype=np.int64)
    folded = lowered.program.flow[source]
    first = np.concatenate([[0], np.cumsum(groups)])
    flow = np.where(folded >= 0, first[folded] + copy, -1).astype(np.int32)
    sets = lowered.flows.sets(folded=False).contended(flow, program.lanes[program.op_ptr[:-1]])
    return replace(
        program, flow=flow, flow_ptr=sets.ptr, flow_edge=sets.edge, flow_use=sets.use, flow_weight=sets.weight
    )


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
