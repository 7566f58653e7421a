"""Bars: exactly the Timeline's times, whatever the level of detail."""

from __future__ import annotations

import numpy as np
import pytest

from simtrain.errors import InputError
from simtrain.program.program import Phase, Stream
from simtrain.report.bars import bars, one_rank_per_stage
from simtrain.report.palette import BUCKETS, STYLES, Kind, lighten
from tests.report import samples


def test_one_bar_per_pipeline_action() -> None:
    timeline = samples.pipeline("1f1b", 4, 6)
    drawn = bars(timeline)
    assert [row.rank for row in drawn.rows] == [0, 1, 2, 3]
    kinds = [Kind(kind) for kind in drawn.kind[drawn.row == 0]]
    forward, backward = Kind.FORWARD, Kind.BACKWARD
    assert kinds == [*[forward] * 4, *[backward, forward] * 2, *[backward] * 4, Kind.OPTIMIZER]
    assert drawn.microbatch[(drawn.row == 3) & (drawn.kind == forward)].tolist() == list(range(6))


@pytest.mark.parametrize("name", ["1f1b", "gpipe", "interleaved_1f1b"])
def test_actions_start_and_end_exactly_with_their_operations(name: str) -> None:
    timeline = samples.pipeline(name, 2, 4, 2 if name == "interleaved_1f1b" else 1)
    drawn, program = bars(timeline), timeline.program
    backward = (Phase.BACKWARD_INPUT, Phase.BACKWARD_WEIGHT, Phase.RECOMPUTE)
    for i in range(len(drawn)):
        lane = timeline.lane(drawn.rows[drawn.row[i]].rank, Stream.COMPUTE)
        phases = backward if drawn.kind[i] == Kind.BACKWARD else (program.phase[drawn.first[i]],)
        same = lane[(program.stage[lane] == drawn.stage[i]) & (program.microbatch[lane] == drawn.microbatch[i])]
        same = same[np.isin(program.phase[same], phases)]
        assert drawn.start_s[i] == timeline.start_s[same].min()
        assert drawn.end_s[i] == timeline.end_s[same].max()
        assert drawn.operations[i] == len(same)
        assert drawn.busy_s[i] == pytest.approx((timeline.end_s[same] - timeline.start_s[same]).sum())


def test_recomputation_is_told_apart_inside_a_backward() -> None:
    drawn = bars(samples.pipeline("1f1b", 2, 2))
    backward = drawn.select(drawn.kind == Kind.BACKWARD)
    assert backward.recompute_s == pytest.approx(np.full(4, samples.LAYERS * 1.1e-3))
    assert drawn.select(drawn.kind == Kind.FORWARD).recompute_s.sum() == 0.0


def test_halves_of_a_backward_stay_apart_where_the_schedule_splits_them() -> None:
    drawn = bars(samples.split_pipeline())
    first = [Kind(kind) for kind in drawn.kind[drawn.row == 0]]
    split = [Kind.BACKWARD_INPUT] * 2 + [Kind.BACKWARD_WEIGHT] * 2
    assert first == [Kind.FORWARD] * 2 + split + [Kind.OPTIMIZER]


def test_operations_are_the_arrays_themselves() -> None:
    timeline = samples.pipeline()
    drawn = bars(timeline, streams=tuple(Stream), detail="operation")
    assert np.array_equal(drawn.start_s, timeline.start_s[drawn.first])
    assert np.array_equal(drawn.end_s, timeline.end_s[drawn.first])
    assert len(drawn) == len(timeline.program.lanes)
    moves = drawn.kind == Kind.COMMUNICATION
    assert {drawn.label(i) for i in np.flatnonzero(moves)} == {"tp all-reduce", "send", "dp all-reduce"}
    assert {drawn.rows[r].stream for r in drawn.row[~moves]} == {Stream.COMPUTE}


def test_bars_of_a_row_never_overlap() -> None:
    drawn = bars(samples.pipeline("interleaved_1f1b", 4, 8, 2), streams=tuple(Stream))
    same_row = drawn.row[1:] == drawn.row[:-1]
    assert (drawn.start_s[1:] >= drawn.end_s[:-1])[same_row].all()


def test_ranks_can_be_chosen_and_must_exist() -> None:
    timeline = samples.pipeline()
    assert [row.rank for row in bars(timeline, ranks=[2, 0]).rows] == [2, 0]
    assert one_rank_per_stage(timeline.program) == (0, 1, 2, 3)
    with pytest.raises(InputError, match="no simulated rank 4; ranks go from 0 to 3"):
        bars(timeline, ranks=[4])


def test_a_lane_without_operations_gives_no_bars() -> None:
    drawn = bars(samples.pipeline(), streams=[Stream.EP])
    assert len(drawn) == 0
    assert drawn.rows == ()


def test_every_kind_differs_by_colour_and_letter() -> None:
    assert set(STYLES) == set(Kind)
    assert len({style.color for style in STYLES.values()}) == len({s.letter for s in STYLES.values()}) == len(Kind)
    assert set(BUCKETS) == set(samples.WATERFALL)
    assert lighten("#0072B2", 0.0) == "#0072B2"
    assert lighten("#0072B2", 1.0) == "#FFFFFF"
