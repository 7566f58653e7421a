"""Uncertainty of a predicted step: the class of published steps it is like, and what is said of it."""

from __future__ import annotations

from dataclasses import astuple, replace

import pytest

import simtrain as st
from simtrain.report import tables
from simtrain.step import uncertainty as module
from simtrain.step.uncertainty import ANY, LEAST_PUBLISHERS, LEAST_ROWS, Comparable, Spread, comparable, uncertainty
from tests.report import samples

H100 = "llama2-70b-on-2048-h100"
OF = Comparable("Hopper GH100", "16 bit", "more", "dense")


def spread(rows: int = LEAST_ROWS, publishers: int = LEAST_PUBLISHERS, factor: float = 1.25) -> Spread:
    return Spread(rows, publishers, -0.1, 0.2, factor)


def test_classes_get_coarser_until_all_steps_are_one() -> None:
    chain = list(OF.coarser())
    assert chain[0] == OF
    assert chain[-1] == Comparable(ANY, ANY, ANY, ANY)
    kept = [{i for i, part in enumerate(astuple(of)) if part != ANY} for of in chain]
    assert len(set(map(frozenset, kept))) == len(chain)
    assert [len(parts) for parts in kept] == sorted((len(parts) for parts in kept), reverse=True)


@pytest.mark.parametrize(
    ("scenario", "overrides", "of"),
    [
        (H100, (), OF),
        (H100, ("layout.precision=fp8",), Comparable("Hopper GH100", "8 bit", "more", "dense")),
        (H100, ("cluster.nodes=8",), Comparable("Hopper GH100", "16 bit", "up to 64 GPUs", "dense")),
        ("deepseek-v3-on-2048-h800", (), Comparable("Hopper GH100", "8 bit", "more", "experts")),
    ],
)
def test_a_scenario_belongs_to_a_class(scenario: str, overrides: tuple[str, ...], of: Comparable) -> None:
    assert comparable(st.load(scenario, *overrides)) == of


def test_the_finest_class_with_enough_rows_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    wider = Comparable(ANY, OF.precision, OF.scale, OF.model)
    few = spread(LEAST_ROWS - 1, factor=1.1)
    table = {OF: few, wider: spread(factor=1.25), Comparable(*[ANY] * 4): spread(factor=2.0)}
    monkeypatch.setattr(module, "_shipped", lambda: table)
    found = uncertainty(st.load(H100))
    assert found is not None
    assert found.of == wider
    assert (1 + found.low, 1 + found.high) == pytest.approx((0.8, 1.25))
    table[OF] = spread(publishers=LEAST_PUBLISHERS - 1)
    assert uncertainty(st.load(H100)) == found
    table[OF] = spread(factor=1.1)
    finer = uncertainty(st.load(H100))
    assert finer is not None
    assert finer.of == OF
    other = uncertainty(st.load("deepseek-v3-on-2048-h800"))
    assert other is not None
    assert other.of.words() == "all steps"
    table.clear()
    assert uncertainty(st.load(H100)) is None


def test_the_shipped_table_knows_every_kind_of_step() -> None:
    shipped = module.read_table(module.TABLE)
    assert shipped[Comparable(*[ANY] * 4)].rows == max(of.rows for of in shipped.values())
    assert all(of.factor >= 1 and of.publishers <= of.rows for of in shipped.values())


def test_every_figure_that_follows_from_the_step_time_carries_it() -> None:
    within = module.Uncertainty(-0.2, 0.25, -0.1, 7, 2, OF)
    step = samples.step()
    plain = dict(tables.step_rows(step))
    marked = dict(tables.step_rows(replace(step, uncertainty=within)))
    follows = {name for name in plain if marked[name] == plain[name] + " (-20/+25%)"}
    apart = {"bubble", "peak memory", "purchase"}
    assert follows == plain.keys() - apart
    assert all(marked[name] == plain[name] for name in apart)
