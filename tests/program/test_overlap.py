"""Overlap inside a layer and between the two flows of a slot, read from Timelines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import simtrain as st
from simtrain.costs.prices import Priced
from simtrain.engines import compiled, des
from simtrain.program.blocks import BlockWriter, Half
from simtrain.program.program import STREAMS, Phase, Program, Stream
from simtrain.program.timeline import Timeline
from simtrain.program.unfold import unfold
from simtrain.step.simulate import Plan, plan_step
from tests.small import small

BACKWARD = (Phase.BACKWARD_INPUT, Phase.BACKWARD_WEIGHT, Phase.RECOMPUTE)
SHARED = ("layout.ep=4", "layout.tp=2", "workload.model.moe.shared_ffn_hidden=2048")
CASES = {
    "dense": ("llama2-7b", ()),
    "all-reduce": ("llama2-7b", ("layout.sp=false",)),
    "chunked": ("llama2-7b", ("layout.tp_overlap=chunked", "layout.tp=4")),
    "chunked, recomputed": ("llama2-7b", ("layout.tp_overlap=chunked", "layout.recompute=full")),
    "split backward": ("llama2-7b", ("layout.schedule=zb1p", "layout.tp=4")),
    "split, chunked": ("llama2-7b", ("layout.schedule=zb1p", "layout.tp_overlap=chunked", "layout.recompute=full")),
    "context parallel": ("llama2-7b", ("layout.cp=2", "layout.recompute=selective", "layout.tp_overlap=chunked")),
    "shared experts": ("mixtral-8x7b", SHARED),
    "shared experts, chunked": ("mixtral-8x7b", (*SHARED, "layout.tp_overlap=chunked", "layout.recompute=full")),
    "shared experts, split": ("mixtral-8x7b", (*SHARED, "layout.schedule=zb1p")),
    "weight gradients last": ("mixtral-8x7b", (*SHARED, "layout.ep_overlap_wgrad=true")),
    "shared experts, no overlap": ("mixtral-8x7b", (*SHARED, "layout.schedule=zb1p", "layout.tp_overlap=none")),
}


def plan_of(case: str) -> Plan:
    model, overrides = CASES[case]
    return plan_step(small(*overrides, model=model, layers=2))


def with_random_work(program: Program, seed: int) -> Program:
    work_s = np.random.default_rng(seed).exponential(size=program.size)
    return replace(program, work_s=work_s, latency_s=np.zeros_like(work_s))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", CASES)
def test_an_action_and_each_of_its_layers_lie_between_their_first_and_last_operation(case: str, seed: int) -> None:
    """Whatever operations last: what waits for an action or a layer waits for all of it."""
    lowered = plan_of(case).lowered
    timeline = des.simulate(with_random_work(lowered.program, seed))
    for _, _, _, _, first, last in lowered.actions.tolist():
        ops = np.arange(first, last + 1)
        ops = ops[np.isin(lowered.program.phase[ops], (Phase.FORWARD, *BACKWARD))]
        assert (timeline.start_s[ops] >= timeline.start_s[first]).all()
        layers = lowered.program.layer[ops]
        for layer in np.unique(layers):
            of_layer = ops[layers == layer]
            assert timeline.end_s[of_layer].max() == timeline.end_s[of_layer[-1]]
            assert (timeline.start_s[of_layer] >= timeline.end_s[ops[ops < of_layer[0]]].max(initial=0.0)).all()


@pytest.mark.parametrize("case", CASES)
def test_folded_is_unfolded_and_both_engines_agree(case: str) -> None:
    plan = plan_of(case)
    folded, compiled_ = des.simulate(plan.lowered.program), compiled.simulate(plan.lowered.program)
    every = unfold(plan.lowered, plan.placement)
    tolerance = 1e-9 * folded.makespan_s
    np.testing.assert_allclose(compiled_.end_s, folded.end_s, rtol=0, atol=tolerance)
    ends = compiled.simulate(every.program).end_s
    np.testing.assert_allclose(ends, folded.end_s[every.source], rtol=0, atol=tolerance)


def writer_and_half() -> tuple[BlockWriter, Half]:
    half = Half("F", 0)
    return BlockWriter(0, {}, plan_step(small()).lowered.flows, (half,)), half


def priced(name: str, stream: str, *after: str, layer: int = 0) -> Priced:
    return Priced(name, stream, "F", False, layer, 0.0, 1.0, 0.0, 0.0, 0.0, None, "gemm", after=after)


def test_operations_wait_for_what_they_name_and_otherwise_for_all_open_ends() -> None:
    writer, half = writer_and_half()
    for op in (
        priced("a", "compute"),
        priced("b", "tp", "a"),
        priced("c", "ep", "a"),
        priced("d", "compute", "b"),
        priced("join", "compute"),
    ):
        writer.follow(half, op)
    assert writer.deps == [(1, 0), (2, 0), (3, 1), (4, 2)]  # d is before the join on its lane
    assert half.ends == [4]


def test_a_name_of_another_layer_or_of_the_other_part_is_not_meant() -> None:
    writer, half = writer_and_half()
    for op in (priced("a", "compute"), priced("b", "tp"), priced("c", "ep", "a", layer=1)):
        writer.follow(half, op)
    assert writer.deps == [(1, 0), (2, 1)]


def test_a_name_that_stands_twice_means_the_last_one() -> None:
    writer, half = writer_and_half()
    for op in (priced("g", "tp"), priced("k", "compute", "g"), priced("g", "tp", "k"), priced("k", "compute", "g")):
        writer.follow(half, op)
    assert writer.deps == [(1, 0), (2, 1), (3, 2)]


@pytest.mark.parametrize("sp", ["true", "false"])
def test_more_overlap_exposes_less_and_is_faster(sp: str) -> None:
    changes = ("layout.tp=8", f"layout.sp={sp}", "workload.sequence_length=4096")
    steps = [
        st.simulate_step(small(f"layout.tp_overlap={mode}", *changes, model="llama2-70b"))
        for mode in ("none", "backward", "chunked")
    ]
    exposed_s = [step.waterfall["exposed_tp"] * step.time_s for step in steps]
    assert exposed_s[0] > 1.1 * exposed_s[1] > 1.2 * exposed_s[2]
    assert steps[0].time_s > steps[1].time_s > steps[2].time_s
    assert len({max(step.memory.peak_bytes) for step in steps}) == 1


def test_nothing_hides_an_input_gradients_exchange_where_the_backward_is_split() -> None:
    changes = ("layout.schedule=zb1p", "layout.tp=8", "workload.sequence_length=4096")
    plain, overlapped = (
        st.simulate_step(small(f"layout.tp_overlap={mode}", *changes)) for mode in ("none", "backward")
    )
    assert overlapped.time_s == pytest.approx(plain.time_s, rel=1e-9)


def test_shared_experts_hide_the_dispatch() -> None:
    on, off = (
        st.simulate_step(small(f"layout.shared_expert_overlap={value}", *SHARED, model="mixtral-8x7b"))
        for value in ("true", "false")
    )
    assert on.waterfall["exposed_ep"] * on.time_s < off.waterfall["exposed_ep"] * off.time_s
    assert on.time_s < off.time_s


PAIRED = ("layout.ep=8", "layout.tp=1", "layout.schedule=interleaved_1f1b_ep_overlap", "layout.vpp=2")


def paired_timeline(*overrides: str) -> Timeline:
    changes = (*PAIRED, "workload.global_batch=64", "workload.sequence_length=4096", *overrides)
    return des.simulate(plan_step(small(*changes, model="mixtral-8x7b", layers=8)).lowered.program)


def kernels_beside(timeline: Timeline, op: int) -> list[str]:
    """Kernels of the rank and the other direction that run while an exchange is under way."""
    program = timeline.program
    compute = timeline.lane(int(program.lanes[program.op_ptr[op]]) // STREAMS, Stream.COMPUTE)
    beside = (timeline.start_s[compute] < timeline.end_s[op]) & (timeline.end_s[compute] > timeline.start_s[op])
    forward = program.phase[compute] == Phase.FORWARD
    found = compute[beside & (forward != (program.phase[op] == Phase.FORWARD))]
    return [program.names[program.name[kernel]] for kernel in found]


def steady(timeline: Timeline, rank: int) -> list[int]:
    """Dispatches and combines of the middle of the step, where each slot holds both directions."""
    lane, middle = timeline.lane(rank, Stream.EP), timeline.makespan_s / 2
    width = timeline.makespan_s / 12
    return [op for op in lane.tolist() if abs(timeline.start_s[op] - middle) < width]


BESIDE = {
    "combine_backward": {"qkv", "attention"},
    "dispatch": {"expert_down_dgrad"},
    "dispatch_backward": {"expert_up"},
    "combine": {"permute_backward", "qkv_dgrad"},
}


def test_in_steady_state_every_exchange_has_a_piece_of_the_other_direction_beside_it() -> None:
    """But for the combine that opens a slot, where the forward may still wait for its input from another rank."""
    timeline = paired_timeline()
    program = timeline.program
    seen = set()
    for op in [*steady(timeline, 0), *steady(timeline, 1)]:
        name = program.names[program.name[op]]
        if name == "combine_backward" and program.layer[op] % 2 == 1:
            continue
        assert BESIDE[name] & set(kernels_beside(timeline, op)), name
        seen.add(name)
    assert seen == BESIDE.keys()


def test_the_two_flows_of_a_slot_take_turns_as_in_megatron_lm() -> None:
    """One layer pair: attention forward, experts backward, experts forward, attention backward."""
    timeline = paired_timeline()
    program = timeline.program
    names = [program.names[program.name[op]] for op in timeline.lane(1, Stream.COMPUTE).tolist()]
    middle = next(i for i in range(len(names) // 2, len(names)) if names[i] == "attention")
    wanted = ["attention", "expert_down_dgrad", "expert_up_wgrad", "expert_up", "expert_down", "attention_backward"]
    pair = [name for name in names[middle:] if name in wanted][: len(wanted)]
    assert pair == wanted


def test_host_time_still_comes_before_the_forward_of_a_shared_slot() -> None:
    timeline = paired_timeline("workload.host_time_per_micro_batch=2 ms")
    program = timeline.program
    for rank in range(program.ranks):
        host, compute = timeline.lane(rank, Stream.HOST), timeline.lane(rank, Stream.COMPUTE)
        first = compute[(program.phase[compute] == Phase.FORWARD) & (program.stage[compute] == rank)]
        micro_batches = program.microbatch[host]
        starts = [timeline.start_s[first[program.microbatch[first] == mb][0]] for mb in micro_batches]
        assert (np.array(starts) >= timeline.end_s[host]).all()
        assert (timeline.start_s[host][1:] > timeline.end_s[host][:-1]).all()
