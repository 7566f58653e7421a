"""A cluster drawn: one node in full, the network above it, and what was left out in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from simtrain.cluster.topology import Topology
from simtrain.costs.collectives import CollectivePrice
from simtrain.quantities import format_quantity
from simtrain.report.frame import framed
from simtrain.report.palette import INK
from simtrain.step.network import NetworkReport

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
_LABELS = {
    "nvswitch": "bottom center",
    "gpu": "top right",
    "host": "top left",
    "memory": "middle right",
    "switch": "top center",
    "spine": "top center",
    "core": "top center",
}
"""Where a label is clear of the lines; others: below to the right."""
_MARKS = {"gpu": "square", "nic": "triangle-up", "memory": "hexagon", "host": "diamond"}


CROWDED = 40
"""Links of one kind beyond which lines are half as wide."""
UNUSED = "#D0D4DA"
_SHADES = (
    "#FDD49E",
    "#FDBC87",
    "#FCA570",
    "#FC8D59",
    "#F17248",
    "#E75838",
    "#DC3D27",
    "#C52619",
    "#A2130C",
    "#7F0000",
)
"""Colours of a link by the share in use, a tenth each, between tones of ColorBrewer's OrRd."""


@dataclass(frozen=True, slots=True)
class _Drawing:
    """What is drawn; ``use`` says how far links are in use, None where they are coloured by kind."""

    graph: nx.Graph[Any]
    place: dict[int, tuple[float, float]]
    use: _Use | None = None


@dataclass(frozen=True, slots=True)
class _Use:
    """How far links are in use.

    Attributes:
        share: (links, 2) of each direction; top: share at the dark end of the colours.
        said: in words; scale: title of the colours.
    """

    share: NDArray[np.float64]
    top: float
    said: str
    scale: str


def topology(
    cluster: Topology,
    *,
    title: str | None = None,
    price: CollectivePrice | None = None,
    network: NetworkReport | None = None,
) -> go.Figure:
    """Draw a built cluster: bandwidth and latency on hover.

    Args:
        cluster: the topology.
        title: first line; absent: GPUs and nodes.
        price: of a collective: links are coloured by the share of their capacity it uses while its bytes move, that
            of the busier direction; without one they are coloured by kind.
        network: of a step: links are coloured by their mean use over the step instead.
    """
    whole = cluster.graph
    use = _use_of_step(network) if network is not None else None if price is None else _use(cluster, price)
    first = 0 if use is None else _busiest_node(cluster, use.share)
    drawing = _arranged(whole.subgraph(_chosen(whole, first * cluster.gpus_per_node)), use)
    figure = go.Figure()
    for kind in dict.fromkeys(nx.get_edge_attributes(drawing.graph, "kind").values()):
        _add_edges(figure, drawing, kind)
    _add_vertices(figure, drawing)
    total = Counter(nx.get_node_attributes(whole, "kind").values())
    drawn = Counter(nx.get_node_attributes(drawing.graph, "kind").values())
    nodes = cluster.gpus // cluster.gpus_per_node
    heading = title or f"{cluster.gpus:,} GPUs in {nodes:,} node{'s' if nodes > 1 else ''} of {cluster.gpus_per_node}"
    said = _left_out(nodes, total, drawn, None if use is None else first)
    if use is not None:
        said = f"{use.said}<br>{said}"
    framed(figure, heading, said, height=200 + 66 * len(drawn) + 60 * (use is not None))
    if use is not None:
        _add_scale(figure, use)
    tiers = [(level, label, kind) for kind, (level, label) in _TIERS.items() if drawn[kind]]
    figure.update_yaxes(
        tickvals=[level for level, _, _ in tiers],
        ticktext=[f"{label} ({drawn[kind]} of {total[kind]:,})" for _, label, kind in tiers],
        showgrid=False,
    )
    figure.update_xaxes(visible=False, range=[0.0, 1.06])
    figure.update_layout(hovermode="closest")
    return figure


def _use(cluster: Topology, price: CollectivePrice) -> _Use:
    """Use by one collective, all phases together."""
    use = np.zeros(2 * len(cluster.ends))
    edges, share = price.edge_use()
    use[edges] = share
    return _Use(use.reshape(-1, 2), 1.0, _said(price), "capacity in use, busier direction (%)")


