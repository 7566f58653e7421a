"""A pipeline schedule alone as a Program: one operation per slot, communication as a lag.

Every rank runs its slots in order.  F(s, m) waits for F(s-1, m); I and B(s, m) for F(s, m) and the backward of
stage s+1; W for its I.  What was made on another rank arrives ``comm`` later; links never queue and never block.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import ScheduleError
from simtrain.jit import jit
from simtrain.program.program import STREAMS, Bucket, Phase, Program
from simtrain.schedules.order import Action, Order
from simtrain.schedules.slot_costs import SlotCosts

__all__ = ["Pipeline"]

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]

_PHASES = np.array(
    [Phase.FORWARD, Phase.BACKWARD_INPUT, Phase.BACKWARD_WEIGHT, Phase.BACKWARD_INPUT, Phase.FORWARD], dtype=np.int32
)

# The GNU allocator gives the top of its heap back to the system after each evaluation, and takes it page by page for
# the next, which doubles the time of a short one.  Once it has freed a block of 16 MiB it keeps that much.
np.empty(2**21)


@dataclass(frozen=True)
class Pipeline:
    """The structure of an Order, built once and timed for any number of costs.

    Attributes:
        order: what is run.
    """

    order: Order

    @cached_property
    def slots(self) -> Ints:
        """All slots, rank after rank, shape (n, 5) as in :class:`Order`."""
        return np.concatenate(self.order.actions)

    @cached_property
    def rank(self) -> Ints:
        """(n,) rank of each slot."""
        sizes = [len(actions) for actions in self.order.actions]
        return np.repeat(np.arange(self.order.ranks, dtype=np.int32), sizes)

    @property
    def crossings(self) -> int:
        """How many dependencies come from another rank."""
        return int(np.count_nonzero(self._structure[1]))

    @cached_property
    def _structure(self) -> tuple[dict[str, Any], NDArray[np.bool_]]:
        """The Program without durations and lags, and which dependencies come from another rank."""
        slots, n, ranks = self.slots, len(self.slots), self.order.ranks
        dep_ptr, dep, far = self._dependencies()
        each = np.arange(n + 1, dtype=np.int32)
        nothing = np.zeros(n)
        bounds = np.concatenate([[0], np.cumsum([len(actions) for actions in self.order.actions])]).astype(np.int32)
        fifo_ptr = np.repeat(bounds, STREAMS)[STREAMS - 1 :]  # only the compute lanes hold anything
        program = {
            "ranks": ranks,
            "multiplicity": np.ones(ranks, dtype=np.int32),
            "stage_of_rank": np.arange(ranks, dtype=np.int32),
            "names": tuple(Action.__members__),
            "name": slots[:, 0],
            "phase": _PHASES[slots[:, 0]],
            "bucket": np.full(n, Bucket.NON_MATMUL, dtype=np.int32),
            "stage": slots[:, 1],
            "microbatch": slots[:, 2],
            "layer": np.full(n, -1, dtype=np.int32),
            "latency_s": nothing,
            "useful_s": nothing,
            "bytes": nothing,
            "op_ptr": each,
            "lanes": self.rank * STREAMS,
            "fifo_ptr": fifo_ptr,
            "fifo": each[:-1],
            "dep_ptr": dep_ptr,
            "dep": dep,
            "flow": np.full(n, -1, dtype=np.int32),
            "flow_ptr": np.zeros(1, dtype=np.int32),
            "flow_edge": np.empty(0, dtype=np.int32),
            "flow_use": np.empty(0),
            "flow_weight": np.empty(0),
            "sms": nothing,
            "grid": np.zeros(n, dtype=np.int32),
        }
        return program, far

    def program(self, costs: SlotCosts | None = None) -> Program:
        """The Program with these durations."""
        costs = costs or SlotCosts()
        structure, far = self._structure
        return Program(**structure, work_s=self.durations(costs), lag_s=np.multiply(far, costs.comm, dtype=np.float64))

    def durations(self, costs: SlotCosts) -> Floats:
        """(n,) duration of each slot."""
        slots, stages = self.slots, self.order.stages
        kind = slots[:, 0]
        overlapped = kind == Action.X
        if not overlapped.any():
            return costs.table(stages)[kind, slots[:, 1]]
        durations = costs.table(stages)[np.where(overlapped, Action.F, kind), slots[:, 1]]
        pairs = slots[overlapped]
        durations[overlapped] = costs.overlapped(stages)[pairs[:, 1], pairs[:, 3]]
        return durations

    def _dependencies(self) -> tuple[Ints, Ints, NDArray[np.bool_]]:
        """dep_ptr and dep of the Program, and which dependencies come from another rank."""
        n, stages, microbatches = len(self.slots), self.order.stages, self.order.microbatches
        forward = np.full((stages, microbatches), -1, dtype=np.int32)
        backward = forward.copy()
        dep_ptr, dep, far = np.zeros(n + 1, dtype=np.int32), np.empty(3 * n, dtype=np.int32), np.empty(3 * n, np.bool_)
        if _place(self.slots, forward, backward) >= 0 or min(forward.min(), backward.min()) < 0:
            raise self._incomplete(forward, backward)
        count = _wire(self.slots, self.rank, forward, backward, dep_ptr, dep, far)
        return dep_ptr, dep[:count], far[:count]

    def _incomplete(self, forward: Ints, backward: Ints) -> ScheduleError:
        """Which action of the order is missing or stands twice."""
        twice = _place(self.slots, np.full_like(forward, -1), np.full_like(backward, -1))
        if twice >= 0:
            kind, stage, microbatch = self.slots[twice, :3].tolist()
            what = f"{Action(kind).name} of stage {stage}, micro batch {microbatch} stands twice"
        else:
            table, what = (forward, "forward") if forward.min() < 0 else (backward, "backward")
            stage, microbatch = np.argwhere(table < 0)[0].tolist()
            what = f"the {what} of stage {stage}, micro batch {microbatch} is missing"
        return ScheduleError(f"{self.order.schedule}: {what} in the order")


@jit
def _place(slots: Ints, forward: Ints, backward: Ints) -> int:
    """Fill in which slot runs each (stage, micro batch); return a slot that runs one again, or -1."""
    for op in range(len(slots)):
        kind, stage, microbatch = slots[op, 0], slots[op, 1], slots[op, 2]
        if kind == 0 or kind == 4:
            if forward[stage, microbatch] >= 0:
                return op
            forward[stage, microbatch] = op
        if kind == 4:
            stage, microbatch = slots[op, 3], slots[op, 4]
        if kind == 1 or kind == 3 or kind == 4:
            if backward[stage, microbatch] >= 0:
                return op
            backward[stage, microbatch] = op
    return -1


@jit
def _wire(
    slots: Ints, rank: Ints, forward: Ints, backward: Ints, dep_ptr: Ints, dep: Ints, far: NDArray[np.bool_]
) -> int:
    """Write what every slot waits for; return how many dependencies there are."""
    last = len(forward) - 1
    count = 0
    for op in range(len(slots)):
        kind, stage, microbatch = slots[op, 0], slots[op, 1], slots[op, 2]
        if (kind == 0 or kind == 4) and stage > 0:
            dep[count] = forward[stage - 1, microbatch]
            count += 1
        if kind == 4:
            stage, microbatch = slots[op, 3], slots[op, 4]
        if kind == 1 or kind == 3 or kind == 4:
            dep[count] = forward[stage, microbatch]
            count += 1
            if stage < last:
                dep[count] = backward[stage + 1, microbatch]
                count += 1
        if kind == 2:
            dep[count] = backward[stage, microbatch]
            count += 1
        for k in range(dep_ptr[op], count):
            far[k] = rank[dep[k]] != rank[op]
        dep_ptr[op + 1] = count
    return count
