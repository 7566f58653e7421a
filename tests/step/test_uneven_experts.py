"""Natural routing: the busiest rank of a group and the others stand for every GPU."""

from __future__ import annotations

import numpy as np
import pytest

import simtrain as st
from simtrain.engines import compiled, des
from simtrain.step.report import StepReport
from simtrain.step.simulate import plan_step
from tests.small import small

NATURAL = "workload.routing.kind=natural"


def step(*overrides: str) -> StepReport:
    return st.simulate_step(small("layout.ep=4", *overrides, model="mixtral-8x7b"))


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("layout.tp=1",),
        ("layout.recompute=full",),
        ("layout.dispatcher=deepep", "layout.ep=8"),
        ("layout.ep=2", "layout.etp=2"),
        ("layout.ep=2", "layout.etp=4", "layout.recompute=full"),
        ("layout.ep=2", "layout.etp=2", "layout.tp=4"),
        ("layout.ep=4", "layout.etp=2", "layout.tp=1", "layout.dispatcher=deepep"),
    ],
)
def test_two_copies_take_as_long_as_every_gpu(overrides: tuple[str, ...]) -> None:
    two, all_of_them = step(NATURAL, *overrides), step(NATURAL, *overrides, "fold=false")
    assert two.timeline.program.ranks == 4
    assert all_of_them.timeline.program.ranks == 16
    assert all_of_them.time_s == pytest.approx(two.time_s, rel=1e-9)
    assert max(all_of_them.memory.peak_bytes) == pytest.approx(max(two.memory.peak_bytes), rel=1e-9)
    # An exchange of cut experts waits for several dispatches that end together: any of them may be blamed.
    blamed = () if any("etp" in change for change in overrides) else ("exposed_ep",)
    for bucket in ("useful", "kernel_inefficiency", "non_matmul", "optimizer", *blamed):
        assert all_of_them.waterfall[bucket] == pytest.approx(two.waterfall[bucket], rel=1e-3, abs=1e-6), bucket


def test_overlapped_slots_make_two_copies_slightly_too_slow() -> None:
    """The busiest ranks of the two layers under way at once are taken for one."""
    overlapped = (NATURAL, "layout.schedule=dualpipe", "workload.global_batch=32")
    two, all_of_them = step(*overlapped), step(*overlapped, "fold=false")
    assert all_of_them.time_s <= two.time_s <= 1.04 * all_of_them.time_s


def test_uneven_experts_cost_time_and_leave_others_waiting_for_the_busiest() -> None:
    even, uneven = step(), step(NATURAL)
    assert uneven.time_s > 1.02 * even.time_s
    assert even.waterfall["straggler"] == 0.0
    assert uneven.waterfall["straggler"] > 0.02
    assert sum(uneven.waterfall.values()) == pytest.approx(1.0, abs=1e-9)
    assert uneven.waterfall["useful"] * uneven.time_s == pytest.approx(even.waterfall["useful"] * even.time_s, rel=1e-3)
    assert max(uneven.memory.peak_bytes) > max(even.memory.peak_bytes)


def test_more_spread_costs_more_and_the_seed_decides() -> None:
    times = [step(NATURAL, f"workload.routing.spread={spread}").time_s for spread in (0.0, 0.2, 0.5)]
    assert times[0] == pytest.approx(step().time_s, rel=1e-9)
    assert times == sorted(times)
    assert step(NATURAL, "workload.routing.seed=1").time_s != step(NATURAL).time_s
    assert step(NATURAL).time_s == step(NATURAL).time_s


def test_a_capacity_bounds_what_the_busiest_takes() -> None:
    capped, free = step(NATURAL, "workload.routing.capacity_factor=1.0"), step(NATURAL)
    padded = step(NATURAL, "workload.routing.capacity_factor=1.0", "workload.routing.pad_to_capacity=true")
    assert capped.time_s < free.time_s
    assert padded.time_s == pytest.approx(step().time_s, rel=1e-9)
    roomy = step("workload.routing.capacity_factor=1.5", "workload.routing.pad_to_capacity=true")
    assert roomy.time_s > step().time_s


@pytest.mark.parametrize("cut", [("layout.ep=4",), ("layout.ep=4", "layout.etp=2"), ("layout.ep=2", "fold=false")])
def test_both_engines_agree_on_uneven_experts(cut: tuple[str, ...]) -> None:
    program = plan_step(small(NATURAL, *cut, model="mixtral-8x7b")).program
    reference, fast = des.simulate(program), compiled.simulate(program)
    np.testing.assert_allclose(fast.end_s, reference.end_s, rtol=0, atol=1e-9 * reference.makespan_s)


def test_every_gpu_of_an_even_step_gives_the_folded_result() -> None:
    folded, every = step(), step("fold=false")
    assert every.timeline.program.ranks == 16
    assert every.time_s == pytest.approx(folded.time_s, rel=1e-9)
    assert every.waterfall == pytest.approx(folded.waterfall, abs=1e-9)
    assert every.memory.peak_bytes == pytest.approx(folded.memory.peak_bytes)


def test_waiting_for_peers_before_an_exchange_is_exposed_expert_traffic() -> None:
    at_once, late = step(), step("cluster.collectives.notify_wait=1 ms")
    exchanges = 4 * 2 * 4  # dispatch and combine, forward and backward, of two layers a stage and four micro batches
    assert late.time_s - at_once.time_s > 0.9 * exchanges * 1e-3
    gained = late.waterfall["exposed_ep"] * late.time_s - at_once.waterfall["exposed_ep"] * at_once.time_s
    assert gained == pytest.approx(exchanges * 1e-3, rel=0.1)
