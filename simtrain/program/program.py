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

__all__ = ["STREAMS", "Bucket", "Phase", "Program", "Sharing", "Stream"]

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]


class Stream(IntEnum):
    """Streams of a rank; ``next`` and ``prev`` are the two directions around the pipeline.

    Weights are gathered on a stream of their own, so that a gather never queues behind a reduction, and gradients are
    summed across shard groups on another (PyTorch's ``FSDPCommContext`` keeps a stream each for all-gather,
    reduce-scatter and all-reduce).  COPY_IN and COPY_OUT are copies from host memory and to it.
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
    COPY_IN = 12
    COPY_OUT = 13


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
class Sharing:
    """How kernels and transfers slow each other on one GPU; the defaults change nothing.

    Attributes:
        sm_count: SMs of a GPU.
        kernel_rate: rate of a kernel beside a transfer that holds SMs, on top of the SMs lost (memory contention).
        transfer_rate: rate of such a transfer while a kernel runs on one of its GPUs.
    """

    sm_count: int = 1
    kernel_rate: float = 1.0
    transfer_rate: float = 1.0


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
        sms: (n,) share of the SMs of each of its GPUs that a transfer holds while its bytes move.
        grid: (n,) thread blocks of a kernel launched as a static grid; 0: persistent, it uses the SMs that are free.
        flow: (n,) which set of flows a transfer is, -1 for none; equal transfers share a set.
        flow_ptr: (sets + 1,), flow_edge: edges that a set crosses, ascending within a set, and
            flow_use: what share of the edge's capacity the set (with all symmetric copies of the operation) takes at
            rate 1. Edges on which nobody can ever wait are left out, and equal ones are one.
        flow_weight: (sets,) how fast a set's rate grows while links fill up: max-min fairness is between flows in bytes
            per second, so that this is one over the bytes per second of one copy.
        sharing: how kernels and transfers slow each other on one GPU.
        pace: work of kernels takes this many times what it does on a GPU of mean speed, since groups wait for their
            slowest member; ``work_s`` holds it.
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
    flow_use: Floats
    flow_weight: Floats
    sms: Floats
    grid: Ints
    sharing: Sharing = Sharing()
    pace: float = 1.0

    def __post_init__(self) -> None:
        for label in ("latency_s", "work_s", "lag_s", "sms", "flow_use"):
            values = getattr(self, label)
            if values.size and not (np.isfinite(values).all() and values.min() >= 0.0):
                raise ProgramError(f"{label} must be finite and not negative")

    @property
    def coupled(self) -> bool:
        """Whether an operation can change the rate of another."""
        return bool(self.flow_edge.size or self.sms.any())

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
