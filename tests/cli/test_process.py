"""The program as a process: other folders, pipes, interrupts, terminals."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-c", "from simtrain.cli.main import main; main()"]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def test_files_are_found_from_another_folder(folder, tmp_path) -> None:
    """References count from the file they stand in, what is typed counts from where the user is."""
    parts, elsewhere = tmp_path / "parts", tmp_path / "elsewhere"
    parts.mkdir()
    elsewhere.mkdir()
    (parts / "cluster.yaml").write_text("node: hgx-h100\nnodes: 2\nfabric: single-switch\n")
    own = (folder / "small.yaml").read_text().replace("cluster: 2x-hgx-h100", "cluster: ./cluster.yaml")
    (parts / "own.yaml").write_text(own)
    done = run("run", "../parts/own.yaml", "--json", cwd=elsewhere)
    said = [line for line in done.stderr.splitlines() if "compiling its fast loops" not in line]  # the first run ever
    assert (done.returncode, said) == (0, [])
    assert json.loads(done.stdout)["scenario"]["name"] == "own"
    refused = run("run", str(parts / "own.yaml"), "--set", "layout.dp=3", cwd=elsewhere)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"simtrain: {parts / 'own.yaml'}: layout.dp = 3")
    assert list(elsewhere.iterdir()) == []


def test_shipped_names_work_anywhere(tmp_path) -> None:
    done = run("run", "llama2-70b-on-240-h100", "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["memory"]["fits"] is True


@pytest.mark.parametrize("arguments", [("catalog",), ("schema",), ("run", "small.yaml")])
def test_a_reader_that_goes_away_ends_it_quietly(arguments, folder) -> None:
    process = subprocess.Popen([*PROGRAM, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == -signal.SIGPIPE
    assert error == b""


def test_standard_error_is_empty_where_nobody_watches(folder) -> None:
    assert run("compare", "study.yaml", cwd=folder).stderr == ""


def test_a_terminal_sees_progress_and_standard_output_stays_clean(folder) -> None:
    process, terminal = watched("compare", "study.yaml", "--json", cwd=folder)
    out, _ = process.communicate(timeout=120)
    seen = read(terminal)
    assert process.returncode == 0
    assert "comparing" in seen
    assert "2/2" in seen
    assert len(json.loads(out)["scenarios"]) == 2


def test_an_interrupt_ends_it_with_130_and_leaves_nothing(tmp_path) -> None:
    process, terminal = watched("compare", "4090-vs-h100", "--html", "page.html", cwd=tmp_path)
    seen = read(terminal, until="comparing")
    assert "comparing" in seen
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    seen += read(terminal)
    assert process.returncode == 130
    assert out == b""
    assert "Traceback" not in seen
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_while_the_page_is_written_leaves_nothing(cli, folder, monkeypatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = sorted(folder.iterdir())
    monkeypatch.setattr(Path, "replace", interrupted)
    ran = cli("compare", "study.yaml", "--html", "page.html")
    assert (ran.status, ran.out) == (130, "")
    assert sorted(folder.iterdir()) == before


def test_too_little_memory_is_said(cli, monkeypatch) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("simtrain.step.simulate.simulate_step", exhausted)
    ran = cli("run", "small.yaml")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == "simtrain: this machine has too little memory for that many micro batches and GPUs\n"


def watched(*arguments: str, cwd: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A process whose standard error is a terminal, and our end of it."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [*PROGRAM, *arguments], cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    return process, ours


def read(terminal: int, until: str = "") -> str:
    """What the terminal shows until a text appears, or until the other end is closed."""
    seen, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline and not (until and until.encode() in seen):
        ready, _, _ = select.select([terminal], [], [], 1)
        if not ready:
            continue
        try:
            part = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        seen += part
    return seen.decode(errors="replace")
