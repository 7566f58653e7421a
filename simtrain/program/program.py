"""A Program: one training step as data.

Operations sit on lanes.  A lane is (rank, stream), a FIFO of operations, like a CUDA stream.  An operation
on several lanes is a collective: it starts when it heads all of them and its dependencies have ended.
Everything is arrays, so that every engine reads the same thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import ProgramError

__all__ = ["STREAMS", "Bucket", "Phase", "Program", "Stream"]

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]


class Stream(IntEnum):
    """Streams of a rank; ``next`` and ``prev`` are the two directions around the pipeline.

    Weights are gathered on a stream of their own, so that a gather never queues behind a reduction, and gradients are
    summed across shard groups on another (PyTorch's ``FSDPCommContext`` keeps a stream each for all-gather,
    reduce-scatter and all-reduce).
    """

    COMPUTE = 0
    TP = 1
    CP = 2
    EP = 3
    PP_SEND_NEXT = 4
    PP_RECV_PREV = 5
    PP_SEND_PREV = 6
    PP_RECV_NEXT = 7
    DP = 8
    DP_GATHER = 9
    DP_REPLICATE = 10
    HOST = 11


STREAMS = len(Stream)


class Phase(IntEnum):
    """What part of the step an operation belongs to."""

    FORWARD = 0
    BACKWARD_INPUT = 1
    BACKWARD_WEIGHT = 2
    RECOMPUTE = 3
    SEND = 4
    REDUCE = 5
    OPTIMIZER = 6
    HOST = 7


class Bucket(IntEnum):
    """How the ledger counts an operation's busy time."""

    MATMUL = 0
    NON_MATMUL = 1
    OPTIMIZER = 2
    COMMUNICATION = 3
    HOST = 4


@dataclass(frozen=True, slots=True)
class Program:
    """Operations, lanes and dependencies of one step.

    Shapes: n operations, e operation-lane pairs, d dependencies.

    Attributes:
        ranks: simulated ranks; each stands for ``multiplicity[rank]`` real GPUs.
        multiplicity: (ranks,) GPUs that behave exactly like this rank.
        stage_of_rank: (ranks,) pipeline rank of each simulated rank.
        names: operation names; ``name`` indexes it.
        name: (n,) index into ``names``.
        phase, bucket: (n,) codes of :class:`Phase` and :class:`Bucket`.
        stage, microbatch, layer: (n,) pipeline stage, micro batch and layer; -1 where it does not apply.
        latency_s: (n,) fixed time that elapses first, at rate 1.
        work_s: (n,) seconds of work at rate 1, after the latency.
        useful_s: (n,) seconds the operation's matmul FLOPs would take at the dense peak (0 for others).
        bytes: (n,) bytes moved by a transfer, payload of one rank (0 for kernels).
        lanes: operation o is on lanes ``lanes[op_ptr[o]:op_ptr[o + 1]]``,
            lane number = rank * STREAMS + stream.
        op_ptr: (n + 1,), lanes: (e,).
        fifo_ptr: (ranks * STREAMS + 1,), fifo: (e,) operations of each lane in order.
        dep_ptr: (n + 1,), dep: (d,), lag_s: (d,): operation o waits until ``dep`` has ended ``lag_s`` ago.
        flow: (n,) which set of flows a transfer is, -1 for none; equal transfers share a set.
        flow_ptr: (sets + 1,), flow_edge: directed edges of the cluster graph that a set crosses, and
            flow_load: how many flows (of all symmetric copies of the operation) share that edge.
    """

    ranks: int
    multiplicity: Ints
    stage_of_rank: Ints
    names: tuple[str, ...]
    name: Ints
    phase: Ints
    bucket: Ints
    stage: Ints
    microbatch: Ints
    layer: Ints
    latency_s: Floats
    work_s: Floats
    useful_s: Floats
    bytes: Floats
    op_ptr: Ints
    lanes: Ints
    fifo_ptr: Ints
    fifo: Ints
    dep_ptr: Ints
    dep: Ints
    lag_s: Floats
    flow: Ints
    flow_ptr: Ints
    flow_edge: Ints
    flow_load: Floats

    def __post_init__(self) -> None:
        for label, values in (("latency_s", self.latency_s), ("work_s", self.work_s), ("lag_s", self.lag_s)):
            if values.size and not (np.isfinite(values).all() and values.min() >= 0.0):
                raise ProgramError(f"{label} must be finite and not negative")

    @property
    def size(self) -> int:
        """Number of operations."""
        return len(self.work_s)

    def label(self, op: int) -> str:
        """A readable name of an operation, for messages and hover texts."""
        parts = [self.names[self.name[op]]]
        for key, values in (("stage", self.stage), ("micro batch", self.microbatch), ("layer", self.layer)):
            if values[op] >= 0:
                parts.append(f"{key} {values[op]}")
        lane = int(self.lanes[self.op_ptr[op]])
        parts.append(f"rank {lane // STREAMS} {Stream(lane % STREAMS).name.lower()}")
        return ", ".join(parts)
