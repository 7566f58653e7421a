"""A cluster drawn: one node in full, the network above it, and what was left out in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import plotly.graph_objects as go

from simtrain.cluster.topology import Topology
from simtrain.quantities import format_quantity
from simtrain.report.frame import framed
from simtrain.report.palette import INK

__all__ = ["topology"]

MAX_SWITCHES = 8
"""Switches drawn of each tier, beyond those the drawn node is plugged into."""
_TIERS = {
    "nvswitch": (-1.0, "NVSwitch"),
    "gpu": (0.0, "GPUs"),
    "pcie_switch": (1.0, "PCIe switches"),
    "host": (2.0, "host bridges"),
    "memory": (2.5, "host memory"),
    "nic": (3.2, "NICs"),
    "switch": (4.2, "switch"),
    "leaf": (4.2, "leaf switches"),
    "spine": (5.2, "spine switches"),
    "core": (6.2, "core switches"),
}
_FABRIC = ("switch", "leaf", "spine", "core")
_EDGES = {
    "nvlink": ("NVLink / xGMI", "#009E73", "solid"),
    "pcie": ("PCIe", "#0072B2", "solid"),
    "host": ("host memory", "#56B4E9", "dot"),
    "socket": ("socket to socket", "#E69F00", "dash"),
    "nic": ("NIC to switch", "#D55E00", "solid"),
    "fabric": ("switch to switch", "#CC79A7", "solid"),
}
_MARKS = {"gpu": "square", "nic": "triangle-up", "memory": "hexagon", "host": "diamond"}


@dataclass(frozen=True, slots=True)
class _Drawing:
    graph: nx.Graph[Any]
    place: dict[int, tuple[float, float]]


def topology(cluster: Topology, *, title: str | None = None) -> go.Figure:
    """Draw a built cluster: links coloured by kind, bandwidth and latency on hover.

    Args:
        cluster: the topology.
        title: first line; absent: GPUs and nodes.
    """
    whole = cluster.graph
    drawing = _arranged(whole.subgraph(_chosen(whole)))
    figure = go.Figure()
    for kind in dict.fromkeys(nx.get_edge_attributes(drawing.graph, "kind").values()):
        _add_edges(figure, drawing, kind)
    _add_vertices(figure, drawing)
    total = Counter(nx.get_node_attributes(whole, "kind").values())
    drawn = Counter(nx.get_node_attributes(drawing.graph, "kind").values())
    nodes = cluster.gpus // cluster.gpus_per_node
    heading = title or f"{cluster.gpus:,} GPUs in {nodes:,} node{'s' if nodes > 1 else ''} of {cluster.gpus_per_node}"
    framed(figure, heading, _left_out(nodes, total, drawn), height=200 + 66 * len(drawn))
    tiers = [(level, label, kind) for kind, (level, label) in _TIERS.items() if drawn[kind]]
    figure.update_yaxes(
        tickvals=[level for level, _, _ in tiers],
        ticktext=[f"{label} ({drawn[kind]} of {total[kind]:,})" for _, label, kind in tiers],
        showgrid=False,
    )
    figure.update_xaxes(visible=False)
    figure.update_layout(hovermode="closest")
    return figure


def _left_out(nodes: int, total: Counter[str], drawn: Counter[str]) -> str:
    parts = [f"one node of {nodes:,}"] if nodes > 1 else []
    cut = [kind for kind in _FABRIC if drawn[kind] < total[kind]]
    parts += [f"{drawn[kind]} of {total[kind]:,} {_TIERS[kind][1]}" for kind in cut]
    return f"Drawn: {', '.join(parts)}; the others are alike." if parts else "Everything is drawn."


def _chosen(graph: nx.Graph[Any]) -> list[int]:
    """Vertices of the first GPU's node, and a few switches of each tier, those next to drawn ones first."""
    kinds = dict(graph.nodes(data="kind"))
    inside = graph.subgraph([v for v, kind in kinds.items() if kind not in _FABRIC])
    start = next(v for v, kind in kinds.items() if kind == "gpu")
    chosen = sorted(nx.node_connected_component(inside, start))
    for tier in _FABRIC:
        near = sorted({b for a in chosen for b in graph[a] if kinds[b] == tier})
        others = [v for v, kind in kinds.items() if kind == tier and v not in set(near)] if tier in ("leaf",) else []
        if tier not in ("leaf", "switch"):
            near = _spread(near, MAX_SWITCHES)
        chosen += near + _spread(others, MAX_SWITCHES - len(near))
    return chosen


def _spread(items: list[int], count: int) -> list[int]:
    """At most ``count`` of the items, evenly spread over the list."""
    if len(items) <= count:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, max(count, 0)).astype(int)]


