"""``simtrain catalog``: what is shipped, each entry with its source."""

from __future__ import annotations

from typing import Annotated

import typer

from simtrain.cli.options import Json, console, print_json

__all__ = ["catalog"]


def catalog(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help="devices, nodes, fabrics, models …")] = None,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One entry: print its document.")] = None,
    json: Json = False,
) -> None:
    """List what is shipped, each entry with its source.

    Devices, nodes, fabrics, clusters, models, workloads, scenarios, studies and schedules.
    """
    from simtrain.cli.catalogue import document, entries, kinds

    wanted = kinds(kind)
    if name is not None:
        text = document(wanted[0], name)
        if json:
            print_json({"kind": wanted[0], "name": name, "document": text})
        else:
            print(text, end="")
        return
    listed = {each: entries(each) for each in wanted}
    if json:
        print_json(listed)
        return
    from simtrain.report.tables import catalogue_table

    for each, rows in listed.items():
        console().print(catalogue_table(each, rows))
