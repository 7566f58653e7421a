"""Arguments and options that several commands share, and how they print."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Json", "Output", "ScenarioName", "Set", "console", "print_json", "progress", "say"]

ScenarioName = Annotated[str, typer.Argument(metavar="SCENARIO", help="A YAML file, or the name of a shipped study.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="a.b=c", help="Change a value, e.g. layout.tp=2; may be given several times."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to standard output and nothing else.")]
Output = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the HTML page here.")]


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


@contextmanager
def progress(description: str, total: int = 1) -> Iterator[Any]:
    """A progress bar on standard error, only where somebody watches; yields a function that counts one more done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(description, total=total)

        def advance(next_description: str | None = None) -> None:
            bar.update(task, advance=1, description=next_description or description)

        yield advance