def _arranged(graph: nx.Graph[Any]) -> _Drawing:
    """Tiers above each other; inside a tier vertices in the order of what hangs below them."""
    kinds = dict(graph.nodes(data="kind"))
    place: dict[int, tuple[float, float]] = {}
    for tier in sorted(_TIERS, key=lambda kind: (kind != "gpu", _TIERS[kind][0])):
        members = sorted(v for v, kind in kinds.items() if kind == tier)
        middle = {v: _mean([place[n][0] for n in graph[v] if n in place]) for v in members}
        if not members:
            continue
        ordered = sorted(members, key=lambda v: (middle[v], v))
        even = {v: (i + 0.5) / len(members) for i, v in enumerate(ordered)}
        apart = bool(np.all(np.diff([middle[v] for v in ordered]) > 0.5 / len(members)))
        # Memory stands aside, so that a NIC's link to the bridge does not seem to end at it.
        aside = 0.05 if tier == "memory" else 0.0
        place |= {v: ((middle if apart else even)[v] + aside, _TIERS[tier][0]) for v in members}
    return _Drawing(graph, place)


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.5


def _add_edges(figure: go.Figure, drawing: _Drawing, kind: str) -> None:
    """Lines of one kind, with invisible points on their middles that carry the hover text."""
    label, color, dash = _EDGES.get(kind, (kind, INK, "solid"))
    lines: tuple[list[float | None], list[float | None]] = ([], [])
    middles: list[tuple[float, float, str]] = []
    width = 1.0
    for a, b, edge in drawing.graph.edges(data=True):
        if edge["kind"] != kind:
            continue
        xs, ys = _curve(drawing.place[a], drawing.place[b])
        lines[0].extend([*xs, None])
        lines[1].extend([*ys, None])
        middles.append((xs[len(xs) // 2], ys[len(ys) // 2], _edge_text(drawing.graph, a, b, edge, label)))
        width = float(np.clip(1.0 + np.log2(edge["bandwidth_bytes_per_s"] / 12.5e9) * 0.6, 1.0, 5.0))
    figure.add_trace(
        go.Scatter(
            name=label,
            x=lines[0],
            y=lines[1],
            mode="lines",
            line={"color": color, "width": width, "dash": dash},
            opacity=0.75,
            hoverinfo="skip",
        )
    )
    x, y, text = zip(*middles, strict=True)
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="markers",
            marker={"size": 9, "color": color, "opacity": 0.0},
            hovertext=text,
            hovertemplate="%{hovertext}<extra></extra>",
            showlegend=False,
        )
    )


def _curve(a: tuple[float, float], b: tuple[float, float]) -> tuple[list[float], list[float]]:
    """A straight line between tiers, an arc inside one."""
    along = np.linspace(0.0, 1.0, 3 if a[1] != b[1] else 13)
    sag = 0.0 if a[1] != b[1] else -0.9 * abs(a[0] - b[0])
    xs = a[0] + (b[0] - a[0]) * along
    ys = a[1] + (b[1] - a[1]) * along + sag * 4 * along * (1 - along)
    return xs.tolist(), ys.tolist()


def _edge_text(graph: nx.Graph[Any], a: int, b: int, edge: dict[str, Any], label: str) -> str:
    ends = f"{graph.nodes[a]['label']} – {graph.nodes[b]['label']}"
    rate = format_quantity(edge["bandwidth_bytes_per_s"], "bandwidth")
    latency = format_quantity(edge["latency_s"], "time")
    return f"<b>{label}</b>: {ends}<br>{rate} each way, {latency}, efficiency {edge['efficiency']:.0%}"


def _add_vertices(figure: go.Figure, drawing: _Drawing) -> None:
    vertices = list(drawing.graph.nodes(data=True))
    x, y = zip(*(drawing.place[v] for v, _ in vertices), strict=True)
    few = len(vertices) <= 60
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="markers+text" if few else "markers",
            text=[_short(str(data["label"])) for _, data in vertices],
            textposition="middle right",
            textfont={"size": 10},
            marker={
                "symbol": [_MARKS.get(data["kind"], "square-dot") for _, data in vertices],
                "size": 15 if few else 9,
                "color": "#FFFFFF",
                "line": {"width": 1.8, "color": INK},
            },
            hovertext=[data["label"] for _, data in vertices],
            hovertemplate="%{hovertext}<extra></extra>",
            showlegend=False,
        )
    )


def _short(label: str) -> str:
    """``node 0 GPU 3`` becomes ``GPU 3``."""
    words = label.split()
    return " ".join(words[2:] if words[0] == "node" else words)
