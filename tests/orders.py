"""Orders for tests: one small order of every schedule, and the published order tables."""

from __future__ import annotations

import json
import os
from collections.abc import Container
from pathlib import Path
from typing import Any

import pytest

from simtrain import schedules
from simtrain.schedules.order import Order

TABLES = Path(os.environ.get("SIMTRAIN_ORACLES", Path(__file__).parents[1] / "../shared/oracles")) / "schedules"


def tables(families: Container[str]) -> list[Any]:
    """Parameters for pytest: every published table of these families, or one skip with its reason."""
    index = TABLES / "index.json"
    if not index.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no order tables in {TABLES}"))]
    entries = json.loads(index.read_text())["tables"]
    return [pytest.param(TABLES / e["file"], id=e["file"]) for e in entries if e["schedule"] in families]


def small_order(name: str, ranks: int = 4, microbatches: int = 8) -> Order:
    """The order of a schedule, with two chunks where one would make it another schedule."""
    chunks = 2 if name.startswith(("interleaved", "looped")) else None
    return schedules.get(name).order(ranks, microbatches, chunks)
