"""The price of a collective: the cheapest algorithm and protocol, as NCCL chooses.

time = latency + size * seconds per byte of the slowest link, where a link's seconds per byte are all bytes that
cross it, from every sibling group, over its bandwidth.  In ``ideal`` mode links run at line rate and software is free.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from simtrain.cluster.topology import Topology
from simtrain.costs.collectives.flows import Flows, Phase, mean_use
from simtrain.costs.collectives.groups import Groups
from simtrain.costs.collectives.plan import Algorithm, Plan, Stage, passes
from simtrain.costs.collectives.protocol import (
    CHANNEL_BANDWIDTH,
    CHANNEL_NICS,
    COEFFICIENTS,
    IDEAL,
    MSCCLPP,
    PROTOCOLS,
    Coefficients,
    Protocol,
)
from simtrain.errors import InputError, LayoutError, UnknownNameError
from simtrain.model.operators import Collective
from simtrain.model.routing import Routing

__all__ = ["CollectivePrice", "Offer", "StageOffer", "algorithms_for", "link_rates", "offers", "price"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mode = Literal["nccl", "mscclpp", "ideal"]

RECENT_PRICES = 256
"""Prices kept per topology: each has the use of every link, up to some 100 kB over 2048 GPUs."""


@dataclass(frozen=True, slots=True)
class CollectivePrice:
    """What a collective costs when it has the cluster to itself.

    Attributes:
        latency_s: steps and software, whatever the size; transfer_s: bytes over the slowest link.
        bottleneck: that link in words; bottleneck_bytes_per_s: what it carries for this collective.
        phases: parts that follow one another, and what each takes of the links; latencies and transfers add up
            to the collective's.
        formula: the time in words and figures.
        bus_bandwidth: bytes per second in the convention of nccl-tests.
    """

    algorithm: str
    protocol: str
    latency_s: float
    transfer_s: float
    bottleneck: str
    bottleneck_bytes_per_s: float
    phases: tuple[Phase, ...]
    formula: str
    bus_bandwidth: float

    @property
    def time_s(self) -> float:
        """Latency and transfer."""
        return self.latency_s + self.transfer_s

    def edge_use(self) -> tuple[Ints, Floats]:
        """Directed edges crossed, ascending, and the mean share of each that all groups take during the transfer."""
        return mean_use(self.phases)


@dataclass(frozen=True, slots=True)
class StageOffer:
    """A stage with one protocol, whatever the size.

    Attributes:
        seconds_per_byte: of the slowest link, ``slowest``, which carries ``slowest_load`` bytes per byte.
        rate: (directed edges,) bytes per second of every edge with this protocol.
        fill_s: how slowly its pipeline fills, 0 where there is none; gpus: in a group; in_domain: of those in a node.
    """

    stage: Stage
    latency_s: float
    seconds_per_byte: float
    slowest: int
    slowest_load: float
    rate: Floats
    fill_s: float
    gpus: int
    in_domain: int

    def transfer_s(self, size_bytes: float, fitted: Coefficients = COEFFICIENTS) -> float:
        """Seconds for the bytes, filling of the pipelines included."""
        ramp_s = fitted.ramp_s(self.fill_s, self.seconds_per_byte, size_bytes, self.gpus, self.in_domain)
        return self.seconds_per_byte * size_bytes + ramp_s

    def phase(self, size_bytes: float) -> Phase:
        """What it takes of the links while so many bytes move."""
        transfer_s = self.transfer_s(size_bytes)
        loads = self.stage.traffic.loads
        rate = self.rate[loads.edge]
        use = loads.bytes / rate * (size_bytes / transfer_s)
        busiest = float(_per_group_rate(loads.group_ptr, use, rate).max())
        return Phase(self.stage.name, self.latency_s, transfer_s, Flows(loads.group_ptr, loads.edge, use, busiest))


@dataclass(frozen=True, slots=True)
class Offer:
    """An algorithm with one protocol on given groups, whatever the size."""

    plan: Plan
    protocol: Protocol
    stages: tuple[StageOffer, ...]

    @property
    def latency_s(self) -> float:
        """Steps and software."""
        return sum(stage.latency_s for stage in self.stages)

    def transfer_s(self, size_bytes: float, fitted: Coefficients = COEFFICIENTS) -> float:
        """Seconds for the bytes, filling of the pipelines included."""
        return sum(stage.transfer_s(size_bytes, fitted) for stage in self.stages)

    def time_s(self, size_bytes: float, fitted: Coefficients = COEFFICIENTS) -> float:
        """Latency and transfer; ``fitted`` are other coefficients than those in use."""
        return self.latency_s + self.transfer_s(size_bytes, fitted)


def price(
    topology: Topology,
    collective: Collective,
    groups: Ints,
    size_bytes: float,
    *,
    mode: str = "nccl",
    algorithms: Iterable[str] | None = None,
    routing: Routing | None = None,
) -> CollectivePrice:
    """Price one collective that all ``groups`` run at the same time; the slowest group decides.

    Args:
        topology: the cluster.
        collective: one of :data:`simtrain.model.operators.Collective`.
        groups: (groups, size) GPU ids, the root first where there is one; for send_recv (pairs, 2) senders and
            receivers.
        size_bytes: as in nccl-tests: all_reduce, broadcast and reduce the tensor of one rank; all_gather,
            reduce_scatter, gather and scatter the whole tensor; all_to_all all that one rank sends, its own part
            included; dispatch and combine likewise: tokens of one rank * experts of a token * bytes of a token.
        mode: nccl, mscclpp, or ideal (line rates, no software).
        algorithms: names to choose from; by default those of the library, or the bandwidth-optimal ones when ideal.
        routing: of a dispatch or combine: send each token to each of its nodes once (DeepEP), where nodes have
            NVLink; without it, and elsewhere, they are an all_to_all.

    Raises:
        UnknownNameError: a collective, mode or algorithm that does not exist.
        LayoutError: a GPU that the cluster does not have, or one twice in a group or in two groups.
        InputError: a size that is negative or not finite, a routing for another collective, or no algorithm
            that applies.
    """
    if not (np.isfinite(size_bytes) and size_bytes >= 0):
        raise InputError(f"size_bytes = {size_bytes!r} must be finite and not negative")
    if routing is not None and collective not in ("dispatch", "combine"):
        raise InputError(f"routing goes with dispatch and combine, not with {collective}")
    groups = np.asarray(groups, dtype=np.int64)
    key, found_offers = offers(topology, collective, groups, mode, algorithms, routing)
    recent: dict[object, CollectivePrice] = topology.cache.setdefault("recent prices", {})
    sized = (*key, float(size_bytes))
    found = recent.get(sized)
    if found is None:
        if len(recent) >= RECENT_PRICES:
            del recent[next(iter(recent))]
        found = recent[sized] = _price(topology, collective, groups.shape[-1], found_offers, size_bytes)
    return found


def offers(
    topology: Topology,
    collective: Collective,
    groups: Ints,
    mode: str = "nccl",
    algorithms: Iterable[str] | None = None,
    routing: Routing | None = None,
) -> tuple[tuple[object, ...], list[Offer]]:
    """What the price is chosen from, whatever the size, and a key of it; arguments and errors as of :func:`price`."""
    chosen = None if algorithms is None else tuple(algorithms)
    key = (collective, groups.shape, groups.tobytes(), mode, chosen, routing)
    found: list[Offer] | None = topology.cache.get(key)
    if found is None:
        found = topology.cache[key] = _offers(topology, collective, groups, mode, chosen, routing)
    return key, found


@lru_cache(maxsize=1)
def _registry() -> tuple[Algorithm, ...]:
    """Every Algorithm that a module of this package defines."""
    package = importlib.import_module(__package__)
    modules = [importlib.import_module(f"{__package__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)]
    found = {id(v): v for module in modules for v in vars(module).values() if isinstance(v, Algorithm)}
    return tuple(found.values())


def algorithms_for(collective: Collective, mode: str = "nccl", names: Iterable[str] | None = None) -> list[Algorithm]:
    """Algorithms that are tried for a collective.

    Raises:
        UnknownNameError: a collective, mode or algorithm that does not exist.
    """
    if collective not in get_args(Collective):
        raise UnknownNameError("collective", str(collective), get_args(Collective))
    if mode not in get_args(Mode):
        raise UnknownNameError("mode", mode, get_args(Mode))
    able = [a for a in _registry() if collective in a.collectives]
    if names is None:
        return [a for a in able if getattr(a, mode)]
    for name in names:
        if name not in {a.name for a in able}:
            raise UnknownNameError(f"algorithm for {collective}", name, {a.name for a in able})
    return [a for a in able if a.name in set(names)]


def _offers(
    topology: Topology,
    collective: Collective,
    groups: Ints,
    mode: str,
    names: tuple[str, ...] | None,
    routing: Routing | None,
) -> list[Offer]:
    algorithms = algorithms_for(collective, mode, names)
    _check_groups(topology, collective, groups)
    if groups.size == 0 or groups.shape[1] == 1:
        return []
    members = Groups(topology, groups if collective == "send_recv" else np.sort(groups, axis=1), groups[:, 0], routing)
    found = _planned(members, collective, [a for a in algorithms if a.preferred])
    found = found or _planned(members, collective, [a for a in algorithms if not a.preferred])
    if not found and mode == "mscclpp":
        found = _planned(members, collective, algorithms_for(collective))  # MSCCL++ hands over to NCCL
    if not found:
        raise InputError(f"no algorithm of {[a.name for a in algorithms]} can run {collective} on these groups")
    return [
        _offer(topology, plan, members, protocol)
        for algorithm, plan in found
        for protocol in _protocols(topology, mode, algorithm, plan)
    ]


def _planned(groups: Groups, collective: Collective, algorithms: Iterable[Algorithm]) -> list[tuple[Algorithm, Plan]]:
    """Algorithms that can run a collective, and what they do."""
    plans = [(algorithm, algorithm.plan(groups, collective)) for algorithm in algorithms]
    return [(algorithm, plan) for algorithm, plan in plans if plan is not None]


def _protocols(topology: Topology, mode: str, algorithm: Algorithm, plan: Plan) -> list[Protocol]:
    """Ways of moving bytes that an algorithm can choose from."""
    if mode == "ideal":
        return [IDEAL]
    if mode == "mscclpp" and algorithm.mscclpp:
        return [MSCCLPP]
    return [PROTOCOLS[name] for name in plan.protocols if name != "LL128" or topology.scale_up != "pcie"]


def _check_groups(topology: Topology, collective: Collective, groups: Ints) -> None:
    if groups.ndim != 2 or (collective == "send_recv" and groups.shape[1] != 2):
        raise LayoutError(f"{collective} needs groups of shape (groups, size), not {groups.shape}")
    if groups.size and (groups.min() < 0 or groups.max() >= topology.gpus):
        raise LayoutError(
            f"{collective}: groups name GPUs {groups.min()} to {groups.max()}, "
            f"but the cluster has 0 to {topology.gpus - 1}"
        )
    if collective == "send_recv" or not groups.size:
        return
    if (np.diff(np.sort(groups, axis=1), axis=1) == 0).any():
        raise LayoutError(f"{collective}: a group holds the same GPU twice")
    if (times := np.bincount(groups.ravel())).max() > 1:
        raise LayoutError(f"{collective}: GPU {times.argmax()} is in {times.max()} groups that run at once")


def _offer(topology: Topology, plan: Plan, groups: Groups, protocol: Protocol) -> Offer:
    rate = _rate(topology, protocol)
    return Offer(plan, protocol, tuple(_stage_offer(groups, plan, stage, protocol, rate) for stage in plan.stages))


def link_rates(topology: Topology, protocol: str) -> Floats:
    """(directed edges,) bytes per second that each link carries with the protocol of this name."""
    return _rate(topology, next(p for p in (IDEAL, MSCCLPP, *PROTOCOLS.values()) if p.name == protocol))


def _rate(topology: Topology, protocol: Protocol) -> Floats:
    """(directed edges,) bytes per second with a protocol; one array for all offers."""
    found: Floats | None = topology.cache.get(("rate", protocol.name))
    if found is None:
        found = topology.edge_line_rate if protocol is IDEAL else topology.edge_bandwidth * protocol.bandwidth
        topology.cache["rate", protocol.name] = found
    return found


def _stage_offer(groups: Groups, plan: Plan, stage: Stage, protocol: Protocol, rate: Floats) -> StageOffer:
    topology, ideal, loads = groups.topology, protocol is IDEAL, stage.traffic.loads
    seconds = loads.total / rate[loads.edges]
    if not ideal:
        seconds = np.maximum(seconds, loads.largest / topology.edge_flow_bandwidth[loads.edges])
    slowest = int(seconds.argmax())
    least = float(seconds[slowest])
    if not ideal:
        limit = CHANNEL_BANDWIDTH if topology.nics_per_node > CHANNEL_NICS else np.inf
        crossing = stage.crossings / min(protocol.far_bandwidth, limit) if stage.far_steps else 0.0
        least = max(least, stage.seconds_per_byte, crossing)
    return StageOffer(
        stage=stage,
        latency_s=_latency(topology, stage, protocol),
        seconds_per_byte=least,
        slowest=int(loads.edges[slowest]),
        slowest_load=float(loads.total[slowest]),
        rate=rate,
        fill_s=topology.fill_s if plan.ramped and not ideal else 0.0,
        gpus=groups.size,
        in_domain=min(groups.size, topology.gpus_per_node),
    )


def _latency(topology: Topology, stage: Stage, protocol: Protocol) -> float:
    near, far, traffic = stage.near_steps, stage.far_steps, stage.traffic
    if protocol is IDEAL:
        return near * traffic.near_s + far * traffic.far_s
    hops = protocol.pcie_hop_s if topology.scale_up == "pcie" else protocol.nvlink_hop_s
    near_hop = max(hops[stage.family], traffic.near_s, protocol.posting_s if far else 0.0)
    far_hop = protocol.net_hop_s[stage.family] + protocol.net_latency_factor * traffic.far_s
    far_hop += topology.network_software_s
    steps = protocol.base_s[stage.family] + near * near_hop + far * far_hop
    return steps * protocol.multi_node_factor if far and stage.reduces_in_ring else steps


def _per_group_rate(group_ptr: Ints, use: Floats, rate: Floats) -> Floats:
    """(groups,) bytes per second of each group on the edge it fills most; 0 for a group that moves nothing."""
    group = np.repeat(np.arange(len(group_ptr) - 1), np.diff(group_ptr))
    last = np.lexsort((rate, use, group))[np.flatnonzero(np.diff(group, append=-1))]
    return use[last] * rate[last]


def _price(
    topology: Topology, collective: Collective, size: int, offers: list[Offer], size_bytes: float
) -> CollectivePrice:
    if not offers or size_bytes == 0:
        return CollectivePrice("none", "none", 0.0, 0.0, "nothing", 0.0, (), "nothing to move", 0.0)
    best = min(offers, key=lambda offer: offer.time_s(size_bytes))
    longest = max(best.stages, key=lambda stage: stage.seconds_per_byte)
    label = topology.edge_label(longest.slowest)
    carried = longest.slowest_load / longest.seconds_per_byte
    near, far = (sum(getattr(s, key) for s in best.plan.stages) for key in ("near_steps", "far_steps"))
    phases = tuple(stage.phase(size_bytes) for stage in best.stages)
    once = ("broadcast", "reduce", "send_recv")
    bus = 1.0 if collective in once else (size - 1) / size * passes(collective)
    return CollectivePrice(
        algorithm=best.plan.algorithm,
        protocol=best.protocol.name,
        latency_s=best.latency_s,
        transfer_s=best.transfer_s(size_bytes),
        bottleneck=label,
        bottleneck_bytes_per_s=carried,
        phases=phases,
        formula=(
            f"{best.latency_s * 1e6:.1f} us for {near} + {far} steps (in + between nodes) + {best.plan.formula} "
            f"at {carried / 1e9:.1f} GB/s on {label}"
        ),
        bus_bandwidth=bus * size_bytes / best.time_s(size_bytes),
    )
