"""``simtrain topology``: check a cluster's graph and draw it."""

from __future__ import annotations

from typing import Annotated

import typer

from simtrain.cli.options import Json, Output, Set, blame, console, print_json, say, shown

__all__ = ["topology"]


def topology(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A cluster: a YAML file or a shipped name.")],
    set: Set = None,
    html: Output = None,
    json: Json = False,
) -> None:
    """Check and draw the graph of a cluster.

    Also says what its links carry.
    """
    from dataclasses import asdict

    from simtrain.cluster.build import build
    from simtrain.scenario.load import load_cluster

    cluster = load_cluster(name, *(set or ()))
    with blame(shown("cluster", name), ""):
        graph = build(cluster)
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
