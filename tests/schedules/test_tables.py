"""Hand-made schedules against the published order tables: slot for slot, memory, and every evaluation."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from simtrain import schedules
from tests.orders import TABLES, tables
from tests.schedules.evaluate import evaluate, peak_chunks

FAMILIES = {
    "1f1b": 12,
    "1f1b_overlap": 2,
    "dualpipe": 8,
    "dualpipev": 9,
    "gpipe": 12,
    "interleaved_1f1b": 11,
    "interleaved_1f1b_ep_overlap": 9,
    "interleaved_1f1b_group": 4,
    "interleaved_bw_split": 4,
    "interleaved_zb": 11,
    "looped_bfs": 11,
    "zb1p": 12,
    "zb_h2": 6,
    "zbv": 9,
}


@pytest.mark.parametrize("path", tables(FAMILIES))
def test_order_equals_the_published_table(path: Path) -> None:
    table = json.loads(path.read_text())
    tag = re.search(r"_g(\d+)\.json", path.name)
    options = {"group": int(tag[1])} if tag else {}
    order = schedules.get(table["schedule"]).order(table["P"], table["M"], table["V"], **options)
    assert order.slots() == table["ranks"]
    assert order.placement == table["placement"]
    assert order.stages == table["num_stages"]
    assert peak_chunks(order) == table["peak_chunks"]
    assert peak_chunks(order, free_at="I") == table["peak_chunks_free_at_I"]
    for case in table["evals"]:
        result = evaluate(order, case["costs"])
        assert {name: pytest.approx(case[name], rel=1e-9, abs=1e-9) for name in result} == result


def test_every_family_has_its_tables() -> None:
    if not TABLES.exists():
        pytest.skip(f"no order tables in {TABLES}")
    assert Counter(json.loads(p.values[0].read_text())["schedule"] for p in tables(FAMILIES)) == FAMILIES
