"""Which nodes hold a copy of each node's state in memory, and which events leave one."""

from __future__ import annotations

from collections.abc import Set
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ints", "Placement", "holders", "survivors"]

Ints = NDArray[np.int64]
Placement = Literal["neighbour", "spread"]


def holders(nodes: int, copies: int, placement: Placement) -> Ints:
    """(nodes, copies) nodes that hold the state of each node, itself first; at most as many copies as nodes.

    neighbour: groups of ``copies`` nodes in a row that hold each other's; where these do not divide the nodes, the last
    group takes the rest in and is a ring (the mixed placement of GEMINI, SOSP 2023).  spread: on nodes as far apart as
    can be, nodes / copies, hence under different leaves wherever none has more nodes than that.
    """
    copies = min(copies, nodes)
    node, after = np.arange(nodes, dtype=np.int64)[:, None], np.arange(copies, dtype=np.int64)
    if placement == "spread":
        return (node + after * (nodes // copies)) % nodes
    grouped = nodes if nodes % copies == 0 else (nodes // copies - 1) * copies
    first = np.where(node < grouped, node // copies * copies, grouped)
    size = np.where(node < grouped, copies, nodes - grouped)
    held: Ints = first + (node - first + after) % size
    return held


def survivors(holding: Ints, gone: Set[int]) -> bool:
    """Whether some copy of every node's state outlives the loss of what the nodes ``gone`` hold.

    ``holding`` is as :func:`holders` returns it; nodes beyond (spares) hold nothing.
    """
    inside = [node for node in gone if node < len(holding)]
    if len(inside) < holding.shape[1]:
        return True
    return not np.isin(holding[inside], inside).all(axis=1).any()
