"""Blocks: the operations of one pipeline action on one stage, as arrays that repeat for every micro batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simtrain.costs.prices import Priced
from simtrain.program.flows import FlowTable
from simtrain.program.program import STREAMS, Bucket, Phase, Stream

__all__ = ["SCOPES", "Block", "BlockWriter", "Half"]

SCOPES = ("local", "tp", "cp", "ep", "etp", "dp", "edp", "all", "shard", "replicate", "edp_shard", "edp_replicate")
"""Which symmetric copies of an operation run as one: a kernel on each GPU alone, a tp collective once per group."""

_STREAM = {
    "compute": Stream.COMPUTE,
    "tp": Stream.TP,
    "etp": Stream.TP,
    "cp": Stream.CP,
    "ep": Stream.EP,
    "host": Stream.HOST,
}
_PHASE = {"F": Phase.FORWARD, "I": Phase.BACKWARD_INPUT, "W": Phase.BACKWARD_WEIGHT, "O": Phase.OPTIMIZER}
_MATMUL = frozenset({"gemm", "grouped_gemm", "attention_forward", "attention_backward"})


@dataclass(slots=True)
class Half:
    """One data flow of a block: a forward, a backward, or one of the two parts of a backward.

    Operation numbers count from the start of the block, -1 where there is none yet.

    Attributes:
        part: F, I (also a full backward) or W; stage: whose.
        launch: the first call of the host, where calls take time.
        entry: the operation that waits for the input.
        exit: the operation after which the output is there (the send, where there is one).
        last: the layer operation written last; after the last one of a layer nothing else of it is under way.
        ends: layer operations that none has waited for yet.
        named: operations of the layer being written, by name.
        gathers: weight gathers that may start while the blocks before this one run, and after how many layers
            counted back from the end of the one before.
        reduced: by axis, the layer that completes each bucket of gradients, and the reduction after which these are
            a shard.
        layer_start, layer_end: first and last operation of each layer.
    """

    part: str
    stage: int
    launch: int = -1
    entry: int = -1
    exit: int = -1
    last: int = -1
    ends: list[int] = field(default_factory=list)
    named: dict[str, int] = field(default_factory=dict)
    gathers: list[tuple[int, int]] = field(default_factory=list)
    reduced: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    layer_start: dict[int, int] = field(default_factory=dict)
    layer_end: dict[int, int] = field(default_factory=dict)

    def begins(self, axis: str) -> list[int]:
        """Operations that begin the first bucket of gradients and, where there is one, the second."""
        layers = list(self.layer_start)
        second = layers.index(self.reduced[axis][0][0]) + 1
        return [self.entry, *(self.layer_start[layer] for layer in layers[second : second + 1])]


@dataclass(frozen=True, slots=True)
class Block:
    """Operations that one action adds to a Program.

    Attributes:
        columns: per-operation arrays by Program field name (and ``scope``, ``half``), each (n,).
        lane_ptr, lanes: lanes of each operation.
        op, dep: dependencies inside the block, operation and what it waits for.
        halves: its data flows: one, or a forward and a backward that overlap.
    """

    columns: dict[str, NDArray[np.generic]]
    lane_ptr: NDArray[np.int32]
    lanes: NDArray[np.int32]
    op: NDArray[np.int32]
    dep: NDArray[np.int32]
    halves: tuple[Half, ...]

    @property
    def size(self) -> int:
        """Number of operations."""
        return len(self.lane_ptr) - 1


@dataclass(slots=True)
class BlockWriter:
    """Writes one block on one rank; operations of one stream run in the order written.

    Each operation of a half waits for those it names, or for all open ends: on its own lane by its place in the FIFO,
    across lanes by a dependency.
    """

    rank: int
    names: dict[str, int]
    flows: FlowTable
    halves: tuple[Half, ...] = ()
    rows: list[tuple[float, ...]] = field(default_factory=list)
    lanes: list[list[int]] = field(default_factory=list)
    deps: list[tuple[int, int]] = field(default_factory=list)
    _opening: dict[int, int] = field(default_factory=dict)

    def add(
        self,
        priced: Priced,
        phase: Phase,
        lanes: Sequence[int],
        after: Sequence[int] = (),
        *,
        bucket: Bucket = Bucket.COMMUNICATION,
        scope: str = "local",
        half: Half | None = None,
    ) -> int:
        """Append an operation and return its place in the block; of an exchange in several phases, the last one's."""
        priced, first = self.flows.local(priced, lanes[0] // STREAMS), len(self.rows)
        name = self.names.setdefault(priced.name, len(self.names))
        self.deps.extend((first, dep) for dep in after if dep >= 0)
        for number, (latency_s, work_s, flow) in enumerate(self.flows.parts(priced)):
            self.rows.append(
                (
                    name,
                    phase,
                    bucket,
                    half.stage if half else -1,
                    priced.layer,
                    latency_s,
                    work_s,
                    priced.useful_s,
                    0.0 if number else priced.bytes,
                    flow,
                    priced.sms,
                    priced.grid,
                    self.flows.number(priced),
                    SCOPES.index(scope),
                    self.halves.index(half) if half else 0,
                )
            )
            self.lanes.append(list(lanes))
        self._opening[len(self.rows) - 1] = first
        return len(self.rows) - 1

    def opening(self, op: int) -> int:
        """The first phase of the exchange whose last one is ``op``: what has to wait if the exchange does."""
        return self._opening[op]

    def lane(self, stream: Stream, rank: int | None = None) -> int:
        """Lane number of a stream of this rank (or another)."""
        return (self.rank if rank is None else rank) * STREAMS + stream

    def reduce(self, reductions: Sequence[Priced], after: Sequence[int] = (), half: Half | None = None) -> list[int]:
        """Append the reductions of one layer's buckets; a sum across shard groups follows the one before it."""
        found: list[int] = []
        for one in reductions:
            across = one.stream in ("replicate", "edp_replicate")
            lane = self.lane(Stream.DP_REPLICATE if across else Stream.DP)
            waits = found[-1:] if across else after
            found.append(self.add(one, Phase.REDUCE, [lane], waits, scope=one.stream, half=half))
            if half and not across:
                half.reduced.setdefault(one.stream, []).append((one.layer, found[-1]))
        return found

    def follow(self, half: Half, priced: Priced, extra: Sequence[int] = ()) -> int:
        """Append a layer operator and make it wait for what comes before it in the data flow of ``half``.

        Where none of the operators it names are in this half, because the other part of a split backward runs them,
        it waits for all open ends.
        """
        if priced.layer not in half.layer_end:
            half.named.clear()
        lane = [self.lane(_STREAM[priced.stream])]
        waits = [half.named[name] for name in priced.after if name in half.named] or half.ends
        op = self.add(
            priced,
            Phase.RECOMPUTE if priced.recompute else _PHASE[priced.part],
            lane,
            [*(other for other in waits if self.lanes[other] != lane), *extra],
            bucket=_bucket(priced),
            scope="local" if priced.kernel else priced.stream,
            half=half,
        )
        half.ends = [*(other for other in half.ends if other not in waits and self.lanes[other] != lane), op]
        half.named[priced.name] = op
        half.entry = self.opening(op) if half.entry < 0 else half.entry
        half.last = half.layer_end[priced.layer] = op
        half.layer_start.setdefault(priced.layer, self.opening(op))
        return op

    def block(self) -> Block:
        """The finished block."""
        table = np.array(self.rows, dtype=np.float64).reshape(len(self.rows), len(_COLUMNS))
        columns = {key: table[:, i].astype(dtype) for i, (key, dtype) in enumerate(_COLUMNS)}
        deps = np.array(self.deps, dtype=np.int32).reshape(-1, 2)
        return Block(
            columns=columns,
            lane_ptr=np.concatenate([[0], np.cumsum([len(row) for row in self.lanes])]).astype(np.int32),
            lanes=np.array([lane for row in self.lanes for lane in row], dtype=np.int32),
            op=deps[:, 0],
            dep=deps[:, 1],
            halves=self.halves,
        )


_COLUMNS = (
    ("name", np.int32),
    ("phase", np.int32),
    ("bucket", np.int32),
    ("stage", np.int32),
    ("layer", np.int32),
    ("latency_s", np.float64),
    ("work_s", np.float64),
    ("useful_s", np.float64),
    ("bytes", np.float64),
    ("flow", np.int32),
    ("sms", np.float64),
    ("grid", np.int32),
    ("routed", np.int32),
    ("scope", np.int32),
    ("half", np.int32),
)


def _bucket(priced: Priced) -> Bucket:
    if not priced.kernel:
        return Bucket.COMMUNICATION
    if priced.kind == "optimizer":
        return Bucket.OPTIMIZER
    return Bucket.MATMUL if priced.kind in _MATMUL else Bucket.NON_MATMUL
