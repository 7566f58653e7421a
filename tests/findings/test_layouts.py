"""What Hagemann et al. 2023 (arXiv 2311.05610) found about layouts comes out of the simulation.

Their shapes, batch and cluster: LLaMA 13B, 30B and 65B with 128,000 words on 64 A100 80GB.  Nothing is fitted to these
findings; those that do not come out say so with their figures.
"""

from __future__ import annotations

from functools import cache

import pytest

import simtrain as st
from simtrain.step.report import StepReport

BASE = "llama-13b-on-64-a100"
SHORT, LONG = (2048, 2048), (8192, 512)
"""Sequence length, and sequences of a step."""


@cache
def step(
    size: str, tp: int, pp: int, micro_batch: int = 1, tokens: tuple[int, int] = SHORT, more: str = ""
) -> StepReport:
    model = f"{{extends: llama-{size}, vocab: 128000}}"
    return st.simulate_step(
        st.load(
            BASE,
            f"workload={{extends: llama-{size}, model: {model}}}",
            f"workload.sequence_length={tokens[0]}",
            f"workload.global_batch={tokens[1]}",
            f"layout.tp={tp}",
            f"layout.pp={pp}",
            f"layout.micro_batch={micro_batch}",
            *more.split(),
        )
    )


def best(size: str, layouts: list[tuple[int, int]], micro_batch: int, tokens: tuple[int, int], more: str = "") -> float:
    """Seconds of the fastest layout (tp, pp) that fits; infinite where none does."""
    found = [step(size, tp, pp, micro_batch, tokens, more) for tp, pp in layouts]
    return min((one.time_s for one in found if one.memory.fits), default=float("inf"))


NEAR = [
    ("13b", SHORT, [(1, 1), (1, 2), (2, 1)]),
    ("13b", LONG, [(2, 1), (2, 2), (4, 1)]),
    ("30b", SHORT, [(2, 2), (1, 4), (2, 4)]),
    ("65b", SHORT, [(2, 4), (2, 8), (4, 4)]),
]
"""Layouts around the published best of each shape."""
SHAPES = [f"{size}-{tokens[0]}" for size, tokens, _ in NEAR]


def test_13b_on_one_gpu_a_replica_reaches_about_70_percent() -> None:
    """Published 70.5 %, measured again on 32 GPUs at 69.7; within 5 points."""
    found = step("13b", 1, 1)
    assert found.memory.fits
    assert found.mfu == pytest.approx(0.70, abs=0.05)


FITS_TOO_MUCH = pytest.mark.xfail(
    reason="tp 2, pp 2 with micro batches of 2 takes 71.1 s against 72.2 with 1; predicted to fit, it ran out of memory"
)
ONE_WINS = [pytest.param(*case, marks=FITS_TOO_MUCH if case[:2] == ("30b", SHORT) else ()) for case in NEAR]


@pytest.mark.parametrize(("size", "tokens", "layouts"), ONE_WINS, ids=SHAPES)
def test_micro_batches_of_one_win(size: str, tokens: tuple[int, int], layouts: list[tuple[int, int]]) -> None:
    assert best(size, layouts, 1, tokens) <= best(size, layouts, 2, tokens)


@pytest.mark.parametrize(("size", "tokens", "layouts"), NEAR, ids=SHAPES)
def test_recomputation_never_pays_where_it_can_be_avoided(
    size: str, tokens: tuple[int, int], layouts: list[tuple[int, int]]
) -> None:
    kept = best(size, layouts, 1, tokens)
    for micro_batch in (1, 2):
        assert kept < 0.9 * best(size, layouts[:1], micro_batch, tokens, "layout.recompute=full")


@pytest.mark.parametrize(
    ("size", "tokens", "pipeline", "tensor"),
    [
        ("13b", SHORT, (1, 2), (2, 1)),
        ("13b", LONG, (2, 2), (4, 1)),
        ("30b", SHORT, (1, 4), (4, 1)),
        ("30b", SHORT, (2, 4), (4, 2)),
        ("65b", SHORT, (2, 8), (4, 4)),
        ("65b", SHORT, (4, 4), (8, 2)),
    ],
)
def test_pipeline_parallelism_comes_before_tensor_parallelism(
    size: str, tokens: tuple[int, int], pipeline: tuple[int, int], tensor: tuple[int, int]
) -> None:
    assert step(size, *pipeline, tokens=tokens).time_s < step(size, *tensor, tokens=tokens).time_s


def gain(size: str, tp: int, pp: int, micro_batch: int, tokens: tuple[int, int]) -> float:
    """What sequence parallelism saves of the step."""
    without = step(size, tp, pp, micro_batch, tokens, "layout.sp=false")
    return 1 - step(size, tp, pp, micro_batch, tokens).time_s / without.time_s


PAYS = [
    ("30b", 2, 4, 1, SHORT, 0.024),
    ("30b", 4, 4, 1, LONG, 0.087),
    ("65b", 4, 4, 2, SHORT, 0.056),
    ("65b", 8, 2, 2, SHORT, 0.078),
]
"""Layouts, and what was measured."""


@pytest.mark.parametrize(("size", "tp", "pp", "micro_batch", "tokens", "measured"), PAYS)
def test_sequence_parallelism_pays_from_30b_on(
    size: str, tp: int, pp: int, micro_batch: int, tokens: tuple[int, int], measured: float
) -> None:
    assert gain(size, tp, pp, micro_batch, tokens) > 0


@pytest.mark.xfail(reason="predicted 4.1 % of the step: copies of the residual stream are cut too")
def test_sequence_parallelism_hardly_matters_for_13b_at_2k() -> None:
    assert abs(gain("13b", 2, 1, 1, SHORT)) < 0.005


@pytest.mark.parametrize(("size", "tp", "pp", "micro_batch", "tokens", "measured"), PAYS)
def test_sequence_parallelism_pays_at_least_half_of_what_was_measured(
    size: str, tp: int, pp: int, micro_batch: int, tokens: tuple[int, int], measured: float
) -> None:
    assert gain(size, tp, pp, micro_batch, tokens) > measured / 2
