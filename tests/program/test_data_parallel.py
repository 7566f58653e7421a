"""Data parallel traffic: buckets, gathers ahead, shard groups; what moves, when it may, and what waits for it."""

from __future__ import annotations

from functools import cache
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtrain.costs.data_parallel import buckets
from simtrain.engines import compiled, des
from simtrain.errors import LayoutError
from simtrain.program.blocks import SCOPES
from simtrain.program.program import STREAMS, Phase, Program, Stream
from simtrain.program.timeline import Timeline
from simtrain.schedules.order import Action
from simtrain.step.memory import activations_of, held_bytes
from simtrain.step.simulate import Plan, plan_step, simulate_memory
from tests.small import small

FSDP = ("layout.zero=3", "layout.tp=1", "layout.pp=1", "workload.global_batch=32")
INTERLEAVED = ("layout.schedule=interleaved_1f1b", "layout.vpp=2", "workload.model.layers=8")
CASES = {
    "plain": (),
    "zero 0": ("layout.zero=0", *INTERLEAVED),
    "zero 1, interleaved": INTERLEAVED,
    "zero 1, split backward": ("layout.schedule=zb1p", "workload.global_batch=32"),
    "zero 2": ("layout.zero=2", "workload.model.layers=8"),
    "fsdp": FSDP,
    "fsdp, split backward": ("layout.zero=3", "layout.schedule=zb1p", "workload.global_batch=32"),
    "both directions": ("layout.schedule=dualpipe", "layout.pp=4", "workload.model.layers=8"),
    "shard group": ("layout.shard_group=2", "layout.zero=2"),
}
MOE_CASES = {
    "mixture": ("layout.ep=4",),
    "mixture, fsdp": ("layout.ep=4", "layout.zero=3", "layout.shard_group=2"),
    "mixture, cut experts": ("layout.ep=2", "layout.etp=2"),
}
EVERY = [*CASES, *MOE_CASES]


@cache
def plan_of(case: str, *changes: str) -> Plan:
    if case in MOE_CASES:
        return plan_step(small(*MOE_CASES[case], *changes, model="mixtral-8x7b"))
    return plan_step(small(*CASES[case], *changes))


@cache
def run(case: str, *changes: str) -> Timeline:
    return compiled.simulate(plan_of(case, *changes).lowered.program)


def bytes_by_name(program: Program, stream: Stream) -> dict[str, float]:
    found: dict[str, float] = {}
    for op in np.flatnonzero(program.lanes[program.op_ptr[:-1]] % STREAMS == stream).tolist():
        name = program.names[program.name[op]]
        found[name] = found.get(name, 0.0) + float(program.bytes[op])
    return found


def layer_runs(program: Program, rank: int) -> list[np.ndarray]:
    """Compute operations of a rank, cut where layer, micro batch or direction change."""
    queue = program.fifo[program.fifo_ptr[rank * STREAMS] : program.fifo_ptr[rank * STREAMS + 1]]
    ops = queue[np.isin(program.phase[queue], (Phase.FORWARD, Phase.BACKWARD_INPUT, Phase.BACKWARD_WEIGHT))]
    keys = np.stack([program.layer[ops], program.microbatch[ops], program.phase[ops] == Phase.FORWARD])
    return np.split(ops, np.flatnonzero((np.diff(keys) != 0).any(axis=0)) + 1)


# Buckets


@pytest.mark.parametrize("case", EVERY)
@pytest.mark.parametrize("size", ["300 MB", "3 GB"])
def test_the_bytes_moved_do_not_depend_on_the_bucket(case: str, size: str) -> None:
    whole, cut = (plan_of(case, f"layout.grad_bucket={bucket}").lowered.program for bucket in (size, "0"))
    for stream in (Stream.DP, Stream.DP_GATHER, Stream.DP_REPLICATE):
        assert bytes_by_name(whole, stream) == pytest.approx(bytes_by_name(cut, stream))
    assert whole.size <= cut.size


@pytest.mark.parametrize("case", EVERY)
def test_every_gradient_is_reduced_once_a_step_or_once_a_micro_batch(case: str) -> None:
    plan = plan_of(case)
    order, parallel, program = plan.order, plan.parallel, plan.lowered.program
    expected = 0.0
    for stage in range(order.stages):
        stage_bytes = 4 * sum(
            n for own in buckets(plan.model, plan.scenario.layout, parallel, stage).values() for _, n in own
        )
        holders = {rank for rank, _, held, *_ in plan.lowered.actions.tolist() if held == stage}
        expected += stage_bytes * (order.microbatches if plan.scenario.layout.zero >= 2 else len(holders))
    assert bytes_by_name(program, Stream.DP)["gradient reduction"] == pytest.approx(expected)


