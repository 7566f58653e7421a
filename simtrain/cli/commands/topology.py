"""``simtrain topology``: check a cluster's graph and draw it."""

from __future__ import annotations

from typing import Annotated

import typer

from simtrain.cli.options import Json, Output, Set, console, print_json, say

__all__ = ["topology"]


def topology(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A cluster: a YAML file or a shipped name.")],
    set: Set = None,
    html: Output = None,
    json: Json = False,
) -> None:
    """Build the graph of a cluster, check it, and say what its links carry."""
    from dataclasses import asdict

    from simtrain.cluster.build import build
    from simtrain.scenario.load import load_cluster

    graph = build(load_cluster(name, *(set or ())))
    if html:
        from simtrain.report import topology as figure
        from simtrain.report import write_html

        write_html([figure(graph)], html, title=f"Topology of {name}")
        say(f"wrote {html}")
    findings = graph.check()
    if json:
        print_json({"name": name, "findings": [asdict(finding) for finding in findings]})
        return
    from simtrain.report.tables import topology_table

    console().print(topology_table(name, findings))
