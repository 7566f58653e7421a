"""Ideal mode against closed forms, and against collectives played step by step on an engine.

Closed forms through one non-blocking switch: n ranks, size S, line rate B, latency L of the path between two GPUs.
Two levels: N nodes of g GPUs, b and l inside a node, B and L between equal GPUs of two nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtrain.cluster.topology import Topology
from simtrain.costs.collectives import price
from simtrain.costs.collectives.tree import double_tree
from simtrain.engines import des
from simtrain.program.builder import ProgramBuilder
from simtrain.program.program import Stream
from tests.cluster.clusters import H100, SWITCH, topology

SINGLE = H100 | {"gpus": 1, "nics": 1}
B, NVLINK = 50e9, 450e9
RANKS = (2, 3, 4, 7, 8, 16, 31, 64, 100, 128, 256)


@cache
def singles(nodes: int = 256) -> Topology:
    return topology(SINGLE, nodes, SWITCH)


@cache
def boxes(nodes: int, nics: int = 8) -> Topology:
    return topology(H100, nodes, SWITCH, nics=nics)


def path_s(cluster: Topology, target: int) -> float:
    return cluster.latency(cluster.route(0, target))


FLAT = {
    # algorithm: (collective, rounds of bytes over each link, successive hops)
    "ring all_reduce": ("all_reduce", "ring", lambda n: 2 * (n - 1) / n, lambda n: 2 * (n - 1)),
    "ring all_gather": ("all_gather", "ring", lambda n: (n - 1) / n, lambda n: n - 1),
    "ring reduce_scatter": ("reduce_scatter", "ring", lambda n: (n - 1) / n, lambda n: n - 1),
    "pairwise all_to_all": ("all_to_all", "pairwise", lambda n: (n - 1) / n, lambda n: n - 1),
    # Both trees together load the busiest rank with the data twice, up and down over floor(log2 n) hops.
    "tree all_reduce": ("all_reduce", "tree", lambda n: 2.0, lambda n: 2 * (n.bit_length() - 1)),
}


@given(st.sampled_from(sorted(FLAT)), st.sampled_from(RANKS), st.floats(1e6, 1e11))
@settings(deadline=None)
def test_flat_collectives_through_one_switch(name, n, size):
    collective, algorithm, share, hops = FLAT[name]
    found = price(singles(), collective, np.arange(n)[None], size, mode="ideal", algorithms=[algorithm])
    closed = share(n) * size / B + hops(n) * path_s(singles(), 1)
    assert found.time_s == pytest.approx(closed, rel=0.02)


@given(st.sampled_from([2, 3, 4, 8, 32]), st.floats(1e6, 1e11))
@settings(deadline=None)
def test_two_levels_one_after_the_other(nodes, size):
    cluster, g = boxes(nodes), 8
    near, far = path_s(cluster, 1), path_s(cluster, g)
    inside, between = (g - 1) / g * size / NVLINK + (g - 1) * near, (nodes - 1) * far
    ring = (nodes - 1) / nodes * size / g / B
    closed = {
        # reduce-scatter inside, all-reduce of a g-th between, all-gather inside
        "all_reduce": 2 * inside + 2 * (ring + between),
        "reduce_scatter": inside + ring + between,
        "all_gather": inside + ring + between,
        # everything for a position to its local GPU, then to its equals: all of S leaves the node in parts of S / N
        "all_to_all": inside + (nodes - 1) / nodes * size / B + between,
    }
    for collective, seconds in closed.items():
        group = np.arange(nodes * g)[None]
        found = price(cluster, collective, group, size, mode="ideal", algorithms=["hierarchical"])
        assert found.time_s == pytest.approx(seconds, rel=0.02), collective


@given(st.sampled_from([2, 4, 16]), st.floats(1e8, 1e11))
@settings(deadline=None)
def test_two_levels_at_once_take_the_slower(nodes, size):
    cluster, group = boxes(nodes), np.arange(nodes * 8)[None]
    ring = price(cluster, "all_reduce", group, size, mode="ideal", algorithms=["hierarchical_pipelined"])
    assert ring.transfer_s == pytest.approx(max(2 * 7 / 8 * size / NVLINK, 2 * (nodes - 1) / nodes * size / 8 / B))
    pxn = price(cluster, "all_to_all", group, size, mode="ideal", algorithms=["pxn"])
    assert pxn.transfer_s == pytest.approx(max(7 / 8 * size / NVLINK, (nodes - 1) / nodes * size / B))


# Step by step: every send of every step is an operation on an engine, which knows nothing of collectives.


def seconds(cluster: Topology, pairs: Iterable[tuple[int, int]], size: float) -> list[float]:
    """Time of each of the flows that run in one step: its bytes at an equal share of its most crowded link."""
    routes = [cluster.route(a, b) for a, b in pairs]
    crossing = np.bincount(np.concatenate([np.array(r) for r in routes]), minlength=len(cluster.edge_line_rate))
    return [size / min(cluster.edge_line_rate[e] / crossing[e] for e in route) for route in routes]


def ring_s(cluster: Topology, n: int, size: float) -> float:
    """Ring all-reduce: in each of 2 (n - 1) steps a rank passes on what it got in the step before."""
    pairs = [(r, (r + 1) % n) for r in range(n)]
    work = seconds(cluster, pairs, size / n)
    builder, before = ProgramBuilder(n), [-1] * n
    for step in range(2 * (n - 1)):
        sent = [-1] * n
        for a, b in pairs:
            lag = cluster.latency(cluster.route((a - 1) % n, a))
            after = [(before[(a - 1) % n], lag)] if step else []
            lanes = [(a, Stream.PP_SEND_NEXT), (b, Stream.PP_RECV_PREV)]
            sent[a] = builder.op("send", lanes, work[a], after)
        before = sent
    return float(des.simulate(builder.build()).makespan_s + max(cluster.latency(cluster.route(*p)) for p in pairs))


def pairwise_s(cluster: Topology, n: int, size: float) -> float:
    """All-to-all: in step k every rank sends its part to the k-th rank after it."""
    builder = ProgramBuilder(n)
    for step in range(1, n):
        pairs = [(r, (r + step) % n) for r in range(n)]
        for (a, b), work_s in zip(pairs, seconds(cluster, pairs, size / n), strict=True):
            lanes = [(a, Stream.PP_SEND_NEXT), (b, Stream.PP_RECV_PREV)]
            builder.op("send", lanes, work_s, latency_s=cluster.latency(cluster.route(a, b)))
    return float(des.simulate(builder.build()).makespan_s)


def tree_s(cluster: Topology, n: int, size: float, chunks: int) -> float:
    """Double tree all-reduce: half of the data up and down each tree, in chunks; all edges run side by side."""
    child, parent, _ = double_tree(n)
    edges = list(zip(child.tolist(), parent.tolist(), strict=True))
    work = max(seconds(cluster, [*edges, *((p, c) for c, p in edges)], size / 2 / chunks))
    lag = path_s(cluster, 1)
    builder = ProgramBuilder(2 * len(edges))
    last: dict[tuple[int, int], int] = {}

    def send(lane: int, after: list[int]) -> int:
        return builder.op("send", [(lane, Stream.DP)], work, [(op, lag) for op in after])

    for _ in range(chunks):
        for offset in (0, n - 1):
            tree = edges[offset : offset + n - 1]
            parents = dict(tree)
            order = sorted(tree, key=lambda edge: -depth(parents, edge[0]))
            for c, p in order:  # leaves first
                last[offset, c] = send(offset + tree.index((c, p)), [last[offset, k] for k, q in tree if q == c])
            down: dict[int, list[int]] = {
                p: [last[offset, k] for k, q in tree if q == p] for c, p in tree if p not in parents
            }
            for c, p in reversed(order):  # from the root
                lane = len(edges) + offset + tree.index((c, p))
                down[c] = [send(lane, down[p])]
    return float(des.simulate(builder.build()).makespan_s + lag)


def depth(parents: dict[int, int], node: int) -> int:
    return 0 if node not in parents else 1 + depth(parents, parents[node])


@pytest.mark.parametrize("n", [2, 3, 5, 8, 16, 32])
@pytest.mark.parametrize("size", [1e6, 1e9])
def test_ring_played_step_by_step(n, size):
    found = price(singles(), "all_reduce", np.arange(n)[None], size, mode="ideal", algorithms=["ring"])
    assert ring_s(singles(), n, size) == pytest.approx(found.time_s, rel=1e-9)


def test_ring_over_two_nodes_with_one_nic_played_step_by_step():
    found = price(boxes(2, nics=1), "all_reduce", np.arange(16)[None], 4e9, mode="ideal", algorithms=["ring"])
    assert ring_s(boxes(2, nics=1), 16, 4e9) == pytest.approx(found.time_s, rel=0.02)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 16, 32])
@pytest.mark.parametrize("size", [1e6, 1e9])
def test_pairwise_played_step_by_step(n, size):
    found = price(singles(), "all_to_all", np.arange(n)[None], size, mode="ideal")
    assert pairwise_s(singles(), n, size) == pytest.approx(found.time_s, rel=1e-9)


def test_pairwise_inside_a_node_played_step_by_step():
    found = price(boxes(2), "all_to_all", np.arange(8)[None], 1e9, mode="ideal")
    assert pairwise_s(boxes(2), 8, 1e9) == pytest.approx(found.time_s, rel=1e-9)


@pytest.mark.parametrize("n", [8, 16, 24])
def test_tree_played_chunk_by_chunk(n):
    found = price(singles(), "all_reduce", np.arange(n)[None], 1e9, mode="ideal", algorithms=["tree"])
    coarse, fine = (tree_s(singles(), n, 1e9, chunks) for chunks in (32, 128))
    # Filling the pipeline costs one chunk per hop: four times the chunks, a quarter of it.
    assert found.time_s < fine < coarse
    assert fine - (coarse - fine) / 3 == pytest.approx(found.time_s, rel=0.02)
