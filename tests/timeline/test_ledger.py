"""The ledger: every second of every GPU in one bucket, on random Programs and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from simtrain.engines import des
from simtrain.program.builder import ProgramBuilder
from simtrain.program.program import STREAMS, Bucket, Phase, Program, Stream
from simtrain.timeline.ledger import BUCKETS, Ledger, account
from tests.strategies import programs

C, TP, DP, HOST = Stream.COMPUTE, Stream.TP, Stream.DP, Stream.HOST
COMM = {"bucket": Bucket.COMMUNICATION, "phase": Phase.REDUCE}


def nonzero(ledger: Ledger) -> dict[str, float]:
    return {name: pytest.approx(value, abs=1e-12) for name, value in ledger.buckets.items() if abs(value) > 1e-12}


def ledger_of(builder: ProgramBuilder, **ranks: list[int]) -> Ledger:
    return account(des.simulate(builder.build(**ranks)))


@given(programs())
@settings(max_examples=200, deadline=None)
def test_every_gpu_second_is_in_one_bucket(program: Program) -> None:
    timeline = des.simulate(program)
    ledger = account(timeline)
    assert tuple(ledger.buckets) == BUCKETS
    assert ledger.gpu_seconds == pytest.approx(timeline.makespan_s * program.multiplicity.sum())
    assert sum(ledger.buckets.values()) == pytest.approx(ledger.gpu_seconds, rel=1e-9, abs=1e-12)
    assert min(ledger.buckets.values()) >= -1e-12


@given(programs())
@settings(max_examples=60, deadline=None)
def test_held_seconds_are_busy_compute_and_exposed_transfers(program: Program) -> None:
    """A kernel holds its stream for its own time, a transfer at most for its own; waiting is held by nobody."""
    timeline = des.simulate(program)
    ledger = account(timeline)
    gpus = program.multiplicity[program.lanes // STREAMS].astype(float)
    owner = np.repeat(np.arange(program.size), np.diff(program.op_ptr))
    lane_seconds = np.bincount(owner, gpus, program.size) * (timeline.end_s - timeline.start_s)
    kernels = program.lanes[program.op_ptr[:-1]] % STREAMS == C
    np.testing.assert_allclose(ledger.held_s[kernels], lane_seconds[kernels], atol=1e-9)
    assert (ledger.held_s <= lane_seconds + 1e-9).all()
    idle = sum(v for k, v in ledger.buckets.items() if k.startswith("bubble") or k == "straggler")
    lag = bool(program.lag_s.any())
    exposed = ledger.gpu_seconds - idle
    assert ledger.held_s.sum() <= exposed + 1e-9 if lag else ledger.held_s.sum() == pytest.approx(exposed, abs=1e-9)


def test_a_kernel_is_split_into_useful_and_inefficient() -> None:
    b = ProgramBuilder(1)
    b.op("matmul", [(0, C)], 3.0, latency_s=0.5, useful_s=2.0, bucket=Bucket.MATMUL)
    b.op("norm", [(0, C)], 1.0)
    b.op("again", [(0, C)], 0.75, useful_s=0.5, bucket=Bucket.MATMUL, phase=Phase.RECOMPUTE)
    b.op("adam", [(0, C)], 0.25, bucket=Bucket.OPTIMIZER, phase=Phase.OPTIMIZER)
    ledger = ledger_of(b, multiplicity=[4])
    expected = {"useful": 8.0, "kernel_inefficiency": 6.0, "non_matmul": 4.0, "recompute": 3.0, "optimizer": 1.0}
    assert nonzero(ledger) == expected
    assert ledger.held_s.tolist() == [14.0, 4.0, 3.0, 1.0]
    assert sum(ledger.shares().values()) == pytest.approx(1.0, abs=1e-12)


def test_a_transfer_is_exposed_only_where_nothing_covers_it() -> None:
    b = ProgramBuilder(1)
    first = b.op("first", [(0, C)], 1.0)
    tp = b.op("sum", [(0, TP)], 2.0, after=[first], **COMM)
    b.op("cover", [(0, C)], 1.5)
    b.op("needs it", [(0, C)], 1.0, after=[tp])
    ledger = ledger_of(b)
    assert nonzero(ledger) == {"non_matmul": 3.5, "exposed_tp": 0.5}
    assert ledger.held_s[tp] == 0.5


def test_a_chain_of_transfers_is_blamed_link_by_link() -> None:
    b = ProgramBuilder(1)
    first = b.op("first", [(0, C)], 1.0)
    ep = b.op("dispatch", [(0, Stream.EP)], 0.5, after=[first], **COMM)
    cp = b.op("ring", [(0, Stream.CP)], 0.25, after=[ep], **COMM)
    b.op("experts", [(0, C)], 1.0, after=[cp])
    assert nonzero(ledger_of(b)) == {"non_matmul": 2.0, "exposed_ep": 0.5, "exposed_cp": 0.25}


def test_a_late_member_of_a_group_is_a_straggler() -> None:
    b = ProgramBuilder(2)
    early, late = b.op("early", [(0, C)], 1.0), b.op("late", [(1, C)], 2.0)
    tp = b.op("sum", [(0, TP), (1, TP)], 0.5, after=[early, late], **COMM)
    for rank in (0, 1):
        b.op("next", [(rank, C)], 1.0, after=[tp])
    ledger = ledger_of(b, stage_of_rank=[0, 0])
    assert nonzero(ledger) == {"non_matmul": 5.0, "exposed_tp": 1.0, "straggler": 1.0}
    assert ledger.held_s[tp] == 1.0


def test_a_rank_that_ends_before_its_group_waits_for_a_straggler() -> None:
    b = ProgramBuilder(3)
    for rank, work_s in enumerate((1.0, 3.0, 4.0)):
        b.op("work", [(rank, C)], work_s, phase=Phase.BACKWARD_INPUT)
    assert nonzero(ledger_of(b, stage_of_rank=[0, 0, 1])) == {
        "non_matmul": 8.0,
        "straggler": 2.0,
        "bubble_cooldown": 2.0,
    }


def test_a_send_is_exposed_on_the_wire_and_bubble_before_it() -> None:
    b = ProgramBuilder(2)
    first = b.op("I", [(1, C)], 1.0, phase=Phase.BACKWARD_INPUT)
    send = b.op("send", [(1, Stream.PP_SEND_PREV), (0, Stream.PP_RECV_NEXT)], 0.25, after=[first], **COMM)
    b.op("I", [(0, C)], 2.0, after=[send], phase=Phase.BACKWARD_INPUT)
    ledger = ledger_of(b)
    # Both ends wait 0.25 s for the wire: the receiver before its kernel, the sender after its last one.
    assert nonzero(ledger) == {"non_matmul": 3.0, "exposed_pp": 0.5, "bubble_warmup": 1.0, "bubble_cooldown": 2.0}
    assert ledger.held_s[send] == 0.5


def test_a_lag_is_latency_on_the_wire() -> None:
    b = ProgramBuilder(2)
    f0 = b.op("F", [(0, C)], 1.0)
    b.op("F", [(1, C)], 1.0, after=[(f0, 0.25)])
    buckets = ledger_of(b).buckets
    assert buckets["exposed_pp"] == 0.25
    assert buckets["bubble_warmup"] + buckets["bubble_cooldown"] == pytest.approx(1.0 + 1.25)


def test_the_gradient_reduction_after_the_last_kernel_is_the_tail() -> None:
    b = ProgramBuilder(1)
    early = b.op("backward of layer 1", [(0, C)], 1.0, phase=Phase.BACKWARD_INPUT)
    last = b.op("backward of layer 0", [(0, C)], 1.0, phase=Phase.BACKWARD_INPUT)
    b.op("reduce 1", [(0, DP)], 1.5, after=[early], **COMM)
    b.op("reduce 0", [(0, DP)], 0.5, after=[last], **COMM)
    ledger = ledger_of(b)
    assert nonzero(ledger) == {"non_matmul": 2.0, "exposed_dp": 1.0}
    assert ledger.held_s.tolist() == [1.0, 1.0, 0.5, 0.5]


def test_host_time_before_a_kernel_is_host() -> None:
    b = ProgramBuilder(1)
    host = b.op("host", [(0, HOST)], 0.75, bucket=Bucket.HOST, phase=Phase.HOST)
    b.op("F", [(0, C)], 1.0, after=[host])
    assert nonzero(ledger_of(b)) == {"non_matmul": 1.0, "host": 0.75}


def pipeline(*, f: tuple[float, float], b: tuple[float, float], microbatches: int) -> ProgramBuilder:
    """1F1B on two stages without communication; ``f`` and ``b`` are seconds by stage."""
    builder = ProgramBuilder(2)
    sequence = {0: ["F0", "F1", "B0"], 1: ["F0", "B0"]}
    for m in range(2, microbatches):
        sequence[0] += [f"F{m}", f"B{m - 1}"]
    sequence[0] += [f"B{microbatches - 1}"]
    for m in range(1, microbatches):
        sequence[1] += [f"F{m}", f"B{m}"]
    made: dict[tuple[str, int], int] = {}
    order = [(slot, rank) for rank in (0, 1) for slot in sequence[rank]]
    number = {key: i for i, key in enumerate(order)}
    for slot, rank in order:
        forward = slot[0] == "F"
        needs = [(slot, 0)] if forward and rank else [] if forward else [(slot.replace("B", "F"), rank)]
        needs += [(slot, 1)] if not forward and rank == 0 else []
        made[slot, rank] = builder.op(
            slot,
            [(rank, C)],
            f[rank] if forward else b[rank],
            [number[need] for need in needs],
            phase=Phase.FORWARD if forward else Phase.BACKWARD_INPUT,
            microbatch=int(slot[1:]),
        )
    return builder


def test_1f1b_on_two_stages_by_hand() -> None:
    # Rank 0: F0 0-1, F1 1-2, B0 4-6, F2 6-7, B1 7-9, B2 10-12.   Rank 1: F0 1-2, B0 2-4, ... B2 8-10.
    timeline = des.simulate(pipeline(f=(1.0, 1.0), b=(2.0, 2.0), microbatches=3).build())
    assert timeline.start_s.tolist() == [0, 1, 4, 6, 7, 10, 1, 2, 4, 5, 7, 8]
    assert timeline.makespan_s == 12.0
    assert nonzero(account(timeline)) == {"non_matmul": 18.0, "bubble_warmup": 3.0, "bubble_cooldown": 3.0}


def test_an_uneven_pipeline_has_bubbles_in_steady_state() -> None:
    # Rank 0 waits 2-4 before its first backward, 6-7 between, 9-10 after its last forward (and 11-13).
    timeline = des.simulate(pipeline(f=(1.0, 1.0), b=(1.0, 2.0), microbatches=4).build())
    assert timeline.makespan_s == 14.0
    assert nonzero(account(timeline)) == {
        "non_matmul": 20.0,
        "bubble_warmup": 3.0,
        "bubble_steady": 1.0,
        "bubble_cooldown": 4.0,
    }


def test_a_copy_counts_as_often_as_it_stands_for() -> None:
    builder = pipeline(f=(1.0, 1.0), b=(2.0, 2.0), microbatches=3)
    ledger = ledger_of(builder, multiplicity=[3, 5])
    assert ledger.gpu_seconds == 12.0 * 8
    assert ledger.buckets["bubble_warmup"] == 3 * 2.0 + 5 * 1.0
    assert ledger.buckets["bubble_cooldown"] == 3 * 1.0 + 5 * 2.0


@pytest.mark.parametrize("swap", [False, True])
def test_of_own_causes_at_one_instant_the_first_is_blamed_however_they_are_listed(swap: bool) -> None:
    b = ProgramBuilder(ranks=1)
    summed = b.op("sum", [(0, TP)], 2.0, **COMM)
    gathered = b.op("gather", [(0, DP)], 2.0, **COMM)
    b.op("kernel", [(0, C)], 1.0, [gathered, summed] if swap else [summed, gathered])
    assert nonzero(ledger_of(b)) == {"exposed_tp": 2.0, "non_matmul": 1.0}
