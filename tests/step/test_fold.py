"""Which GPUs are simulated: one for all that behave alike, each where they do not."""

from __future__ import annotations

import pytest

import simtrain as st
from simtrain.scenario.scenario import Scenario
from simtrain.step import copies
from tests.small import small


def uneven(*overrides: str) -> Scenario:
    """Six PCIe nodes with shard groups of four nodes: some groups lie within a socket, others across nodes."""
    document = {
        "cluster": {"node": "8x4090", "nodes": 6, "fabric": "single-switch"},
        "workload": {
            "extends": "llama2-7b",
            "sequence_length": 1024,
            "global_batch": 48,
            "model": {"extends": "llama2-7b", "layers": 4},
        },
        "layout": {"tp": 2, "pp": 2, "zero": 3, "shard_group": 3},
    }
    return st.load(document, *overrides)


def test_groups_that_load_links_differently_are_simulated_each() -> None:
    each, told, one = (st.simulate_step(uneven(*fold)) for fold in ((), ("fold=false",), ("fold=true",)))
    assert each.timeline.program.ranks == told.timeline.program.ranks == 48
    assert one.timeline.program.ranks == 2
    assert each.time_s == told.time_s
    assert each.time_s == pytest.approx(one.time_s, rel=0.1)
    assert [each.uneven, told.uneven, one.uneven] == [False] * 3


def test_too_many_of_them_are_folded_and_the_report_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "MOST_OPERATIONS", {"compiled": 1000, "des": 1000})
    step = st.simulate_step(uneven())
    assert step.uneven
    assert step.timeline.program.ranks == 2
    assert step.time_s == st.simulate_step(uneven("fold=true")).time_s


def test_where_all_are_alike_one_is_enough() -> None:
    step = st.simulate_step(small())
    assert step.timeline.program.ranks == 2
    assert not step.uneven
