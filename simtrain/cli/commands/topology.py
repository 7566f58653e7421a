"""``simtrain topology``: check a cluster's graph, draw it, price a collective on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from simtrain.cli.options import Json, Output, Set, blame, console, output_file, print_json, say, shown
from simtrain.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from simtrain.cluster.topology import Topology
    from simtrain.costs.collectives import CollectivePrice

__all__ = ["topology"]

MAX_EDGES = 20
"""Links listed by ``--json``."""


def topology(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A cluster: a YAML file or a shipped name.")],
    collective: Annotated[
        str | None,
        typer.Option("--collective", metavar="KIND", help="Price one: all_reduce, all_gather, all_to_all …"),
    ] = None,
    size: Annotated[str, typer.Option("--bytes", metavar="SIZE", help="Its size, as nccl-tests counts it.")] = "64 MiB",
    gpus: Annotated[int | None, typer.Option("--gpus", metavar="N", help="The first N GPUs (default: all).")] = None,
    algorithm: Annotated[
        str | None, typer.Option("--algorithm", metavar="NAME", help="Only this one (default: the cheapest).")
    ] = None,
    set: Set = None,
    html: Output = None,
    json: Json = False,
) -> None:
    """Check and draw the graph of a cluster.

    Also says what its links carry, what a collective takes on them, and how far it fills each.
    """
    from dataclasses import asdict

    from simtrain.cluster.build import build
    from simtrain.quantities import parse_quantity
    from simtrain.scenario.load import load_cluster

    if collective is None and algorithm is not None:
        raise InputError("--algorithm needs --collective: what to run by it")
    output_file(html)
    cluster = load_cluster(name, *(set or ()))
    with blame(shown("cluster", name), ""):
        graph = build(cluster)
    found = priced = None
    if collective:
        group, size_bytes = _group(graph, collective, gpus), parse_quantity(size, "bytes")
        found = _price(graph, collective, group, size_bytes, cluster.collectives.mode, algorithm)
        head = {"collective": collective, "gpus": len(group), "bytes": size_bytes}
        priced = head | _described(graph, found, size_bytes)
    if html:
        from simtrain.report import topology as figure
        from simtrain.report import write_html

        heading = f"{collective} of {size} on {name}" if found else None
        write_html([figure(graph, title=heading, price=found)], html, title=f"Topology of {name}")
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


def _group(graph: Topology, collective: str, gpus: int | None) -> range:
    """GPUs that take part: the first ``gpus``."""
    from typing import get_args

    from simtrain.model.operators import Collective

    if collective not in get_args(Collective):
        raise UnknownNameError("collective", collective, get_args(Collective), "--collective")
    taking = graph.gpus if gpus is None else gpus
    if not 2 <= taking <= graph.gpus or (collective == "send_recv" and taking != 2):
        allowed = "2 (one sends, one receives)" if collective == "send_recv" else f"2 to {graph.gpus}"
        if graph.gpus < 2:
            raise InputError(f"--collective {collective}: the cluster has one GPU; it takes 2 or more")
        raise InputError(f"--gpus = {taking}: {collective} on this cluster takes {allowed}")
    return range(taking)


def _price(
    graph: Topology, collective: str, group: range, size_bytes: float, mode: str, algorithm: str | None
) -> CollectivePrice:
    import numpy as np

    from simtrain.costs.collectives import price

    names = None if algorithm is None else [algorithm]
    try:
        return price(graph, collective, np.array([group]), size_bytes, mode=mode, algorithms=names)  # type: ignore[arg-type]
    except UnknownNameError as error:
        raise UnknownNameError(error.what, error.name, error.valid, "--algorithm") from None


def _described(graph: Topology, found: CollectivePrice, size_bytes: float) -> dict[str, Any]:
    """A price as JSON."""
    edges, use = found.edge_use()
    busiest = sorted(zip((-use).tolist(), edges.tolist(), strict=True))
    kinds = {kind: use[graph.edge_kind[edges] == kind] for kind in graph.edge_kind[edges].tolist()}
    return {
        "algorithm": found.algorithm,
        "protocol": found.protocol,
        "time_s": found.time_s,
        "latency_s": found.latency_s,
        "bus_bandwidth_bytes_per_s": found.bus_bandwidth,
        "algorithm_bandwidth_bytes_per_s": size_bytes / found.time_s if found.time_s else 0.0,
        "bottleneck": found.bottleneck,
        "bottleneck_bytes_per_s": found.bottleneck_bytes_per_s,
        "formula": found.formula,
        "phases": [
            {"name": phase.name, "latency_s": phase.latency_s, "transfer_s": phase.transfer_s} for phase in found.phases
        ],
        "edges": [
            {"label": graph.edge_label(edge), "kind": str(graph.edge_kind[edge]), "utilisation": -minus}
            for minus, edge in busiest[:MAX_EDGES]
        ],
        "edge_kinds": [
            {"kind": kind, "edges": len(shares), "highest": float(shares.max()), "mean": float(shares.mean())}
            for kind, shares in sorted(kinds.items(), key=lambda item: -item[1].max())
        ],
    }
