"""A step's report: shares, rates, contributions, and that every second of it is read from the Timeline."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import simtrain as st
from simtrain.engines import des
from simtrain.program.program import STREAMS, Program, Stream
from simtrain.step.compare import _signed, differences
from simtrain.step.report import StepReport
from simtrain.step.simulate import plan_step, report_step, simulate_step
from simtrain.timeline.ledger import BUCKETS
from tests.small import small

CASES = {
    "plain": (),
    "interleaved": ("layout.schedule=interleaved_1f1b", "layout.vpp=2"),
    "recompute": ("layout.recompute=full", "layout.zero=3", "layout.tp=1"),
    "context parallel": ("layout.cp=2", "workload.host_time_per_micro_batch=1 ms"),
    "tied": ("workload.model.tied_embeddings=true", "layout.pp=4", "layout.zero=0"),
}
WATERFALL = (
    "useful kernel_inefficiency non_matmul recompute exposed_tp exposed_cp exposed_ep exposed_pp exposed_dp comm_sms "
    "bubble_warmup bubble_steady bubble_cooldown optimizer host straggler"
)
IDLE = ("bubble_warmup", "bubble_steady", "bubble_cooldown", "straggler")
every_case = pytest.mark.parametrize("case", CASES)


@cache
def step_of(case: str) -> StepReport:
    return st.simulate_step(small(*CASES[case]))


@every_case
def test_the_waterfall_has_the_agreed_keys_and_adds_up_to_one(case: str) -> None:
    step = step_of(case)
    assert list(step.waterfall) == WATERFALL.split()
    assert sum(step.waterfall.values()) == pytest.approx(1.0, abs=1e-9)
    assert min(step.waterfall.values()) >= -1e-12
    assert step.bubble_fraction == pytest.approx(sum(step.waterfall[key] for key in IDLE[:3]))
    assert step.bubble_fraction > 0


@every_case
def test_contributions_add_up_to_the_time_that_is_not_idle(case: str) -> None:
    step = step_of(case)
    idle_s = sum(step.waterfall[key] for key in IDLE) * step.time_s
    assert sum(c.exposed_s for c in step.contributions) == pytest.approx(step.time_s - idle_s, rel=1e-9)
    assert sum(c.share for c in step.contributions) == pytest.approx(1.0 - idle_s / step.time_s, rel=1e-9)
    assert all(c.exposed_s <= c.busy_s * (1 + 1e-9) for c in step.contributions)
    ordered = [c.exposed_s for c in step.contributions]
    assert ordered == sorted(ordered, reverse=True)


def test_utilisation_by_its_definition() -> None:
    step = step_of("plain")
    h, f, layers, vocab, sequence = 4096, 11008, 4, 32000, 1024
    parameters = 2 * vocab * h + layers * (4 * h * h + 3 * h * f + 2 * h) + h
    per_token = 6 * parameters + 12 * layers * h * sequence
    per_gpu = 16 * sequence / step.time_s / 16
    assert step.tokens_per_s == pytest.approx(16 * per_gpu)
    assert step.tokens_per_s_per_gpu == pytest.approx(per_gpu)
    peak = 989.4e12
    assert step.mfu == pytest.approx(per_gpu * per_token / peak, rel=1e-4)
    assert step.model_tflops_per_gpu == pytest.approx(per_gpu * per_token / 1e12)
    assert step.mfu_causal == pytest.approx(per_gpu * (per_token - 6 * layers * h * sequence) / peak, rel=1e-4)
    assert step.hfu == step.mfu


def test_recomputation_counts_for_the_hardware_alone() -> None:
    """Recomputing every layer repeats 2 FLOPs per layer parameter and the (fused, halved) attention forward."""
    step = step_of("recompute")
    h, f, layers, vocab, sequence = 4096, 11008, 4, 32000, 1024
    matrices = layers * (4 * h * h + 3 * h * f)
    again = 2 * matrices + 2 * layers * h * sequence
    counted = 6 * (2 * vocab * h + matrices + layers * 2 * h + h) + 12 * layers * h * sequence
    assert (step.hfu - step.mfu) / step.mfu == pytest.approx(again / counted, rel=1e-3)
    assert step.waterfall["recompute"] > 0


def test_utilisation_is_useful_time_but_for_what_the_formula_counts_more() -> None:
    """Useful seconds are matmuls at peak; the formula adds the embedding table and the masked half of attention."""
    step = step_of("plain")
    h, layers, vocab, sequence, f = 4096, 4, 32000, 1024, 11008
    matmul = 6 * (layers * (4 * h * h + 3 * h * f) + vocab * h) + 3.5 * 2 * layers * h * sequence
    counted = 6 * (2 * vocab * h + layers * (4 * h * h + 3 * h * f + 2 * h) + h) + 12 * layers * h * sequence
    assert step.waterfall["useful"] / step.mfu == pytest.approx(matmul / counted, rel=1e-3)


def silenced(program: Program, ops: np.ndarray) -> Program:
    latency_s, work_s = program.latency_s.copy(), program.work_s.copy()
    latency_s[ops] = work_s[ops] = 0.0
    return replace(program, latency_s=latency_s, work_s=work_s)


@pytest.mark.parametrize(
    ("stream", "bucket"),
    [(Stream.TP, "exposed_tp"), (Stream.DP, "exposed_dp"), (Stream.PP_SEND_NEXT, "exposed_pp"), (Stream.HOST, "host")],
)
def test_every_second_is_read_from_the_timeline(stream: Stream, bucket: str) -> None:
    """Silencing one exposed operation of the Program shortens the step; silencing a stream shrinks its bucket."""
    plan = plan_step(small("workload.host_time_per_micro_batch=1 ms"))
    program = plan.lowered.program
    before = report_step(plan, des.simulate(program))
    on_stream = np.flatnonzero(program.lanes[program.op_ptr[:-1]] % STREAMS == stream)
    one = report_step(plan, des.simulate(silenced(program, on_stream[-1:] if stream is Stream.DP else on_stream[:1])))
    every = report_step(plan, des.simulate(silenced(program, on_stream)))
    assert every.time_s <= one.time_s < before.time_s
    assert every.waterfall[bucket] < before.waterfall[bucket]
    assert one.tokens_per_s > before.tokens_per_s
    assert one.job.cost_usd < before.job.cost_usd


def test_the_same_scenario_gives_the_same_document() -> None:
    first, second = (json.dumps(st.simulate_step(small()).document()) for _ in range(2))
    assert first == second


@every_case
def test_the_document_is_json_with_the_agreed_keys(case: str) -> None:
    document = json.loads(json.dumps(step_of(case).document(), allow_nan=False))
    assert set(document) >= {"scenario", "engine", "step", "memory", "job", "run", "coverage"}
    assert document["run"] is None
    assert document["engine"] in ("des", "compiled")
    assert set(document["step"]) == {
        "time_s",
        "tokens_per_s",
        "tokens_per_s_per_gpu",
        "model_tflops_per_gpu",
        "mfu",
        "mfu_causal",
        "hfu",
        "bubble_fraction",
        "waterfall",
        "uncertainty",
    }
    assert set(document["memory"]) >= {"capacity_bytes", "peak_bytes", "fits"}
    assert {"days", "gpu_hours", "cost_usd", "power_usd", "usd_per_million_tokens"} <= set(document["job"])
    assert set(document["coverage"]) == {"operators", "extrapolated", "items"}


LAYOUTS = [
    (),
    ("layout.schedule=gpipe", "layout.rank_order=tp-pp-cp-dp"),
    ("layout.zero=3", "layout.tp=1"),
    ("layout.zero=3", "layout.tp=1", "layout.pp=1", "layout.shard_group=8", "workload.global_batch=32"),
    ("layout.cp=4", "layout.tp=4", "layout.pp=1"),
    ("layout.vpp=2", "layout.schedule=interleaved_1f1b", "layout.blocking_sends=true"),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_faster_network_never_slows_a_step(layout: tuple[str, ...]) -> None:
    rates = (25, 100, 400, 1600)
    times = [simulate_step(small(*layout, f"cluster.node.nic.bandwidth={rate} Gbps")).time_s for rate in rates]
    assert all(slow >= fast for slow, fast in itertools.pairwise(times))
    assert times[0] > times[-1]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_faster_device_never_slows_a_step(layout: tuple[str, ...]) -> None:
    device = "cluster.node.device."
    steps = [
        small(*layout, f"{device}peaks.bf16={peak} TFLOPS", f"{device}memory_bandwidth={memory} TB/s")
        for peak, memory in ((300, 1), (300, 4), (1000, 4), (4000, 4), (4000, 16))
    ]
    times = [simulate_step(step).time_s for step in steps]
    assert all(slow >= fast for slow, fast in itertools.pairwise(times))
    assert times[0] > times[-1]


def test_differences_add_up_to_the_difference_in_time() -> None:
    steps = [step_of("plain"), step_of("recompute"), simulate_step(small("workload.global_batch=64"))]
    slower, larger = differences(steps)
    assert slower.total_s == pytest.approx(steps[1].time_s - steps[0].time_s, rel=1e-9)
    assert larger.total_s == pytest.approx(steps[2].time_s / 4 - steps[0].time_s, rel=1e-9)
    for difference in (slower, larger):
        assert tuple(difference.seconds) == BUCKETS
        assert sum(difference.seconds.values()) == pytest.approx(difference.total_s, rel=1e-9)
    # Four times the micro batches pay for one bubble: the same tokens take less time, and that is the reason given.
    assert larger.total_s < 0 < slower.total_s
    assert 1 <= len(slower.reasons) <= 2
    assert "bubble" in larger.reasons[0]


def test_reasons_of_milliseconds_are_not_zero() -> None:
    assert [_signed(seconds) for seconds in (12.344, 0.1, -0.00231)] == ["+12.34", "+0.10", "-0.0023"]
