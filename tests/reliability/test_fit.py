"""Laws come back from their own samples; tables of incidents are read line by line."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest

from simtrain.errors import InputError
from simtrain.reliability.fit import fit_incidents, fit_laws, poisson_interval
from simtrain.reliability.incidents import read_incidents
from simtrain.reliability.job import Law
from simtrain.reliability.traces import read_trace

TRACES = Path(os.environ.get("SIMTRAIN_TRACES", Path(__file__).parents[2] / "../shared/traces"))
TRACE = TRACES / "infinitehbd_fault_trace.json"
recorded = pytest.mark.skipif(not TRACE.exists(), reason=f"no trace {TRACE}")


@pytest.mark.parametrize(
    "law", [Law("exponential", 50.0), Law("weibull", 50.0, 0.6), Law("weibull", 50.0, 3.0), Law("lognormal", 50.0, 1.5)]
)
def test_a_law_comes_back_from_its_samples(law) -> None:
    times = law.quantile((np.arange(4000) + 0.5) / 4000)
    best = fit_laws(times)[0].law
    assert best.kind == law.kind
    assert best.shape == pytest.approx(law.shape, rel=0.03)
    assert best.mean_s == pytest.approx(law.mean_s, rel=0.1)


def test_an_interval_of_a_count() -> None:
    assert poisson_interval(419) == pytest.approx((379.8, 461.1), abs=0.2)
    assert poisson_interval(0)[0] == 0.0
    assert poisson_interval(0)[1] == pytest.approx(3.689, rel=0.02)


TABLE = """\
start,class,end,node
0.5 days,gpu,1.5 days,n1
12 h,gpu,,n2
30 h,link,31 h,
9 days,gpu,10 days,n1
"""


def test_a_table_is_read_and_fitted(tmp_path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(TABLE)
    log = read_incidents(path)
    assert log.observed_s == 10 * 86400
    gpu, link = fit_incidents(log)
    assert (gpu.name, gpu.events, link.events) == ("gpu", 2, 1)
    assert gpu.mtbf_s == pytest.approx(5 * 86400)
    assert gpu.interval_s[0] < gpu.mtbf_s < gpu.interval_s[1]
    assert gpu.laws[0].law == Law("exponential", gpu.mtbf_s)
    assert gpu.repair is not None
    assert gpu.repair.parameters[0] == pytest.approx(86400)
    assert fit_incidents(read_incidents(path, 20 * 86400.0))[0].mtbf_s == pytest.approx(10 * 86400)


def test_dates_count_from_the_first_day(tmp_path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("class,start\ngpu,2026-03-31T06:00\ngpu,2026-03-30T12:00\n")
    log = read_incidents(path)
    assert [incident.time_s for incident in log.incidents] == [43200.0, 108000.0]


WRONG = {
    "column": ("begin,class\n1 h,gpu\n", ["line 1", "no column 'start'"]),
    "time": ("start,class\n1 h,gpu\nsoon,gpu\n", ["line 3", "start = 'soon'", "3.5 days"]),
    "no unit": ("start,class\n12,gpu\n", ["line 2", "start = '12'"]),
    "class": ("start,class\n1 h,\n", ["line 2", "class is empty"]),
    "end": ("start,class,end\n2 h,gpu,1 h\n", ["line 2", "end = '1 h'", "not lie before"]),
    "mixed": ("start,class\n2 h,gpu\n2026-03-30,gpu\n", ["a date in some lines"]),
    "empty": ("start,class\n", ["no incidents"]),
    "cells": ("start,class\n1 h,gpu\n2 h,gpu,dead,again\n", ["line 3", "more cells than the 2 columns", "quotes"]),
    "column twice": ("start,class,class\n1 h,gpu,nic\n", ["line 1", "'class' stands twice"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_table_written_wrong_names_the_line(case, tmp_path) -> None:
    text, said = WRONG[case]
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        read_incidents(tmp_path / "log.csv")
    assert [words for words in said if words not in str(caught.value)] == []


def test_a_quoted_cell_may_hold_line_breaks(tmp_path) -> None:
    (tmp_path / "log.csv").write_text('note,start,class\n"two\nlines",1 h,gpu\n"\u2028",2 h,gpu\n')
    assert [(each.time_s, each.name) for each in read_incidents(tmp_path / "log.csv").incidents] == [
        *((3600.0, "gpu"), (7200.0, "gpu")),
    ]


@recorded
def test_repairs_take_as_long_as_in_the_record() -> None:
    """So that a fitted fleet has as many nodes down as the record: its repairs are no lognormal law (sigma 2.5)."""
    log = read_incidents(TRACE)
    (fault,) = fit_incidents(log)
    assert fault.repair is not None
    assert fault.repair.mean_s == pytest.approx(np.mean([each.repair_s for each in log.incidents if each.repair_s]))
    down = fault.repair.mean_s / fault.mtbf_s
    assert down == pytest.approx(read_trace(TRACE).mean_down(), rel=0.1)


@recorded
def test_the_recorded_gaps_are_bursty() -> None:
    gaps = np.diff(np.unique(read_trace(TRACE).starts_s)) / 86400
    best = fit_laws(gaps)[0]
    assert best.law.kind == "weibull"
    assert best.law.shape == pytest.approx(0.62, abs=0.05)
    assert math.isfinite(best.aic)
