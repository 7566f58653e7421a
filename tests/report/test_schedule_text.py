"""Schedules in the terminal: the table, and pictures that show the slots where they ran."""

from __future__ import annotations

import re

import pytest
from rich.console import Console, RenderableType

from simtrain import schedules
from simtrain.report.schedule_bars import color
from simtrain.report.schedule_text import (
    schedule_header,
    schedule_picture,
    schedule_pictures,
    schedule_rows,
    schedule_table,
)
from simtrain.schedules.order import Action
from simtrain.schedules.slot_costs import SlotCosts
from simtrain.step.schedule import ScheduleReport, evaluate_order
from tests.orders import small_order


def report(name: str, ranks: int = 4, microbatches: int = 8, **costs: float) -> ScheduleReport:
    return evaluate_order(small_order(name, ranks, microbatches), SlotCosts(**costs))


def printed(renderable: RenderableType, width: int = 120, **options: object) -> list[str]:
    console = Console(width=width, record=True, file=open("/dev/null", "w"), **options)  # type: ignore[arg-type]  # noqa: PTH123, SIM115
    console.print(renderable)
    return [line.rstrip() for line in console.export_text(styles=bool(options)).splitlines()]


def lines_of_ranks(lines: list[str]) -> list[str]:
    return [line.partition(" ")[2].partition(" ")[2] for line in lines if line.startswith("rank")]


def test_one_row_per_schedule() -> None:
    reports = [report("1f1b"), report("dualpipe"), report("zbv")]
    rows = [dict(zip(schedule_header(), row, strict=True)) for row in schedule_rows(reports)]
    assert [row["schedule"] for row in rows] == ["1f1b", "dualpipe", "zbv"]
    assert [row["makespan"] for row in rows] == ["33", "26", "51"]
    assert [row["makespan / V"] for row in rows] == ["33", "26", "25.5"]
    assert [row["bubble"] for row in rows] == ["27.3%", "7.7%", "5.9%"]
    assert [row["span bubble"] for row in rows] == ["9", "2", "0"]
    assert [row["peak chunks"] for row in rows] == ["4", "5", "8"]
    assert [row["peak stages"] for row in rows] == ["4", "5", "4"]
    assert [row["copies"] for row in rows] == ["1x", "2x", "1x"]
    assert [row["sends"] for row in rows] == ["6", "6", "12"]
    assert [row[-1] for row in schedule_rows(reports, 2.0**30)] == ["4 GiB", "5 GiB", "8 GiB"]


def test_names_are_never_cut_in_the_table() -> None:
    for name in schedules.names():
        lines = printed(schedule_table([report(name)]), width=80)
        assert any(line.split()[:1] == [name] for line in lines)


def test_every_slot_is_where_it_ran() -> None:
    lines = lines_of_ranks(printed(schedule_picture(report("gpipe", 2, 3), width=9 + 2 * 12)))
    assert lines == ["F0F1F2······B0  B1  B2", "··F0F1F2B0  B1  B2  ····"]


def test_a_pair_shows_both_micro_batches_in_both_colours() -> None:
    drawn = report("1f1b_overlap", 1, 3)
    assert lines_of_ranks(printed(schedule_picture(drawn, width=7 + 9 * 6)))[0].startswith("F0    X1+0")
    text = "\n".join(printed(schedule_picture(drawn, width=7 + 9 * 6), force_terminal=True, color_system="truecolor"))
    for kind in (Action.F, Action.B):
        red, green, blue = (int(color(kind, 0, 1)[i : i + 2], 16) for i in (1, 3, 5))
        assert f"48;2;{red};{green};{blue}m" in text


@pytest.mark.parametrize("name", schedules.names())
@pytest.mark.parametrize("width", [20, 60, 118])
def test_lines_fit_and_idle_time_is_dotted(name: str, width: int) -> None:
    drawn = report(name, f=1.0, i=1.3, w=0.7)
    lines = [line for line in printed(schedule_picture(drawn, width=width), width=width) if re.match(r" *rank", line)]
    assert len(lines) == 4
    assert all(len(line) <= width for line in lines)
    idle = sum(line.count("·") for line in lines) / sum(len(line.partition(" ")[2]) - 2 for line in lines)
    if width == 118:
        assert idle == pytest.approx(drawn.bubble_fraction, abs=0.08)


def test_pictures_share_an_axis() -> None:
    short, long = report("zb1p"), report("gpipe")
    lines = lines_of_ranks(printed(schedule_pictures([short, long])))
    ends = [max(len(line) for line in part) for part in (lines[:4], lines[4:])]
    assert ends[0] / ends[1] == pytest.approx(short.makespan / long.makespan, abs=0.02)


def test_chunks_are_drawn_as_parts_of_a_stage() -> None:
    split, whole = report("zbv"), report("zb1p")
    lines = lines_of_ranks(printed(schedule_pictures([split, whole])))
    ends = [max(len(line) for line in part) for part in (lines[:4], lines[4:])]
    assert ends[0] / ends[1] == pytest.approx(25.5 / 27, abs=0.02)


def test_nothing_to_draw() -> None:
    empty = report("1f1b", f=0.0, b=0.0)
    assert [line for line in lines_of_ranks(printed(schedule_picture(empty))) if line] == []
