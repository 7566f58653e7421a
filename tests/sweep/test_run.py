"""Running a sweep: the same rows whatever the workers, resumed where it stopped, failures as rows."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from simtrain.errors import InputError, ScenarioError
from simtrain.scenario.load import load
from simtrain.step.simulate import simulate_step
from simtrain.sweep import evaluate as evaluation
from simtrain.sweep.evaluate import Outcome
from simtrain.sweep.grid import load_sweep
from simtrain.sweep.journal import Journal, digest_of
from simtrain.sweep.run import Watcher, run_sweep
from simtrain.sweep.table import Table

PROGRAM = [sys.executable, "-c", "from simtrain.cli.main import main; main()"]
AXES = ("layout.tp=1,2,4", "layout.micro_batch=1,2")


class Notes(Watcher):
    """What a watcher is told."""

    def __init__(self) -> None:
        self.kept = self.stale = self.worked = 0

    def opened(self, kept: int, stale: int, total: int) -> None:
        self.kept, self.stale = kept, stale

    def advanced(self, table: Table, more: int) -> None:
        assert len(table.rows) == more
        self.worked += more


def swept(*axes: str, **options: Any) -> tuple[Table, Notes]:
    notes = Notes()
    return run_sweep(load_sweep("small.yaml", axes=axes), watcher=notes, **{"workers": 1, **options}), notes


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Digests of the scenarios that are really simulated, in this process."""
    seen: list[str] = []
    real = evaluation._document

    def document(scenario: Any) -> Any:
        seen.append(digest_of(scenario))
        return real(scenario)

    monkeypatch.setattr(evaluation, "_document", document)
    return seen


def test_a_row_is_the_run_of_its_scenario(folder) -> None:
    table, notes = swept(*AXES)
    assert (notes.kept, notes.stale, notes.worked) == (0, 0, 6)
    assert [tuple(row[key] for key in table.keys) for row in table.rows] == [
        (tp, micro) for tp in (1, 2, 4) for micro in (1, 2)
    ]
    assert table.columns[:2] == ("layout.tp", "layout.micro_batch")
    assert table.columns[-1] == "error"
    for row in table.rows:
        step = simulate_step(load("small.yaml", *(f"{key}={row[key]}" for key in table.keys)))
        assert row["error"] is None
        assert row["step.time_s"] == step.time_s
        assert row["step.waterfall.useful"] == step.waterfall["useful"]
        assert row["memory.peak_bytes"] == max(step.memory.peak_bytes)
        assert row["memory.fits"] is step.memory.fits
        assert row["job.usd_per_million_tokens"] == step.job.usd_per_million_tokens
        assert not any(isinstance(cell, list | dict) for cell in row.values())


def test_the_number_of_workers_changes_nothing(folder) -> None:
    axes = ("layout.tp=1,2,3,4", "seed={from: 0, to: 9, steps: 10}")
    one, two = (swept(*axes, workers=workers)[0] for workers in (1, 2))
    assert one.rows == two.rows
    assert len(one.failed) == 10


def test_what_cannot_be_is_a_row_with_its_message(folder, simulated) -> None:
    table, _ = swept("layout.tp=2,3", "layout.micro_batch=1")
    good, bad = table.rows
    assert good["error"] is None
    assert set(bad) == {"layout.tp", "layout.micro_batch", "error"}
    assert bad["error"].startswith("layout.tp * layout.cp * layout.pp = 3 * 1 * 2")
    assert table.failed == (bad,)


def test_values_that_only_clash_are_rows_too(folder, simulated) -> None:
    """No document can have both, but each has its place elsewhere."""
    fabrics = "cluster.fabric={extends: fat-tree-ndr400},{extends: fat-tree-ndr400, rail_optimised: false}"
    table, notes = swept(fabrics, "cluster.fabric.cross_rail=spine,forward")
    errors = [row["error"] for row in table.rows]
    assert [error is None for error in errors] == [True, True, True, False]
    assert "cross_rail = forward needs rails" in errors[3]
    assert (len(simulated), notes.worked) == (3, 4)


SLIPS = {
    "key": ("layout.tpp=1,2", "--axis: layout.tpp = 1", "did you mean 'tp'?"),
    "value": ("layout.tp=1,two", "layout.tp = 'two'", "a whole number"),
    "one of many": ("layout.recompute=none,fulll", "layout.recompute = 'fulll'", "did you mean 'full'?"),
    "part": ("cluster=2x-hgx-h100,2x-hgx-h10", "--axis: cluster", "Did you mean '2x-hgx-h100'?"),
    "schedule": ("layout.schedule=1f1b,1f1", "--axis: layout.schedule", "Did you mean '1f1b'?"),
}


