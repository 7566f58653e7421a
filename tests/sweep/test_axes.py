"""Axes: lists, ranges, zipped lists, seeds, and what is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from simtrain.errors import ScenarioError
from simtrain.scenario.load import load
from simtrain.scenario.scenario import Sweep
from simtrain.sweep.axes import axes_of, parse_axis
from simtrain.sweep.grid import load_sweep


def values(written: object) -> list:
    (axis,) = axes_of(Sweep(extends="x", axes={"a.b": written}), "here")
    return [value for (value,) in axis.values]


numbers = some.floats(0.5, 1e6)


@given(first=numbers, ratio=some.floats(1.5, 100), steps=some.integers(2, 30), log=some.booleans())
def test_a_range_keeps_its_ends_and_its_distances(first, ratio, steps, log) -> None:
    last = first * ratio
    found = values({"from": first, "to": last, "steps": steps, "scale": "log" if log else "linear"})
    assert len(found) == steps
    assert (found[0], found[-1]) == (pytest.approx(first), last)
    for before, after in pairwise(found):
        if log:
            assert after / before == pytest.approx(ratio ** (1 / (steps - 1)))
        else:
            assert after - before == pytest.approx((last - first) / (steps - 1), rel=1e-6)


@given(first=some.integers(1, 500), more=some.integers(1, 500), steps=some.integers(2, 20))
def test_a_range_of_whole_numbers_stays_whole_and_says_nothing_twice(first, more, steps) -> None:
    found = values({"from": first, "to": first + more, "steps": steps})
    assert all(isinstance(value, int) for value in found)
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (first, first + more)


def test_ranges_by_example() -> None:
    assert values({"from": 1, "to": 8, "steps": 4, "scale": "log"}) == [1, 2, 4, 8]
    assert values({"from": "5 min", "to": "20 min", "steps": 3, "scale": "log"}) == ["5 min", "10 min", "20 min"]
    assert values({"from": 1.0, "to": 2, "steps": 3}) == [1.0, 1.5, 2.0]
    assert values({"from": 8, "to": 2, "steps": 4}) == [8, 6, 4, 2]


def test_an_axis_is_typed_as_yaml_values() -> None:
    assert parse_axis("layout.tp=1,2,4") == ("layout.tp", [1, 2, 4])
    assert parse_axis("cluster.node.nic.bandwidth=100 Gbps, 200 Gbps")[1] == ["100 Gbps", "200 Gbps"]
    assert parse_axis("layout.sp=true, null")[1] == [True, None]
    assert parse_axis("a=[1, 2], [3]")[1] == [[1, 2], [3]]
    assert parse_axis("a={from: 1, to: 3, steps: 3}")[1] == {"from": 1, "to": 3, "steps": 3}


def test_axes_zips_and_seeds_in_this_order() -> None:
    sweep = Sweep(extends="x", axes={"a": [1, 2]}, zip=({"b": [1, 2, 3], "c": [4, 5, 6]},), seeds=2)
    plain, zipped, seeds = axes_of(sweep, "here")
    assert (plain.keys, zipped.keys, seeds.keys) == (("a",), ("b", "c"), ("seed",))
    assert zipped.values == ((1, 4), (2, 5), (3, 6))
    assert seeds.values == ((0,), (1,))


WRONG = {
    "no axes": ({}, "here: axes is empty"),
    "no values": ({"axes": {"a": []}}, "here: axes.a has no values"),
    "a number": ({"axes": {"a": 3}}, "here: axes.a = 3 is not allowed; it must be a list, or a range"),
    "a value twice": ({"axes": {"a": [1, 2, 1]}}, "here: axes.a: the value 1 stands twice"),
    "a key twice": ({"axes": {"seed": [1]}, "seeds": 2}, "seed is an axis twice"),
    "steps": ({"axes": {"a": {"from": 1, "to": 2, "steps": 1}}}, "axes.a: range: steps = 1"),
    "unknown key": ({"axes": {"a": {"frm": 1, "to": 2, "steps": 2}}}, "did you mean 'from'?"),
    "scale": ({"axes": {"a": {"from": 1, "to": 2, "steps": 2, "scale": "lgo"}}}, "did you mean 'log'?"),
    "log of zero": ({"axes": {"a": {"from": 0, "to": 2, "steps": 2, "scale": "log"}}}, "above 0"),
    "units": ({"axes": {"a": {"from": "5 min", "to": "2 h", "steps": 2}}}, "the same unit"),
    "words": ({"axes": {"a": {"from": "few", "to": "many", "steps": 2}}}, "'few' is not a number"),
    "an empty zip": ({"zip": ({},)}, "zip.0 is empty"),
    "unequal zips": ({"zip": ({"a": [1, 2], "b": [1]},)}, "equally long, but a has 2, b has 1 values"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_axes_are_refused(case) -> None:
    written, said = WRONG[case]
    with pytest.raises(ScenarioError) as caught:
        axes_of(Sweep(extends="x", **written), "here")
    assert said in str(caught.value)
    assert str(caught.value).startswith("here")


def test_every_point_is_what_loading_with_its_values_gives(folder) -> None:
    grid = load_sweep("small.yaml", "money.pue=1.5", axes=["layout.tp=1,2", "cluster.node.nics=4,8"])
    assert len(grid) == len(grid.points) == 4
    for point in grid.points:
        same = [f"{key}={value}" for key, value in point.items()]
        assert grid.scenario(point) == load("small.yaml", "money.pue=1.5", *same)


def test_a_whole_part_is_put_in_before_what_changes_inside_it(folder) -> None:
    grid = load_sweep("small.yaml", axes=["cluster.node.nics=2,4", "cluster=2x-hgx-h100,1x-hgx-h100"])
    found = [(grid.scenario(point).cluster.nodes, grid.scenario(point).cluster.node.nics) for point in grid.points]
    assert found == [(2, 2), (1, 2), (2, 4), (1, 4)]


def test_a_sweep_sets_and_the_command_line_adds_and_replaces_axes(folder) -> None:
    (folder / "grid.yaml").write_text(
        "kind: sweep\nextends: ./small.yaml\nset: {layout.pp: 1}\naxes: {layout.tp: [1, 2]}\n"
        "zip: [{cluster.nodes: [1, 2], workload.global_batch: [8, 16]}]\nseeds: [3, 7]\n"
    )
    grid = load_sweep("grid.yaml", axes=["layout.tp=4,8", "layout.micro_batch=1,2"])
    assert [axis.keys[0] for axis in grid.axes] == ["layout.tp", "layout.micro_batch", "cluster.nodes", "seed"]
    assert len(grid) == 16
    last = grid.scenario(grid.points[-1])
    assert (last.layout.tp, last.layout.pp, last.layout.micro_batch) == (8, 1, 2)
    assert (last.cluster.nodes, last.workload.global_batch, last.seed) == (2, 16, 7)


def test_a_range_with_units_keeps_its_digits() -> None:
    assert values({"from": "1000000 Mbps", "to": "1000002 Mbps", "steps": 3}) == [
        *("1000000 Mbps", "1000001 Mbps", "1000002 Mbps"),
    ]
    assert values({"from": "12345678 s", "to": "12345679.5 s", "steps": 2}) == ["12345678 s", "12345679.5 s"]


@pytest.mark.parametrize("written", [{"axes": {"a": {"from": 1, "to": 2, "steps": 10**12}}}, {"seeds": 10**12}])
def test_too_many_values_are_refused_before_they_are_made(written) -> None:
    with pytest.raises(ScenarioError, match=r"here: .*1000000000000 values are too many; at most 100000"):
        axes_of(Sweep(extends="x", **written), "here")


def test_an_axis_given_twice_is_refused(folder) -> None:
    with pytest.raises(ScenarioError, match=r"--axis: layout\.tp is an axis twice; give all its values at once"):
        load_sweep("small.yaml", axes=["layout.tp=1", "layout.tp=2"])
