"""The README and the documentation say what the program does now."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from simtrain.cli.main import app
from simtrain.scenario.load import load, load_cluster, load_study
from simtrain.sweep.grid import load_sweep
from tests.documentation import figures_module

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")} | {"README.md": README}
LOADERS = {"compare": load_study, "topology": load_cluster, "sweep": load_sweep}


@pytest.fixture(scope="module")
def figures():
    return figures_module()


def commands(text: str) -> list[list[str]]:
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    return [words[1:] for line in lines if (words := shlex.split(line, comments=True)) and words[0] == "simtrain"]


def parsed(words: list[str]) -> tuple[str, dict]:
    group = typer.main.get_command(app)
    name, *arguments = words
    with group.make_context("simtrain", [], resilient_parsing=True) as root:
        command = group.get_command(root, name)
        assert command is not None, f"there is no command {name!r}"
        return name, command.make_context(name, arguments, parent=root).params


def numbers(svg: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", svg)]


def test_the_study_in_the_readme_is_what_the_program_prints(figures):
    assert figures.block(README, "make demo") == figures.study_table(), "run: make figures"


def test_the_goodput_of_the_readme_is_what_the_program_prints(figures):
    shown = figures.block(README, "goodput")
    assert shown == figures.goodput_answers(), "run: make figures"
    for share in ("48.65%", "53.02%", "49.66%", "54.12%"):
        assert share in shown


def test_the_python_example_prints_what_the_readme_says(figures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert figures.block(README, "python") == figures.python_output(README), "run: make figures"
    assert len(figures.python_example(README).splitlines()) == 8
    assert "plotly" in (tmp_path / "timeline.html").read_text(encoding="utf-8")


def test_the_picture_is_the_one_the_program_draws(figures):
    drawn, shown = figures.bubble_svg(), figures.SVG.read_text(encoding="utf-8")
    assert re.sub(r"\d+\.?\d*", "#", drawn) == re.sub(r"\d+\.?\d*", "#", shown), "run: make figures"
    assert numbers(drawn) == pytest.approx(numbers(shown), abs=2e-3), "run: make figures"


def test_the_page_of_keys_is_up_to_date(figures):
    assert PAGES["scenario.md"] == figures.scenario_page(), "run: make figures"


@pytest.mark.parametrize("words", commands(README), ids=" ".join)
def test_commands_of_the_readme_exist_and_their_scenarios_load(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for template in (["init"], ["init", "device.yaml", "--kind", "device"]):
        app(template, standalone_mode=False)
    name, params = parsed(words)
    target = params.get("scenario") or params.get("study")
    if target is not None:
        assert LOADERS.get(name, load)(target, *(params["set"] or ()))


def test_the_table_of_commands_is_up_to_date(figures):
    assert figures.block(README, "commands") == figures.command_table(), "run: make figures"


def test_first_run_of_the_readme_works(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first = [words for words in commands(README) if words[0] in ("init", "run", "explain", "timeline")][:4]
    for words in first:
        app(words, standalone_mode=False)
    assert [words[0] for words in first] == ["init", "run", "explain", "timeline"]
    assert "MFU" in capsys.readouterr().out
    assert (tmp_path / "timeline.html").stat().st_size > 10_000
    assert (tmp_path / "step.json").stat().st_size > 10_000


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:`|^)make (\w+)", README, re.MULTILINE))
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_lead_somewhere(page):
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        path, _, anchor = target.partition("#")
        file = folder / path if path else folder / page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {title.lower().replace(" ", "-") for title in titles}, target


@pytest.mark.parametrize("page", ["python.md", "extending.md"])
def test_examples_of_the_documentation_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL)
    assert examples
    for example in examples:
        names = {"__name__": "example"}
        exec(compile(example, page, "exec"), names)
        if "SCHEDULE" in names:
            last = names["SCHEDULE"].order(ranks=2, microbatches=2).slots()[1]
            assert last == [["F", 1, 0], ["F", 1, 1], ["B", 1, 1], ["B", 1, 0]]


def test_every_public_name_is_described():
    import simtrain

    for name in simtrain.__all__:
        assert f"st.{name}" in PAGES["python.md"], name


def test_files_named_in_the_documentation_exist():
    for page, text in PAGES.items():
        names = re.findall(r"`((?:simtrain|benchmarks|topologies|workloads|studies)/[\w/.]*)`", text)
        for name in (name for name in names if "NAME" not in name):
            assert (ROOT / name).exists(), f"{page}: {name}"
