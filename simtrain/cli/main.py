"""The ``simtrain`` program: commands, exit statuses, and errors as one clear message.

Exit status: 0 done; 2 wrong input; 3 (run, memory) valid but does not fit in memory; 1 a defect; 130 interrupted.
"""

from __future__ import annotations

import signal
import sys

import typer

from simtrain.cli.commands.catalog import catalog
from simtrain.cli.commands.compare import compare
from simtrain.cli.commands.explain import explain
from simtrain.cli.commands.goodput import goodput
from simtrain.cli.commands.init import init
from simtrain.cli.commands.memory import memory
from simtrain.cli.commands.run import run
from simtrain.cli.commands.schedule import schedule
from simtrain.cli.commands.schema import schema
from simtrain.cli.commands.sweep import sweep
from simtrain.cli.commands.timeline import timeline
from simtrain.cli.commands.topology import topology
from simtrain.cli.commands.validate import validate
from simtrain.errors import SimtrainError

__all__ = ["app", "main"]

app = typer.Typer(
    name="simtrain",
    help="Simulate large-model training on GPU clusters: how fast, where the time goes, does it fit, what it costs.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
for command in (
    *(init, run, explain, compare, sweep, timeline, memory),
    *(schedule, topology, goodput, validate, catalog, schema),
):
    app.command()(command)


def version(show: bool) -> None:
    """Print the version and leave."""
    if show:
        from simtrain import __version__

        print(f"simtrain {__version__}")
        raise typer.Exit


@app.callback()
def root(
    show_version: bool = typer.Option(False, "--version", callback=version, is_eager=True, help="Print the version."),
) -> None:
    """Simulate large-model training on GPU clusters: how fast, where the time goes, does it fit, what it costs."""


def main() -> None:
    """Run the program; every error that is not a defect ends in one message on standard error."""
    if hasattr(signal, "SIGPIPE"):  # end quietly when the reader goes away, as `| head` does
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        app(prog_name="simtrain")
    except SimtrainError as error:
        print(f"simtrain: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except MemoryError:
        print("simtrain: this machine has too little memory for that many micro batches and GPUs", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("simtrain: interrupted", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        print(f"simtrain: {error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
