"""``simtrain topology``: check a cluster's graph, draw it, price a collective on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from simtrain.cli.options import Json, Output, Set, blame, console, output_file, print_json, say, shown
from simtrain.errors import InputError

if TYPE_CHECKING:
    from simtrain.cluster.topology import Topology

__all__ = ["topology"]


def topology(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A cluster: a YAML file or a shipped name.")],
    collective: Annotated[
        str | None,
        typer.Option("--collective", metavar="KIND", help="Price one: all_reduce, all_gather, all_to_all …"),
    ] = None,
    size: Annotated[str, typer.Option("--bytes", metavar="SIZE", help="Its size, as nccl-tests counts it.")] = "64 MiB",
    gpus: Annotated[int | None, typer.Option("--gpus", metavar="N", help="The first N GPUs (default: all).")] = None,
    set: Set = None,
    html: Output = None,
    json: Json = False,
) -> None:
    """Check and draw the graph of a cluster.

    Also says what its links carry, and what a collective takes on them.
    """
    from dataclasses import asdict

    from simtrain.cluster.build import build
    from simtrain.scenario.load import load_cluster

    output_file(html)
    cluster = load_cluster(name, *(set or ()))
    with blame(shown("cluster", name), ""):
        graph = build(cluster)
    priced = _priced(graph, collective, size, gpus, cluster.collectives.mode) if collective else None
    if html:
        from simtrain.report import topology as figure
        from simtrain.report import write_html

        write_html([figure(graph)], html, title=f"Topology of {name}")
        say(f"wrote {html}")
    findings = graph.check()
    if json:
        document = {"name": name, "findings": [asdict(finding) for finding in findings]}
        print_json(document | ({"collective": priced} if priced else {}))
        return
    from simtrain.report.tables import collective_table, topology_table

    console().print(topology_table(name, findings))
    if priced:
        console().print(collective_table(priced))


def _priced(graph: Topology, collective: str, size: str, gpus: int | None, mode: str) -> dict[str, Any]:
    """What a collective over the first ``gpus`` takes, as JSON."""
    from typing import get_args

    import numpy as np

    from simtrain.costs.collectives import price
    from simtrain.errors import UnknownNameError
    from simtrain.model.operators import Collective
    from simtrain.quantities import parse_quantity

    if collective not in get_args(Collective):
        raise UnknownNameError("collective", collective, get_args(Collective), "--collective")
    taking = gpus or graph.gpus
    if not 2 <= taking <= graph.gpus or (collective == "send_recv" and taking != 2):
        allowed = "2 (one sends, one receives)" if collective == "send_recv" else f"2 to {graph.gpus}"
        raise InputError(f"--gpus = {taking}: {collective} on this cluster takes {allowed}")
    size_bytes = parse_quantity(size, "bytes")
    found = price(graph, collective, np.arange(taking)[None, :], size_bytes, mode=mode)  # type: ignore[arg-type]
    return {
        "collective": collective,
        "gpus": taking,
        "bytes": size_bytes,
        "algorithm": found.algorithm,
        "protocol": found.protocol,
        "time_s": found.time_s,
        "latency_s": found.latency_s,
        "bus_bandwidth_bytes_per_s": found.bus_bandwidth,
        "bottleneck": found.bottleneck,
        "bottleneck_bytes_per_s": found.bottleneck_bytes_per_s,
        "formula": found.formula,
    }