RUNS = {
    "one stage": FSDP,
    "interleaved": ("layout.zero=2", *INTERLEAVED),
    "split backward": ("layout.zero=3", "layout.schedule=zb1p", "workload.global_batch=32"),
    "both directions": ("layout.zero=2", *CASES["both directions"]),
}


@pytest.mark.parametrize("changes", RUNS.values(), ids=RUNS)
def test_gradients_of_a_run_of_micro_batches_are_reduced_once(changes: tuple[str, ...]) -> None:
    each, runs = (plan_of("plain", *changes, *more) for more in ((), ("layout.accumulate_runs=true",)))
    layout, parallel = runs.scenario.layout, runs.parallel
    expected, makes_gradients = 0.0, (Action.B, Action.W)
    for rank in range(runs.order.ranks):
        own = [row for row in runs.lowered.actions.tolist() if row[0] == rank]
        stages = [stage for _, kind, stage, *_ in own if kind in makes_gradients]
        for stage, _ in groupby(stages):
            found = buckets(runs.model, layout, parallel, stage)
            expected += 4 * sum(n for bucket in found.values() for _, n in bucket)
    reduced = bytes_by_name(runs.lowered.program, Stream.DP)["gradient reduction"]
    assert reduced == pytest.approx(expected)
    assert reduced < bytes_by_name(each.lowered.program, Stream.DP)["gradient reduction"]
    times = [compiled.simulate(plan.lowered.program).makespan_s for plan in (runs, each)]
    assert times[0] <= times[1]


def test_gradients_summed_over_a_run_are_held_whole() -> None:
    changes = ("layout.zero=2", *INTERLEAVED)
    each, runs = (simulate_memory(small(*changes, *more)) for more in ((), ("layout.accumulate_runs=true",)))
    assert all(a < b for a, b in zip(each.parts["buffers"], runs.parts["buffers"], strict=True))


@given(st.floats(0, 4e9), st.sampled_from([0, 1, 2, 3]), st.sampled_from(["llama2-7b", "mixtral-8x7b"]))
@settings(max_examples=25, deadline=None)
def test_a_bucket_is_closed_by_the_first_layer_that_fills_it(size: float, zero: int, model: str) -> None:
    ep = ("layout.ep=4",) if model == "mixtral-8x7b" else ()
    scenario = small(f"layout.zero={zero}", f"layout.grad_bucket={size!r} B", *ep, model=model, layers=8)
    plan = plan_step(scenario)
    for stage in range(2):
        found = buckets(plan.model, scenario.layout, plan.parallel, stage)
        each = buckets(plan.model, scenario.layout.model_copy(update={"grad_bucket": 0.0}), plan.parallel, stage)
        assert found.keys() == each.keys()
        for axis, own in found.items():
            at = [layer for layer, _ in each[axis]]
            ends = [at.index(layer) + 1 for layer, _ in own]
            for begin, end, (_, count) in zip([0, *ends], ends, own, strict=False):
                layers = [n for _, n in each[axis][begin:end]]
                assert count == pytest.approx(sum(layers))
                assert 4 * sum(layers[:-1]) < max(size, 1)
                assert end == len(at) or 4 * count >= size * (1 - 1e-9)
            assert ends[-1] == len(at)


@pytest.mark.parametrize("dp", [4, 64])
def test_the_default_bucket_is_megatrons(dp: int) -> None:
    """max(40e6, 1e6 * dp) parameters: a layer of 2e8 / 8 fills neither, two fill 40e6, three 64e6."""
    changes = ("layout.tp=8", "layout.pp=1", f"cluster.nodes={dp}", f"workload.global_batch={dp}")
    plan = plan_step(small(*changes, layers=12))
    layers = [layer for layer, _ in buckets(plan.model, plan.scenario.layout, plan.parallel, 0)["dp"]]
    inner = [layer for layer in layers if layer >= 0][1:]
    assert set(np.diff(inner).tolist()) == {-2 if dp == 4 else -3}