def _use_of_step(network: NetworkReport) -> _Use:
    """Mean use over a step; the colours end at the next round share, since few links are in use all the time."""
    share = network.utilisation.reshape(-1, 2)
    top = next((round_share for round_share in (0.05, 0.1, 0.2, 0.3, 0.5) if share.max() <= round_share), 1.0)
    said = "Nothing crosses a link."
    for link in network.busiest(1):
        said = (
            f"Busiest: {link.label}, {link.utilisation:.1%} on average over a step of "
            f"{format_quantity(network.timeline.makespan_s, 'time')}, in use {link.busy:.1%} of it, "
            f"full {link.full:.1%}"
        )
    return _Use(share, top, said, "mean use over the step, busier direction (%)")


def _busiest_node(cluster: Topology, use: NDArray[np.float64]) -> int:
    """Node with the busiest link among those inside nodes and those from NICs to switches; the first such node."""
    most = use.max(axis=1)
    inside = cluster.nodes * len(cluster.node.links)
    of_node = most[:inside].reshape(cluster.nodes, -1).max(axis=1)
    if cluster.fabric is not None:
        ports = most[inside : inside + cluster.fabric.ports].reshape(cluster.nodes, -1)
        of_node = np.maximum(of_node, ports.max(axis=1))
    return int(np.argmax(of_node > of_node.max() - 1e-9))


def _said(price: CollectivePrice) -> str:
    bus = format_quantity(price.bus_bandwidth, "bandwidth")
    carried = format_quantity(price.bottleneck_bytes_per_s, "bandwidth")
    return (
        f"{format_quantity(price.time_s, 'time')}, bus bandwidth {bus}, {price.algorithm}, {price.protocol}; "
        f"bottleneck: {price.bottleneck}, {carried}"
    )


def _left_out(nodes: int, total: Counter[str], drawn: Counter[str], first: int | None) -> str:
    """What was not drawn; ``first`` is the node drawn where nodes may differ in what they carry."""
    parts = [f"one node of {nodes:,}" + ("" if first is None else f" (node {first})")] if nodes > 1 else []
    cut = [kind for kind in _FABRIC if drawn[kind] < total[kind]]
    parts += [f"{drawn[kind]} of {total[kind]:,} {_TIERS[kind][1]}" for kind in cut]
    others = "the others are alike" if first is None else "the others are built alike, but may carry more or less"
    return f"Drawn: {', '.join(parts)}; {others}." if parts else "Everything is drawn."


def _chosen(graph: nx.Graph[Any], start: int) -> list[int]:
    """Vertices of the node of GPU ``start``, and a few switches of each tier, those next to drawn ones first."""
    kinds = dict(graph.nodes(data="kind"))
    inside = graph.subgraph([v for v, kind in kinds.items() if kind not in _FABRIC])
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


def _arranged(graph: nx.Graph[Any], use: _Use | None) -> _Drawing:
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
    return _Drawing(graph, place, use)


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.5


def _add_edges(figure: go.Figure, drawing: _Drawing, kind: str) -> None:
    """Links of one kind: one trace for all, or one for each shade of use."""
    label, color, dash = _EDGES.get(kind, (kind, INK, "solid"))
    links = [(a, b, edge) for a, b, edge in drawing.graph.edges(data=True) if edge["kind"] == kind]
    if drawing.use is None:
        _add_links(figure, drawing, links, {"color": color, "dash": dash}, label, named=True)
        return
    use = drawing.use
    shade = {edge["id"]: _shade(float(use.share[edge["id"]].max()) / use.top) for _, _, edge in links}
    # The busiest are drawn last, so that nothing covers them.
    for step in sorted(set(shade.values())):
        chosen = [link for link in links if shade[link[2]["id"]] == step]
        _add_links(figure, drawing, chosen, {"color": (UNUSED, *_SHADES)[step], "dash": dash}, label, named=False)


def _shade(share: float) -> int:
    """Step of the scale from 1 on, for a share of its end; 0 for a link that is not used."""
    return 0 if share <= 0.0 else min(int(share * len(_SHADES)) + 1, len(_SHADES))


