"""PyTorch schedule CSV: there and back, the form PyTorch itself writes, and files that are refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from simtrain import schedules
from simtrain.errors import ScheduleError
from simtrain.schedules.torch_csv import read_csv, write_csv

# As PyTorch 2.13 writes ScheduleInterleavedZeroBubble with two ranks of one stage and two micro batches.
ZERO_BUBBLE = "0F0,,0F1,0I0,0W0,0I1,0W1\r\n,1F0,1I0,1F1,1I1,1W0,1W1\r\n"


@pytest.mark.parametrize(
    ("name", "ranks", "microbatches", "chunks"),
    [
        ("gpipe", 1, 3, None),
        ("1f1b", 4, 8, None),
        ("1f1b_overlap", 4, 6, None),
        ("interleaved_1f1b", 3, 6, 3),
        ("interleaved_1f1b_ep_overlap", 4, 8, 2),
        ("interleaved_bw_split", 4, 6, 2),
        ("interleaved_zb", 4, 8, 2),
        ("looped_bfs", 2, 3, 2),
        ("zb1p", 3, 7, None),
        ("zb_h2", 4, 9, None),
        ("zbv", 4, 5, None),
        ("dualpipe", 4, 10, None),
        ("dualpipev", 3, 7, None),
    ],
)
def test_there_and_back(name: str, ranks: int, microbatches: int, chunks: int | None, tmp_path: Path) -> None:
    order = schedules.get(name).order(ranks, microbatches, chunks)
    write_csv(order, tmp_path / "order.csv")
    again = read_csv(tmp_path / "order.csv", name)
    assert again.slots() == order.slots()
    for field in ("schedule", "ranks", "chunks", "microbatches", "placement", "stages"):
        assert getattr(again, field) == getattr(order, field)
    assert [path.name for path in tmp_path.iterdir()] == ["order.csv"]


def test_steps_without_work_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "zero_bubble.csv"
    path.write_text(ZERO_BUBBLE + "\n", newline="")
    order = read_csv(path)
    assert order.schedule == "zero_bubble"
    assert order.slots() == schedules.get("zb1p").order(2, 2).slots()


def test_an_order_is_written_as_pytorch_writes_it(tmp_path: Path) -> None:
    write_csv(schedules.get("zb1p").order(2, 2), tmp_path / "split.csv")
    assert (tmp_path / "split.csv").read_bytes() == re.sub(",+", ",", ZERO_BUBBLE).replace("\n,", "\n").encode()
    write_csv(schedules.get("1f1b_overlap").order(1, 2), tmp_path / "overlapped.csv")
    assert (tmp_path / "overlapped.csv").read_bytes() == b"0F0,(0F1;0B0)OVERLAP_F_B,0B1\r\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0F0,0SEND_F0,0B0", "row 1, cell 2: '0SEND_F0' is not an action; an action is stage, kind and micro batch"),
        ("0F0,\n1F0,1b0", "row 2, cell 2: '1b0' is not an action"),
        ("0F,0B0", "row 1, cell 1: '0F' is not an action"),
        ("(0F0;0I0)OVERLAP_F_B", "is not an action"),
        ("0F" + "1" * 5000, "is not an action"),
        ("0F999999999,0B999999999", "0F0 is missing"),
        ("0F0,0B0,0F0", "row 1, 0F0: F of stage 0, micro batch 0 stands twice; it is already in row 1, 0F0"),
        ("0F0,0B0,0W0", "row 1, 0W0: W of stage 0, micro batch 0 stands twice; it is already in row 1, 0B0"),
        ("0F0,0F1,(0F2;0B0)OVERLAP_F_B,0B0,0B1,0B2", "already in row 1, (0F2;0B0)OVERLAP_F_B"),
        ("0F0,0I0", "0W0 is missing; each of the 1 stages runs F and B (or F, I and W) of each of the 1 micro"),
        ("0F0,0B0\n2F0,2B0", "1F0 is missing; each of the 3 stages"),
        ("1F0,1B0\n0F0,0B0", "2 stages lie on 2 ranks in no known way; allowed: stage s on rank s mod 2, a V"),
        ("0F0,0B0,1F0,1B0\n2F0,2B0", "3 stages lie on 2 ranks in no known way"),
        ("0F0,0B0\n\n1F0,1B0", "row 2: no action; there is one row per rank"),
        ("", "row 1: no action"),
        ("\n,,\n", "row 1: no action"),
    ],
)
def test_a_wrong_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "order.csv"
    path.write_text(text)
    with pytest.raises(ScheduleError, match=re.escape(message)) as raised:
        read_csv(path)
    assert str(raised.value).startswith(f"{path}")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ScheduleError, match=r"none\.csv: cannot be read: No such file"):
        read_csv(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScheduleError, match=r"binary\.csv: cannot be read"):
        read_csv(tmp_path / "binary.csv")


def test_nothing_is_left_behind_where_writing_fails(tmp_path: Path) -> None:
    (tmp_path / "order.csv").mkdir()
    with pytest.raises(OSError, match=r"order\.csv"):
        write_csv(schedules.get("gpipe").order(2, 2), tmp_path / "order.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["order.csv"]