@pytest.mark.parametrize("case", SLIPS)
def test_a_value_that_no_point_can_have_is_refused_before_anything_runs(case, folder, simulated) -> None:
    axis, *said = SLIPS[case]
    with pytest.raises(InputError) as caught:
        swept(axis, "layout.micro_batch=1,2", journal=folder / "j")
    assert all(text in str(caught.value) for text in said), caught.value
    assert simulated == []
    assert not (folder / "j").exists()


def test_a_defect_costs_one_row_and_is_tried_again(folder, monkeypatch) -> None:
    real = evaluation._document

    def broken(scenario: Any) -> Any:
        if scenario.layout.tp == 2:
            raise ZeroDivisionError("division by zero")
        return real(scenario)

    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "_document", broken)
        table, _ = swept("layout.tp=1,2,4", journal=folder / "j")
    assert [row["error"] for row in table.rows] == [None, "defect: ZeroDivisionError: division by zero", None]
    again, notes = swept("layout.tp=1,2,4", journal=folder / "j")
    assert (notes.kept, notes.worked, again.failed) == (2, 1, ())


def test_a_worker_that_dies_costs_its_row_at_most(folder) -> None:
    axes = ("layout.tp=1,2,4", "seed={from: 0, to: 14, steps: 15}")

    class Killing(Notes):
        def advanced(self, table: Table, more: int) -> None:
            super().advanced(table, more)
            if self.worked in (4, 9):
                multiprocessing.active_children()[0].kill()

    run_sweep(load_sweep("small.yaml", axes=axes), workers=2, journal=folder / "j", watcher=Killing())
    table, notes = swept(*axes, journal=folder / "j")
    assert notes.kept >= 43
    assert table == swept(*axes)[0]


def test_finished_rows_are_not_repeated(folder, simulated) -> None:
    whole, _ = swept(*AXES)
    simulated.clear()

    class Stopped(Notes):
        def advanced(self, table: Table, more: int) -> None:
            super().advanced(table, more)
            if self.worked == 3:
                raise KeyboardInterrupt

    grid = load_sweep("small.yaml", axes=AXES)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(grid, workers=1, journal=folder / "j", watcher=Stopped())
    resumed, notes = swept(*AXES, journal=folder / "j")
    assert (notes.kept, notes.stale, notes.worked) == (3, 0, 3)
    assert len(simulated) == len(set(simulated)) == 6
    assert resumed == whole
    simulated.clear()
    assert swept(*AXES, journal=folder / "j", workers=2)[0] == whole
    assert simulated == []


def test_points_that_are_the_same_scenario_are_worked_out_once(folder, simulated) -> None:
    table, notes = swept("layout.dp=null,4")  # left out, dp is 16 GPUs / (tp 2 * pp 2)
    assert notes.worked == 2
    first, second = ({**row, "layout.dp": None} for row in table.rows)
    assert first == second
    table, notes = swept("layout.zero=1", "title=a,b")
    assert notes.worked == 2
    assert len(simulated) == 3


def test_a_changed_sweep_starts_anew(folder, simulated) -> None:
    swept(*AXES, journal=folder / "j")
    text = (folder / "small.yaml").read_text()
    (folder / "small.yaml").write_text(text.replace("global_batch: 16", "global_batch: 32"))
    table, notes = swept(*AXES, journal=folder / "j")
    assert (notes.kept, notes.stale, notes.worked) == (0, 6, 6)
    assert table == swept(*AXES)[0]
    with Journal(folder / "j") as journal:
        assert len(journal.rows()) == 6


def test_rows_of_scenarios_that_stay_are_kept_when_values_come_and_go(folder, simulated) -> None:
    swept("layout.tp=1,2", journal=folder / "j")
    table, notes = swept("layout.tp=2,4", journal=folder / "j")
    assert (notes.kept, notes.stale, notes.worked) == (1, 1, 1)
    assert [row["layout.tp"] for row in table.rows] == [2, 4]


def test_another_title_changes_nothing_and_another_program_all(folder, simulated, monkeypatch) -> None:
    swept(*AXES, journal=folder / "j")
    (folder / "small.yaml").write_text((folder / "small.yaml").read_text().replace("four layers", "4 layers"))
    assert swept(*AXES, journal=folder / "j")[1].kept == 6
    monkeypatch.setattr("simtrain.sweep.journal._program", lambda: "another")
    assert swept(*AXES, journal=folder / "j")[1].stale == 6


def test_fresh_forgets(folder, simulated) -> None:
    swept(*AXES, journal=folder / "j")
    assert swept(*AXES, journal=folder / "j", fresh=True)[1].worked == 6
    assert len(simulated) == 12


def test_a_journal_has_one_writer(folder) -> None:
    with Journal(folder / "j") as journal:
        journal.add({"a": {"step.mfu": 0.5}})
        with pytest.raises(InputError, match="j cannot be used: another sweep is writing it"):
            Journal(folder / "j")
    with Journal(folder / "j") as journal:
        assert journal.rows() == {"a": {"step.mfu": 0.5}}


