"""Build a Program operation by operation: for tests, examples and hand-made experiments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from simtrain.errors import ProgramError
from simtrain.program.program import STREAMS, Bucket, Phase, Program, Sharing, Stream

__all__ = ["ProgramBuilder", "fifos"]


def fifos(op_ptr: np.ndarray, lanes: np.ndarray, lane_count: int) -> tuple[np.ndarray, np.ndarray]:
    """FIFO of every lane, operations in order of id.

    Args:
        op_ptr: (n + 1,) bounds of each operation in ``lanes``.
        lanes: (e,) lanes of each operation.
        lane_count: number of lanes.

    Returns:
        fifo_ptr: (lane_count + 1,) and fifo: (e,).
    """
    owner = np.repeat(np.arange(len(op_ptr) - 1, dtype=np.int32), np.diff(op_ptr))
    order = np.argsort(lanes, kind="stable")
    counts = np.bincount(lanes, minlength=lane_count)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), owner[order]


class ProgramBuilder:
    """Collects operations; lanes run them in the order they were added.

    >>> b = ProgramBuilder(ranks=2)
    >>> f = b.op("F", [(0, Stream.COMPUTE)], work_s=1.0)
    >>> s = b.op("send", [(0, Stream.PP_SEND_NEXT), (1, Stream.PP_RECV_PREV)], work_s=0.1, after=[f])
    >>> program = b.build()
    """

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self._ops: list[dict[str, object]] = []
        self._lanes: list[list[int]] = []
        self._after: list[list[tuple[int, float]]] = []
        self._flows: list[list[tuple[int, float]]] = []

    def op(
        self,
        name: str,
        lanes: Iterable[tuple[int, Stream]],
        work_s: float = 0.0,
        after: Iterable[int | tuple[int, float]] = (),
        *,
        latency_s: float = 0.0,
        useful_s: float = 0.0,
        bytes: float = 0.0,
        phase: Phase = Phase.FORWARD,
        bucket: Bucket = Bucket.NON_MATMUL,
        stage: int = -1,
        microbatch: int = -1,
        layer: int = -1,
        sms: float = 0.0,
        grid: int = 0,
        flows: Iterable[tuple[int, float]] = (),
        weight: float = 1.0,
    ) -> int:
        """Add an operation and return its id.

        ``after`` holds ids or (id, lag_s) pairs, ``flows`` pairs of (edge, share of its capacity at rate 1); ``weight``
        is how fast its rate grows while links fill up.
        """
        numbers = [rank * STREAMS + stream for rank, stream in lanes]
        if not numbers or len(set(numbers)) != len(numbers):
            raise ProgramError(f"operation {name!r} needs at least one lane, each at most once")
        self._ops.append(
            {
                "name": name,
                "work_s": work_s,
                "latency_s": latency_s,
                "useful_s": useful_s,
                "bytes": bytes,
                "phase": phase,
                "bucket": bucket,
                "stage": stage,
                "microbatch": microbatch,
                "layer": layer,
                "sms": sms,
                "grid": grid,
                "weight": weight,
            }
        )
        self._lanes.append(numbers)
        self._after.append([dep if isinstance(dep, tuple) else (dep, 0.0) for dep in after])
        self._flows.append(sorted(flows))
        return len(self._ops) - 1

    def build(
        self,
        multiplicity: Sequence[int] | None = None,
        stage_of_rank: Sequence[int] | None = None,
        sharing: Sharing | None = None,
    ) -> Program:
        """The Program of all operations added so far."""
        names = tuple(dict.fromkeys(str(op["name"]) for op in self._ops))
        index = {name: i for i, name in enumerate(names)}
        op_ptr, lanes = _ragged(self._lanes, np.int32)
        dep_ptr, dep = _ragged([[d for d, _ in deps] for deps in self._after], np.int32)
        _, lag = _ragged([[lag for _, lag in deps] for deps in self._after], np.float64)
        flow_ptr, edge = _ragged([[e for e, _ in flows] for flows in self._flows], np.int32)
        _, use = _ragged([[n for _, n in flows] for flows in self._flows], np.float64)
        fifo_ptr, fifo = fifos(op_ptr, lanes, self.ranks * STREAMS)
        return Program(
            ranks=self.ranks,
            multiplicity=np.array(multiplicity or [1] * self.ranks, dtype=np.int32),
            stage_of_rank=np.array(stage_of_rank or range(self.ranks), dtype=np.int32),
            names=names,
            name=np.array([index[str(op["name"])] for op in self._ops], dtype=np.int32),
            phase=self._column("phase", np.int32),
            bucket=self._column("bucket", np.int32),
            stage=self._column("stage", np.int32),
            microbatch=self._column("microbatch", np.int32),
            layer=self._column("layer", np.int32),
            latency_s=self._column("latency_s", np.float64),
            work_s=self._column("work_s", np.float64),
            useful_s=self._column("useful_s", np.float64),
            bytes=self._column("bytes", np.float64),
            op_ptr=op_ptr,
            lanes=lanes,
            fifo_ptr=fifo_ptr,
            fifo=fifo,
            dep_ptr=dep_ptr,
            dep=dep,
            lag_s=lag,
            flow=np.arange(len(self._ops), dtype=np.int32),
            flow_ptr=flow_ptr,
            flow_edge=edge,
            flow_use=use,
            flow_weight=self._column("weight", np.float64),
            sms=self._column("sms", np.float64),
            grid=self._column("grid", np.int32),
            sharing=sharing or Sharing(),
        )

    def _column(self, key: str, dtype: type) -> np.ndarray:
        return np.array([op[key] for op in self._ops], dtype=dtype)


def _ragged(rows: Sequence[Sequence[float]], dtype: type) -> tuple[np.ndarray, np.ndarray]:
    ptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
    return ptr, np.array([value for row in rows for value in row], dtype=dtype)