@pytest.mark.parametrize("case", ["plain", "zero 1, interleaved", "zero 2", "fsdp", "mixture"])
def test_a_reduction_waits_for_every_layer_of_its_bucket(case: str) -> None:
    plan, timeline = plan_of(case, "layout.grad_bucket=500 MB"), run(case, "layout.grad_bucket=500 MB")
    program = plan.lowered.program
    backward = np.isin(program.phase, (Phase.BACKWARD_INPUT, Phase.BACKWARD_WEIGHT, Phase.RECOMPUTE))
    for stage in range(plan.order.stages):
        members: list[int] = []
        closers = {layer for own in plan.prices.reduce[stage] for layer in [own]}
        for layer in dict.fromkeys(op.layer for op in plan.prices.backward[stage]):
            members.append(layer)
            if layer not in closers:
                continue
            mine = (program.stage == stage) & np.isin(program.layer, members) & backward
            last = program.microbatch[mine].max()
            due = timeline.end_s[mine & (program.microbatch == last)].max()
            rank = int(program.lanes[program.op_ptr[np.flatnonzero(mine)[0]]]) // STREAMS
            own = [op for op in timeline.lane(rank, Stream.DP).tolist() if program.layer[op] == layer]
            own = [op for op in own if program.stage[op] in (stage, -1)]
            assert timeline.start_s[own[-1]] >= due - 1e-12
            members = []


# Overlap


@pytest.mark.parametrize("case", EVERY)
@pytest.mark.parametrize("key", ["overlap_grad_reduce", "overlap_param_gather"])
def test_overlap_is_never_slower(case: str, key: str) -> None:
    on, off = (run(case, f"layout.{key}={value}").makespan_s for value in ("true", "false"))
    assert on <= off * (1 + 1e-12)


@pytest.mark.parametrize("case", ["plain", "zero 1, interleaved", "both directions", "zero 2", "mixture"])
def test_the_first_forward_of_a_layer_waits_for_its_weights(case: str) -> None:
    """In steady state a step begins with the gathers, and nothing follows the optimizer."""
    plan, timeline = plan_of(case), run(case)
    program = plan.lowered.program
    after = timeline.start_s >= timeline.start_s[program.phase == Phase.OPTIMIZER].min()
    assert (program.phase[after] == Phase.OPTIMIZER).all()
    for rank in range(plan.order.ranks):
        gathers = timeline.lane(rank, Stream.DP_GATHER)
        assert timeline.start_s[gathers[0]] == 0.0
        ends = {}
        for gather in gathers.tolist():
            ends[int(program.layer[gather])] = float(timeline.end_s[gather])
        starts: dict[int, float] = {}
        for run_ in layer_runs(program, rank):
            starts.setdefault(int(program.layer[run_[0]]), float(timeline.start_s[run_[0]]))
        assert all(starts[layer] >= end for layer, end in ends.items())
        if plan.order.placement == "loop" and plan.order.stages == plan.order.ranks:
            assert list(ends) == sorted(ends, key=lambda layer: starts[layer])


def test_without_overlap_the_gathers_follow_the_optimizer() -> None:
    timeline = run("plain", "layout.overlap_param_gather=false")
    program = timeline.program
    gathers = timeline.lane(0, Stream.DP_GATHER)
    adam = program.fifo[program.fifo_ptr[1] - 1]
    assert timeline.start_s[gathers[0]] == timeline.end_s[adam]
    assert timeline.end_s[gathers].max() <= timeline.makespan_s


def test_the_gather_follows_the_reduction_unless_told() -> None:
    asked = plan_of("plain", "layout.overlap_grad_reduce=false", "layout.overlap_param_gather=false").lowered.program
    assert plan_of("plain", "layout.overlap_grad_reduce=false").lowered.program.phase.tolist() == asked.phase.tolist()


# ZeRO 3


@pytest.mark.parametrize("case", ["fsdp", "mixture, fsdp"])
def test_weights_are_gathered_twice_or_without_resharding_once(case: str) -> None:
    plan = plan_of(case)
    twice, once = (
        bytes_by_name(plan_of(case, f"layout.reshard_after_forward={flag}").lowered.program, Stream.DP_GATHER)
        for flag in ("true", "false")
    )
    held = sum(one.bytes for stage in plan.prices.gather for own in stage.values() for one in own)
    assert twice["weight gather"] == pytest.approx(2 * held * plan.order.microbatches)
    if plan.order.ranks == 1:
        assert once["weight gather"] == pytest.approx(held * plan.order.microbatches)
    assert once["weight gather"] <= twice["weight gather"] / 2


def test_micro_batches_in_flight_share_kept_weights() -> None:
    """1F1B: the first of two ranks gathers once a step, the last, one micro batch at a time, for each of them."""
    program = plan_of("plain", "layout.zero=3", "layout.reshard_after_forward=false").lowered.program
    count = [int((program.lanes[program.op_ptr[:-1]] == rank * STREAMS + Stream.DP_GATHER).sum()) for rank in (0, 1)]
    assert count == [3, 3 * 4]


