"""Published runs at full scale: Llama 3.1 405B on 8,192 and 16,384 H100, DeepSeek-V3 on 2048 H800.

Limits are those of the publications, with nothing fitted to them; what does not hold yet says so with its figures.
"""

from __future__ import annotations

from functools import cache

import pytest

from simtrain.scenario.load import load_study
from simtrain.step.report import StepReport
from simtrain.step.simulate import simulate_step


@cache
def steps(study: str) -> dict[str, StepReport]:
    return {scenario.name: simulate_step(scenario) for scenario in load_study(study)[1]}


@pytest.mark.parametrize(("name", "published"), [("8,192 GPUs, 8k", 0.43), ("16,384 GPUs, 8k", 0.41)])
def test_llama3_405b_reaches_the_published_mfu(name: str, published: float) -> None:
    """Table 4 of arXiv 2407.21783, within 3 points."""
    assert steps("llama3-405b")[name].mfu == pytest.approx(published, abs=0.03)


@pytest.mark.xfail(reason="predicted 42.6 % counting the whole square of attention, 30.4 % counting half")
def test_llama3_405b_reaches_the_published_mfu_at_131k_under_one_of_both_counts() -> None:
    """Table 4 of arXiv 2407.21783: 38 %, without saying how attention is counted."""
    step = steps("llama3-405b")["16,384 GPUs, 131k"]
    assert min(abs(step.mfu - 0.38), abs(step.mfu_causal - 0.38)) <= 0.03


def test_llama3_405b_loses_with_half_the_micro_batches_what_was_published() -> None:
    """43 to 41 % from 8,192 to 16,384 GPUs at one batch: half the micro batches a replica, a longer bubble."""
    found = steps("llama3-405b")
    one, two = found["8,192 GPUs, 8k"], found["16,384 GPUs, 8k"]
    assert 0.88 < two.mfu / one.mfu < 1
    assert two.bubble_fraction > one.bubble_fraction


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("balanced", marks=pytest.mark.xfail(reason="predicted 145,000")),
        "natural routing",
    ],
)
def test_deepseek_v3_takes_the_published_hours(name: str) -> None:
    """180,000 H800 hours a trillion tokens, within 10 % (arXiv 2412.19437, table 1)."""
    hours = steps("deepseek-v3-hours")[name].job.gpu_hours / 14.8
    assert hours == pytest.approx(180_000, rel=0.1)
