"""Lazy compilation: silent imports, the same results without numba, one line when it really compiles."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simtrain.jit import jit

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
