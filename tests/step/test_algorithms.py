"""Collectives whose stages follow one another are several operations of a step."""

from __future__ import annotations

import numpy as np
import pytest

import simtrain as st
from simtrain.engines import compiled, des
from simtrain.errors import UnknownNameError
from simtrain.program.program import Phase
from simtrain.program.unfold import unfold
from simtrain.step.simulate import Plan, plan_step
from tests.small import small

STAGED = ("layout.zero=0", "layout.tp=1", "layout.pp=1", "cluster.collectives.algorithms={all_reduce: hierarchical}")

ONE_STAGE = ("layout.tp=1", "layout.pp=1")
_EACH = ", ".join(f"{name}: hierarchical" for name in ("all_reduce", "all_gather", "reduce_scatter"))
STAGES = f"cluster.collectives.algorithms={{{_EACH}}}"


def plan_of(*overrides: str) -> Plan:
    return plan_step(small(*overrides))


def reductions(plan: Plan) -> np.ndarray:
    program = plan.lowered.program
    return np.flatnonzero(program.phase == Phase.REDUCE)


def test_each_stage_is_an_operation_and_they_add_up_to_the_price() -> None:
    plan = plan_of(*STAGED)
    price = plan.lowered.flows.exchanges[0].cost
    assert len(price.phases) == 3
    program, one = plan.lowered.program, plan_of(*STAGED[:-1])
    assert len(reductions(plan)) > 2 * len(reductions(one))
    alone = program.latency_s + program.work_s
    first = int(np.flatnonzero(program.flow == 0)[0])
    assert alone[first : first + 3].sum() == pytest.approx(price.time_s, rel=1e-12)
    assert program.bytes[first + 1 : first + 3].tolist() == [0.0, 0.0]


def test_stages_run_alike_in_both_engines_folded_or_not() -> None:
    plan = plan_of(*STAGED)
    folded, fast = des.simulate(plan.lowered.program), compiled.simulate(plan.lowered.program)
    tolerance = 1e-9 * folded.makespan_s
    np.testing.assert_allclose(fast.end_s, folded.end_s, rtol=0, atol=tolerance)
    every = unfold(plan.lowered, plan.placement)
    np.testing.assert_allclose(
        compiled.simulate(every.program).end_s, folded.end_s[every.source], rtol=0, atol=tolerance
    )


@pytest.mark.parametrize("layout", [("layout.zero=0",), ("layout.zero=1",), ("layout.zero=1", "layout.shard_group=8")])
@pytest.mark.parametrize("overlap", ["true", "false"])
def test_no_stage_starts_before_what_the_exchange_waits_for(layout: tuple[str, ...], overlap: str) -> None:
    plan = plan_of(*layout, "layout.grad_bucket=0", f"layout.overlap_grad_reduce={overlap}", STAGES, *ONE_STAGE)
    program, timeline = plan.lowered.program, compiled.simulate(plan.lowered.program)
    name = np.array(program.names)[program.name]
    weights, reduced = program.phase == Phase.BACKWARD_WEIGHT, name == "gradient reduction"
    for layer in set(program.layer[reduced].tolist()):
        of_layer = program.layer == layer
        assert timeline.start_s[reduced & of_layer].min() >= timeline.end_s[weights & of_layer].max()
    assert timeline.start_s[name == "gradient norm"].min() >= timeline.end_s[weights].max()


def test_a_forward_waits_for_all_stages_of_the_gather_of_its_weights() -> None:
    plan = plan_of("layout.zero=1", "layout.grad_bucket=0", STAGES, *ONE_STAGE)
    program, timeline = plan.lowered.program, compiled.simulate(plan.lowered.program)
    gathers = np.array(program.names)[program.name] == "parameter gather"
    assert gathers.sum() > len(set(program.layer[gathers].tolist()))
    for layer in set(program.layer[gathers].tolist()):
        forward = (program.phase == Phase.FORWARD) & (program.layer == layer)
        gathered_s = timeline.end_s[gathers & (program.layer == layer)].max()
        assert timeline.start_s[forward].min() >= gathered_s - 1e-12


def test_where_the_algorithm_does_not_apply_the_usual_choice_stands() -> None:
    inside = ("layout.zero=0", "layout.tp=8")
    chosen = st.simulate_step(small(*inside, "cluster.collectives.algorithms={all_gather: hierarchical}"))
    assert chosen.time_s == st.simulate_step(small(*inside)).time_s
    assert chosen.unused_algorithms == ("cluster.collectives.algorithms.all_gather = 'hierarchical'",)
    assert st.simulate_step(small(*STAGED)).unused_algorithms == ()


@pytest.mark.parametrize(
    ("value", "key"),
    [("{all_reduce: rings}", "cluster.collectives.algorithms.all_reduce"), ("{reduce_all: ring}", "reduce_all")],
)
def test_unknown_names_are_said_with_the_nearest(value: str, key: str) -> None:
    with pytest.raises(UnknownNameError, match=key):
        plan_of(f"cluster.collectives.algorithms={value}")
