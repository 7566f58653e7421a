"""``simtrain init``: documents to start from."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import typer

from simtrain.cli.options import Json, output_file, print_json, say
from simtrain.errors import InputError

__all__ = ["init"]


def init(
    path: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Default: KIND.yaml.")] = None,
    kind: Annotated[
        Literal["scenario", "study", "device", "node", "model"], typer.Option("--kind", help="What to start.")
    ] = "scenario",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    json: Json = False,
) -> None:
    """Write a commented document to start from.

    A scenario, a study, or your own GPU, node or model.
    """
    target = path or Path(f"{kind}.yaml")
    if target.is_dir():
        target = target / f"{kind}.yaml"
    if target.exists() and not force:
        raise InputError(f"{target} exists; give another name or --force")
    output_file(target)
    text = (files("simtrain.cli") / "templates" / f"{kind}.yaml").read_text(encoding="utf-8")
    target.write_text(text, encoding="utf-8")
    if json:
        print_json({"kind": kind, "file": str(target)})
        return
    follow = {"scenario": f"simtrain run {target}", "study": f"simtrain compare {target}"}
    say(f"wrote {target}" + (f"; now try: {follow[kind]}" if kind in follow else ""))
