"""The program in this process, and small documents to feed it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.typed import Ran, typed

SMALL = """\
title: four layers on two nodes
cluster: 2x-hgx-h100
workload:
  extends: llama2-7b
  model: {extends: llama2-7b, layers: 4}
  sequence_length: 1024
  global_batch: 16
  tokens: 1B
layout: {tp: 2, pp: 2}
"""
STUDY = """\
title: two splits
extends: ./small.yaml
scenarios:
  - name: two by two
  - {name: one by four, set: {layout.tp: 1, layout.pp: 4}}
"""


Cli = Callable[..., Ran]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh working directory with ``small.yaml`` and ``study.yaml``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


@pytest.fixture
def cli(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs ``simtrain`` with arguments in this process."""

    def run(*arguments: str) -> Ran:
        return typed(monkeypatch, capsys, *arguments)

    return run
