"""Bars: a Timeline as rectangles, at the level of detail a reader asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import InputError
from simtrain.program.program import STREAMS, Bucket, Phase, Program, Stream
from simtrain.program.timeline import Timeline
from simtrain.report.palette import STYLES, Kind

if TYPE_CHECKING:
    from simtrain.step.report import StepReport

__all__ = ["Bars", "Detail", "Row", "bars", "one_rank_per_stage", "timeline_of"]

Detail = Literal["action", "operation"]
Ints = NDArray[np.int32]
Floats = NDArray[np.float64]

_KIND_OF_PHASE = np.zeros(len(Phase), dtype=np.int32)
_KIND_OF_PHASE[Phase.FORWARD] = Kind.FORWARD
_KIND_OF_PHASE[Phase.BACKWARD_INPUT] = Kind.BACKWARD_INPUT
_KIND_OF_PHASE[Phase.BACKWARD_WEIGHT] = Kind.BACKWARD_WEIGHT
_KIND_OF_PHASE[Phase.RECOMPUTE] = Kind.RECOMPUTE
_KIND_OF_PHASE[Phase.SEND] = Kind.COMMUNICATION
_KIND_OF_PHASE[Phase.REDUCE] = Kind.COMMUNICATION
_KIND_OF_PHASE[Phase.OPTIMIZER] = Kind.OPTIMIZER
_KIND_OF_PHASE[Phase.HOST] = Kind.HOST
# Recomputation and both halves of a backward alternate layer by layer inside one pipeline action.
_ACTION_OF_PHASE = np.arange(len(Phase), dtype=np.int32)
_ACTION_OF_PHASE[[Phase.BACKWARD_WEIGHT, Phase.RECOMPUTE]] = Phase.BACKWARD_INPUT


@dataclass(frozen=True, slots=True)
class Row:
    """One lane that is drawn."""

    rank: int
    stream: Stream
    stage: int


@dataclass(frozen=True, slots=True)
class Bars:
    """Rectangles of a Timeline, sorted by row and start; zero-length operations have none.

    Attributes:
        rows: the lanes drawn, top to bottom.
        row: (n,) index into ``rows``.
        start_s, end_s: (n,) exactly the start of the first and the end of the last operation in the bar.
        busy_s: (n,) time in which an operation of the bar ran; less than its length where the lane waited.
        recompute_s: (n,) the part of ``busy_s`` that is recomputation.
        kind: (n,) codes of :class:`Kind`.
        stage, microbatch: (n,) -1 where they do not apply.
        first: (n,) first operation; operations: (n,) how many the bar holds.
    """

    program: Program
    rows: tuple[Row, ...]
    row: Ints
    start_s: Floats
    end_s: Floats
    busy_s: Floats
    recompute_s: Floats
    kind: Ints
    stage: Ints
    microbatch: Ints
    first: Ints
    operations: Ints

    def __len__(self) -> int:
        return len(self.row)

    def label(self, bar: int) -> str:
        """What the bar is, e.g. ``F`` of an action or the name of a single operation."""
        if self.operations[bar] == 1 or self.kind[bar] == Kind.COMMUNICATION:
            return self.program.names[int(self.program.name[self.first[bar]])]
        return STYLES[Kind(self.kind[bar])].label

    def select(self, keep: NDArray[np.bool_]) -> Bars:
        """The bars where ``keep`` (n,) is true, on the same rows."""
        names = ("row", "start_s", "end_s", "busy_s", "recompute_s", "kind", "stage", "microbatch", "first")
        arrays = {name: getattr(self, name)[keep] for name in names}
        return Bars(self.program, self.rows, **arrays, operations=self.operations[keep])


def timeline_of(source: StepReport | Timeline) -> Timeline:
    """The Timeline of a step, or the Timeline itself."""
    return source if isinstance(source, Timeline) else source.timeline


def one_rank_per_stage(program: Program) -> tuple[int, ...]:
    """The first simulated rank of every pipeline rank, in pipeline order."""
    _, first = np.unique(program.stage_of_rank, return_index=True)
    return tuple(int(rank) for rank in first)


def bars(
    source: StepReport | Timeline,
    *,
    streams: Iterable[Stream] = (Stream.COMPUTE,),
    ranks: Sequence[int] | None = None,
    detail: Detail = "action",
) -> Bars:
    """Rectangles of the chosen lanes.

    Args:
        source: a step or its Timeline.
        streams: streams to draw; those without any operation on the chosen ranks get no row.
        ranks: simulated ranks, top to bottom; absent: the first of every pipeline rank.
        detail: ``action`` merges the consecutive operations of one lane that belong to the same pipeline action
            (direction, stage, micro batch; on communication lanes also the name); ``operation`` gives each its
            own bar.

    Raises:
        InputError: a rank does not exist.
    """
    timeline = timeline_of(source)
    rows, op, row = _operations(timeline, tuple(streams), _checked_ranks(timeline.program, ranks))
    heads = _heads(timeline, rows, op, row, detail)
    last = np.append(heads[1:], len(op))[: len(heads)] - 1
    duration = timeline.end_s[op] - timeline.start_s[op]
    phase = timeline.program.phase[op]
    return Bars(
        program=timeline.program,
        rows=rows,
        row=row[heads],
        start_s=timeline.start_s[op[heads]],
        end_s=timeline.end_s[op[last]],
        busy_s=_sum(duration, heads),
        recompute_s=_sum(np.where(phase == Phase.RECOMPUTE, duration, 0.0), heads),
        kind=_kinds(timeline.program, rows, op, row, heads, detail),
        stage=timeline.program.stage[op[heads]],
        microbatch=timeline.program.microbatch[op[heads]],
        first=op[heads],
        operations=(last - heads + 1).astype(np.int32),
    )


def _checked_ranks(program: Program, ranks: Sequence[int] | None) -> tuple[int, ...]:
    chosen = one_rank_per_stage(program) if ranks is None else tuple(ranks)
    for rank in chosen:
        if not 0 <= rank < program.ranks:
            raise InputError(f"there is no simulated rank {rank}; ranks go from 0 to {program.ranks - 1}")
    return chosen


def _operations(
    timeline: Timeline, streams: tuple[Stream, ...], ranks: tuple[int, ...]
) -> tuple[tuple[Row, ...], Ints, Ints]:
    """Rows, and operation and row of every operation of positive length on them."""
    program = timeline.program
    sizes = np.diff(program.fifo_ptr).reshape(program.ranks, STREAMS)[list(ranks)].sum(axis=0)
    used = [stream for stream in streams if sizes[stream]]
    rows = tuple(Row(rank, stream, int(program.stage_of_rank[rank])) for rank in ranks for stream in used)
    lanes = [timeline.lane(row.rank, row.stream) for row in rows]
    op = np.concatenate([np.zeros(0, np.int32), *lanes]).astype(np.int32)
    row = np.repeat(np.arange(len(rows), dtype=np.int32), [len(lane) for lane in lanes])
    real = timeline.end_s[op] > timeline.start_s[op]
    return rows, op[real], row[real]


def _heads(timeline: Timeline, rows: tuple[Row, ...], op: Ints, row: Ints, detail: Detail) -> NDArray[np.intp]:
    """Positions in ``op`` where a new bar begins."""
    if detail == "operation" or not len(op):
        return np.arange(len(op))
    program = timeline.program
    moves = _moves(rows)[row]
    name = np.where(moves, program.name[op], -1)
    # A reduction or gather of no micro batch is an event of its own.
    name = np.where(moves & (program.microbatch[op] < 0), -2 - np.arange(len(op)), name)
    keys = np.stack((row, _ACTION_OF_PHASE[program.phase[op]], program.stage[op], program.microbatch[op], name))
    return np.flatnonzero(np.append(True, (keys[:, 1:] != keys[:, :-1]).any(axis=0)))


def _kinds(
    program: Program, rows: tuple[Row, ...], op: Ints, row: Ints, heads: NDArray[np.intp], detail: Detail
) -> Ints:
    own = _KIND_OF_PHASE[program.phase[op]]
    moved = (program.bucket[op] == Bucket.COMMUNICATION) & (_moves(rows)[row] | (detail == "operation"))
    own = np.where(moved, Kind.COMMUNICATION, own).astype(np.int32)
    if not len(heads):
        return own
    # The lead kind of a merged bar: recomputation is inside its backward, and I beside W makes a full backward.
    has = {kind: np.logical_or.reduceat(own == kind, heads) for kind in Kind}
    full = has[Kind.BACKWARD_INPUT] & has[Kind.BACKWARD_WEIGHT]
    lead = own[heads]
    for kind in (Kind.BACKWARD_WEIGHT, Kind.BACKWARD_INPUT):
        lead = np.where(has[kind], kind, lead)
    return np.where(full, Kind.BACKWARD, lead).astype(np.int32)


def _moves(rows: tuple[Row, ...]) -> NDArray[np.bool_]:
    """Per row whether it is a communication lane."""
    return np.array([row.stream not in (Stream.COMPUTE, Stream.HOST) for row in rows], dtype=bool)


def _sum(values: Floats, heads: NDArray[np.intp]) -> Floats:
    return np.add.reduceat(values, heads) if len(heads) else np.zeros(0)
