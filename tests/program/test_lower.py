"""Lowering: actions wait for what their data comes from, and for nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from simtrain.costs.kernels import KernelModel
from simtrain.costs.prices import PriceList
from simtrain.engines import des
from simtrain.program.lower import Lowered, lower
from simtrain.program.program import STREAMS, Bucket, Phase, Program, Stream
from simtrain.schedules.order import Action, Order
from simtrain.step.simulate import Plan, plan_step
from simtrain.timeline.ledger import account
from tests.schedules.evaluate import finish_times
from tests.small import small

SCHEDULES = {
    "gpipe": ("layout.schedule=gpipe",),
    "1f1b": (),
    "1f1b on four ranks": ("layout.pp=4", "layout.tp=1"),
    "interleaved": ("layout.schedule=interleaved_1f1b", "layout.vpp=2"),
    "interleaved on four ranks": (
        "layout.schedule=interleaved_1f1b",
        "layout.vpp=2",
        "layout.pp=4",
        "workload.model.layers=8",
    ),
    "blocking sends": ("layout.blocking_sends=true",),
}


def with_costs(lowered: Lowered, forward_s: float, backward_s: float) -> Program:
    """The Program with everything free of charge but one operation of each action."""
    work_s = np.zeros(lowered.program.size)
    for _, kind, _, _, first, _ in lowered.actions.tolist():
        work_s[first] = forward_s if kind == Action.F else backward_s
    return replace(lowered.program, work_s=work_s, latency_s=np.zeros_like(work_s))


@pytest.mark.parametrize("case", SCHEDULES)
def test_actions_run_when_their_order_says(case: str) -> None:
    """With free communication the lowered step is the bare schedule, slot for slot."""
    plan = plan_step(small(*SCHEDULES[case]))
    timeline = des.simulate(with_costs(plan.lowered, 1.0, 2.5))
    spans = finish_times(plan.order, 1.0, 2.5)
    for rank in range(plan.order.ranks):
        actions = plan.lowered.actions[plan.lowered.actions[:, 0] == rank]
        assert actions[:, 1:4].tolist() == plan.order.actions[rank][:, :3].tolist()
        assert timeline.start_s[actions[:, 4]].tolist() == [start for start, _ in spans[rank]]
    assert timeline.makespan_s == max(rank[-1][1] for rank in spans)


@cache
def split() -> tuple[Plan, Lowered]:
    """Two stages; the second one splits its backward."""
    plan = plan_step(small("workload.global_batch=8"))
    slots = [
        [["F", 0, 0], ["F", 0, 1], ["B", 0, 0], ["B", 0, 1]],
        [["F", 1, 0], ["I", 1, 0], ["W", 1, 0], ["F", 1, 1], ["I", 1, 1], ["W", 1, 1]],
    ]
    prices = PriceList(KernelModel(plan.device, "dense", "bf16"), plan.topology, plan.placement, plan.scenario.cluster)
    order = Order.from_slots("split", 2, slots)
    return plan, lower(order, plan.prices, prices, plan.scenario.layout, plan.parallel)


def test_weight_gradients_do_not_wait_for_the_send() -> None:
    _, lowered = split()
    timeline = des.simulate(lowered.program)
    rows = {(kind, stage, mb): (first, last) for _, kind, stage, mb, first, last in lowered.actions.tolist()}
    send = next(op for op in timeline.lane(1, Stream.PP_SEND_PREV) if lowered.program.microbatch[op] == 0)
    weights, inputs = rows[Action.W, 1, 0], rows[Action.I, 1, 0]
    assert timeline.start_s[send] == timeline.end_s[inputs[1]] == timeline.start_s[weights[0]]
    assert timeline.start_s[rows[Action.B, 0, 0][0]] == timeline.end_s[send]
    assert timeline.end_s[send] > timeline.start_s[send]


def test_a_split_backward_does_the_same_work() -> None:
    plan, lowered = split()
    whole, parts = plan.lowered.program, lowered.program
    for phase in (Phase.BACKWARD_INPUT, Phase.BACKWARD_WEIGHT, Phase.FORWARD):
        assert parts.work_s[parts.phase == phase].sum() == pytest.approx(whole.work_s[whole.phase == phase].sum())


def compute(program: Program, rank: int) -> np.ndarray:
    queue = program.fifo[program.fifo_ptr[rank * STREAMS] : program.fifo_ptr[rank * STREAMS + 1]]
    return queue[program.bucket[queue] != Bucket.OPTIMIZER]


def test_host_time_comes_once_before_each_micro_batch_of_a_rank() -> None:
    plan = plan_step(small("workload.host_time_per_micro_batch=2 ms", *SCHEDULES["interleaved"]))
    timeline = des.simulate(plan.lowered.program)
    for rank in range(2):
        host = timeline.lane(rank, Stream.HOST)
        assert len(host) == plan.order.microbatches
        assert account(timeline).buckets["host"] > 0
        firsts = [row[4] for row in plan.lowered.actions.tolist() if row[:3] == [rank, Action.F, rank]]
        assert (timeline.start_s[firsts] >= timeline.end_s[host]).all()


@pytest.mark.parametrize("layers", [2, 4, 12])
def test_weights_are_gathered_one_layer_ahead(layers: int) -> None:
    """ZeRO-3: when a layer computes, the next one is being gathered, and no layer after that."""
    plan = plan_step(small("layout.zero=3", "layout.tp=1", f"workload.model.layers={layers}"))
    program, timeline = plan.lowered.program, des.simulate(plan.lowered.program)
    for rank in range(2):
        gathers = timeline.lane(rank, Stream.DP_GATHER)
        runs = layer_runs(program, compute(program, rank))
        assert len(gathers) == len(runs)
        for ahead, gather in enumerate(gathers):
            assert timeline.end_s[gather] <= timeline.start_s[runs[ahead][0]]
            if ahead >= 2:
                # Two layers are held: the buffer is free once the layer two before has ended.
                assert timeline.start_s[gather] >= timeline.end_s[runs[ahead - 2][-1]] - 1e-12


def layer_runs(program: Program, ops: np.ndarray) -> list[np.ndarray]:
    """Consecutive compute operations of one layer of one action."""
    keys = np.stack([program.layer[ops], program.microbatch[ops], program.phase[ops] == Phase.FORWARD])
    cuts = np.flatnonzero((np.diff(keys) != 0).any(axis=0)) + 1
    return np.split(ops, cuts)


def test_an_action_starts_after_the_one_before_it_even_where_it_opens_with_an_exchange() -> None:
    """Weight gradients of the last stage begin with a gather on the tp lane, which may be free earlier."""
    plan = plan_step(small("layout.schedule=zb1p", "layout.pp=4"))
    timeline = des.simulate(plan.lowered.program)
    opening = plan.lowered.program.lanes[plan.lowered.program.op_ptr[plan.lowered.actions[:, 4]]] % STREAMS
    assert (opening == Stream.TP).any()
    for rank in range(4):
        actions = plan.lowered.actions[plan.lowered.actions[:, 0] == rank]
        assert (timeline.start_s[actions[1:, 4]] >= timeline.end_s[actions[:-1, 5]]).all()
