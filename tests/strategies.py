"""Hypothesis strategies: random Programs and valid cuts of a cluster."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from simtrain.layout.parallel import Parallel
from simtrain.program.builder import ProgramBuilder
from simtrain.program.program import Bucket, Phase, Program, Sharing, Stream

# Few distinct values, so that many operations end together; thirds and tenths are not exact in binary.
DURATIONS_S = st.sampled_from([0.0, 0.0, 0.1, 0.25, 1 / 3, 0.5, 1.0, 1.0, 2.0, 1e-3])
LAGS_S = st.sampled_from([0.0, 0.0, 0.0, 0.1, 1 / 3, 0.5, 3.0])
COMPUTE_BUCKETS = (Bucket.MATMUL, Bucket.MATMUL, *Bucket)
GROUP_STREAMS = (Stream.COMPUTE, Stream.TP, Stream.CP, Stream.EP, Stream.DP)


@dataclass(frozen=True)
class Drawn:
    """Lanes and ledger bucket of one random operation."""

    lanes: tuple[tuple[int, Stream], ...]
    bucket: Bucket
    phase: Phase


@st.composite
def _operations(draw: st.DrawFn, ranks: int) -> Drawn:
    kind = draw(st.sampled_from(["kernel", "kernel", "kernel", "collective", "collective", "send", "host"]))
    rank = draw(st.integers(0, ranks - 1))
    if kind == "kernel":
        return Drawn(((rank, Stream.COMPUTE),), draw(st.sampled_from(COMPUTE_BUCKETS)), draw(st.sampled_from(Phase)))
    if kind == "host":
        return Drawn(((rank, Stream.HOST),), Bucket.HOST, Phase.HOST)
    if kind == "send" and ranks > 1:
        other = draw(st.integers(0, ranks - 1).filter(lambda r: r != rank))
        lanes = ((rank, Stream.PP_SEND_NEXT), (other, Stream.PP_RECV_PREV))
        return Drawn(lanes, Bucket.COMMUNICATION, Phase.SEND)
    members = draw(st.sets(st.integers(0, ranks - 1), min_size=1))
    stream = draw(st.sampled_from(GROUP_STREAMS))
    return Drawn(tuple((m, stream) for m in sorted(members)), Bucket.COMMUNICATION, Phase.REDUCE)


@st.composite
def _loads(draw: st.DrawFn) -> dict[str, object]:
    """Links that a transfer crosses (its own busiest one in full), its pace, the SMs it holds; blocks of a kernel."""
    edges = draw(st.lists(st.integers(0, 5), unique=True, max_size=4))
    shares = draw(st.lists(st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 1.0]), min_size=len(edges), max_size=len(edges)))
    return {
        "flows": zip(edges, shares, strict=True),
        "weight": draw(st.sampled_from([0.5, 1.0, 1.0, 3.0])),
        "sms": draw(st.sampled_from([0.0, 0.0, 0.1, 0.25])),
        "grid": draw(st.sampled_from([0, 0, 1, 100, 132, 133, 1000])),
    }


SHARINGS = st.sampled_from([Sharing(), Sharing(132, 0.97, 0.73), Sharing(132, 1.0, 0.5)])


@st.composite
def programs(draw: st.DrawFn, *, forward_only: bool = True, max_size: int = 16, coupled: bool = False) -> Program:
    """A random Program of up to four ranks.

    Args:
        draw: given by hypothesis.
        forward_only: operations wait for earlier ones and lanes run in order of id, so that it can finish;
            otherwise dependencies may form cycles and lanes may be in any order.
        max_size: most operations.
        coupled: transfers share links, hold SMs and slow kernels.
    """
    ranks = draw(st.integers(1, 4))
    size = draw(st.integers(1, max_size))
    builder = ProgramBuilder(ranks)
    for op in range(size):
        drawn = draw(_operations(ranks))
        latest = op - 1 if forward_only else size - 1
        after = draw(st.lists(st.tuples(st.integers(0, latest), LAGS_S), max_size=3)) if latest >= 0 else []
        latency_s, work_s = draw(DURATIONS_S), draw(DURATIONS_S)
        useful = draw(st.sampled_from([0.0, 0.5, 1.0])) * (latency_s + work_s)
        kind = {"phase": drawn.phase, "bucket": drawn.bucket}
        load = draw(_loads()) if coupled else {}
        builder.op(f"op{op}", drawn.lanes, work_s, after, latency_s=latency_s, useful_s=useful, **kind, **load)
    stages = draw(st.lists(st.integers(0, 1), min_size=ranks, max_size=ranks))
    copies = draw(st.lists(st.integers(1, 8), min_size=ranks, max_size=ranks))
    sharing = draw(SHARINGS) if coupled else None
    program = builder.build(multiplicity=copies, stage_of_rank=stages, sharing=sharing)
    return program if forward_only else replace(program, fifo=_shuffled(draw, program))


def _shuffled(draw: st.DrawFn, program: Program) -> np.ndarray:
    bounds = program.fifo_ptr.tolist()
    rows = [program.fifo[a:b].tolist() for a, b in itertools.pairwise(bounds)]
    return np.array([op for row in rows for op in draw(st.permutations(row))], dtype=np.int32)


@st.composite
def parallels(draw: st.DrawFn) -> Parallel:
    """Sizes of a random valid cut: one layer a stage, an ep * etp that divides a pipeline rank's GPUs."""
    tp, cp, dp, pp = (draw(st.integers(1, 4)) for _ in range(4))
    inner = tp * cp * dp
    ep, left = _factor(draw, inner)
    etp, _ = _factor(draw, left)
    layers = tuple((i,) for i in range(pp))
    return Parallel(inner * pp, tp, cp, ep, pp, 1, dp, tp > 1, 1, layers, etp=etp)


def _factor(draw: st.DrawFn, total: int) -> tuple[int, int]:
    """A divisor of ``total``, and what is left of it."""
    found = draw(st.sampled_from([d for d in range(1, total + 1) if total % d == 0]))
    return found, total // found
