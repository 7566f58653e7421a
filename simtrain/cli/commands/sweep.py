"""``simtrain sweep``: a grid of scenarios, on all cores, that goes on where it was interrupted."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simtrain.cli.options import Json, Output, Set, console, output_file, print_json, progress, say
from simtrain.errors import InputError

if TYPE_CHECKING:
    from simtrain.sweep.grid import Grid
    from simtrain.sweep.table import Table

__all__ = ["sweep"]


def sweep(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="A sweep (a YAML file or a name); with --axis also a scenario.")
    ],
    axis: Annotated[
        list[str] | None,
        typer.Option(
            "--axis",
            metavar="a.b=1,2,4",
            help="Values of a key, or a range {from: 1, to: 8, steps: 4, scale: log}; may be given several times.",
        ),
    ] = None,
    set: Set = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Write all columns here, .csv or .parquet. FILE.journal beside it keeps finished rows: the same "
            "command goes on after an interruption, or draws again.",
            callback=output_file,
        ),
    ] = None,
    html: Output = None,
    metric: Annotated[
        str | None, typer.Option("--metric", metavar="NAME", help="Column to draw and to find the best by.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", min=1, help="Processes; default: one for each core.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Work out again what the journal holds.")] = False,
    json: Json = False,
) -> None:
    """Simulate a grid of scenarios, one row for each, on all cores.

    A scenario that cannot be is a row with its error. Figures: a line for one axis, a heat map for two.
    """
    from simtrain.report.sweep_output import check_format, write_rows
    from simtrain.report.sweep_words import failures, sweep_table
    from simtrain.sweep.grid import load_sweep

    if output:
        check_format(output)
        if html and html.resolve() == output.resolve():
            raise InputError(f"--output and --html are both {html}; one would overwrite the other")
    grid = load_sweep(study, *(set or ()), axes=axis or ())
    journal = output.with_name(f"{output.name}.journal") if output else None
    wanted = metric or grid.sweep.metric
    table = _swept(grid, wanted, workers, journal, fresh)
    if output:
        write_rows(table, output)
        say(f"wrote {output}")
    if len(table.failed) == len(table.rows):
        raise InputError(f"none of the {len(table.rows)} scenarios of {grid.label} can be: {table.rows[0]['error']}")
    for line in failures(table, 5):
        say(f"simtrain: note: failed: {line}")
    column = table.metric(wanted)
    if html:
        from simtrain.report.sweep_figure import write_sweep_page

        write_sweep_page(table, column, html, grid.sweep.notes)
        say(f"wrote {html}")
    if json:
        print_json(table.document(column))
        return
    console().print(sweep_table(table, column))


def _swept(grid: Grid, metric: str, workers: int | None, journal: Path | None, fresh: bool) -> Table:
    """The table, under a progress bar; an interruption leaves one line."""
    from simtrain.sweep.run import Watcher, run_sweep

    # Points without reliability have no columns of a run, and the first points may be such.
    varied = any(key == "reliability" for axis in grid.axes for key in axis.keys)
    opened = False

    class Bar(Watcher):
        def opened(self, kept: int, stale: int, total: int) -> None:
            """Say what of an earlier run still holds."""
            nonlocal opened
            opened = True
            if stale:
                say(
                    f"simtrain: {journal}: {stale} rows are of another sweep or version and were removed; "
                    + (f"{kept} of {total} rows still hold" if kept else "the sweep starts anew")
                )
            elif kept:
                say(f"simtrain: {journal}: {kept} of {total} rows were finished before")
            count(kept)

        def advanced(self, table: Table, more: int) -> None:
            if len(table.failed) < len(table.rows) and not varied:
                table.metric(metric, partial=True)  # a slip in its name is said after the first row, not after the last
            count(more)

    def count(more: int) -> None:
        for _ in range(more):
            advance()

    try:
        with _broken_pipes_told(), progress("sweeping", total=len(grid)) as advance:
            return run_sweep(grid, workers=workers, journal=journal, fresh=fresh, watcher=Bar())
    except KeyboardInterrupt:
        say(f"simtrain: interrupted{_kept(journal if opened else None, len(grid))}")
        raise typer.Exit(130) from None


def _kept(journal: Path | None, total: int) -> str:
    from simtrain.sweep.journal import Journal

    if journal is None:
        return ""
    with Journal(journal) as book:
        return f"; {len(book.rows())} of {total} rows are kept: the same command goes on from there"


@contextmanager
def _broken_pipes_told() -> Iterator[None]:
    """The pipe of a worker that died is an error to deal with, not the end of the program."""
    if not hasattr(signal, "SIGPIPE"):
        yield
        return
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGPIPE, before)
