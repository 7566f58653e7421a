"""Folding is exact: the Program of every GPU runs each copy at the time of its representative."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from simtrain.engines import compiled, des
from simtrain.program.blocks import SCOPES
from simtrain.program.program import STREAMS, Program, Stream
from simtrain.program.unfold import unfold
from simtrain.step.simulate import Plan, plan_step
from tests.small import small

DENSE = {
    "plain": (),
    "zero 0": ("layout.zero=0",),
    "zero 2": ("layout.zero=2",),
    "zero 3": ("layout.zero=3", "layout.tp=1"),
    "zero 3, tp and cp": ("layout.zero=3", "layout.cp=2"),
    "zero 3, two layers ahead": ("layout.zero=3", "layout.tp=1", "layout.prefetch=2"),
    "zero 3, no prefetch, weights kept": ("layout.zero=3", "layout.prefetch=0", "layout.reshard_after_forward=false"),
    "a bucket a layer": ("layout.grad_bucket=0",),
    "parameter gather at the end": ("layout.overlap_param_gather=false", "layout.grad_bucket=1 GB"),
    "shard group": ("layout.shard_group=2",),
    "shard group across cp, zero 2": ("layout.shard_group=4", "layout.cp=2", "layout.zero=2", "layout.pp=1"),
    "shard group, zero 3": ("layout.shard_group=4", "layout.zero=3", "layout.tp=1", "layout.pp=1"),
    "zero 3, overlapped": ("layout.zero=3", "layout.schedule=dualpipev", "layout.vpp=2", "workload.global_batch=32"),
    "shard group of one": ("layout.shard_group=1", "layout.zero=3"),
    "no overlap of the reduction": ("layout.overlap_grad_reduce=false",),
    "context parallel": ("layout.cp=2",),
    "all axes": ("layout.cp=2", "layout.pp=4", "workload.global_batch=4"),
    "no tensor parallel": ("layout.tp=1", "layout.pp=4"),
    "no pipeline": ("layout.pp=1",),
    "one replica": ("layout.tp=4", "layout.pp=4"),
    "no sequence parallel": ("layout.sp=false",),
    "gpipe": ("layout.schedule=gpipe",),
    "interleaved": ("layout.schedule=interleaved_1f1b", "layout.vpp=2"),
    "interleaved on four ranks": (
        "layout.schedule=interleaved_1f1b",
        "layout.vpp=2",
        "layout.pp=4",
        "workload.model.layers=8",
    ),
    "recompute full": ("layout.recompute=full",),
    "recompute selective": ("layout.recompute=selective", "layout.attention=unfused"),
    "tied embeddings": ("workload.model.tied_embeddings=true",),
    "host time": ("workload.host_time_per_micro_batch=3 ms",),
    "blocking sends": ("layout.blocking_sends=true", "layout.schedule=interleaved_1f1b", "layout.vpp=2"),
    "empty stage": ("layout.layers_per_stage=[0, 4]",),
    "fp8": ("layout.precision=fp8", "layout.grad_precision=bf16"),
    "pipeline inside a node": ("layout.rank_order=tp-pp-cp-dp",),
}
MOE = {
    "mixture": (),
    "mixture, ep": ("layout.ep=4",),
    "mixture, ep across tp": ("layout.ep=8", "layout.cp=2"),
    "mixture, ep, zero 3": ("layout.ep=4", "layout.zero=3"),
    "mixture, etp": ("layout.ep=2", "layout.etp=2"),
    "mixture, etp beyond tp, deepep": ("layout.ep=2", "layout.etp=4", "layout.dispatcher=deepep"),
    "mixture, etp below tp, split backward": ("layout.ep=2", "layout.etp=2", "layout.tp=4", "layout.schedule=zb1p"),
    "mixture, etp without ep": ("layout.etp=4", "layout.zero=3"),
    "mixture, whole experts without ep": ("layout.etp=1",),
    "mixture, etp beyond the shard group": ("layout.ep=2", "layout.etp=4", "layout.zero=2", "layout.shard_group=2"),
    "mixture, ep 2, tp 1": ("layout.ep=2", "layout.tp=1"),
    "mixture, ep 2, shard group": ("layout.ep=2", "layout.zero=3", "layout.shard_group=2"),
    "mixture, ep beyond the shard group": ("layout.ep=8", "layout.zero=2", "layout.shard_group=2"),
}
CASES = [*DENSE, *MOE]


@cache
def plan_of(case: str) -> Plan:
    if case in MOE:
        return plan_step(small(*MOE[case], model="mixtral-8x7b", layers=2))
    return plan_step(small(*DENSE[case]))


@pytest.mark.parametrize("case", CASES)
def test_unfolded_equals_folded(case: str) -> None:
    plan = plan_of(case)
    folded = des.simulate(plan.lowered.program)
    every = unfold(plan.lowered, plan.placement)
    timeline = des.simulate(every.program)
    assert every.program.ranks == plan.parallel.gpus
    np.testing.assert_allclose(timeline.start_s, folded.start_s[every.source], rtol=0, atol=1e-9 * folded.makespan_s)
    np.testing.assert_allclose(timeline.end_s, folded.end_s[every.source], rtol=0, atol=1e-9 * folded.makespan_s)


@pytest.mark.parametrize("case", CASES)
def test_unfolding_writes_every_copy_on_every_lane(case: str) -> None:
    """The copies of an operation cover all GPUs of its lanes once, with as many members as its group has."""
    plan = plan_of(case)
    folded, every = plan.lowered.program, unfold(plan.lowered, plan.placement)
    replicas = plan.parallel.replicas
    width, wide = np.diff(folded.op_ptr), np.diff(every.program.op_ptr)
    assert np.bincount(every.source, wide, folded.size).tolist() == (width * replicas).tolist()
    group = {scope: np.bincount(plan.placement.partition(scope)).max() for scope in SCOPES}
    members = np.array([group[scope] for scope in SCOPES])[plan.lowered.scope]
    assert wide.tolist() == (width * members)[every.source].tolist()
    assert_lanes(every.program)


@pytest.mark.parametrize("case", CASES)
def test_every_lane_runs_each_of_its_operations_once(case: str) -> None:
    program = plan_of(case).lowered.program
    assert_lanes(program)
    assert program.multiplicity.tolist() == [plan_of(case).parallel.replicas] * program.ranks


def assert_lanes(program: Program) -> None:
    owner = np.repeat(np.arange(program.size), np.diff(program.op_ptr))
    lane = np.repeat(np.arange(program.ranks * STREAMS), np.diff(program.fifo_ptr))
    assert len(lane) == len(program.lanes)
    assert sorted(zip(lane.tolist(), program.fifo.tolist(), strict=True)) == sorted(
        zip(program.lanes.tolist(), owner.tolist(), strict=True)
    )
    within = np.diff(lane) == 0
    assert (np.diff(program.fifo)[within] > 0).all()


@pytest.mark.parametrize("case", CASES)
def test_every_exchange_has_its_flows_over_the_graph(case: str) -> None:
    plan = plan_of(case)
    program = plan.lowered.program
    stream = program.lanes[program.op_ptr[:-1]] % STREAMS
    moving = ~np.isin(stream, (Stream.COMPUTE, Stream.HOST)) & (program.bytes > 0)
    assert moving.any()
    assert (program.flow[moving] >= 0).all()
    assert (program.flow[np.isin(stream, (Stream.COMPUTE, Stream.HOST))] == -1).all()
    sets = plan.lowered.flows.sets()
    for number in np.unique(program.flow[moving]).tolist():
        edges = slice(sets.ptr[number], sets.ptr[number + 1])
        assert sets.edge[edges].size > 0
        assert (sets.use[edges] > 0).all()
        assert sets.use[edges].max() <= 1 + 1e-9
    assert sets.edge.max() < len(plan.topology.edge_bandwidth)
    assert len(plan.lowered.flows.exchanges) == len(program.flow_ptr) - 1


@pytest.mark.parametrize("case", CASES)
def test_edges_left_out_change_nothing(case: str) -> None:
    """Edges on which nobody can wait, and all but one of equal ones, are left out of a Program: times stay."""
    plan = plan_of(case)
    program, sets = plan.lowered.program, plan.lowered.flows.sets()
    whole = replace(program, flow_ptr=sets.ptr, flow_edge=sets.edge, flow_use=sets.use, flow_weight=sets.weight)
    assert program.flow_edge.size < whole.flow_edge.size
    fewer, all_edges = compiled.simulate(program), compiled.simulate(whole)
    np.testing.assert_allclose(all_edges.end_s, fewer.end_s, rtol=0, atol=1e-9 * fewer.makespan_s)


def silenced(program: Program, op: int) -> Program:
    latency_s, work_s = program.latency_s.copy(), program.work_s.copy()
    latency_s[op] = work_s[op] = 0.0
    return replace(program, latency_s=latency_s, work_s=work_s)


def without(program: Program, op: int) -> Program:
    """The Program with an operation taken out; what waited for it waits for what it waited for."""
    keep = np.arange(program.size) != op
    number = np.cumsum(keep) - 1
    waits = [program.dep[a:b].tolist() for a, b in zip(program.dep_ptr[:-1], program.dep_ptr[1:], strict=True)]
    spliced = [
        [new for d in row for new in (waits[op] if d == op else [d])]
        for row, kept in zip(waits, keep, strict=True)
        if kept
    ]
    lanes = np.repeat(np.arange(len(program.fifo_ptr) - 1), np.diff(program.fifo_ptr))
    left = program.fifo != op
    per_operation = (
        "name",
        "phase",
        "bucket",
        "stage",
        "microbatch",
        "layer",
        "sms",
        "grid",
        "latency_s",
        "work_s",
        "useful_s",
        "bytes",
        "flow",
    )
    return replace(
        program,
        **{key: getattr(program, key)[keep] for key in per_operation},
        op_ptr=np.concatenate([[0], np.cumsum(np.diff(program.op_ptr)[keep])]).astype(np.int32),
        lanes=program.lanes[np.repeat(keep, np.diff(program.op_ptr))],
        fifo_ptr=np.concatenate([[0], np.cumsum(np.bincount(lanes[left], minlength=len(program.fifo_ptr) - 1))]),
        fifo=number[program.fifo[left]].astype(np.int32),
        dep_ptr=np.concatenate([[0], np.cumsum([len(row) for row in spliced])]).astype(np.int32),
        dep=number[[d for row in spliced for d in row]].astype(np.int32),
        lag_s=np.zeros(sum(map(len, spliced))),
    )


@pytest.mark.parametrize("stream", [Stream.TP, Stream.PP_SEND_NEXT, Stream.DP])
def test_a_collective_taken_out_takes_its_exposed_time_with_it(stream: Stream) -> None:
    program = plan_of("parameter gather at the end").lowered.program  # nothing but compute before the first exchange
    timeline = des.simulate(program)
    first = int(timeline.lane(0, stream)[0])
    before = timeline.makespan_s
    muted, gone = des.simulate(silenced(program, first)), des.simulate(without(program, first))
    assert gone.program.size == program.size - 1
    assert gone.makespan_s <= muted.makespan_s + 1e-12 <= before + 2e-12
    if stream is Stream.TP:
        own_s = program.latency_s[first] + program.work_s[first]
        assert before - muted.makespan_s == pytest.approx(own_s, rel=1e-6)
        assert gone.makespan_s == pytest.approx(muted.makespan_s, rel=1e-12)
