"""The program in this process, and small documents to feed it."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from simtrain.cli.main import main

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


class Ran(NamedTuple):
    """What a command came to."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as one JSON document and nothing else."""
        return json.loads(self.out)


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
        monkeypatch.setattr(sys, "argv", ["simtrain", *arguments])
        before = signal.getsignal(signal.SIGPIPE)
        capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            signal.signal(signal.SIGPIPE, before)
        captured = capsys.readouterr()
        said = [line for line in captured.err.splitlines(keepends=True) if "compiling its fast loops" not in line]
        return Ran(int(ended.value.code or 0), captured.out, "".join(said))

    return run
