"""The reference engine against the plain evaluator, its rules about instants, and its deadlock report."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
import simpy
from hypothesis import given, settings

from simtrain.engines import des
from simtrain.errors import DeadlockError, ProgramError
from simtrain.program.builder import ProgramBuilder
from simtrain.program.program import Program, Stream
from tests.engines.evaluate import heads, spans
from tests.strategies import programs

C, TP = Stream.COMPUTE, Stream.TP


@given(programs())
@settings(max_examples=80, deadline=None)
def test_times_are_the_longest_paths(program: Program) -> None:
    timeline = des.simulate(program)
    start, end = spans(program)
    np.testing.assert_allclose(timeline.start_s, start, rtol=0, atol=1e-9)
    np.testing.assert_allclose(timeline.end_s, end, rtol=0, atol=1e-9)
    assert timeline.makespan_s == timeline.end_s.max()


@given(programs(forward_only=False))
@settings(max_examples=80, deadline=None)
def test_a_program_finishes_or_its_deadlock_is_reported(program: Program) -> None:
    start, end = spans(program)
    if not any(map(math.isnan, end)):
        np.testing.assert_allclose(des.simulate(program).start_s, start, rtol=0, atol=1e-9)
        return
    with pytest.raises(DeadlockError) as caught:
        des.simulate(program)
    assert_explained(program, end, caught.value)


def assert_explained(program: Program, end: list[float], error: DeadlockError) -> None:
    """One line per operation at the head of a lane, in order of id, that names everything it waits for."""
    stuck = heads(program, end)
    ops = sorted(set(stuck.values()))
    assert len(error.waits) == len(ops)
    for op, line in zip(ops, error.waits, strict=True):
        label, reasons = line.split(" waits for ", maxsplit=1)
        assert label == program.label(op)
        unmet = {d for d in program.dep[program.dep_ptr[op] : program.dep_ptr[op + 1]].tolist() if math.isnan(end[d])}
        lanes = program.lanes[program.op_ptr[op] : program.op_ptr[op + 1]].tolist()
        held = [stuck[lane] for lane in lanes if stuck[lane] != op]
        assert unmet or held
        assert reasons.count("the end of [") == len(unmet)
        assert reasons.count("held by [") == len(held)
        assert all(f"the end of [{program.label(d)}]" in reasons for d in unmet)
        assert all(f"held by [{program.label(h)}]" in reasons for h in held)


@given(programs())
@settings(max_examples=40, deadline=None)
def test_two_runs_are_byte_identical(program: Program) -> None:
    first, second = des.simulate(program), des.simulate(program)
    assert first.start_s.tobytes() == second.start_s.tobytes()
    assert first.end_s.tobytes() == second.end_s.tobytes()


def test_crossed_collectives_deadlock_and_both_lanes_are_named() -> None:
    b = ProgramBuilder(2)
    tp = b.op("sum", [(0, TP), (1, TP)], 1.0, after=[1])
    b.op("cycle", [(0, C)], 1.0, after=[tp])
    b.op("behind", [(1, TP)], 1.0)
    with pytest.raises(DeadlockError) as caught:
        des.simulate(b.build())
    assert caught.value.waits == (
        "sum, rank 0 tp waits for the end of [cycle, rank 0 compute]",
        "cycle, rank 0 compute waits for the end of [sum, rank 0 tp]",
    )
    assert "behind" not in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).waits == caught.value.waits


def test_a_collective_held_on_one_lane_names_the_holder() -> None:
    b = ProgramBuilder(2)
    b.op("holder", [(1, TP)], 1.0, after=[1])
    b.op("sum", [(0, TP), (1, TP)], 1.0)
    with pytest.raises(DeadlockError) as caught:
        des.simulate(b.build())
    assert caught.value.waits == (
        "holder, rank 1 tp waits for the end of [sum, rank 0 tp]",
        "sum, rank 0 tp waits for rank 1 tp, which is held by [holder, rank 1 tp]",
    )


def test_every_gpu_is_a_process_beside_one_network_and_one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    process = simpy.Environment.process

    def counting(self: simpy.Environment, generator: Any) -> simpy.Process:
        started.append(type(generator.gi_frame.f_locals["self"]).__name__)
        return process(self, generator)

    monkeypatch.setattr(simpy.Environment, "process", counting)
    b = ProgramBuilder(3)
    for rank in range(3):
        b.op("k", [(rank, C)], 1.0)
    b.op("sum", [(r, TP) for r in range(3)], 1.0, after=[0, 1, 2])
    assert des.simulate(b.build()).makespan_s == 2.0
    assert sorted(started) == ["_Gpu", "_Gpu", "_Gpu", "_Network", "_Run"]


@pytest.mark.parametrize(("gap_s", "together"), [(4e-13, True), (5e-12, False)])
def test_ends_within_a_millionth_of_a_microsecond_are_one_instant(gap_s: float, together: bool) -> None:
    b = ProgramBuilder(2)
    b.op("first", [(0, C)], 1.0)
    b.op("second", [(1, C)], 1.0 + gap_s)
    timeline = des.simulate(b.build())
    assert timeline.end_s[0] == 1.0
    assert bool(timeline.end_s[1] == 1.0) is together


def test_chains_of_zero_length_finish_in_the_instant_they_start() -> None:
    b = ProgramBuilder(2)
    last = b.op("work", [(0, C)], 1.5)
    for i in range(50):
        rank = i % 2
        last = b.op("nothing", [(rank, C)], 0.0, after=[last])
    b.op("after", [(0, C), (1, C)], 1.0, after=[last])
    timeline = des.simulate(b.build())
    assert timeline.end_s[1:-1].tolist() == [1.5] * 50
    assert timeline.start_s[-1] == 1.5


def test_a_collective_waits_for_its_last_member_and_holds_the_lanes_of_the_others() -> None:
    b = ProgramBuilder(2)
    late = b.op("late", [(1, C)], 2.0)
    tp = b.op("sum", [(0, TP), (1, TP)], 0.5, after=[late])
    queued = b.op("queued", [(0, TP)], 0.25)
    timeline = des.simulate(b.build())
    assert timeline.start_s[[tp, queued]].tolist() == [2.0, 2.5]


def test_nothing_to_do_takes_no_time() -> None:
    assert des.simulate(ProgramBuilder(2).build()).makespan_s == 0.0


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("field", ["work_s", "latency_s"])
def test_times_must_be_finite_and_not_negative(field: str, bad: float) -> None:
    b = ProgramBuilder(1)
    b.op("k", [(0, C)], **{field: bad})
    with pytest.raises(ProgramError, match=field):
        b.build()
    b = ProgramBuilder(1)
    b.op("k", [(0, C)])
    b.op("k", [(0, C)], after=[(0, bad)])
    with pytest.raises(ProgramError, match="lag_s"):
        b.build()


@pytest.mark.parametrize("lanes", [[], [(0, C), (0, C)]])
def test_an_operation_is_on_each_of_its_lanes_once(lanes: list[tuple[int, Stream]]) -> None:
    with pytest.raises(ProgramError, match="at least one lane"):
        ProgramBuilder(1).op("k", lanes)
