"""Steps with experts cut over ranks: what was absent stays, work is conserved, engines and folding agree."""

from __future__ import annotations

import numpy as np
import pytest

import simtrain as st
from simtrain.engines import compiled, des
from simtrain.step.report import StepReport
from simtrain.step.simulate import plan_step
from tests.small import small

CUTS = [("layout.ep=4", "layout.etp=2"), ("layout.ep=2", "layout.etp=4"), ("layout.etp=1",), ("layout.etp=4",)]


def step(*overrides: str) -> StepReport:
    return st.simulate_step(small(*overrides, model="mixtral-8x7b"))


@pytest.mark.parametrize(("absent", "told"), [(("layout.ep=4",), 1), ((), 2), (("layout.sp=false",), 2)])
def test_the_default_told_is_the_default(absent: tuple[str, ...], told: int) -> None:
    default, explicit = step(*absent), step(*absent, f"layout.etp={told}")
    assert explicit.time_s == default.time_s
    assert explicit.waterfall == default.waterfall
    assert explicit.memory.parts == default.memory.parts


@pytest.mark.parametrize("cut", CUTS)
def test_every_cut_does_the_same_useful_work(cut: tuple[str, ...]) -> None:
    plain, found = step("layout.ep=4"), step(*cut)
    assert found.waterfall["useful"] * found.time_s == pytest.approx(plain.waterfall["useful"] * plain.time_s, rel=1e-9)
    assert sum(found.waterfall.values()) == pytest.approx(1.0, abs=1e-9)


def test_cut_experts_take_their_share_of_memory_and_their_exchanges_show_as_tensor_parallel() -> None:
    experts, layers = 8 * 3 * 4096 * 14336, 2
    whole, cut, fewer = (step(*c) for c in (("layout.ep=4",), ("layout.ep=4", "layout.etp=2"), ("layout.ep=2",)))
    for found, saved in ((cut, 1 / 4 - 1 / 8), (fewer, 1 / 4 - 1 / 2)):
        gone = whole.memory.parts["weights"][0] - found.memory.parts["weights"][0]
        assert gone == pytest.approx(2 * layers * experts * saved)
    assert cut.waterfall["exposed_tp"] > whole.waterfall["exposed_tp"] + 0.01


@pytest.mark.parametrize("schedule", ["1f1b", "zb1p", "dualpipe"])
@pytest.mark.parametrize("cut", CUTS)
def test_engines_and_folding_agree(cut: tuple[str, ...], schedule: str) -> None:
    options = (*cut, f"layout.schedule={schedule}", "workload.global_batch=32")
    program = plan_step(small(*options, model="mixtral-8x7b")).lowered.program
    reference, fast = des.simulate(program), compiled.simulate(program)
    np.testing.assert_allclose(fast.end_s, reference.end_s, rtol=0, atol=1e-9 * reference.makespan_s)
    assert step(*options, "fold=false").time_s == pytest.approx(fast.makespan_s, rel=1e-9)
