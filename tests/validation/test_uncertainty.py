"""The table of uncertainties is written from errors of published rows."""

from __future__ import annotations

import pytest

from simtrain.errors import InputError
from simtrain.importers.model_table import read_models
from simtrain.step.uncertainty import ANY, TABLE, Comparable, read_table
from simtrain.validation.calibrate.uncertainty import classes, written
from simtrain.validation.rows import read_rows
from simtrain.validation.steps import measured_models, measured_steps
from simtrain.validation.within import Compared, alike

ALL = Comparable(*[ANY] * 4)


def test_every_publisher_weighs_the_same() -> None:
    found = classes({"aleph-0072": -0.1, "aleph-0073": -0.1, "aleph-0075": -0.1, "korthikanti-0002": 0.5})[ALL]
    assert (found.rows, found.publishers) == (4, 2)
    assert found.bias == pytest.approx(0.2)
    assert found.abs_error == pytest.approx(0.5)
    assert found.factor == pytest.approx(1.5)


def test_too_fast_and_too_slow_by_one_factor_are_equally_wrong() -> None:
    assert classes({"aleph-0072": -0.2})[ALL].factor == pytest.approx(1.25)
    assert classes({"aleph-0072": 0.25})[ALL].factor == pytest.approx(1.25)


def test_rows_composed_from_the_same_parts_are_one() -> None:
    rows = [row for row in read_rows(measured_steps()) if row.group == "vtrain_single"]
    composed = alike([Compared(row, 0.5, 1.0) for row in rows], read_models(measured_models()))[0]
    assert len(composed) > 1
    found = classes({one.row.id: -0.5 for one in composed} | {"aleph-0072": -0.1})[ALL]
    assert found.rows == 2
    assert found.bias == pytest.approx(-0.3)


def test_classes_hold_the_rows_of_those_inside_them() -> None:
    found = classes({"aleph-0072": -0.1, "llmq_other-0003": 0.1, "deepseek-0001": 0.2, "simumax_b200-0003": -0.1})
    for of, spread in found.items():
        for wider in of.coarser():
            assert found[wider].rows >= spread.rows
    assert found[ALL].rows == 4


@pytest.mark.parametrize("errors", [{"nothing-0001": 0.1}, {"aleph-0072": -1.0}, {"aleph-0072": float("nan")}])
def test_what_is_no_error_of_a_row_is_refused(errors: dict[str, float]) -> None:
    with pytest.raises(InputError, match="is no error of a shipped row"):
        classes(errors)


def test_the_shipped_table_is_as_the_script_writes_it() -> None:
    assert written(read_table(TABLE)) == TABLE.read_text(encoding="utf-8")
