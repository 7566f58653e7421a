"""What the host adds to a step: launches that keep up with the GPU or do not, and waits that it cannot hide."""

from __future__ import annotations

import numpy as np
import pytest

from simtrain.program.program import Phase, Stream
from simtrain.scenario.scenario import Scenario
from simtrain.step.simulate import plan_step, simulate_step
from tests.small import small


def step_s(scenario: Scenario) -> float:
    return simulate_step(scenario).time_s


def test_launches_ahead_of_long_kernels_cost_only_the_first() -> None:
    without = step_s(small("workload.sequence_length=8192"))
    ahead = step_s(
        small("workload.sequence_length=8192", "software.calls_per_operator=1", "cluster.node.host_call=1 us")
    )
    assert without <= ahead < without * 1.005


def test_slow_launches_set_the_pace() -> None:
    """No rank can be faster than its host takes to launch all that it runs."""
    scenario = small("software.calls_per_operator=10", "cluster.node.host_call=100 us")
    plan = plan_step(scenario)
    program = plan.program
    host = np.flatnonzero(program.phase == Phase.HOST)
    lanes = program.lanes[program.op_ptr[host]]
    launches = max(program.work_s[host[lanes == lane]].sum() for lane in np.unique(lanes))
    time_s = step_s(scenario)
    assert time_s >= launches
    assert simulate_step(scenario).waterfall["host"] > 0.3


@pytest.mark.parametrize("key", ["calls_per_operator", "calls_per_step", "calls_per_recompute"])
def test_more_calls_are_never_faster(key: str) -> None:
    times = [step_s(small("layout.recompute=full", f"software.{key}={count}")) for count in (0, 10, 100, 1000)]
    assert times == sorted(times)
    assert times[-1] > times[0]


def test_the_gpu_waits_before_each_layer_that_runs_again() -> None:
    """Two stages of two layers and four micro batches: the last stage waits once for each layer and micro batch."""
    calm, stalled = (
        small("layout.recompute=full", "cluster.node.host_call=1 ms", f"software.calls_per_recompute={calls}")
        for calls in (0, 5)
    )
    micro_batches = plan_step(calm).parallel.micro_batches
    assert step_s(stalled) - step_s(calm) >= 0.9 * micro_batches * 2 * 5e-3
    kept = step_s(small("cluster.node.host_call=1 ms", "software.calls_per_recompute=5"))
    assert kept == step_s(small("cluster.node.host_call=1 ms"))


def test_calls_between_steps_come_once() -> None:
    extra = step_s(small("software.calls_per_step=100", "cluster.node.host_call=1 ms")) - step_s(small())
    assert extra == pytest.approx(0.1, rel=1e-6)


def test_a_program_without_interpreter_has_no_host_lane() -> None:
    program = plan_step(small()).program
    assert not (program.lanes % len(Stream) == Stream.HOST).any()
