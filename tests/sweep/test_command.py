"""``simtrain sweep`` as a user types it."""

from __future__ import annotations

import csv

import pytest

from simtrain.report.sweep_words import measure
from simtrain.sweep.axes import Axis
from simtrain.sweep.table import Table, higher_is_better
from tests.report.pages import array, figures

SWEEP = ("sweep", "small.yaml", "--axis", "layout.tp=1,2,3,4", "--axis", "layout.micro_batch=1,2", "--workers", "1")
FAILING = ("sweep", "small.yaml", "--axis", "reliability=null,h100", "--workers", "1")
LINE = ("sweep", "small.yaml", "--axis", "layout.tp=1,2,4", "--workers", "1")


def test_the_table_marks_the_best_and_failures_are_said(cli) -> None:
    ran = cli(*SWEEP)
    assert ran.status == 0
    assert ran.err.count("simtrain: note: failed: tp 3, micro_batch ") == 2
    rows = [line.split() for line in ran.out.splitlines() if line.strip()]
    assert [row[0] for row in rows].count("*") == 1
    assert sum("failed" in row for row in rows) == 2


def test_json_is_one_document(cli) -> None:
    document = cli(*SWEEP, "--metric", "time_s", "--json").document
    assert list(document) == ["title", "axes", "metric", "best", "columns", "rows"]
    assert document["metric"] == "step.time_s"
    assert [axis["keys"] for axis in document["axes"]] == [["layout.tp"], ["layout.micro_batch"]]
    assert len(document["rows"]) == 8
    assert all(list(row) == document["columns"] for row in document["rows"])
    times = [row["step.time_s"] for row in document["rows"]]
    assert times[document["best"]] == min(time for time in times if time is not None)
    assert [row["error"] is None for row in document["rows"]] == [True] * 4 + [False] * 2 + [True] * 2


