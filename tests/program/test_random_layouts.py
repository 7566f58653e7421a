"""Laws on random layouts of small models: folding is exact, the ledger is complete, memory is that of the order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from simtrain.engines import des
from simtrain.errors import InputError
from simtrain.program.unfold import unfold
from simtrain.scenario.scenario import Scenario
from simtrain.step.fit import peak_bytes
from simtrain.step.simulate import plan_step, report_step
from tests.small import small

CHOICES = {
    "layout.tp": (1, 2, 4),
    "layout.cp": (1, 1, 2),
    "layout.pp": (1, 2, 4),
    "layout.zero": (0, 1, 2, 3),
    "layout.recompute": ("none", "selective", "full"),
    "layout.micro_batch": (1, 2),
    "layout.schedule": ("1f1b", "gpipe", "interleaved_1f1b", "zb1p", "zbv"),
    "layout.rank_order": ("tp-cp-dp-pp", "tp-cp-pp-dp", "tp-pp-cp-dp"),
    "layout.attention": ("flash", "unfused"),
    "layout.blocking_sends": ("false", "true"),
    "layout.overlap_grad_reduce": ("true", "false"),
    "layout.overlap_param_gather": ("null", "true", "false"),
    "layout.grad_bucket": ("null", "0", "100 MB"),
    "layout.prefetch": (0, 1, 3),
    "layout.reshard_after_forward": ("true", "false"),
    "layout.offload": ("[]", "[]", "[first_moment, master]"),
    "layout.reduce_once": ("null", "true"),
    "layout.cp_comm": ("all_gather", "all_to_all"),
    "software.zero_unit": ("layer", "layer", "parameter"),
    "software.zero_one_stream": ("false", "true"),
    "software.zero_regather": ("false", "true"),
    "software.zero_part_time": ("0 us", "10 us"),
    "layout.shard_group": ("null", "null", 1, 2, 4),
    "workload.host_time_per_micro_batch": ("0 ms", "1 ms"),
    "workload.model.tied_embeddings": ("false", "true"),
}


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """A layout of 8 or 16 GPUs that is valid but for what its schedule refuses."""
    chosen = {key: draw(st.sampled_from(values)) for key, values in CHOICES.items()}
    chosen["layout.vpp"] = 2 if chosen["layout.schedule"] in ("interleaved_1f1b", "zbv") else 1
    model = draw(st.sampled_from(["llama2-7b", "mixtral-8x7b"]))
    if model == "mixtral-8x7b":
        chosen["layout.ep"] = draw(st.sampled_from([1, 2, 4]))
        chosen["layout.etp"] = draw(st.sampled_from(["null", "null", 1, 2, 4]))
    cluster = draw(st.sampled_from(["2x-hgx-h100", "1x-8x4090"]))
    changes = (f"{key}={value}" for key, value in chosen.items())
    return small(*changes, model=model, cluster=cluster, layers=8)


@given(scenarios())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_laws_of_a_random_layout(scenario: Scenario) -> None:
    try:
        plan = plan_step(scenario)
    except InputError:
        assume(False)
    folded = des.simulate(plan.lowered.program)
    every = unfold(plan.lowered, plan.placement)
    timeline = des.simulate(every.program)
    np.testing.assert_allclose(timeline.end_s, folded.end_s[every.source], rtol=0, atol=1e-9 * folded.makespan_s)
    step = report_step(plan, folded)
    assert sum(step.waterfall.values()) == pytest.approx(1.0, abs=1e-9)
    assert min(step.waterfall.values()) >= -1e-12
    assert step.memory.peak_bytes == pytest.approx(peak_bytes(scenario), rel=1e-12)
    assert 0 < step.mfu < 1
    assert step.mfu <= step.hfu + 1e-12
