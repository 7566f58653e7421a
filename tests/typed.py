"""Commands typed in this process."""

from __future__ import annotations

import json
import signal
import sys
from typing import Any, NamedTuple

import pytest

from simtrain.cli.main import main

__all__ = ["Ran", "typed"]


class Ran(NamedTuple):
    """What a command came to."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as one JSON document and nothing else."""
        return json.loads(self.out)


def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> Ran:
    """Run ``simtrain`` with arguments; that it compiles its loops for the first time is not what tests are about."""
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