def _add_links(
    figure: go.Figure,
    drawing: _Drawing,
    links: list[tuple[int, int, dict[str, Any]]],
    line: dict[str, Any],
    label: str,
    *,
    named: bool,
) -> None:
    """Lines of one look, with invisible points on their middles that carry the hover text."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    middles: list[tuple[float, float, str]] = []
    for a, b, edge in links:
        along, up = _curve(drawing.place[a], drawing.place[b])
        xs.extend([*along, None])
        ys.extend([*up, None])
        middle = len(along) // 2
        middles.append((along[middle], up[middle], _edge_text(drawing, a, b, edge, label)))
    fastest = max(edge["bandwidth_bytes_per_s"] for _, _, edge in links)
    width = float(np.clip(1.0 + np.log2(fastest / 12.5e9) * 0.6, 1.0, 5.0)) / (2.0 if len(links) > CROWDED else 1.0)
    figure.add_trace(
        go.Scatter(
            name=label,
            x=xs,
            y=ys,
            mode="lines",
            line=line | {"width": width},
            opacity=0.75 if named else 0.95,
            hoverinfo="skip",
            showlegend=named,
        )
    )
    x, y, text = zip(*middles, strict=True)
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="markers",
            marker={"size": 9, "color": line["color"], "opacity": 0.0},
            hovertext=text,
            hovertemplate="%{hovertext}<extra></extra>",
            showlegend=False,
        )
    )


def _add_scale(figure: go.Figure, use: _Use) -> None:
    """The legend of the colours, a bar in percent, and of the grey."""
    count = len(_SHADES)
    steps = [[at / count, color] for i, color in enumerate(_SHADES) for at in (i, i + 1)]
    figure.add_trace(
        go.Scatter(
            x=[None],
            y=[None],
            mode="markers",
            hoverinfo="skip",
            showlegend=False,
            marker={
                "color": [0],
                "cmin": 0,
                "cmax": 100 * use.top,
                "colorscale": steps,
                "colorbar": {
                    "title": {"text": use.scale, "side": "bottom", "font": {"size": 12}},
                    "orientation": "h",
                    "x": 0.0,
                    "xanchor": "left",
                    "y": 0.0,
                    "yref": "container",
                    "yanchor": "bottom",
                    "len": 320,
                    "lenmode": "pixels",
                    "thickness": 12,
                    "tickvals": [round(20 * use.top * i) for i in range(6)],
                },
            },
        )
    )
    figure.add_trace(go.Scatter(x=[None], y=[None], mode="lines", name="not used", line={"color": UNUSED, "width": 3}))
    figure.update_layout(legend={"x": 1.0, "xanchor": "right"}, margin_b=110)


def _curve(a: tuple[float, float], b: tuple[float, float]) -> tuple[list[float], list[float]]:
    """A straight line between tiers, an arc inside one."""
    along = np.linspace(0.0, 1.0, 3 if a[1] != b[1] else 13)
    sag = 0.0 if a[1] != b[1] else -0.9 * abs(a[0] - b[0])
    xs = a[0] + (b[0] - a[0]) * along
    ys = a[1] + (b[1] - a[1]) * along + sag * 4 * along * (1 - along)
    return xs.tolist(), ys.tolist()


def _edge_text(drawing: _Drawing, a: int, b: int, edge: dict[str, Any], label: str) -> str:
    graph = drawing.graph
    ends = f"{graph.nodes[a]['label']} – {graph.nodes[b]['label']}"
    rate = format_quantity(edge["bandwidth_bytes_per_s"], "bandwidth")
    latency = format_quantity(edge["latency_s"], "time")
    text = f"<b>{label}</b>: {ends}<br>{rate} each way, {latency}, efficiency {edge['efficiency']:.0%}"
    if drawing.use is None:
        return text
    low, high = sorted((a, b))
    there, back = drawing.use.share[edge["id"]].tolist()
    names = [_short(str(graph.nodes[v]["label"])) for v in (low, high)]
    return f"{text}<br>in use: {there:.1%} {names[0]} → {names[1]}, {back:.1%} back"


def _add_vertices(figure: go.Figure, drawing: _Drawing) -> None:
    vertices = list(drawing.graph.nodes(data=True))
    x, y = zip(*(drawing.place[v] for v, _ in vertices), strict=True)
    few = len(vertices) <= 60
    places = _LABELS | ({} if any(data["kind"] == "nvswitch" for _, data in vertices) else {"gpu": "bottom center"})
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="markers+text" if few else "markers",
            text=[_short(str(data["label"])) for _, data in vertices],
            textposition=[places.get(data["kind"], "bottom right") for _, data in vertices],
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
