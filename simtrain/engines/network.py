"""What is under way, as records: everything about one operation, lane, rank, edge or place on an edge lies together.

While an operation is at work, its state is kept in the record of its first lane, its home: a lane runs one operation
at a time, so that there are as many records as lanes, however many operations a Program has, and they stay in cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simtrain.program.program import STREAMS, Program, Stream

__all__ = [
    "BEGUN",
    "CHANGED",
    "EPOCH",
    "FULL",
    "KERNEL",
    "LEFT",
    "OTHER",
    "RANKS",
    "REACHED",
    "STIRRED",
    "TRANSFER",
    "Network",
    "prepare",
    "records",
]

Ints = NDArray[np.int32]
Records = NDArray[np.void]

OTHER, KERNEL, TRANSFER = 0, 1, 2
"""Kinds of operations: host work, whose rate is always 1; compute kernels; transfers."""

EPOCH, RANKS, BEGUN, STIRRED, LEFT, REACHED, FULL, CHANGED = range(8)
"""Rows of ``Network.lists``."""

_OPERATION = np.dtype([("sms", "f8"), ("kind", "i4"), ("grid", "i4"), ("flow", "i4"), ("lane", "i4")], align=True)
_LANE = np.dtype(
    [
        *[(name, "i4") for name in ("home", "op", "mark", "busy", "node", "length")],
        *[(name, "f8") for name in ("weight", "sms", "rate", "cap", "fresh")],
    ],
    align=True,
)
_RANK = np.dtype([("held", "f8"), ("kernels", "i4"), ("busy", "i4"), ("transfers", "i4"), ("mark", "i4")], align=True)
_EDGE = np.dtype(
    [("level", "f8"), ("head", "i4"), ("mark", "i4"), ("full", "i4"), ("stale", "i4"), ("left", "i4")], align=True
)
_NODE = np.dtype([("use", "f8"), ("home", "i4"), ("edge", "i4"), ("before", "i4"), ("after", "i4")], align=True)
_SET = np.dtype([("weight", "f8"), ("share", "i4")], align=True)
_SHARE = np.dtype([("use", "f8"), ("edge", "i4")], align=True)


class Network(NamedTuple):
    """A Program as its rates see it, and what is under way.

    Attributes:
        ops: (n + 1,) records ``sms``, ``grid``, ``flow`` as in Program; ``kind``; ``lane``, first of its ``op_lanes``.
        op_lanes: lanes of the operations.
        sets: (sets + 1,) ``weight`` and first of the ``shares`` of each set of flows.
        shares: ``edge`` and ``use`` as in Program.
        lanes: (lanes,) records: ``home`` of the operation at work on a lane, -1 without. Of the operation whose home a
            lane is: ``op``; ``rate``; ``cap``, what its rate would be if no link were shared; ``fresh``, the rate being
            worked out; ``sms``; ``weight``; ``busy``, on how many of its lanes' ranks a kernel runs; its ``length``
            nodes from ``node`` on; ``mark``, when it was last reached.
        ranks: (ranks,) records: ``kernels``, lanes on which kernels work; ``transfers``, lanes on which transfers that
            hold SMs work; ``busy`` and ``held``, whether a kernel runs and the SM share held, as of the last settling.
        edges: (edges,) records: ``head`` of the list of nodes; ``full``, whether somebody has to wait; ``level`` at
            which it is, to be worked out again where ``stale``; ``mark``, ``left``: when it was last looked at, left.
        nodes: places of transfers on edges: ``home``, ``edge``, ``use``, and neighbours in the edge's list.
        lists: (rows, 1 + longest) lists of lanes, edges or ranks: how many, then which. ``lists[CHANGED]`` holds
            the homes whose rate is new; ``lists[EPOCH][0]`` is the number of the present instant.
        sharing: sm_count, kernel_rate, transfer_rate as in :class:`simtrain.program.program.Sharing`.
    """

    ops: Records
    op_lanes: Ints
    sets: Records
    shares: Records
    lanes: Records
    ranks: Records
    edges: Records
    nodes: Records
    lists: Ints
    sharing: tuple[float, float, float]

    def plain(self) -> Network:
        """The same as lists and dictionaries, which Python reads several times faster than arrays of records."""
        values: dict[str, Any] = {name: _plain(getattr(self, name)) for name in self._fields if name != "sharing"}
        return self._replace(**values)


def prepare(program: Program) -> Network:
    """The Network of a Program, with nothing under way."""
    first = program.lanes[program.op_ptr[:-1]]
    kind = np.full(program.size, TRANSFER, dtype=np.int32)
    kind[first % STREAMS == Stream.COMPUTE] = KERNEL
    kind[first % STREAMS == Stream.HOST] = OTHER
    ops = records(
        _OPERATION,
        program.size + 1,
        sms=np.where(kind == TRANSFER, program.sms, 0.0),
        kind=kind,
        grid=program.grid,
        flow=np.where(kind == TRANSFER, program.flow, -1),
        lane=program.op_ptr,
    )
    lanes, edges = program.ranks * STREAMS, int(program.flow_edge.max(initial=-1)) + 1
    longest = _longest(program, first, lanes)
    sharing = program.sharing
    return Network(
        ops=ops,
        op_lanes=program.lanes,
        sets=records(_SET, len(program.flow_ptr), weight=program.flow_weight, share=program.flow_ptr),
        shares=records(_SHARE, len(program.flow_edge), use=program.flow_use, edge=program.flow_edge),
        lanes=records(_LANE, lanes, home=np.full(lanes, -1), node=np.cumsum(longest) - longest),
        ranks=records(_RANK, program.ranks),
        edges=records(_EDGE, edges, head=np.full(edges, -1)),
        nodes=records(_NODE, int(longest.sum())),
        lists=_lists(max(lanes, edges)),
        sharing=(float(sharing.sm_count), float(sharing.kernel_rate), float(sharing.transfer_rate)),
    )


def _longest(program: Program, first: Ints, lanes: int) -> NDArray[np.int64]:
    """Most edges that an operation crosses whose first lane this is."""
    longest = np.zeros(lanes, dtype=np.int64)
    if program.flow_edge.size:
        np.maximum.at(longest, first, np.append(np.diff(program.flow_ptr), 0)[program.flow])
    return longest


def _lists(longest: int) -> Ints:
    lists = np.zeros((8, 1 + longest), dtype=np.int32)
    lists[EPOCH][0] = 1
    return lists


def _plain(values: NDArray[Any]) -> list[Any]:
    names, rows = values.dtype.names, values.tolist()
    return [dict(zip(names, row, strict=True)) for row in rows] if names else rows


def records(dtype: np.dtype[Any], size: int, /, **columns: NDArray[Any]) -> Records:
    """Records with some fields given, from the first record on, and the others 0."""
    records = np.zeros(size, dtype=dtype)
    for name, values in columns.items():
        records[name][: len(values)] = values
    return records