@pytest.mark.parametrize("case", ["fsdp", "fsdp, split backward"])
@pytest.mark.parametrize("prefetch", [0, 1, 2, 5])
def test_weights_are_gathered_as_many_layers_ahead_as_told(case: str, prefetch: int) -> None:
    plan, timeline = plan_of(case, f"layout.prefetch={prefetch}"), run(case, f"layout.prefetch={prefetch}")
    program = plan.lowered.program
    for rank in range(plan.order.ranks):
        runs = layer_runs(program, rank)
        if "split" in case:  # weight gradients alone need no weights
            runs = [r for r in runs if (program.phase[r] != Phase.BACKWARD_WEIGHT).any()]
        gathers = timeline.lane(rank, Stream.DP_GATHER)
        assert program.layer[gathers].tolist() == [program.layer[r[0]] for r in runs]
        for i, gather in enumerate(gathers.tolist()):
            assert timeline.end_s[gather] <= timeline.start_s[runs[i][0]] + 1e-12
            if i > prefetch:
                assert timeline.start_s[gather] >= timeline.end_s[runs[i - prefetch - 1]].max() - 1e-12


def test_more_prefetch_is_never_slower() -> None:
    times = [run("fsdp", f"layout.prefetch={n}").makespan_s for n in (0, 1, 2, 4)]
    assert times == sorted(times, reverse=True)
    assert times[0] > times[1]


def test_a_gather_does_not_queue_behind_a_reduction() -> None:
    timeline = run("fsdp")
    program = timeline.program
    runs, gathers, reductions = layer_runs(program, 0), timeline.lane(0, Stream.DP_GATHER), timeline.lane(0, Stream.DP)
    beside = 0
    for i, gather in enumerate(gathers.tolist()[2:], 2):
        start = timeline.start_s[gather]
        assert start == max(timeline.end_s[gathers[i - 1]], timeline.end_s[runs[i - 2]].max())
        beside += int(((timeline.start_s[reductions] <= start) & (timeline.end_s[reductions] > start)).sum())
    assert beside


@pytest.mark.parametrize("case", ["fsdp", "zero 2", "fsdp, split backward", "mixture, fsdp"])
def test_no_more_than_two_buckets_of_gradients_are_held(case: str) -> None:
    """A bucket is not begun before the one before the last has been reduced."""
    slow = "cluster.node.nic.bandwidth=10 Gbps"
    plan, timeline = plan_of(case, slow), run(case, slow)
    program = plan.lowered.program
    for rank in range(plan.order.ranks):
        lane = timeline.lane(rank, Stream.DP)
        lane = lane[program.microbatch[lane] >= 0]
        for axis in ("dp", "edp_shard"):
            scope = plan.lowered.scope[lane]
            own = [op for op, s in zip(lane.tolist(), scope.tolist(), strict=True) if s == SCOPES.index(axis)]
            for older, newer in zip(own, own[2:], strict=False):
                begin = _begin(plan, timeline, rank, newer, own)
                assert begin >= timeline.end_s[older] - 1e-12


def _begin(plan: Plan, timeline: Timeline, rank: int, reduction: int, own: list[int]) -> float:
    """When the backward of the first layer of a reduction's bucket began."""
    program = plan.lowered.program
    stage, microbatch = int(program.stage[reduction]), int(program.microbatch[reduction])
    order = list(dict.fromkeys(op.layer for op in plan.prices.backward[stage]))
    index = own.index(reduction)
    layers = order[: order.index(int(program.layer[reduction])) + 1]
    if index and program.microbatch[own[index - 1]] == microbatch and program.stage[own[index - 1]] == stage:
        layers = layers[order.index(int(program.layer[own[index - 1]])) + 1 :]
    split = plan.order.placement == "loop" and any((rows[:, 0] == Action.W).any() for rows in plan.order.actions)
    phases = (Phase.BACKWARD_WEIGHT,) if split else (Phase.BACKWARD_INPUT, Phase.BACKWARD_WEIGHT, Phase.RECOMPUTE)
    mine = (program.stage == stage) & (program.microbatch == microbatch) & np.isin(program.layer, layers)
    kernels = mine & np.isin(program.phase, phases) & (program.lanes[program.op_ptr[:-1]] == rank * STREAMS)
    return float(timeline.start_s[kernels].min())


