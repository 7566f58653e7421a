"""Unfolding: write out every symmetric copy of a folded Program, one simulated rank per GPU."""

from __future__ import annotations

from dataclasses import dataclass, fields
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
    "flow",
)


@dataclass(frozen=True, slots=True)
class Unfolded:
    """A Program of every GPU; ``source[o]`` is the folded operation that operation o is a copy of."""

    program: Program
    source: NDArray[np.int64]


def unfold(lowered: Lowered, placement: Placement) -> Unfolded:
    """Write out all copies: a kernel once per GPU, a collective once per group with a lane of each member.

    Rank numbers are pipeline rank * (tp * cp * dp) + coordinate.
    """
    folded = lowered.program
    labels = [placement.partition(scope) for scope in SCOPES]
    groups = [[np.flatnonzero(label == g) for g in range(label.max() + 1)] for label in labels]
    copies = np.array([len(group) for group in groups])[lowered.scope]
    first = np.concatenate([[0], np.cumsum(copies)])
    lanes: list[NDArray[np.int64]] = []
    deps: list[NDArray[np.int64]] = []
    replicas = len(labels[0])
    for op in range(folded.size):
        own = folded.lanes[folded.op_ptr[op] : folded.op_ptr[op + 1]].astype(np.int64)
        waits = folded.dep[folded.dep_ptr[op] : folded.dep_ptr[op + 1]]
        for members in groups[lowered.scope[op]]:
            rank = (own // STREAMS)[:, None] * replicas + members[None, :]
            lanes.append((rank * STREAMS + (own % STREAMS)[:, None]).ravel())
            deps.append(np.unique([first[d] + labels[lowered.scope[d]][members] for d in waits]).astype(np.int64))
    source = np.repeat(np.arange(folded.size), copies)
    return Unfolded(_assemble(folded, source, lanes, deps, replicas), source)


def _assemble(
    folded: Program,
    source: NDArray[np.int64],
    lanes: list[NDArray[np.int64]],
    deps: list[NDArray[np.int64]],
    replicas: int,
) -> Program:
    values: dict[str, Any] = {field.name: getattr(folded, field.name) for field in fields(Program)}
    values |= {key: values[key][source] for key in _PER_OPERATION}
    op_ptr, flat_lanes = _ragged(lanes)
    dep_ptr, dep = _ragged(deps)
    ranks = folded.ranks * replicas
    fifo_ptr, fifo = fifos(op_ptr, flat_lanes, ranks * STREAMS)
    values |= {
        "ranks": ranks,
        "multiplicity": np.ones(ranks, dtype=np.int32),
        "stage_of_rank": np.repeat(folded.stage_of_rank, replicas),
        "op_ptr": op_ptr,
        "lanes": flat_lanes,
        "fifo_ptr": fifo_ptr,
        "fifo": fifo,
        "dep_ptr": dep_ptr,
        "dep": dep,
        "lag_s": np.zeros(len(dep)),
    }
    return Program(**values)


def _ragged(rows: list[NDArray[np.int64]]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    ptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
    return ptr, np.concatenate(rows).astype(np.int32)
