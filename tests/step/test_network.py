"""What the links carried: bytes are those the algorithms send, and every delay has a cause."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given

import simtrain as st
from simtrain.cluster.topology import Topology
from simtrain.costs.collectives import Flows, price
from simtrain.engines import compiled, des
from simtrain.program.builder import ProgramBuilder
from simtrain.program.program import STREAMS, Program, Sharing, Stream
from simtrain.step.network import NetworkReport, StreamUse
from tests.cluster.clusters import A100, PCIE_4090, SWITCH, topology
from tests.small import small
from tests.strategies import programs

ONE, TWO = topology(A100), topology(A100, 2, SWITCH)
BYTES = 1e9


@dataclass(frozen=True)
class Table:
    """Sets of flows by hand."""

    flows: list[Flows]
    protocols: list[str]
    links_shared: bool = True


def by_hand(program: Program, cluster: Topology = ONE) -> NetworkReport:
    """A report of a program whose flows are all there is; each set is one group."""
    sets = [slice(a, b) for a, b in zip(program.flow_ptr, program.flow_ptr[1:], strict=False)]
    flows = [
        Flows(np.array([0, s.stop - s.start]), program.flow_edge[s].astype(np.int64), program.flow_use[s], 1.0)
        for s in sets
    ]
    return NetworkReport(cluster, compiled.simulate(program), program, Table(flows, ["ideal"] * len(flows)))  # type: ignore[arg-type]


def collective(cluster: Topology, name: str, groups: np.ndarray, mode: str = "nccl", algorithm: str = "ring"):
    """A report of one collective of all groups, as folded operations, one for each phase."""
    found = price(cluster, name, groups, BYTES, mode=mode, algorithms=[algorithm])
    builder = ProgramBuilder(1)
    for phase in found.phases:
        builder.op(name, [(0, Stream.TP)], phase.transfer_s, latency_s=phase.latency_s)
    program = builder.build([groups.size])
    table = Table([phase.flows for phase in found.phases], [found.protocol] * len(found.phases))
    return found, NetworkReport(cluster, compiled.simulate(program), program, table)


def bytes_between(cluster: Topology, report: NetworkReport, source: int, target: int) -> np.ndarray:
    return report.bytes[list(cluster.route(source, target))]


@pytest.mark.parametrize("mode", ["nccl", "ideal"])
def test_a_ring_carries_what_a_ring_sends_over_each_hop(mode: str) -> None:
    """2(n - 1)/n of the bytes over each of the n links to and from the switch, and nothing anywhere else."""
    found, report = collective(ONE, "all_reduce", np.arange(8)[None], mode)
    sent = 2 * 7 / 8 * BYTES
    nvlink = ONE.edge_kind == "nvlink"
    assert report.bytes[nvlink] == pytest.approx(np.full(16, sent))
    assert not report.bytes[~nvlink].any()
    assert report.kinds[0].kind == "nvlink"
    assert report.kinds[0].bytes == pytest.approx(16 * sent)
    assert report.kinds[0].highest.bytes == pytest.approx(sent)
    assert report.utilisation[nvlink] == pytest.approx(found.edge_use()[1] * found.transfer_s / found.time_s)


def test_a_gather_between_nodes_sends_half_over_the_rings_of_all_nics() -> None:
    """One ring for each of eight NICs, an eighth of (n - 1)/n of the bytes on each way out and in."""
    _, report = collective(TWO, "all_gather", np.arange(16)[None])
    assert report.bytes[TWO.edge_kind == "nic"] == pytest.approx(np.full(32, 15 / 16 * BYTES / 8))


def test_sibling_groups_add_up_on_the_links_they_share() -> None:
    cluster = topology(PCIE_4090, 2, SWITCH)
    groups = np.array([[gpu, gpu + 8] for gpu in range(8)])
    _, report = collective(cluster, "all_reduce", groups)
    assert report.bytes[cluster.edge_kind == "nic"] == pytest.approx(np.full(4, 8 * BYTES))


def test_a_piece_of_an_exchange_carries_its_share_of_the_bytes() -> None:
    found, whole = collective(ONE, "all_reduce", np.arange(8)[None])
    program = replace(whole.folded, work_s=whole.folded.work_s / 4)
    quarter = NetworkReport(ONE, compiled.simulate(program), program, whole.table)
    assert quarter.bytes == pytest.approx(whole.bytes / 4)
    assert found.transfer_s > 0


def of(report: NetworkReport, stream: str) -> StreamUse:
    return next(found for found in report.streams if found.stream == stream)


def test_two_that_want_a_whole_link_fill_it_and_wait_for_each_other() -> None:
    builder = ProgramBuilder(2)
    builder.op("all-reduce", [(0, Stream.TP)], 1.0, flows=[(3, 1.0)])
    builder.op("send", [(0, Stream.PP_SEND_NEXT), (1, Stream.PP_RECV_PREV)], 1.0, latency_s=0.5, flows=[(3, 1.0)])
    builder.op("alone", [(1, Stream.DP)], 4.0, flows=[(5, 0.25)])
    report = by_hand(builder.build([4, 4]))
    # all-reduce alone until 0.5, both at half rate until 1.5, the send alone until 2.
    link = next(link for link in report.busiest() if link.label == ONE.edge_label(3))
    assert report.timeline.end_s == pytest.approx([1.5, 2.0, 4.0])
    assert (link.utilisation, link.busy, link.full) == pytest.approx((0.5, 0.5, 0.25))
    assert link.streams == pytest.approx({"tp": 0.5, "pp": 0.5})
    assert report.busiest(1) == report.busiest()[:1]
    tp, pp, dp = (of(report, stream) for stream in ("tp", "pp", "dp"))
    assert (tp.alone_s, tp.links_s, tp.kernels_s) == pytest.approx((4.0, 2.0, 0.0))
    assert (pp.alone_s, pp.links_s) == pytest.approx((12.0, 4.0))
    assert (dp.alone_s, dp.links_s) == (16.0, 0.0)


def test_time_beside_a_kernel_is_told_from_time_waiting() -> None:
    builder = ProgramBuilder(1)
    builder.op("kernel", [(0, Stream.COMPUTE)], 1.0)
    builder.op("gather", [(0, Stream.TP)], 1.0, sms=0.1, flows=[(3, 1.0)])
    builder.op("reduce", [(0, Stream.DP)], 1.0, sms=0.0, flows=[(3, 0.25)])
    report = by_hand(builder.build(sharing=Sharing(100, 1.0, 0.5)))
    link = report.busiest()[0]
    assert link.full == 0.0  # half and a quarter fit until the reduction is done
    assert (of(report, "dp").links_s, of(report, "tp").links_s) == (0.0, 0.0)
    kernel_s = report.timeline.end_s[0]
    assert of(report, "tp").kernels_s == pytest.approx(0.5 * kernel_s)
    assert report.timeline.end_s[1] == pytest.approx(1.0 + 0.5 * kernel_s)


@given(programs(coupled=True))
def test_no_link_carries_more_than_it_can_and_every_delay_has_a_cause(program: Program) -> None:
    report = by_hand(program)
    assert (report.utilisation <= 1 + 1e-9).all()
    for link in report.busiest():
        assert link.utilisation - 1e-9 <= link.busy <= 1 + 1e-9
        assert -1e-9 <= link.full <= link.busy + 1e-9
        assert sum(link.streams.values()) == pytest.approx(1.0)
    timeline, stream = report.timeline, program.lanes[program.op_ptr[:-1]] % STREAMS
    longer = timeline.end_s - timeline.start_s - program.latency_s - program.work_s
    ranks = [sorted({lane // STREAMS for lane in program.lanes[a:b].tolist()}) for a, b in bounds(program)]
    gpus = [int(program.multiplicity[one].sum()) for one in ranks]
    moving = ~np.isin(stream, (Stream.COMPUTE, Stream.HOST)) & (program.work_s > 0)
    explained = sum(found.links_s + found.kernels_s for found in report.streams)
    assert explained == pytest.approx((longer * gpus)[moving].sum(), rel=1e-6, abs=1e-6)


def bounds(program: Program) -> list[tuple[int, int]]:
    return list(zip(program.op_ptr[:-1].tolist(), program.op_ptr[1:].tolist(), strict=True))


SMALL = ("llama2-7b", ()), ("mixtral-8x7b", ("layout.ep=4",)), ("mixtral-8x7b", ("layout.ep=4", "layout.pp=1"))


@pytest.mark.parametrize(("model", "overrides"), SMALL)
def test_one_gpu_for_all_says_the_same_of_links_as_every_gpu(model: str, overrides: tuple[str, ...]) -> None:
    folded, unfolded = (
        st.simulate_step(small(*overrides, *more, model=model)).network for more in ((), ("fold=false",))
    )
    assert unfolded.timeline.program.ranks > folded.timeline.program.ranks
    assert unfolded.utilisation == pytest.approx(folded.utilisation, rel=1e-9)
    assert unfolded.bytes == pytest.approx(folded.bytes, rel=1e-12)
    for one, other in zip(folded.busiest(), unfolded.busiest(), strict=True):
        assert (other.label, other.alike) == (one.label, one.alike)
        assert (other.busy, other.full) == pytest.approx((one.busy, one.full), abs=1e-9)
    for one, other in zip(folded.streams, unfolded.streams, strict=True):
        assert other.alone_s == pytest.approx(one.alone_s)
        assert (other.links_s, other.kernels_s) == pytest.approx((one.links_s, one.kernels_s), rel=1e-6)


def test_two_copies_of_uneven_experts_carry_what_every_gpu_does() -> None:
    natural = ("layout.ep=4", "workload.routing.kind=natural")
    two, every = (
        st.simulate_step(small(*natural, *more, model="mixtral-8x7b")).network for more in ((), ("fold=false",))
    )
    assert (two.timeline.program.ranks, every.timeline.program.ranks) == (4, 16)
    assert every.bytes == pytest.approx(two.bytes, rel=1e-12)
    assert every.utilisation == pytest.approx(two.utilisation, rel=1e-9)
    for one, other in zip(two.streams, every.streams, strict=True):
        assert other.alone_s == pytest.approx(one.alone_s)
    for link in two.busiest():
        assert 0 < link.utilisation <= link.busy < 1


def test_both_engines_agree_about_links() -> None:
    report = st.simulate_step(small()).network
    again = replace(report, timeline=des.simulate(report.timeline.program))
    for one, other in zip(report.busiest(), again.busiest(), strict=True):
        assert (other.utilisation, other.busy, other.full) == pytest.approx((one.utilisation, one.busy, one.full))


def test_transfers_nobody_can_meet_take_their_price() -> None:
    alone = st.simulate_step(small("layout.tp=8", "layout.pp=1", cluster="1x-hgx-h100")).network
    assert of(alone, "tp").flows == 0
    assert of(alone, "tp").priced > 0
    assert of(alone, "tp").links_s == 0.0
    meeting = st.simulate_step(small("layout.tp=1", "layout.pp=4")).network  # sends and gradients on NVLink
    assert of(meeting, "pp").flows > 0


def test_links_that_are_not_shared_make_nobody_wait() -> None:
    shared, apart = (st.simulate_step(small(*more)).network for more in ((), ("cluster.contention.links=false",)))
    assert apart.document()["links_shared"] is False
    assert all(stream.flows == 0 and stream.links_s == 0.0 for stream in apart.streams)
    assert apart.bytes == pytest.approx(shared.bytes)
