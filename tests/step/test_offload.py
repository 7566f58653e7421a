"""Optimizer state in host memory: what is copied, what it costs, what it frees."""

from __future__ import annotations

import numpy as np
import pytest

from simtrain.costs.host_memory import copy_rate
from simtrain.costs.memory import adam_bytes, parameter_bytes
from simtrain.engines import compiled, des
from simtrain.program.program import STREAMS, Phase, Stream
from simtrain.scenario.cluster import Node
from simtrain.step.simulate import Plan, plan_step, simulate_step
from tests.small import small

ALL = "layout.offload=[first_moment, second_moment, master]"
CASES = {"pipeline": (), "one stage, zero 0": ("layout.pp=1", "layout.zero=0"), "zero 3": ("layout.zero=3",)}


def plan_of(*changes: str, cluster: str = "2x-hgx-h100") -> Plan:
    return plan_step(small(*changes, cluster=cluster))


def copied(plan: Plan, stream: Stream, rank: int) -> float:
    program = plan.lowered.program
    return float(program.bytes[program.lanes[program.op_ptr[:-1]] == rank * STREAMS + stream].sum())


@pytest.mark.parametrize("case", CASES)
def test_state_comes_once_and_goes_once(case: str) -> None:
    plan = plan_of(ALL, *CASES[case])
    for rank in range(plan.parallel.pp):
        held = parameter_bytes(plan.model, plan.scenario.layout, plan.parallel, [rank])
        for stream in (Stream.COPY_IN, Stream.COPY_OUT):
            assert copied(plan, stream, rank) == pytest.approx(held.updated * adam_bytes(plan.scenario.layout))
        assert held.optimizer == 0.0


def test_parts_of_the_state_add_up() -> None:
    parts = [copied(plan_of(f"layout.offload=[{part}]"), Stream.COPY_IN, 0) for part in ("first_moment", "master")]
    assert copied(plan_of("layout.offload=[first_moment, master]"), Stream.COPY_IN, 0) == pytest.approx(sum(parts))


@pytest.mark.parametrize("cluster", ["2x-hgx-h100", "1x-8x4090"])
def test_it_takes_time_and_frees_memory(cluster: str) -> None:
    here, away = (simulate_step(small(*changes, cluster=cluster)) for changes in ((), (ALL,)))
    assert away.time_s > here.time_s
    assert max(away.memory.peak_bytes) < max(here.memory.peak_bytes)
    assert away.waterfall["host"] > 0.0


def test_a_faster_link_is_never_slower_and_copies_take_what_it_gives() -> None:
    times = [simulate_step(small(ALL, f"cluster.node.links.pcie.bandwidth={x} GB/s")).time_s for x in (8, 32, 128)]
    assert times == sorted(times, reverse=True)
    plan = plan_of(ALL, "cluster.node.links.pcie.bandwidth=1 GB/s")
    node = plan.scenario.cluster.node
    assert isinstance(node, Node)
    timeline = compiled.simulate(plan.lowered.program)
    lane = timeline.lane(0, Stream.COPY_IN)
    took = timeline.end_s[lane[-1]] - timeline.start_s[lane[0]]
    assert took >= copied(plan, Stream.COPY_IN, 0) / copy_rate(node)
    assert took == pytest.approx(copied(plan, Stream.COPY_IN, 0) / copy_rate(node), rel=0.05)


def test_a_socket_shares_its_memory() -> None:
    wide, narrow = (
        plan_of(f"cluster.node.links.host.bandwidth={x} GB/s", cluster="1x-8x4090").scenario.cluster.node
        for x in (1000, 20)
    )
    assert isinstance(wide, Node)
    assert isinstance(narrow, Node)
    assert copy_rate(wide) == pytest.approx(float(wide.links.pcie.bandwidth) * wide.links.pcie.efficiency)
    assert copy_rate(narrow) < copy_rate(wide)


def test_engines_agree_and_no_update_begins_before_its_state_is_there() -> None:
    plan = plan_of(ALL)
    fast, slow = compiled.simulate(plan.lowered.program), des.simulate(plan.lowered.program)
    assert np.allclose(fast.end_s, slow.end_s, rtol=1e-9)
    program = plan.lowered.program
    compute = fast.lane(0, Stream.COMPUTE)
    updates = compute[program.phase[compute] == Phase.OPTIMIZER]
    comes, goes = fast.lane(0, Stream.COPY_IN), fast.lane(0, Stream.COPY_OUT)
    assert (fast.start_s[updates] >= fast.end_s[comes] - 1e-12).all()
    assert (fast.start_s[goes] >= fast.end_s[updates] - 1e-12).all()
    assert (fast.start_s[comes[2:]] >= fast.end_s[goes[:-2]] - 1e-12).all(), "two pieces are held"
