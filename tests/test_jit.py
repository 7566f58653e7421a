"""Lazy compilation: silent imports, the same results without numba, one line when it really compiles."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numba import TypingError

from simtrain.jit import jit, jit_in_place

HALF = 0.5


@jit
def halved(value: float) -> float:
    return HALF * value


@jit
def halved_often(value: float, times: int = 2) -> float:
    for _ in range(times):
        value = halved(value)
    return value


def test_both_forms_agree_and_call_their_own_kind() -> None:
    assert halved_often(12.0) == halved_often.plain(12.0) == 3.0
    assert halved_often(12.0, 3) == halved_often.plain(12.0, 3) == 1.5
    assert halved.plain.__globals__["halved"] is halved
    assert halved_often.plain.__globals__["halved"] is halved.plain


class Pair(NamedTuple):
    records: np.ndarray
    numbers: np.ndarray


@jit_in_place
def add_to(pair: Pair, i: int) -> None:
    pair.records[i]["sum"] += pair.numbers[i]


@jit_in_place
def add_all(pair: Pair) -> int:
    for i in range(len(pair.numbers)):
        add_to(pair, i)
    return len(pair.numbers)


@jit_in_place
def create(size: int) -> float:
    return np.zeros(size).sum()


def test_work_in_place_is_the_same_in_both_forms_and_creates_no_array() -> None:
    pair = Pair(np.zeros(3, dtype=[("sum", "f8"), ("other", "i4")]), np.arange(3.0))
    assert add_all(pair) == add_all.plain(pair) == 3
    assert pair.records["sum"].tolist() == [0.0, 2.0, 4.0]
    with pytest.raises(TypingError, match="Failed in nopython mode"):
        create(3)


def test_without_numba_the_function_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    doubled = jit(lambda value: 2 * value)
    assert doubled("ab") == "abab"
    assert doubled.compiled is doubled.plain


def python(code: str, cache: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )


def test_compiling_is_said_once_and_loading_is_silent(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np; from simtrain.schedules import kernels; assert 'numba' not in sys.modules;"
        "print(kernels.free_phase(np.zeros((1, 2)), 0, 1.5, 1.0, 6.0),"
        " kernels.last_full(0, 0.0, 1, np.zeros(1), np.ones(1, np.int64), np.zeros(1, np.int64)))"
    )
    first, second = python(code, tmp_path), python(code, tmp_path)
    assert first.stderr.count("compiling") == 1
    assert first.stdout == second.stdout == "1.5 0\n"
    assert second.stderr == ""


def test_importing_schedules_does_not_import_numba(tmp_path: Path) -> None:
    code = "import sys; from simtrain import schedules; schedules.names(); assert 'numba' not in sys.modules"
    assert python(code, tmp_path).stderr == ""
