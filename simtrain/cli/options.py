"""Arguments and options that several commands share, and how they print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simtrain.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from rich.console import Console

    from simtrain.step.report import StepReport

__all__ = [
    "Json",
    "Output",
    "ScenarioName",
    "Set",
    "blame",
    "console",
    "notes",
    "output_file",
    "print_json",
    "progress",
    "say",
    "shown",
]


def output_file(path: Path | None) -> Path | None:
    """A file to write, checked before any work is done for it.

    Raises:
        InputError: it is a folder or a device, or its folder does not exist or may not be written to.
    """
    if path is None:
        return None
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file to write")
    if path.exists() and not path.is_file():  # a file would take the place of a device such as /dev/null
        raise InputError(f"{path} is not a file; give the name of a file to write")
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise InputError(f"{path} cannot be written: permission denied")
    return path


ScenarioName = Annotated[str, typer.Argument(metavar="SCENARIO", help="A YAML file, or the name of a shipped study.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="a.b=c", help="Change a value, e.g. layout.tp=2; may be given several times."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to standard output and nothing else.")]
Output = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write the HTML page here.", callback=output_file)
]


def console() -> Console:
    """Console on standard output; wide enough for tables where the output is not a terminal."""
    from rich.console import Console

    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=118)


def print_json(document: Any) -> None:
    """Print one JSON document."""
    json.dump(document, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def say(text: str) -> None:
    """A remark beside the result, on standard error."""
    print(text, file=sys.stderr)


def notes(step: StepReport) -> None:
    """Say which prices are missing from a step's bill, what stands for what, why an MFU above 1 is no defect."""
    lines = list(step.job.unknown)
    if step.uneven:
        lines.append(
            "GPUs of a pipeline rank load their links differently, and the most loaded stand for all, which may be a "
            "few percent off; fold: false simulates each GPU, fold: true says nothing"
        )
    lines += [f"{asked} applies to no collective of this step" for asked in step.unused_algorithms]
    if step.mfu > 1.0:
        lines.append(
            f"MFU {step.mfu:.2f} is above 1: it is counted against the bf16 peak, with attention in full and the "
            "input embedding as if it were a matmul"
        )
    for line in lines:
        say(f"simtrain: note: {step.scenario.name}: {line}")


def shown(kind: str, reference: str) -> str:
    """The file that ``reference`` names, as messages call it."""
    from simtrain.scenario import library

    return library.display(library.find(kind, reference))


@contextmanager
def blame(document: str, scenario: str) -> Iterator[None]:
    """What parts of a scenario make impossible together is reported against the document they stand in."""
    try:
        yield
    except (InputError, UnsupportedError) as error:
        raise InputError(f"{document}: {str(error).removeprefix(f'{scenario}: ')}") from error


@contextmanager
def progress(description: str, total: int = 1) -> Iterator[Any]:
    """A progress bar on standard error, only where somebody watches; yields a function that counts one more done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(description, total=total)

        def advance(next_description: str | None = None, amount: float = 1) -> None:
            bar.update(task, advance=amount, description=next_description or description)

        yield advance
