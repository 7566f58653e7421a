"""Dispatch and combine: expected nodes and GPUs of a token, bytes on NICs, published DeepEP bandwidths."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simtrain.costs.collectives import CollectivePrice, Routing, price
from simtrain.errors import InputError, LayoutError
from tests.cluster.clusters import H800, PCIE_4090, SWITCH, topology

TOKENS, HIDDEN = 4096, 7168
FP8, BF16 = HIDDEN + HIDDEN // 128 * 4, 2 * HIDDEN
"""Bytes of a token: FP8 with one fp32 scale per 128 elements; bf16."""
DEEPSEEK = Routing(256, 8, 4)


def exchange(kind: str, gpus: int, width: int, **options: object) -> CollectivePrice:
    """A DeepSeek-V3 exchange on H800 nodes of 8, NIC 48 and NVLink 160 GB/s."""
    cluster = topology(H800, max(gpus // 8, 1), SWITCH if gpus > 8 else None)
    return price(cluster, kind, np.arange(gpus)[None], TOKENS * 8 * width, **options)  # type: ignore[arg-type]


def nic_bytes(found: CollectivePrice, gpus: int) -> float:
    """Bytes that one NIC sends."""
    cluster = topology(H800, gpus // 8, SWITCH)
    (phase,) = found.phases
    edges, use = phase.flows.summed()
    up = (cluster.edge_kind[edges] == "nic") & (edges % 2 == 0)
    sent = use[up] * cluster.edge_bandwidth[edges[up]] * phase.transfer_s
    assert len(sent) == gpus
    assert np.ptp(sent) < 1e-6 * sent.max()
    return float(sent[0])


@pytest.mark.parametrize(("kind", "width", "published"), [("dispatch", FP8, 106e6), ("combine", BF16, 206e6)])
def test_a_token_crosses_the_network_once_per_node(kind, width, published):
    found = exchange(kind, 64, width, routing=DEEPSEEK)
    assert found.algorithm == "node_limited"
    assert nic_bytes(found, 64) == pytest.approx(published, rel=0.005)
    assert nic_bytes(found, 64) == pytest.approx(3.5 * TOKENS * width)


def test_a_plain_all_to_all_sends_every_copy_over_the_network():
    plain = exchange("dispatch", 64, FP8, algorithms=["pxn"])
    # 8 copies of each token, 7 / 8 of them to other nodes, against 3.5.
    assert nic_bytes(plain, 64) == pytest.approx(8 * 7 / 8 * TOKENS * FP8)
    assert plain.transfer_s > 1.8 * exchange("dispatch", 64, FP8, routing=DEEPSEEK).transfer_s


@pytest.mark.parametrize("kind", ["dispatch", "combine"])
def test_without_routing_it_is_an_all_to_all(kind):
    found, same = exchange(kind, 16, FP8), exchange("all_to_all", 16, FP8)
    assert (found.algorithm, found.time_s, found.bus_bandwidth) == (same.algorithm, same.time_s, same.bus_bandwidth)


def test_nodes_without_nvlink_have_the_all_to_all_of_nccl():
    box = topology(PCIE_4090, 2, SWITCH)
    routed, plain = (price(box, "dispatch", np.arange(16)[None], 1e8, routing=r) for r in (Routing(64, 8, 1), None))
    assert routed.algorithm != "node_limited"
    assert routed.time_s == plain.time_s


# GB/s, deepseek-ai/DeepEP README: dispatch and combine of 4096 tokens on H800.  Over the network a token counts once
# for every node it goes to, in a node once for every GPU, the sender's own included (tests/test_internode.py).
DEEPEP = {8: (153, 158), 16: (43, 43), 32: (58, 57), 64: (51, 50)}


def logical_bandwidth(kind: str, gpus: int, width: int) -> float:
    nodes, holders = DEEPSEEK.spread(max(gpus // 8, 1), gpus)
    found = exchange(kind, gpus, width, routing=DEEPSEEK)
    return TOKENS * width * (nodes if gpus > 8 else holders) / found.time_s / 1e9


@pytest.mark.parametrize(("place", "kind", "width"), [(0, "dispatch", FP8), (1, "combine", BF16)])
def test_deepep_bandwidths_are_in_region_and_order(place, kind, width):
    measured = {gpus: figures[place] for gpus, figures in DEEPEP.items()}
    predicted = {gpus: logical_bandwidth(kind, gpus, width) for gpus in DEEPEP}
    for gpus, figure in measured.items():
        assert predicted[gpus] == pytest.approx(figure, rel=0.25), gpus
    assert sorted(predicted, key=predicted.__getitem__) == sorted(measured, key=measured.__getitem__)


@given(st.sampled_from([(1, 8), (2, 16), (4, 32), (8, 64), (3, 12)]), st.integers(1, 6), st.data())
def test_expected_nodes_and_gpus_of_a_token(shape, per_gpu, data):
    nodes, gpus = shape
    experts = gpus * per_gpu
    top_k = data.draw(st.integers(1, min(experts // nodes, 12)))
    free_nodes, free_gpus = Routing(experts, top_k).spread(nodes, gpus)
    assert 1 - 1e-9 <= free_nodes <= min(nodes, top_k) + 1e-9
    assert free_nodes - 1e-9 <= free_gpus <= min(gpus, top_k) + 1e-9
    limit = data.draw(st.integers(1, nodes))
    held_nodes, held_gpus = Routing(experts, top_k, limit).spread(nodes, gpus)
    assert held_nodes <= limit + 1e-9
    assert held_nodes - 1e-9 <= held_gpus <= min(gpus, top_k) + 1e-9


def test_expected_counts_are_those_of_random_draws():
    routing, random = Routing(64, 6), np.random.default_rng(0)
    drawn = np.array([random.permutation(64)[:6] for _ in range(20_000)])
    nodes, gpus = routing.spread(4, 32)
    assert np.mean([len(set(row)) for row in drawn // 16]) == pytest.approx(nodes, rel=0.01)
    assert np.mean([len(set(row)) for row in drawn // 2]) == pytest.approx(gpus, rel=0.01)
    assert nodes == pytest.approx(4 * (1 - comb(48, 6) / comb(64, 6)))


@pytest.mark.parametrize(
    ("build", "word"),
    [
        (lambda: Routing(0, 1), "experts = 0"),
        (lambda: Routing(8, 9), "top_k = 9"),
        (lambda: Routing(8, 2, 0), "max_nodes = 0"),
        (lambda: exchange("dispatch", 16, FP8, routing=Routing(24, 2)), "multiple of the group's 16"),
        (lambda: exchange("dispatch", 64, FP8, routing=Routing(64, 16, 1)), "do not fit on max_nodes = 1"),
        (lambda: exchange("all_to_all", 16, FP8, routing=DEEPSEEK), "not with all_to_all"),
    ],
)
def test_impossible_routings_are_refused(build, word):
    with pytest.raises((InputError, LayoutError), match=word):
        build()


def test_ideal_dispatch_is_bytes_over_the_slower_of_network_and_nvlink():
    found = exchange("dispatch", 64, FP8, routing=DEEPSEEK, mode="ideal")
    assert found.transfer_s == pytest.approx(3.5 * TOKENS * FP8 / 50e9)
