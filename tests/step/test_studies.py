"""Shipped studies: which of their scenarios comes out ahead, not by how much."""

from __future__ import annotations

from itertools import pairwise

import pytest

from simtrain.scenario.load import load_study
from simtrain.step.report import StepReport
from simtrain.step.simulate import simulate_step


def steps(study: str, *overrides: str) -> dict[str, StepReport]:
    return {scenario.name: simulate_step(scenario) for scenario in load_study(study, *overrides)[1]}


@pytest.mark.parametrize("tp", [4, 8])
def test_each_kind_of_overlap_hides_more_of_tensor_parallelism_and_lends_more_sms(tp: int) -> None:
    found = steps("tp-overlap", f"layout.tp={tp}", "workload.global_batch=256")
    assert list(found) == ["no overlap", "beside weight gradients", "in four chunks"]
    assert all(step.memory.fits for step in found.values())
    for before, after in pairwise(found.values()):
        assert after.time_s < before.time_s
        assert after.waterfall["exposed_tp"] < before.waterfall["exposed_tp"]
        assert after.waterfall["comm_sms"] > before.waterfall["comm_sms"]
    none, *_, chunked = found.values()
    assert chunked.waterfall["exposed_tp"] < 0.5 * none.waterfall["exposed_tp"]


def test_a_second_nic_pays_and_more_move_the_bottleneck_into_host_memory() -> None:
    found = steps("4090-nics")
    one, two, four, eight = found.values()
    assert {step.scenario.cluster.node.nics: name for name, step in found.items()} == {  # type: ignore[union-attr]
        1: "1 NIC", 2: "2 NICs", 4: "4 NICs", 8: "8 NICs"
    }  # fmt: skip
    layouts = {step.scenario.layout for step in found.values()}
    assert len(layouts) == 1
    assert two.time_s < 0.95 * one.time_s
    assert all(abs(step.time_s / two.time_s - 1) < 0.03 for step in (four, eight))
    purchases = [step.job.purchase_usd for step in found.values()]
    assert purchases == sorted(purchases)
    assert len(set(purchases)) == 4
    assert min(found.values(), key=lambda step: step.job.usd_per_million_tokens) is two
    assert two.network.kinds[0].kind == "host"
    use = [next(k.mean for k in step.network.kinds if k.kind == "nic") for step in found.values()]
    assert use == sorted(use, reverse=True)
