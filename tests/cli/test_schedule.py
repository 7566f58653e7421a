"""``simtrain schedule`` as a user types it: documents, pictures, files, and one message for everything wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from simtrain import schedules
from simtrain.cli.main import main
from simtrain.step.schedule import evaluate_order
from tests.orders import small_order
from tests.report.pages import figures
from tests.typed import Ran

Run = Callable[[str], Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)

    def typed(words: str) -> Ran:
        monkeypatch.setattr("sys.argv", ["simtrain", "schedule", *words.split()])
        try:
            main()
            status = 0
        except SystemExit as left:
            status = int(left.code or 0)
        return Ran(status, *capsys.readouterr())

    return typed


def test_the_document(run: Run) -> None:
    done = run("dualpipe --ranks 8 --microbatches 20 --f 10 --i 12 --w 8 --x 30 --json")
    assert done.status == 0
    document = done.document
    sizes = {"P": 8, "V": 1, "M": 20, "num_stages": 8, "placement": "bidir", "schedule": "dualpipe"}
    assert {key: document[key] for key in sizes} == sizes
    assert document["ranks"] == schedules.get("dualpipe").order(8, 20).slots()
    assert document["makespan"] - max(document["busy"]) <= 72 == document["makespan"] - min(document["busy"])
    assert document["bubble_fraction"] == pytest.approx(1 - sum(document["busy"]) / (8 * document["makespan"]))
    assert len(document["idle_in_span"]) == len(document["peak_chunks"]) == len(document["peak_chunks_free_at_I"]) == 8
    assert document["max_rank_span"] == document["makespan"]
    assert document["engine"] == "compiled"


@pytest.mark.parametrize("name", schedules.names())
def test_both_engines_say_the_same_of_every_schedule(run: Run, name: str) -> None:
    chunks = " --chunks 2" if name.startswith(("interleaved", "looped")) else ""
    common = f"{name} -p 4 -m 8{chunks} --f 2 --i 3 --w 1 --comm 0.25 --json --engine"
    by_engine = {engine: run(f"{common} {engine}").document for engine in ("des", "compiled")}
    assert [by_engine[engine]["engine"] for engine in ("des", "compiled")] == ["des", "compiled"]
    for key in ("makespan", "bubble_fraction", "max_rank_span", "busy", "idle_in_span", "peak_chunks"):
        assert by_engine["des"][key] == pytest.approx(by_engine["compiled"][key], rel=1e-9, abs=1e-9)
    assert by_engine["des"]["ranks"] == by_engine["compiled"]["ranks"]


def test_defaults_are_four_ranks_eight_micro_batches_unit_costs(run: Run) -> None:
    document = run("1f1b --json").document
    assert (document["P"], document["M"], document["makespan"]) == (4, 8, 33)
    assert run("zbv --json").document["V"] == 2


@pytest.mark.parametrize(
    ("words", "makespan"),
    [
        ("gpipe --f 2 --b 5", 11 * 7),
        ("gpipe --f 1,1,1,1 --i 1 --w 0", 11 * 2),
        ("gpipe --comm 0.5", 33 + 6 * 0.5),
        ("1f1b_overlap -p 1 -m 3 --x 2", 1 + 2 * 2 + 2),
        ("interleaved_1f1b --chunks 2", 8 * 2 * 3 + 3 * 3),
        ("interleaved_1f1b_group --chunks 2 --group 8", 8 * 2 * 3 + 3 * 3),
        ("looped_bfs --chunks 3 -m 4", 4 * 3 * 3 + 3 * 3),
        ("zb_h1", 8 * 3 + 3),
    ],
)
def test_costs_and_sizes(run: Run, words: str, makespan: float) -> None:
    done = run(f"{words} --json")
    assert done.document["makespan"] == pytest.approx(makespan), done.err


def test_the_group_changes_the_order(run: Run) -> None:
    base, grouped = (run(f"interleaved_1f1b -m 16 --chunks 2 {more} --json").document for more in ("", "--group 8"))
    assert base["ranks"] != grouped["ranks"]
    assert max(grouped["peak_chunks"]) > max(base["peak_chunks"])


def test_a_search_takes_its_own_costs(run: Run) -> None:
    name = next((name for name in schedules.names() if name.startswith("zb_auto")), None)
    if name is None:
        pytest.skip("no cost-driven schedule is there")
    searched = run(f"{name} -m 12 --f 10 --i 12 --w 8 --json").document
    told = run(f"{name} -m 12 --f 1 --order-costs 10,12,8,0 --json").document
    assert told["ranks"] == searched["ranks"]
    assert told["makespan"] < searched["makespan"]


def test_repetitions_are_timed(run: Run) -> None:
    document = run("zb1p --repeat 2 --json").document
    assert 0 < document["order_s"] < 1
    assert 0 < document["evaluate_s"] < 1
    assert "order_s" in run("zb1p --repeat 1").out


def test_chunk_memory_makes_bytes(run: Run, tmp_path: Path) -> None:
    peaks = run("1f1b --json --chunk-memory 2GiB").document["peak_bytes"]
    assert peaks == [8 * 2.0**30, 6 * 2.0**30, 4 * 2.0**30, 2 * 2.0**30]
    assert "8 GiB" in run("1f1b --chunk-memory 2GiB --html page.html").out
    assert "activations alive, in GiB" in (tmp_path / "page.html").read_text()


def test_a_comparison(run: Run) -> None:
    done = run("--compare 1f1b,zb1p,zbv,dualpipev --json")
    assert [document["schedule"] for document in done.document["schedules"]] == ["1f1b", "zb1p", "zbv", "dualpipev"]
    assert [document["makespan"] for document in done.document["schedules"]] == [33, 27, 51, 54]
    text = run("--compare 1f1b,zb1p,zbv,dualpipev --engine des")
    for row in (r"1f1b +4 +1 +8 +33 +33 +27.3%", r"zbv +4 +2 +8 +51 +25.5 +5.9%", r"dualpipev +4 +2 +8 +54 +27 +11.1%"):
        assert re.search(row, text.out)
    assert text.out.count("rank 3") == 4
    assert "engine: des" in text.out


def test_a_comparison_gives_chunks_and_groups_to_those_that_take_them(run: Run) -> None:
    documents = run("--compare 1f1b,interleaved_1f1b --chunks 2 --group 8 --repeat 1 --json").document["schedules"]
    assert [document["V"] for document in documents] == [1, 2]
    assert all("evaluate_s" in document for document in documents)


def test_files(run: Run, tmp_path: Path) -> None:
    done = run("dualpipe --html page.html --svg drawing.svg --csv order.csv")
    assert done.status == 0
    assert done.err.splitlines() == ["wrote page.html", "wrote drawing.svg", "wrote order.csv"]
    assert len(figures((tmp_path / "page.html").read_text())) == 1
    assert ElementTree.parse(tmp_path / "drawing.svg").getroot().tag.endswith("svg")
    again = run("--order order.csv --json").document
    assert again["ranks"] == small_order("dualpipe").slots()
    assert (again["schedule"], again["placement"]) == ("order", "bidir")


@pytest.mark.parametrize("name", schedules.names())
def test_every_order_comes_back_from_its_own_document(run: Run, tmp_path: Path, name: str) -> None:
    order = small_order(name)
    (tmp_path / "mine.json").write_text(json.dumps({"ranks": order.slots()}))
    document = run("--order mine.json --json").document
    assert document["ranks"] == order.slots()
    (tmp_path / "whole.json").write_text(json.dumps(document))
    assert run(f"{name} --order whole.json --json --ranks 4 --microbatches 8").document == document | {"schedule": name}
    assert document["placement"] == order.placement


CROSSED = [
    [["F", 0, 0], ["B", 0, 0], ["F", 0, 1], ["B", 0, 1]],
    [["F", 1, 1], ["F", 1, 0], ["B", 1, 0], ["B", 1, 1]],
]


@pytest.mark.parametrize("engine", ["des", "compiled"])
def test_an_order_that_cannot_finish_is_reported(run: Run, tmp_path: Path, engine: str) -> None:
    (tmp_path / "crossed.json").write_text(json.dumps({"ranks": CROSSED}))
    done = run(f"--order crossed.json --engine {engine} --json")
    assert (done.status, done.out) == (2, "")
    assert done.err.splitlines() == [
        "simtrain: crossed.json: deadlock, these slots can never start",
        "  B, stage 0, micro batch 0, rank 0 compute waits for the end of [B, stage 1, micro batch 0, rank 1 compute]",
        "  F, stage 1, micro batch 1, rank 1 compute waits for the end of [F, stage 0, micro batch 1, rank 0 compute]",
    ]


def test_every_waiting_rank_is_named_however_many(run: Run, tmp_path: Path) -> None:
    ranks = schedules.get("1f1b").order(64, 2).slots()
    ranks[63][:2] = reversed(ranks[63][:2])  # a backward before its own forward
    (tmp_path / "long.json").write_text(json.dumps({"ranks": ranks}))
    done = run("--order long.json")
    assert done.status == 2
    named = {int(rank) for rank in re.findall(r"^  \w, .*? rank (\d+) compute waits", done.err, re.MULTILINE)}
    assert named == set(range(64))


WRONG_FILES = [
    ('{"ranks": []}', "an order is an object with 'ranks', a list of slots for each pipeline rank"),
    ("[1, 2]", "an order is an object with 'ranks'"),
    ("{", "line 1 is not JSON"),
    ('{"ranks": [[], []]}', "rank 0: expected a list of slots, and at least one"),
    ('{"ranks": [[["F", 0, 0], ["G", 0, 0]]]}', 'rank 0, slot 1 ["G", 0, 0]: not an action; a slot is ["F", stage'),
    ('{"ranks": [[["F", 0, 0], [["B"], 0, 0]]]}', "not an action"),
    ('{"ranks": [[["F", 0, 0], ["X", 0, 0]]]}', 'slot 1 ["X", 0, 0]: 3 entries instead of 5'),
    ('{"ranks": [[["F", 0, -1]]]}', "stages and micro batches are whole numbers from 0"),
    ('{"ranks": [[["F", 0, 1.5]]]}', "stages and micro batches are whole numbers from 0"),
    ('{"ranks": [[["F", 0, 0]]]}', '["I", 0, 0] is missing'),
    ('{"ranks": [[["F", 0, 0], ["I", 0, 0]]]}', '["W", 0, 0] is missing'),
    ('{"ranks": [[["F", 0, 0], ["B", 0, 0], ["W", 0, 0]]]}', 'it is already in rank 0, ["B", 0, 0]'),
    ('{"ranks": [[["F", 1, 0], ["B", 1, 0]], [["F", 0, 0], ["B", 0, 0]]]}', "2 stages lie on 2 ranks in no known way"),
    ('{"ranks": [[["F", 0, 0], ["B", 0, 0]]], "P": 2}', "P = 2, but the slots of 'ranks' make it 1"),
    (
        '{"ranks": [[["F", 0, 0], ["B", 0, 0]], [["F", 1, 0], ["B", 1, 0]]], "placement": "v"}',
        "placement = 'v', but the slots of 'ranks' make it 'loop'",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG_FILES)
def test_a_wrong_file_is_one_message(run: Run, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "wrong.json").write_text(text)
    done = run("--order wrong.json --json")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("simtrain: wrong.json")
    assert message in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "name a schedule; known: 1f1b, "),
        ("zbb", "no pipeline schedule is called 'zbb'. Did you mean 'zbv'?"),
        ("dualpip", "Did you mean 'dualpipe'?"),
        ("dualpipe -p 3 -m 8", "dualpipe: ranks = 3, "),
        ("dualpipe -p 4 -m 6", "dualpipe: microbatches = 6"),
        ("dualpipe -p 4 -m 9", "dualpipe: microbatches = 9"),
        ("dualpipev -p 4 -m 7", "dualpipev: microbatches = 7"),
        ("1f1b --chunks 2", "1f1b has one model chunk per rank, not 2"),
        ("zbv --chunks 3", "zbv"),
        ("interleaved_1f1b -p 3 -m 7 --chunks 2", "7 micro batches do not fall into 2 equal groups"),
        ("1f1b --ranks 0", "1f1b: ranks = 0, but at least 1 is needed"),
        ("1f1b --microbatches -1", "1f1b: microbatches = -1, but at least 1 is needed"),
        ("1f1b -p 100000 -m 100000", "100000 ranks with 100,000 micro batches are more than 10,000,000 forwards"),
        ("1f1b --group 4", "1f1b takes no option 'group'"),
        ("1f1b --f fast", "--f = 'fast' is not a number"),
        ("1f1b --f 1,2", "f has 2 values; give one, or one for each of the 4 stages"),
        ("1f1b --w=-1", "w must be finite and not negative"),
        ("1f1b --comm nan", "comm = nan must be finite and not negative"),
        ("1f1b --order-costs 1,2", "--order-costs = '1,2' must be four numbers: F,I,W,comm"),
        ("1f1b --chunk-memory 3", "'3' has no unit"),
        ("1f1b --compare zbv", "give --compare with a list, or one schedule, not both"),
        ("--compare 1f1b,zbv --csv order.csv", "--csv writes one order"),
        ("--compare ,", "name a schedule; known"),
        ("--compare 1f1b,dualpipe -p 3", "dualpipe: ranks = 3"),
        ("--order nothing.json", "nothing.json: cannot be read: No such file or directory"),
        ("--order nothing.yaml", "an order is a .csv (PyTorch schedule) or a .json file"),
        ("1f1b --engine fast", "'fast' is not one of 'auto', 'des', 'compiled'"),
        ("1f1b --repeat 0", "--repeat"),
    ],
)
def test_wrong_input_is_one_message_and_exit_2(run: Run, tmp_path: Path, words: str, message: str) -> None:
    done = run(f"{words} --json".strip())
    assert (done.status, done.out) == (2, "")
    assert message in done.err
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []


def test_an_order_has_the_sizes_that_are_asked_for(run: Run) -> None:
    run("1f1b --csv order.csv")
    assert run("--order order.csv --ranks 8").err == "simtrain: order.csv: the order has ranks = 4, not 8\n"
    assert run("--order order.csv --ranks 4 --microbatches 8 --chunks 1 --json").document["makespan"] == 33


def test_the_page_of_schedules_says_what_the_program_prints() -> None:
    page = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`.* \| ([\d.]+%) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert sorted(name for name, _, _ in rows) == sorted(schedules.names())
    for name, bubble, peak in rows:
        report = evaluate_order(small_order(name, 8, 16))
        assert (name, bubble) == (name, f"{report.bubble_fraction:.1%}")
        assert (name, float(peak)) == (name, max(report.peak_chunks) / report.order.chunks)


def test_the_examples_of_the_page_run(run: Run, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text(encoding="utf-8")
    for line in re.findall(r"^simtrain schedule (.*)$", page, re.MULTILINE):
        assert run(line).status == 0, line
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    (tmp_path / "order.json").write_text(example)
    assert run("--order order.json --json").document["makespan"] == 3 * 3
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "schedules.md", "exec"), {})
