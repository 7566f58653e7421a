"""``simtrain goodput``: failures and checkpoints alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from simtrain.cli.options import Json, console, print_json, progress, say
from simtrain.errors import InputError

__all__ = ["goodput"]

Engine = Literal["auto", "des", "compiled", "closed_form"]


def goodput(
    case: Annotated[
        Path | None, typer.Option("--case", metavar="FILE", help="Answer one case: JSON with kind and params.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option("--trace", metavar="FILE", help="Recorded faults that a case replays.")
    ] = None,
    engine: Annotated[Engine, typer.Option("--engine", help="Who answers; auto: the fastest that can.")] = "auto",
    runs: Annotated[
        int | None,
        typer.Option("--runs", min=2, metavar="N", help="Runs (default: standard errors of at most 1 % of the mean)."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="S", help="Of the random numbers.")] = 0,
    json: Json = False,
) -> None:
    """What failures and checkpoints leave of the time: closed form, Monte Carlo, best interval."""
    if case is None:
        raise InputError("give --case FILE")
    _answer(case, trace, engine, runs, seed, json=json)


def _answer(case: Path, trace: Path | None, engine: Engine, runs: int | None, seed: int, *, json: bool) -> None:
    from simtrain.reliability.solve import read_case, solve

    file = read_case(case, trace)
    with progress(f"answering {file.id}"):
        solved = solve(file, engine, runs, seed, said=say)
    if json:
        print_json(solved.document())
        return
    from simtrain.report.goodput_text import case_table

    console().print(case_table(solved))
