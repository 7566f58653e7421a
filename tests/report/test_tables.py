"""Terminal tables: the figures they print."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rich.console import Console

from simtrain.report import tables
from tests.report import samples


def printed(table: Any) -> str:
    console = Console(width=200, record=True, quiet=False, file=None, force_terminal=False, no_color=True)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def row(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(start))


def test_step_table() -> None:
    text = printed(tables.step_table(samples.step()))
    assert row(text, "step time").split()[-2:] == ["114.6", "ms"]
    assert row(text, "MFU ").split()[-1] == "42.0%"
    assert "68.0 GiB of 80.0 GiB (fits)" in text
    assert row(text, "cost of the run").split()[-2] == "1,500,000"


def test_a_step_that_does_not_fit_says_so() -> None:
    step = replace(samples.step(), memory=samples.memory_report(capacity_bytes=50 * 2.0**30))
    assert "68.0 GiB of 50.0 GiB (DOES NOT FIT)" in printed(tables.step_table(step))
    assert "18.0 GiB over" in row(printed(tables.memory_table(step.memory)), "0")


def test_waterfall_table_shows_shares_as_bars() -> None:
    text = printed(tables.waterfall_table(samples.step()))
    useful = row(text, "useful matmul at peak")
    assert "40.00%" in useful
    assert useful.count("█") == 12
    assert "context parallel" not in text


def test_memory_table_has_a_row_per_rank_and_a_column_per_part() -> None:
    text = printed(tables.memory_table(samples.memory_report()))
    assert row(text, "1").split() == ["1", "20.0", "GiB", "36.0", "GiB", "56.0", "GiB", "24.0", "GiB"]
    assert "buffers" not in text


def test_compare_table_puts_scenarios_side_by_side() -> None:
    steps = [samples.step("left", 1.0), samples.step("right", 2.0)]
    text = printed(tables.compare_table(steps))
    assert row(text, "left").split() == ["left", "right"]
    assert row(text, "step time").split()[-4:] == ["1", "s", "2", "s"]
    assert ("step time", "1 s", "2 s") in tables.compare_rows(steps)


def test_explain_table_ranks_by_what_each_adds() -> None:
    text = printed(tables.explain_table(samples.step()))
    assert text.index("tp all-reduce") < text.index("mlp gemm")
    assert "2(n-1)/n bytes / rate" in text
    assert row(text, "tp all-reduce").rstrip().endswith("[1]")
    assert row(text, "[1]").strip() == "[1] fitted"
    assert row(text, "[2]").strip() == "[2] measured"
    assert "mlp gemm" not in printed(tables.explain_table(samples.step(), largest=1))


def test_network_tables_say_who_used_which_links() -> None:
    kinds, links, transfers = (printed(table) for table in tables.network_tables(samples.network()))
    report = samples.network()
    nic = next(kind for kind in report.kinds if kind.kind == "nic")
    assert f"{nic.mean:.1%}" in row(kinds, "nic")
    assert nic.highest.label in row(kinds, "nic")
    busiest = report.busiest(1)[0]
    first = row(links, f"{busiest.kind}: {busiest.label}")
    assert f"{busiest.utilisation:.1%}" in first
    assert "tp 64%, pp 36%" in first
    assert row(transfers, "tp").split()[1:3] == ["0", "1"]
    assert row(transfers, "pp").split()[-1] == "+0.0%"


def test_markup_in_names_is_not_interpreted() -> None:
    assert "[red]x[/red]" in printed(tables.step_table(samples.step("[red]x[/red]")))