def test_a_full_disk_is_told_and_the_journal_stays_whole(folder) -> None:
    with Journal(folder / "j") as journal:
        journal.add({"a": {"step.mfu": 0.5}})
        pages = journal._database.execute("PRAGMA page_count").fetchone()[0]
        journal._database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(InputError, match="j cannot be used: database or disk is full"):
            journal.add({f"b{number}": {"note": "x" * 1000} for number in range(10)})
    with Journal(folder / "j") as journal:
        assert journal.rows() == {"a": {"step.mfu": 0.5}}


DAMAGED = {
    "other columns": "DROP TABLE rows; CREATE TABLE rows (a, b)",
    "no JSON": "INSERT INTO rows VALUES ('a', '{half')",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_journal_is_told(case, folder) -> None:
    Journal(folder / "j").__exit__(None, None, None)
    database = sqlite3.connect(folder / "j")
    database.executescript(DAMAGED[case])
    database.close()
    with Journal(folder / "j") as journal, pytest.raises(InputError, match="j is not the journal of a sweep, or dam"):
        journal.rows()


def test_another_file_is_no_journal(folder) -> None:
    with pytest.raises(InputError, match=r"small\.yaml is not the journal of a sweep"):
        Journal(folder / "small.yaml")


def test_workers_are_at_least_one(folder) -> None:
    with pytest.raises(InputError, match="workers = 0"):
        swept(*AXES, workers=0)


def test_flat_keeps_what_a_cell_can_hold() -> None:
    document = {
        "engine": "des",
        "scenario": {"seed": 1},
        "step": {"mfu": 0.5, "waterfall": {"useful": 0.4}},
        "memory": {"peak_bytes": [1.0, 3.0, 2.0], "fits": True, "parts": {"weights": [1.0]}},
        "job": {"cost_usd": None, "unknown": ["price"]},
        "run": {"goodput": 0.9, "days": float("inf"), "ledger": {"lost_work": 0.1}, "events": [1, 2]},
    }
    assert evaluation.flat(document) == {
        "step.engine": "des",
        "step.mfu": 0.5,
        "step.waterfall.useful": 0.4,
        "memory.peak_bytes": 3.0,
        "memory.fits": True,
        "job.cost_usd": None,
        "run.goodput": 0.9,
        "run.days": None,
        "run.ledger.lost_work": 0.1,
    }
    assert "run" not in evaluation.flat(document | {"run": None})
    assert Outcome({}).final


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_sweep_stopped_in_the_middle_goes_on(how, folder, cli) -> None:
    arguments = ("sweep", "small.yaml", "--axis", "layout.tp=1,2,3,4", "--axis", "seed={from: 0, to: 29, steps: 30}")
    whole = cli(*arguments, "--workers", "1", "--output", "whole.csv")
    assert whole.status == 0
    process = subprocess.Popen(
        [*PROGRAM, *arguments, "--workers", "2", "--output", "out.csv"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(lambda: size(folder / "out.csv.journal-wal") > 100_000, process)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as the terminal does: the workers are told too
    else:
        process.send_signal(how)
    out, err = process.communicate(timeout=60)
    lines = [line for line in err.splitlines() if "compiling" not in line]
    assert out == ""
    until(lambda: not alive(process.pid))
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert len(lines) == 1
        assert lines[0].startswith("simtrain: interrupted; ")
        assert lines[0].endswith(" of 120 rows are kept: the same command goes on from there")
        assert not (folder / "out.csv.journal-wal").exists()
    else:
        assert process.returncode == -how
    assert not (folder / "out.csv").exists()
    again = cli(*arguments, "--workers", "2", "--output", "out.csv")
    assert again.status == 0
    kept = int(again.err.split(": ")[2].split()[0])
    assert 0 < kept < 120
    assert f"{kept} of 120 rows were finished before" in again.err
    if how == signal.SIGINT:
        assert lines[0].split()[2] == str(kept)
    assert (folder / "out.csv").read_bytes() == (folder / "whole.csv").read_bytes()
    database = sqlite3.connect(folder / "out.csv.journal")
    assert database.execute("SELECT COUNT(*), COUNT(DISTINCT digest) FROM rows").fetchone() == (120, 120)
    database.close()


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def until(condition: Any, process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.005)


def test_an_unreadable_sweep_says_which_value(folder) -> None:
    (folder / "grid.yaml").write_text("kind: sweep\nextends: ./small.yaml\naxes: {layout.tp: [1, 0]}\n")
    with pytest.raises(ScenarioError, match=r"grid\.yaml: axes: layout\.tp = 0"):
        run_sweep(load_sweep("grid.yaml"), workers=1)