# Software that exchanges in other units, on one stream, or once


@pytest.mark.parametrize("case", ["fsdp", "mixture, fsdp", "zero 2"])
def test_tensors_by_themselves_move_what_layers_do(case: str) -> None:
    whole, each = (plan_of(case, f"software.zero_unit={unit}").lowered.program for unit in ("layer", "parameter"))
    for stream in (Stream.DP, Stream.DP_GATHER):
        assert bytes_by_name(each, stream) == pytest.approx(bytes_by_name(whole, stream))
    assert each.size > whole.size


def test_small_tensors_need_not_be_gathered() -> None:
    each = "software.zero_unit=parameter"
    sizes = [
        bytes_by_name(plan_of("fsdp", each, f"software.zero_persistent={n}").lowered.program, Stream.DP_GATHER)
        for n in (0, 100_000, 2**40)
    ]
    assert sizes[0]["weight gather"] > sizes[1]["weight gather"] > sum(sizes[2].values()) == 0.0


def test_handing_over_lists_takes_time_for_each_rank() -> None:
    times = [run("fsdp", f"software.zero_part_time={us} us").makespan_s for us in (0, 10, 1000)]
    assert times == sorted(times)
    plan = plan_of("fsdp", "software.zero_part_time=1000 us")
    assert all(one.handling_s == 16 * 1e-3 for layers in plan.prices.gather for own in layers.values() for one in own)


@pytest.mark.parametrize("prefetch", [0, 1])
@pytest.mark.parametrize("case", ["fsdp", "mixture, fsdp", "fsdp, split backward"])
def test_on_one_stream_gathers_and_reductions_take_turns(case: str, prefetch: int) -> None:
    keys = f"layout.prefetch={prefetch}", "cluster.node.nic.bandwidth=50 Gbps"
    apart, shared = (run(case, *keys, f"software.zero_one_stream={one}") for one in ("false", "true"))
    assert not len(shared.lane(0, Stream.DP_GATHER))
    lane = shared.lane(0, Stream.DP)
    assert (shared.start_s[lane[1:]] >= shared.end_s[lane[:-1]] - 1e-12).all()
    assert shared.makespan_s >= apart.makespan_s * (1 - 1e-12)


def test_weights_may_be_gathered_once_more_after_the_repeated_forward() -> None:
    full = "layout.recompute=full"
    twice, more = (
        bytes_by_name(plan_of("fsdp", full, f"software.zero_regather={x}").lowered.program, Stream.DP_GATHER)
        for x in ("false", "true")
    )
    assert twice["weight gather"] < more["weight gather"] <= 1.5 * twice["weight gather"]


@pytest.mark.parametrize("case", ["fsdp", "zero 2", "mixture, fsdp"])
def test_gradients_may_be_reduced_once_a_step(case: str) -> None:
    each, once = (plan_of(case, f"layout.reduce_once={x}") for x in ("false", "true"))
    many, one = (bytes_by_name(plan.lowered.program, Stream.DP)["gradient reduction"] for plan in (each, once))
    assert many == pytest.approx(one * each.order.microbatches)
    held = [held_bytes(*_state(plan)).gradients for plan in (each, once)]
    assert held[1] > held[0]


def test_a_pipeline_of_pytorch_reduces_once_and_keeps_weights() -> None:
    settled = small("layout.zero=3", "software.zero_once_in_pipeline=true").settled().layout
    assert (settled.reduce_once, settled.reshard_after_forward) == (True, False)
    alone = small("layout.zero=3", "layout.pp=1", "software.zero_once_in_pipeline=true").settled().layout
    assert (alone.reduce_once, alone.reshard_after_forward) == (False, True)


# Shard groups


def test_a_shard_group_reduces_inside_and_sums_across() -> None:
    whole = plan_of("fsdp").lowered.program
    cut = plan_of("fsdp", "layout.shard_group=8").lowered.program
    reduced = bytes_by_name(whole, Stream.DP)["gradient reduction"]
    found = bytes_by_name(cut, Stream.DP)
    assert found["gradient reduction"] == pytest.approx(reduced)
    across = bytes_by_name(cut, Stream.DP_REPLICATE)
    assert across == {"gradient all-reduce across shard groups": pytest.approx(reduced / 8)}
    assert bytes_by_name(cut, Stream.DP_GATHER) == bytes_by_name(whole, Stream.DP_GATHER)


