"""Chrome trace JSON, for ui.perfetto.dev and for Holistic Trace Analysis.

A process is a simulated rank, a thread is one of its lanes, a slice is an operation.  Kernels carry the category
and arguments HTA reads (``kernel``, an integer ``stream`` above 0), and communication a name that starts with
``ncclKernel_``.  Times are microseconds.  Perfetto ignores sort indices, so that names carry the order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simtrain.program.program import Bucket, Phase, Program, Stream
from simtrain.program.timeline import Timeline
from simtrain.report.bars import Bars, bars, one_rank_per_stage, timeline_of
from simtrain.report.html import write_text
from simtrain.report.palette import STYLES, Kind

if TYPE_CHECKING:
    from simtrain.step.report import MemoryReport, StepReport

__all__ = ["THREADS", "perfetto", "trace_events"]

Event = dict[str, Any]

THREADS = {
    Stream.COMPUTE: 7,
    Stream.TP: 20,
    Stream.CP: 22,
    Stream.EP: 24,
    Stream.PP_SEND_NEXT: 28,
    Stream.PP_SEND_PREV: 29,
    Stream.PP_RECV_PREV: 32,
    Stream.PP_RECV_NEXT: 33,
    Stream.DP: 36,
    Stream.DP_GATHER: 37,
    Stream.DP_REPLICATE: 38,
    Stream.HOST: 40,
    Stream.COPY_IN: 44,
    Stream.COPY_OUT: 45,
}
"""CUDA stream number of each lane in the trace."""
_ACTIONS = 1
_COLLECTIVES = {
    "all-reduce": "AllReduce",
    "reduce-scatter": "ReduceScatter",
    "gather": "AllGather",
    "all-to-all": "AllToAll",
    "broadcast": "Broadcast",
    "send": "SendRecv",
    "recv": "SendRecv",
    "p2p": "SendRecv",
}


def perfetto(source: StepReport | Timeline, path: str | Path, *, ranks: Sequence[int] | None = None) -> Path:
    """Write a trace; the file is complete or absent.

    Args:
        source: a step (whose memory curve is added) or its Timeline.
        path: file to write.
        ranks: simulated ranks; absent: the first of every pipeline rank.

    Returns:
        The path.
    """
    events = ",\n".join(json.dumps(event) for event in trace_events(source, ranks=ranks))
    # HTA finds the rank with a regular expression over lines: it must come first and have a space after the colon.
    rank = f'"distributedInfo": {{"rank": {ranks[0]}}},\n' if ranks is not None and len(ranks) == 1 else ""
    return write_text(path, f'{{\n{rank}"displayTimeUnit": "ms",\n"traceEvents": [\n{events}\n]}}\n')


def trace_events(source: StepReport | Timeline, *, ranks: Sequence[int] | None = None) -> Iterator[Event]:
    """All events of the trace: names, pipeline actions, operations, memory counters."""
    timeline = timeline_of(source)
    chosen = one_rank_per_stage(timeline.program) if ranks is None else tuple(ranks)
    drawn = bars(timeline, streams=tuple(Stream), ranks=chosen, detail="operation")
    yield from _names(timeline.program, drawn, chosen)
    yield from _actions(bars(timeline, ranks=chosen))
    yield from _operations(drawn)
    if not isinstance(source, Timeline):
        yield from _memory(source.memory, timeline.program, chosen)


def _names(program: Program, drawn: Bars, ranks: Sequence[int]) -> Iterator[Event]:
    width = len(str(max(ranks, default=0)))
    for rank in ranks:
        name = f"rank {rank:0{width}d}, stage {program.stage_of_rank[rank]}, {program.multiplicity[rank]} GPUs"
        yield {"ph": "M", "name": "process_name", "pid": rank, "args": {"name": name}}
        yield {"ph": "M", "name": "thread_name", "pid": rank, "tid": _ACTIONS, "args": {"name": "00 actions"}}
    for row in drawn.rows:
        label = f"{row.stream + 1:02d} {row.stream.name.lower()}"
        event = {"ph": "M", "name": "thread_name", "pid": row.rank, "tid": THREADS[row.stream]}
        yield event | {"args": {"name": label}}


def _actions(drawn: Bars) -> Iterator[Event]:
    for i in range(len(drawn)):
        kind = STYLES[Kind(drawn.kind[i])]
        number = f"{kind.letter}{drawn.microbatch[i]}" if drawn.microbatch[i] >= 0 else kind.label
        args = {"stage": int(drawn.stage[i]), "micro batch": int(drawn.microbatch[i])}
        yield _slice(drawn, i, number, "gpu_user_annotation", _ACTIONS, args)


def _operations(drawn: Bars) -> Iterator[Event]:
    program = drawn.program
    for i in range(len(drawn)):
        op, row = int(drawn.first[i]), drawn.rows[drawn.row[i]]
        own = program.names[program.name[op]]
        moves = program.bucket[op] == Bucket.COMMUNICATION
        args: Event = {
            "stream": THREADS[row.stream],
            "device": row.rank,
            "operation": own,
            "phase": Phase(program.phase[op]).name.lower(),
            "stage": int(program.stage[op]),
            "micro batch": int(program.microbatch[op]),
            "layer": int(program.layer[op]),
        }
        if moves:
            args["bytes"] = float(program.bytes[op])
        yield _slice(drawn, i, _nccl(own) if moves else own, "kernel", THREADS[row.stream], args)


def _slice(drawn: Bars, bar: int, name: str, category: str, thread: int, args: Event) -> Event:
    start_us = float(drawn.start_s[bar]) * 1e6
    return {
        "ph": "X",
        "name": name,
        "cat": category,
        "pid": drawn.rows[drawn.row[bar]].rank,
        "tid": thread,
        "ts": start_us,
        "dur": _duration_us(start_us, float(drawn.end_s[bar]) * 1e6),
        "args": args,
    }


def _duration_us(start_us: float, end_us: float) -> float:
    """A duration that, added to the start, never passes the end: neighbours must not overlap by a rounding."""
    duration_us = end_us - start_us
    while start_us + duration_us > end_us:
        duration_us = float(np.nextafter(duration_us, 0.0))
    return duration_us


def _nccl(name: str) -> str:
    plain = name.lower().replace("_", "-").replace(" ", "-")
    kind = next((nccl for word, nccl in _COLLECTIVES.items() if word in plain), "Other")
    return f"ncclKernel_{kind}: {name}"


def _memory(memory: MemoryReport, program: Program, ranks: Sequence[int]) -> Iterator[Event]:
    for rank in ranks:
        times_s, alive = memory.curve[int(program.stage_of_rank[rank])]
        for time_s, value in zip(times_s.tolist(), alive.tolist(), strict=True):
            gib = {"GiB": value / 2**30}
            yield {"ph": "C", "name": "memory", "pid": rank, "ts": max(time_s, 0.0) * 1e6, "args": gib}
