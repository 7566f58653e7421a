"""``simtrain validate``: predictions against published measurements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simtrain.cli.options import Json, console, output_file, print_json, progress, say
from simtrain.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["validate"]

File = Annotated[Path | None, typer.Option("--data", metavar="ROWS.csv", help="Step times (default: those shipped).")]


def validate(
    data: File = None,
    models: Annotated[
        Path | None, typer.Option("--models", metavar="MODELS.csv", help="The architectures that the rows name.")
    ] = None,
    kernels: Annotated[
        Path | None, typer.Option("--kernels", metavar="FILE.csv", help="Kernel times instead of step times.")
    ] = None,
    collectives: Annotated[
        Path | None, typer.Option("--collectives", metavar="FILE.csv", help="Collective times instead of step times.")
    ] = None,
    leave_one_out: Annotated[
        bool,
        typer.Option(
            "--leave-one-out",
            help="Fit the coefficients of training steps without each publisher's rows, and predict these.",
        ),
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", help="Draw predicted against measured step times here.", callback=output_file
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Predict published measurements and say how far off: step time, memory and fit, group by group.

    Predictions read the columns of hardware, model, layout and software alone.
    """
    _check(data, models, kernels, collectives, html, leave_one_out)
    if kernels:
        from simtrain.validation.kernels import predict_kernels

        _print_timing(predict_kernels(kernels), json)
    elif collectives:
        from simtrain.validation.collectives import predict_collectives

        _print_timing(predict_collectives(collectives), json)
    else:
        _steps(data, models, html, json, leave_one_out)


def _check(
    data: Path | None,
    models: Path | None,
    kernels: Path | None,
    collectives: Path | None,
    html: Path | None,
    leave_one_out: bool,
) -> None:
    """At most one question, and only options that it has.

    Raises:
        InputError: otherwise.
    """
    timing = "--kernels" if kernels else "--collectives" if collectives else ""
    files = {"--collectives": kernels and collectives, "--data": data, "--models": models, "--html": html}
    given = {**files, "--leave-one-out": leave_one_out}
    wrong = [option for option, value in given.items() if value]
    if timing and wrong:
        raise InputError(f"{timing} is a question of its own; leave out {wrong[0]}")
    if models and not data:
        raise InputError("--models needs --data: the rows that name them")


def _steps(data: Path | None, models: Path | None, html: Path | None, json: bool, leave_one_out: bool) -> None:
    from simtrain.report.validation_text import skipped_table, step_errors_table, steps_document
    from simtrain.validation.rows import read_rows
    from simtrain.validation.steps import measured_models, measured_steps, predict_steps

    rows, shapes = data or measured_steps(), models or measured_models()
    if leave_one_out:
        from simtrain.validation.leave_out import leave_one_out as fit_and_predict
        from simtrain.validation.step_fit import independent_rows

        with progress("predicting", total=len(independent_rows(rows, shapes))) as advance:
            report = fit_and_predict(rows, shapes, advance=advance)
    else:
        with progress("predicting", total=len(read_rows(rows))) as advance:
            report = predict_steps(rows, shapes, advance=advance)
    if html:
        from simtrain.report.parity_figure import write_parity_page

        write_parity_page(report, html)
        say(f"wrote {html}")
    if json:
        print_json(steps_document(report))
    else:
        _print(step_errors_table(report), skipped_table(report.rows))


def _print_timing(report: Any, json: bool) -> None:
    from simtrain.report.validation_text import error_table, skipped_table, timing_document

    if json:
        print_json(timing_document(report))
    else:
        _print(error_table(report.groups), skipped_table(report.rows))


def _print(*tables: Table | None) -> None:
    for one in tables:
        if one is not None:
            console().print(one)
