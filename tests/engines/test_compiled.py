"""The compiled engine gives what the reference engine gives: Timelines and deadlock reports."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtrain import schedules
from simtrain.engines import choose, compiled, des, simulate
from simtrain.errors import DeadlockError, ProgramError
from simtrain.program.builder import ProgramBuilder
from simtrain.program.pipeline import Pipeline
from simtrain.program.program import Program, Stream
from simtrain.program.timeline import Timeline
from simtrain.schedules.slot_costs import SlotCosts
from tests.orders import small_order
from tests.strategies import programs

ROOT = Path(__file__).parents[2]


def outcome(run: object, program: Program) -> Timeline | tuple[str, ...]:
    try:
        return run(program)  # type: ignore[operator]
    except DeadlockError as error:
        return error.waits


def assert_same(program: Program) -> None:
    reference, fast = outcome(des.simulate, program), outcome(compiled.simulate, program)
    if not isinstance(reference, Timeline):
        assert fast == reference
        return
    assert isinstance(fast, Timeline)
    tolerance = 1e-9 * max(reference.makespan_s, 1e-300)
    np.testing.assert_allclose(fast.start_s, reference.start_s, rtol=0, atol=tolerance)
    np.testing.assert_allclose(fast.end_s, reference.end_s, rtol=0, atol=tolerance)


@given(programs(max_size=30))
@settings(max_examples=150, deadline=None)
def test_the_same_timeline(program: Program) -> None:
    assert_same(program)


@given(programs(max_size=24, coupled=True))
@settings(max_examples=300, deadline=None)
def test_the_same_timeline_where_links_and_sms_are_shared(program: Program) -> None:
    assert_same(program)


@given(programs(forward_only=False, max_size=24, coupled=True))
@settings(max_examples=100, deadline=None)
def test_the_same_deadlock_report_where_links_and_sms_are_shared(program: Program) -> None:
    assert_same(program)


@given(programs(forward_only=False, max_size=24))
@settings(max_examples=250, deadline=None)
def test_the_same_timeline_or_the_same_deadlock_report(program: Program) -> None:
    assert_same(program)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_shuffled_pipeline_orders(data: st.DataObject) -> None:
    """Two slots of a rank exchanged: some such orders still finish, most do not."""
    order = small_order(data.draw(st.sampled_from(schedules.names())))
    actions = [rows.copy() for rows in order.actions]
    shuffled = actions[data.draw(st.integers(0, 3))]
    first, second = (data.draw(st.integers(0, len(shuffled) - 1)) for _ in range(2))
    shuffled[[first, second]] = shuffled[[second, first]]
    assert_same(
        Pipeline(replace(order, actions=tuple(actions))).program(
            SlotCosts(1, 1, data.draw(st.sampled_from([0.0, 0.5])), comm=0.1)
        )
    )


@given(programs(max_size=20), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_many_sets_of_durations_equal_single_runs(program: Program, sets: int) -> None:
    random = np.random.default_rng(sets)
    durations = random.uniform(0.0, 2.0, (sets, program.size))
    scale = random.uniform(0.0, 2.0, sets)
    ends = compiled.ends_of_many(program, durations, scale)
    for k in range(sets):
        alone = Program(
            **{name: getattr(program, name) for name in program.__slots__}
            | {"latency_s": np.zeros(program.size), "work_s": durations[k], "lag_s": scale[k] * program.lag_s}
        )
        np.testing.assert_allclose(ends[k], compiled.simulate(alone).end_s, rtol=1e-12)


def test_many_sets_need_one_duration_per_operation() -> None:
    builder = ProgramBuilder(1)
    builder.op("k", [(0, Stream.COMPUTE)], 1.0)
    with pytest.raises(ProgramError, match=r"duration_s has shape \(2, 3\), but the program has 1 operations"):
        compiled.ends_of_many(builder.build(), np.ones((2, 3)))


def test_the_engine_is_named_in_the_timeline() -> None:
    program = Pipeline(schedules.get("1f1b").order(2, 2)).program()
    assert choose() == "compiled"
    assert [simulate(program, engine).engine for engine in ("auto", "compiled", "des")] == [
        *("compiled", "compiled", "des")
    ]


def without_numba(code: str) -> subprocess.CompletedProcess[str]:
    hook = """
        import sys
        from importlib.abc import MetaPathFinder

        class NoNumba(MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("numba", "llvmlite"):
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, NoNumba())
    """
    text = textwrap.dedent(hook) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=300, check=False, cwd=ROOT
    )


def test_without_numba_every_schedule_is_ordered_and_run_by_the_reference_engine() -> None:
    done = without_numba("""
        from simtrain import schedules
        from simtrain.step.schedule import evaluate_order
        from tests.orders import small_order
        for name in schedules.names():
            # searches take their time without numba, so the sizes are the smallest that both directions accept
            report = evaluate_order(small_order(name, 2, 4 if name.startswith("dualpipe") else 2))
            print(name, report.timeline.engine, report.makespan)
        import sys
        assert "numba" not in sys.modules
    """)
    assert done.returncode == 0, done.stderr
    small = {name: small_order(name, 2, 4 if name.startswith("dualpipe") else 2) for name in schedules.names()}
    expected = [f"{name} des {simulate(Pipeline(order).program(), 'des').makespan_s}" for name, order in small.items()]
    assert done.stdout.splitlines() == expected


def test_without_numba_shared_links_give_the_same_times() -> None:
    code = """
        from simtrain.engines import des
        from simtrain.program.builder import ProgramBuilder
        from simtrain.program.program import Sharing, Stream
        builder = ProgramBuilder(2)
        for i in range(12):
            builder.op("kernel", [(i % 2, Stream.COMPUTE)], 0.5, latency_s=0.125)
            builder.op("transfer", [(i % 2, Stream.EP)], 0.75, sms=0.25, flows=[(0, 0.5), (1 + i % 2, 1.0)])
            builder.op("other", [(i % 2, Stream.DP)], 1.0, flows=[(0, 0.75)])
        print(des.simulate(builder.build(sharing=Sharing(132, 0.97, 0.73))).end_s.tolist())
    """
    with_numba = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300, check=True, cwd=ROOT
    )
    alone = without_numba(code)
    assert alone.returncode == 0, alone.stderr
    assert json.loads(alone.stdout) == pytest.approx(json.loads(with_numba.stdout), rel=1e-12)


def test_without_numba_the_command_line_says_so() -> None:
    run = "import sys; sys.argv[1:] = {!r}.split(); from simtrain.cli.main import main; main()"
    automatic = without_numba(run.format("schedule 1f1b --engine auto --json"))
    assert automatic.returncode == 0, automatic.stderr
    assert '"engine": "des"' in automatic.stdout
    refused = without_numba(run.format("schedule 1f1b --engine compiled"))
    assert refused.returncode == 2
    assert refused.stderr == "simtrain: engine 'compiled' needs numba; install it, or use engine 'des'\n"
