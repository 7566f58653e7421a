"""The program in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.typed import Ran, typed


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs ``simtrain goodput`` with arguments in a fresh folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ran:
        return typed(monkeypatch, capsys, "goodput", *arguments)

    return run
