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


def test_where_the_algorithm_does_not_apply_the_usual_choice_stands() -> None:
    inside = ("layout.zero=0", "layout.tp=8")
    chosen = st.simulate_step(small(*inside, "cluster.collectives.algorithms={all_gather: hierarchical}"))
    assert chosen.time_s == st.simulate_step(small(*inside)).time_s


@pytest.mark.parametrize(
    ("value", "key"),
    [("{all_reduce: rings}", "cluster.collectives.algorithms.all_reduce"), ("{reduce_all: ring}", "reduce_all")],
)
def test_unknown_names_are_said_with_the_nearest(value: str, key: str) -> None:
    with pytest.raises(UnknownNameError, match=key):
        plan_of(f"cluster.collectives.algorithms={value}")
