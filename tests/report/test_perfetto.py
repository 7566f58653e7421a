"""Traces: structure a viewer relies on, and the Timeline's own times."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from simtrain import report
from simtrain.program.program import Bucket, Stream
from simtrain.report.perfetto_json import THREADS
from tests.report import samples

Event = dict[str, Any]


def events(path: Path) -> list[Event]:
    return json.loads(path.read_text())["traceEvents"]


def assert_sound(trace: list[Event]) -> None:
    """Required keys, times not negative, slices of one thread nested or disjoint."""
    threads: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for event in trace:
        assert {"ph", "name", "pid"} <= set(event)
        assert event["ph"] in "XMC"
        if event["ph"] == "X":
            assert event["ts"] >= 0
            assert event["dur"] >= 0
            threads[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for spans in threads.values():
        open_ends: list[float] = []
        for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
            while open_ends and open_ends[-1] <= start:
                open_ends.pop()
            assert not open_ends or end <= open_ends[-1]
            open_ends.append(end)


@pytest.mark.parametrize("timeline", [samples.pipeline("interleaved_1f1b", 4, 8, 2), samples.split_pipeline()])
def test_a_trace_is_sound_and_complete(tmp_path: Path, timeline: samples.Timeline) -> None:
    trace = events(report.perfetto(timeline, tmp_path / "step.json"))
    assert_sound(trace)
    kernels = [event for event in trace if event.get("cat") == "kernel"]
    program = timeline.program
    expected = sorted(
        (lane // len(Stream), THREADS[Stream(lane % len(Stream))], timeline.start_s[op] * 1e6)
        for op in range(program.size)
        for lane in program.lanes[program.op_ptr[op] : program.op_ptr[op + 1]].tolist()
    )
    assert sorted((k["pid"], k["tid"], k["ts"]) for k in kernels) == expected
    busy_us = sum(k["dur"] for k in kernels if k["tid"] == THREADS[Stream.COMPUTE])
    computes = [op for rank in range(program.ranks) for op in timeline.lane(rank, Stream.COMPUTE)]
    assert busy_us == pytest.approx((timeline.end_s - timeline.start_s)[computes].sum() * 1e6, rel=1e-9)


def test_one_named_track_per_lane(tmp_path: Path) -> None:
    timeline = samples.pipeline()
    trace = events(report.perfetto(timeline, tmp_path / "step.json"))
    named = {(e["pid"], e["tid"]): e["args"]["name"] for e in trace if e["name"] == "thread_name"}
    used = {(e["pid"], e["tid"]) for e in trace if e["ph"] == "X"}
    assert used <= set(named)
    assert named[0, THREADS[Stream.COMPUTE]] == "01 compute"
    labels = sorted(name for (pid, _), name in named.items() if pid == 1)
    assert labels == [
        "00 actions", "01 compute", "02 tp", "05 pp_send_next", "06 pp_recv_prev", "07 pp_send_prev", "08 pp_recv_next",
        "09 dp",
    ]  # fmt: skip
    processes = [e["args"]["name"] for e in trace if e["name"] == "process_name"]
    assert processes[0] == "rank 0, stage 0, 8 GPUs"


def test_names_that_trace_analysis_reads(tmp_path: Path) -> None:
    timeline = samples.pipeline()
    path = report.perfetto(timeline, tmp_path / "rank2.json", ranks=[2])
    assert path.read_text().splitlines()[1] == '"distributedInfo": {"rank": 2},'
    moves = {timeline.program.names[n] for n in timeline.program.name[timeline.program.bucket == Bucket.COMMUNICATION]}
    for event in events(path):
        if event.get("cat") == "kernel":
            assert event["pid"] == 2
            assert isinstance(event["args"]["stream"], int)
            assert event["args"]["stream"] > 0
            is_move = event["args"]["operation"] in moves
            assert bool(re.match(r"^ncclKernel_(AllReduce|SendRecv): ", event["name"])) == is_move


def test_actions_give_the_overview(tmp_path: Path) -> None:
    trace = events(report.perfetto(samples.pipeline("1f1b", 2, 2), tmp_path / "step.json"))
    actions = [e["name"] for e in trace if e.get("cat") == "gpu_user_annotation" and e["pid"] == 1]
    assert actions == ["F0", "B0", "F1", "B1", "optimizer"]


def test_a_step_brings_its_memory(tmp_path: Path) -> None:
    step = samples.step()
    trace = events(report.perfetto(step, tmp_path / "step.json"))
    assert_sound(trace)
    counters = [e for e in trace if e["ph"] == "C" and e["pid"] == 1]
    times_s, alive = step.memory.curve[1]
    assert [e["ts"] for e in counters] == pytest.approx(times_s * 1e6)
    assert [e["args"]["GiB"] for e in counters] == pytest.approx(alive / 2**30)