def test_csv_and_parquet_hold_the_same(cli, folder) -> None:
    arrow = pytest.importorskip("pyarrow.parquet")
    document = cli(*SWEEP, "--output", "a.csv", "--json").document
    assert cli(*SWEEP, "--output", "a.parquet").status == 0
    assert sorted(path.name for path in folder.glob("a.*")) == [
        *("a.csv", "a.csv.journal", "a.parquet", "a.parquet.journal"),
    ]
    assert arrow.read_table(folder / "a.parquet").to_pylist() == document["rows"]
    with (folder / "a.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    written = [{key: text(cell) for key, cell in row.items()} for row in document["rows"]]
    assert read == written


def text(cell: object) -> str:
    return "" if cell is None else str(cell).lower() if isinstance(cell, bool) else str(cell)


def test_values_of_any_kind_can_be_written(cli, folder) -> None:
    arrow = pytest.importorskip("pyarrow.parquet")
    axes = (
        "--axis",
        "layout.sp=null,true",
        "--axis",
        "layout.layers_per_stage=null,[2, 2]",
        "--axis",
        "money.pue=1,1.5",
    )
    for name in ("a.csv", "a.parquet"):
        assert cli("sweep", "small.yaml", *axes, "--workers", "1", "--output", name).status == 0
    columns = arrow.read_table(folder / "a.parquet").to_pydict()
    assert columns["layout.sp"] == [None] * 4 + [True] * 4
    assert columns["layout.layers_per_stage"] == [None, None, "[2, 2]", "[2, 2]"] * 2
    assert columns["money.pue"] == [1.0, 1.5] * 4


def test_parquet_without_pyarrow_says_what_to_install(cli, monkeypatch) -> None:
    monkeypatch.setattr("simtrain.report.sweep_output.find_spec", lambda name: None)
    ran = cli(*LINE, "--output", "a.parquet")
    assert (ran.status, ran.out) == (2, "")
    assert "pip install 'simtrain[sweep]'" in ran.err


def test_a_second_time_it_draws_from_the_journal(cli, folder, monkeypatch) -> None:
    first = cli(*LINE, "--output", "a.csv", "--json").document
    monkeypatch.setattr("simtrain.sweep.evaluate._document", None)
    again = cli(*LINE, "--output", "a.csv", "--html", "a.html", "--metric", "days", "--json")
    assert again.document["rows"] == first["rows"]
    assert again.err == ("simtrain: a.csv.journal: 3 of 3 rows were finished before\nwrote a.csv\nwrote a.html\n")
    monkeypatch.undo()


def test_a_changed_sweep_says_that_it_starts_anew(cli, folder, monkeypatch) -> None:
    cli(*LINE, "--output", "a.csv")
    ran = cli(*LINE, "--output", "a.csv", "--set", "workload.global_batch=32")
    assert "a.csv.journal: 3 rows are of another sweep or version and were removed; the sweep starts anew" in ran.err


def test_one_axis_is_a_line_and_its_best_a_star(cli, folder) -> None:
    rows = cli(*LINE, "--html", "a.html", "--metric", "step.time_s", "--json").document["rows"]
    (figure,) = figures((folder / "a.html").read_text())
    line, star = figure["data"]
    assert array(line["x"]).tolist() == [1, 2, 4]
    assert array(line["y"]) == pytest.approx([row["step.time_s"] for row in rows])
    assert array(star["y"]).tolist() == [min(row["step.time_s"] for row in rows)]


def test_two_axes_are_a_heat_map_with_holes_where_nothing_can_be(cli, folder) -> None:
    document = cli(*SWEEP, "--html", "a.html", "--set", "title=mine", "--json").document
    (figure,) = figures((folder / "a.html").read_text())
    (heat,) = figure["data"]
    assert [len(row) for row in heat["z"]] == [2, 2, 2, 2]
    assert heat["z"][2] == [None, None]
    for row, values in zip((0, 1, 3), heat["z"][:2] + heat["z"][3:], strict=True):
        wanted = [document["rows"][2 * row + column]["step.mfu"] * 100 for column in (0, 1)]
        assert values == pytest.approx(wanted)
    texts = [note["text"] for note in figure["layout"]["annotations"]]
    assert texts.count("failed") == 2
    assert sum("★" in text for text in texts) == 1


def test_what_does_not_fit_is_never_best(cli, folder) -> None:
    memory = ("--axis", "cluster.node.device.memory=3 GiB,80 GiB", "--axis", "layout.micro_batch=1")
    document = cli("sweep", "small.yaml", *memory, "--workers", "1", "--html", "a.html", "--json").document
    assert [row["memory.fits"] for row in document["rows"]] == [False, True]
    assert document["best"] == 1
    document = cli("sweep", "small.yaml", "--axis", "cluster.node.device.memory=3 GiB", "--json").document
    assert document["best"] is None


def test_more_axes_and_seeds_are_folded_into_the_figure(cli, folder) -> None:
    (folder / "grid.yaml").write_text(
        "kind: sweep\nextends: ./small.yaml\nseeds: 2\nmetric: tokens_per_s\n"
        "axes: {layout.tp: [1, 2], layout.micro_batch: [1, 2], layout.zero: [0, 1]}\n"
    )
    document = cli("sweep", "grid.yaml", "--workers", "1", "--html", "a.html", "--json").document
    assert len(document["rows"]) == 16
    (figure,) = figures((folder / "a.html").read_text())
    best = max(row["step.tokens_per_s"] for row in document["rows"])
    assert max(map(max, figure["data"][0]["z"])) == pytest.approx(best)
    assert "mean over 2 seeds" in figure["layout"]["title"]["subtitle"]["text"]


def test_a_metric_that_the_first_points_lack_is_found(cli) -> None:
    ran = cli(*FAILING, "--metric", "run.goodput", "--json")
    assert ran.status == 0
    assert ran.document["best"] == 1
    ran = cli(*FAILING, "--metric", "run.goodpt")
    assert (ran.status, "Did you mean 'run.goodput'?" in ran.err) == (2, True)


def test_a_metric_that_no_point_has_is_told(cli, folder) -> None:
    (folder / "rented.yaml").write_text((folder / "small.yaml").read_text() + "money: {mode: rent}\n")
    priced = ("--axis", "cluster.node.device.rent=null,2 USD/h", "--workers", "1", "--metric", "cost_usd", "--json")
    assert cli("sweep", "rented.yaml", *priced).document["best"] == 1
    free = ("--set", "cluster.node.device.rent=null", "--axis", "layout.tp=1,2", "--metric", "cost_usd")
    ran = cli("sweep", "rented.yaml", *free)
    assert (ran.status, ran.out) == (2, "")
    assert "metric 'cost_usd': no point of this sweep has a number for job.cost_usd" in ran.err


def test_a_row_that_never_ends_leaves_no_mean_of_the_others() -> None:
    axes = (Axis(("a",), ((1,), (2,))), Axis(("seed",), ((0,), (1,))))
    rows = tuple({"a": a, "seed": seed, "run.days": days, "error": None} for a, seed, days in DAYS)
    table = Table("", axes, rows)
    assert [cell.value for cell in table.cells("run.days")] == [None, 6.0]
    assert table.best("run.days") == 2


DAYS = ((1, 0, 3.0), (1, 1, None), (2, 0, 5.0), (2, 1, 7.0))


def test_numbers_beyond_64_bits_are_text_in_parquet(cli, folder) -> None:
    arrow = pytest.importorskip("pyarrow.parquet")
    axes = ("--axis", f"seed={2**70},1", "--workers", "1")
    assert cli("sweep", "small.yaml", *axes, "--output", "a.parquet").status == 0
    assert arrow.read_table(folder / "a.parquet").to_pydict()["seed"] == [str(2**70), "1"]


COLUMNS = {
    "run.ledger.lost_work": ("work done again (%)", False),
    "run.ledger.useful": ("useful work (%)", True),
    "run.mtbf_s": ("time between failures (s)", True),
    "run.recovery_s": ("recovery (s)", False),
    "run.standard_error": ("standard error of goodput (%)", False),
    "run.failures.gpu_memory": ("failures a run, gpu memory", False),
    "step.tokens_per_s": ("tokens per s", True),
    "memory.peak_bytes": ("peak memory (GiB)", False),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_columns_have_a_name_a_unit_and_a_direction(column) -> None:
    assert (measure(column).title, higher_is_better(column)) == COLUMNS[column]


WRONG = {
    "key": (("--axis", "layout.tpp=1,2"), ["--axis: layout.tpp = 1", "did you mean 'tp'?"]),
    "no values": (("--axis", "layout.tp="), ["axes.layout.tp has no values"]),
    "no equals sign": (("--axis", "layout.tp"), ["--axis: 'layout.tp' is not of the form key=value,value"]),
    "not YAML": (("--axis", "layout.tp=[1"), ["--axis: layout.tp = '[1' is not a list of YAML values"]),
    "metric": (("--axis", "layout.tp=1,2", "--metric", "mfuu"), ["no metric", "'mfuu'", "Did you mean 'mfu'?"]),
    "no axis": ((), ["small.yaml has no 'axes'", "--axis layout.tp=1,2,4"]),
    "set of an axis": (("--axis", "layout.tp=1,2", "--set", "layout.tp=4"), ["--set: layout.tp is an axis"]),
    "kind of file": (("--axis", "layout.tp=1,2", "--output", "a.xlsx"), ["a.xlsx", ".csv or .parquet"]),
    "all fail": (("--axis", "layout.tp=3,5"), ["none of the 2 scenarios of small.yaml can be", "16 GPUs"]),
    "one file twice": (
        ("--axis", "layout.tp=1,2", "--output", "a.csv", "--html", "./a.csv"),
        ["one would overwrite the other"],
    ),
    "workers": (("--axis", "layout.tp=1,2", "--workers", "0"), ["--workers", "1"]),
    "points": (
        ("--axis", "seed={from: 1, to: 50001, steps: 50001}", "--axis", "layout.tp=1,2"),
        ["100002 points; at most 100000"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_refused(case, cli, folder) -> None:
    arguments, said = WRONG[case]
    before = sorted(folder.iterdir())
    ran = cli("sweep", "small.yaml", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert all(text in ran.err for text in said), ran.err
    assert sorted(folder.iterdir()) == before


def test_documents_of_another_kind_are_sent_where_they_belong(cli, folder) -> None:
    (folder / "grid.yaml").write_text("kind: sweep\nextends: ./small.yaml\naxes: {layout.tp: [1, 2]}\n")
    for command in ("run", "compare"):
        ran = cli(command, "grid.yaml")
        assert ran.status == 2
        assert "grid.yaml is a sweep" in ran.err
        assert "simtrain sweep" in ran.err
    ran = cli("sweep", "study.yaml", "--axis", "layout.tp=1,2")
    assert ran.status == 2
    assert "study.yaml is a study" in ran.err
    (folder / "bad.yaml").write_text("kind: sweep\nextends: ./small.yaml\naxs: {layout.tp: [1, 2]}\n")
    ran = cli("sweep", "bad.yaml")
    assert ran.status == 2
    assert "did you mean 'axes'?" in ran.err


def test_figures_of_many_or_long_values_stay_readable(cli, folder) -> None:
    prices = ("--axis", "money.pue={from: 1.0, to: 2, steps: 60}", "--axis", "layout.tp=1,2", "--metric", "cost_usd")
    assert cli("sweep", "small.yaml", *prices, "--workers", "1", "--html", "a.html").status == 0
    (figure,) = figures((folder / "a.html").read_text())
    assert figure["layout"]["height"] < 1400
    assert len(figure["layout"]["yaxis"]["tickvals"]) == len(figure["layout"]["yaxis"]["ticktext"]) == 20
    long = ("--axis", "layout={tp: 2, pp: 2, micro_batch: 1, recompute: none},{tp: 1}", "--metric", "mfu")
    assert cli("sweep", "small.yaml", *long, "--workers", "1", "--html", "a.html").status == 0
    (figure,) = figures((folder / "a.html").read_text())
    assert figure["layout"]["xaxis"]["ticktext"] == ['{"tp": 2, "pp": 2, "micro_batch": 1…', '{"tp": 1}']
