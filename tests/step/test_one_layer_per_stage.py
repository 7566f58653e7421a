"""A pipeline of one layer a stage: summing gradients over many micro batches hides their reduction.

80 stages of one layer of 1e9 parameters, batch 8 of 4096 tokens, cards of 330 TFLOPS on PCIe Gen4 (32 GB/s one way).
"""

from __future__ import annotations

import pytest

from simtrain.engines import des
from simtrain.program.builder import ProgramBuilder
from simtrain.program.program import Bucket, Phase, Stream
from simtrain.program.timeline import Timeline
from simtrain.schedules import get as get_schedule
from simtrain.schedules.order import Action
from simtrain.timeline.ledger import Ledger, account

STAGES = MICROBATCHES = 80
PARAMETERS, TOKENS = 1e9, 8 * 4096
FLOPS, FLOPS_PER_S = 6 * PARAMETERS * TOKENS, 330e12
COMPUTE_S = FLOPS / FLOPS_PER_S
EACH_WAY_S = 4 * PARAMETERS / 32e9


def test_the_figures_behind_it() -> None:
    assert pytest.approx(196e12, rel=0.01) == FLOPS
    assert pytest.approx(0.6, rel=0.01) == COMPUTE_S
    assert pytest.approx(0.12, rel=0.05) == EACH_WAY_S
    assert pytest.approx(48.0, rel=0.01) == MICROBATCHES * COMPUTE_S


def exchange(builder: ProgramBuilder, rank: int, after: int) -> int:
    """Reduce the layer's gradients and broadcast the result."""
    comm = {"bucket": Bucket.COMMUNICATION, "phase": Phase.REDUCE}
    reduced = builder.op("reduce", [(rank, Stream.DP)], EACH_WAY_S, [after], **comm)
    return builder.op("broadcast", [(rank, Stream.DP)], EACH_WAY_S, [reduced], **comm)


def one_stage(*, summed: bool) -> tuple[Timeline, Ledger]:
    """A stage in steady state; unsummed gradients must be exchanged before the next micro batch changes them."""
    builder = ProgramBuilder(1)
    needs: list[int] = []
    for m in range(MICROBATCHES):
        last = builder.op("compute", [(0, Stream.COMPUTE)], COMPUTE_S, needs, phase=Phase.BACKWARD_INPUT, microbatch=m)
        if not summed or m == MICROBATCHES - 1:
            needs = [exchange(builder, 0, last)]
    timeline = des.simulate(builder.build(multiplicity=[2]))
    return timeline, account(timeline)


def test_summed_gradients_leave_under_a_second_of_48_exposed() -> None:
    timeline, ledger = one_stage(summed=True)
    exposed_s = ledger.shares()["exposed_dp"] * timeline.makespan_s
    assert exposed_s == pytest.approx(2 * EACH_WAY_S)
    assert exposed_s < 1.0
    assert timeline.makespan_s == pytest.approx(48.0, rel=0.01)
    assert ledger.shares()["non_matmul"] > 0.99


def test_gradients_exchanged_after_every_micro_batch_cost_a_third_of_the_step() -> None:
    timeline, ledger = one_stage(summed=False)
    assert ledger.shares()["exposed_dp"] * timeline.makespan_s == pytest.approx(MICROBATCHES * 2 * EACH_WAY_S)
    assert ledger.shares()["exposed_dp"] == pytest.approx(0.25 / 0.85, rel=0.02)


def test_in_the_whole_pipeline_every_stage_exposes_under_a_second() -> None:
    """80 stages in 1F1B: 48 s of compute each, and a quarter of a second of exchange after the last backward."""
    order = get_schedule("1f1b").order(STAGES, MICROBATCHES)
    slots = [(rank, int(row[0]), int(row[2])) for rank, rows in enumerate(order.actions) for row in rows]
    number = {slot: i for i, slot in enumerate(slots)}
    builder = ProgramBuilder(STAGES)
    for rank, kind, m in slots:
        forward = kind == Action.F
        needs = [(rank - 1, kind, m)] if forward else [(rank, Action.F, m), (rank + 1, kind, m)]
        builder.op(
            "F" if forward else "B",
            [(rank, Stream.COMPUTE)],
            COMPUTE_S / 3 if forward else COMPUTE_S * 2 / 3,
            [number[need] for need in needs if need in number],
            phase=Phase.FORWARD if forward else Phase.BACKWARD_INPUT,
        )
    for rank in range(STAGES):
        exchange(builder, rank, number[rank, int(Action.B), MICROBATCHES - 1])
    timeline = des.simulate(builder.build())
    ledger = account(timeline)
    assert ledger.buckets["exposed_dp"] / STAGES < 1.0
    assert ledger.buckets["exposed_dp"] / STAGES == pytest.approx(2 * EACH_WAY_S)
    assert ledger.buckets["non_matmul"] / STAGES == pytest.approx(MICROBATCHES * COMPUTE_S)
    assert timeline.makespan_s == pytest.approx((MICROBATCHES + STAGES - 1) * COMPUTE_S + 2 * EACH_WAY_S)