def test_gathers_of_a_shard_group_inside_a_node_leave_the_network_alone() -> None:
    plan = plan_of("fsdp", "layout.shard_group=8")
    network = [plan.topology.edge_label(edge) for edge in range(len(plan.topology.edge_bandwidth))]
    for one in plan.lowered.flows.exchanges:
        crossed = {network[edge] for edge in one.cost.edge_use()[0].tolist()}  # type: ignore[union-attr]
        assert any("nic" in label.lower() for label in crossed) == (one.stream in ("replicate", "all"))


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_sums_across_shard_groups_follow_the_reductions_and_come_before_the_optimizer(zero: int) -> None:
    timeline = run("plain", f"layout.zero={zero}", "layout.shard_group=2", "layout.overlap_param_gather=false")
    program = timeline.program
    norm = int(np.flatnonzero(program.name == program.names.index("gradient norm"))[0])
    for rank in range(2):
        inside, across = timeline.lane(rank, Stream.DP).tolist()[:-1], timeline.lane(rank, Stream.DP_REPLICATE).tolist()
        assert len(inside) == len(across) > 0
        assert (timeline.start_s[across] >= timeline.end_s[inside]).all()
        assert timeline.end_s[across[-1]] <= timeline.start_s[norm]


@pytest.mark.parametrize("zero", [1, 2, 3])
@pytest.mark.parametrize("group", [1, 4, 16])
def test_states_are_sharded_over_the_group(zero: int, group: int) -> None:
    base = ("layout.tp=1", "layout.pp=1")
    full = plan_step(small(*base, "layout.zero=0"))
    cut = plan_step(small(*base, f"layout.zero={zero}", f"layout.shard_group={group}"))
    one, other = (held_bytes(*_state(p)) for p in (full, cut))
    assert other.optimizer == pytest.approx(one.optimizer / group)
    assert other.gradients == pytest.approx(one.gradients / (group if zero > 1 else 1))
    assert other.weights == pytest.approx(one.weights / (group if zero > 2 else 1))
    if group == 16:
        assert other == held_bytes(*_state(plan_step(small(*base, f"layout.zero={zero}"))))


def _state(plan: Plan) -> tuple[object, ...]:
    activations = activations_of(plan.scenario, plan.model, plan.shard, plan.parallel)
    return plan.scenario, plan.model, plan.parallel, [0], activations


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("layout.shard_group=3",), r"layout\.shard_group = 3 does not divide layout\.dp \* layout\.cp = 4; .*1, 2, 4"),
        (("layout.shard_group=2", "layout.zero=0"), r"layout\.zero = 0 shards nothing; allowed: layout\.zero 1 to 3"),
    ],
)
def test_a_shard_group_that_cannot_be_is_refused(changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        plan_step(small(*changes))


# Sends and engines


@pytest.mark.parametrize("schedule", ["1f1b", "interleaved_1f1b", "zb1p"])
def test_a_blocked_sender_computes_nothing_until_the_receiver_has_it(schedule: str) -> None:
    changes = (f"layout.schedule={schedule}", f"layout.vpp={2 if schedule == 'interleaved_1f1b' else 1}")
    program = plan_step(small(*changes, "layout.blocking_sends=true", "layout.pp=4", layers=8)).lowered.program
    timeline = des.simulate(program)
    stream = program.lanes[program.op_ptr[:-1]] % STREAMS
    sends = np.flatnonzero(np.isin(stream, (Stream.PP_SEND_NEXT, Stream.PP_SEND_PREV)))
    assert len(sends)
    for send in sends.tolist():
        sender, receiver = program.lanes[program.op_ptr[send] : program.op_ptr[send + 1]] // STREAMS
        assert sender != receiver
        compute = timeline.lane(int(sender), Stream.COMPUTE)
        ready = timeline.end_s[program.dep[program.dep_ptr[send] : program.dep_ptr[send + 1]]].max()
        begins, ends = timeline.start_s[compute], timeline.end_s[compute]
        during = (begins < timeline.end_s[send] - 1e-12) & (ends > ready + 1e-12)
        assert not during.any()


@pytest.mark.parametrize("case", EVERY)
def test_both_engines_agree(case: str) -> None:
    program = plan_of(case, "layout.prefetch=2", "layout.grad_bucket=300 MB").lowered.program
    one, other = des.simulate(program), compiled.simulate(program)
    np.testing.assert_allclose(one.start_s, other.start_s, rtol=0, atol=1e-9 * one.makespan_s)
    np.testing.assert_allclose(one.end_s, other.end_s, rtol=0, atol=1e-9 * one.makespan_s)
