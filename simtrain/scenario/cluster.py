"""Devices, nodes, fabrics and clusters as documents (``topologies/``)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, Strict, StrictInt, field_validator, model_validator
from pydantic_core import PydanticCustomError

from simtrain.errors import ScenarioError
from simtrain.quantities import Bytes, BytesPerSecond, FlopsPerSecond, Seconds, Usd, UsdPerHour, Watts
from simtrain.scenario.kernels import InTraining, KernelTable
from simtrain.scenario.part import Part, Precision

__all__ = [
    "Cluster",
    "CollectiveSoftware",
    "Contention",
    "Device",
    "Dragonfly",
    "Fabric",
    "FatTree",
    "HeldSms",
    "Link",
    "MeshLinks",
    "Node",
    "NodeLinks",
    "PcieTree",
    "SingleSwitch",
    "SwitchedLinks",
    "Torus",
]

Share = Annotated[float, Field(gt=0, le=1.5)]


class Device(Part):
    """A GPU: dense peaks, memory, power, price, kernel efficiencies."""

    title: str
    architecture: str
    peaks: dict[Precision, Annotated[FlopsPerSecond, Field(gt=0)]]
    """Dense matmul peaks with FP32 accumulation, by input precision."""
    accumulate: Literal["fp32"] = "fp32"
    """Accumulation mode that ``peaks`` state."""
    advertised_peaks: dict[Precision, Annotated[FlopsPerSecond, Field(gt=0)]] = {}
    """Figures often quoted instead (sparse, or FP16 accumulation); used with ``peaks: advertised``."""
    popular_error: str = ""
    """What other tables get wrong about this device."""
    sm_count: int | None = None
    memory: Bytes = Field(gt=0)
    memory_bandwidth: BytesPerSecond = Field(gt=0)
    l2: Annotated[Bytes, Field(gt=0)] | None = None
    """L2 cache; absent: no kernel is taken to run from it."""
    power: Watts | None = None
    price: Usd | None = None
    rent: UsdPerHour | None = None
    speed_spread: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Coefficient of variation of the speed of kernels among GPUs of this type; groups wait for their slowest."""
    kernels: KernelTable | str
    """Kernel efficiencies, or the name of the device whose table is borrowed."""
    in_training: InTraining | None = None
    """In place of what the kernel table says, where that is another device's."""
    source: str

    @field_validator("peaks")
    @classmethod
    def _counts_mfu(cls, peaks: dict[Precision, float]) -> dict[Precision, float]:
        """MFU is counted against a 16-bit peak."""
        if not {"bf16", "fp16"} & peaks.keys():
            raise PydanticCustomError("peaks", "bf16 or fp16 is missing, which MFU is counted against")
        return peaks

    def kept(self, year: int | None) -> InTraining:
        """What kernels keep of their rates in training, with libraries of ``year``; None: current ones.

        Raises:
            ScenarioError: the kernel table is not resolved.
        """
        return self.in_training or self.kernel_table.kept(year)

    @property
    def kernel_table(self) -> KernelTable:
        """The table of its kernels; :class:`ScenarioError` where it is still the name of another device."""
        if isinstance(self.kernels, str):
            raise ScenarioError(f"{self.title}: kernels is the name {self.kernels!r}; a table is needed here")
        return self.kernels

    def known_peaks(self, which: Literal["dense", "advertised"]) -> dict[Precision, float]:
        """Peaks in FLOP/s by precision; ``advertised`` puts the figures often quoted over the dense ones."""
        return self.peaks | self.advertised_peaks if which == "advertised" else self.peaks

    def bf16_peak(self, which: Literal["dense", "advertised"]) -> float:
        """Peak of 16-bit matmuls in FLOP/s, which MFU is counted against."""
        peaks = self.known_peaks(which)
        return peaks.get("bf16") or peaks["fp16"]


class Link(Part):
    """One full-duplex link: figures are for one direction."""

    bandwidth: BytesPerSecond = Field(gt=0)
    """Line rate in one direction."""
    latency: Seconds
    """Time of a first byte across the link."""
    efficiency: Share = 1.0
    """Share of the line rate that large transfers reach."""
    flow_bandwidth: Annotated[BytesPerSecond, Field(gt=0)] | None = None
    """What one flow alone reaches (a copy that waits on latency); absent: the whole link."""


class SwitchedLinks(Part):
    """Every GPU of the node hangs on one switch (NVSwitch)."""

    kind: Literal["nvswitch"] = "nvswitch"
    gpu: Link
    """GPU to switch."""
    nvls: bool = False
    """The switch can reduce in the network (NVLink SHARP); NCCL uses it for all-reduce."""
    nvls_bandwidth: Annotated[BytesPerSecond, Field(gt=0)] | None = None
    """All-reduce bus bandwidth measured with in-switch reduction."""
    pcie: Link
    """GPU to NIC and host, through the node's PCIe switches."""


class MeshLinks(Part):
    """Every GPU has a direct link to every other one (xGMI)."""

    kind: Literal["mesh"] = "mesh"
    pair: Link
    """GPU to GPU, each pair."""
    pcie: Link


class PcieTree(Part):
    """GPUs on PCIe below host bridges of one or two sockets."""

    kind: Literal["pcie"] = "pcie"
    pcie: Link
    """GPU to its host bridge or PCIe switch (x16)."""
    gpus_per_switch: int | None = Field(None, ge=1)
    """GPUs that share one PCIe switch and its uplink; absent: each GPU on its own root port."""
    uplink: Link | None = None
    """PCIe switch to host bridge; absent: same as ``pcie``."""
    sockets: int = Field(2, ge=1, le=8)
    host: Link
    """Host bridge and memory of one socket: what all its GPUs together can move through memory, as copies do without
    ``peer_to_peer`` and NICs without ``gpu_direct``."""
    socket_link: Link | None = None
    """Socket to socket (UPI, Infinity Fabric); needed with more than one socket."""
    peer_to_peer: bool = False
    """GPUs can copy directly; otherwise every byte goes down to host memory and up again."""


NodeLinks = Annotated[SwitchedLinks | MeshLinks | PcieTree, Field(discriminator="kind")]


class Node(Part):
    """A server (or an NVLink rack): GPUs, links inside, network ports, power, price."""

    title: str
    device: Device | str
    gpus: int = Field(ge=1)
    links: NodeLinks
    nics: int = Field(ge=0)
    nic: Link | None = None
    """One network port; needed when ``nics`` is above 0."""
    gpu_direct: bool = True
    """NICs read GPU memory directly; otherwise bytes pass through host memory."""
    fill: Seconds = Field("25 us")
    """How slowly pipelines of collectives fill: one that moves bytes for a time t takes sqrt(fill * t) more, t up to
    that of 8 MB per GPU. The default is the middle of the boxes that were measured."""
    host_call: Seconds = Field("10 us")
    """One call of Python, dispatcher, autograd and driver on a host core; ``software`` says how many there are."""
    network_software: Seconds = 0.0
    """What the network's software adds to each hop of a collective between nodes, beyond what NCCL counts for
    InfiniBand (libfabric on EFA or Slingshot)."""
    power: Watts | None = None
    """Whole node at load, without cooling."""
    price: Usd | None = None
    """Whole node without network beyond ``nics_in_price`` ports."""
    nics_in_price: int = Field(0, ge=0)
    """Network ports (with their share of switches and cables) that ``price`` already holds."""
    source: str


class SingleSwitch(Part):
    """All network ports on one non-blocking switch."""

    kind: Literal["single_switch"] = "single_switch"
    latency: Seconds
    """Through the switch."""
    price_per_port: Usd = 0.0
    """Switches, optics and cables, per node port."""
    source: str = ""


class FatTree(Part):
    """Leaf, spine and (where ports run out) core switches."""

    kind: Literal["fat_tree"] = "fat_tree"
    radix: int = Field(64, ge=4)
    """Ports of one switch."""
    rail_optimised: bool = True
    """NIC i of every node in a pod on the same leaf; otherwise all NICs of a node on one leaf."""
    planes: bool = False
    """Each rail is a tree of its own that shares no switch with the others; needs ``rail_optimised``."""
    cross_rail: Literal["spine", "forward"] = "spine"
    """How a GPU reaches another rail: over a spine, or by way of the GPU of its node that is on that rail (what NCCL
    calls PXN), which needs ``rail_optimised``. With ``planes`` always the latter: there is no other way."""
    routing: Literal["destination", "ecmp", "adaptive"] = "destination"
    """Which spine and core a flow takes: chosen by its destination (d-mod-k), by a hash of source and destination
    (ECMP; flows collide), or all of them in even parts (packet spraying)."""
    routing_seed: int = Field(0, ge=0, lt=2**31)
    """Seed of the hash of ``ecmp``."""
    oversubscription: float = Field(1.0, ge=1.0)
    """Downlink over uplink capacity of a leaf."""
    core_oversubscription: float = Field(1.0, ge=1.0)
    """The same between pods, in three-tier trees."""
    leaf_latency: Seconds
    """Through one leaf switch."""
    spine_latency: Seconds
    """Added by going over a spine (leaf to leaf)."""
    core_latency: Seconds = 0.0
    """Added by going over a core switch."""
    price_per_port: Usd = 0.0
    """Switches, optics and cables of all tiers, per node port."""
    source: str = ""

    @model_validator(mode="after")
    def _has_rails(self) -> Self:
        keys = [key for key, asked in (("planes", self.planes), ("cross_rail", self.cross_rail == "forward")) if asked]
        if keys and not self.rail_optimised:
            value = str(getattr(self, keys[0])).lower()
            message = f"{keys[0]} = {value} needs rails: set rail_optimised to true, or leave {keys[0]} out"
            raise PydanticCustomError("impossible", "{message}", {"message": message})
        return self


class Dragonfly(Part):
    """Groups of fully connected routers, and cables between every two groups; minimal routing."""

    kind: Literal["dragonfly"] = "dragonfly"
    ports_per_router: int = Field(ge=1)
    """Ports of a router for NICs."""
    routers_per_group: int = Field(ge=1)
    """Routers of a group, each with a cable to every other."""
    global_ports: int = Field(ge=1)
    """Ports of a router for cables to other groups, which share those of a whole group equally."""
    router_latency: Seconds
    """Through one router."""
    local_latency: Seconds
    """Added by a hop to another router of the group."""
    global_latency: Seconds
    """Added by the hop to another group."""
    price_per_port: Usd = 0.0
    """Routers, optics and cables, per node port."""
    source: str = ""


class Torus(Part):
    """Nodes on a grid that closes on itself, their NICs being its links; dimension-ordered routing."""

    kind: Literal["torus"] = "torus"
    sizes: Annotated[tuple[Annotated[StrictInt, Field(ge=1)], ...], Strict(False)] = ()
    """Nodes along each dimension; absent: two dimensions, as equal as the number of nodes allows. The NICs of a
    node are shared by two directions for each dimension."""
    hop_latency: Seconds
    """From a node to its neighbour."""
    price_per_port: Usd = 0.0
    """Optics and cables, per node port."""
    source: str = ""


Fabric = Annotated[SingleSwitch | FatTree | Dragonfly | Torus, Field(discriminator="kind")]


class CollectiveSoftware(Part):
    """Software cost of communication (NCCL): see ``costs/collectives``."""

    mode: Literal["nccl", "mscclpp", "ideal"] = "nccl"
    """``mscclpp``: MSCCL++, whose kernels exchange directly. ``ideal``: efficiency 1 and no software latency, only
    bandwidth and link latency."""
    algorithms: dict[str, str] = {}
    """Algorithm by collective, where it applies, in place of the choice NCCL would make:
    ``{all_reduce: hierarchical}``."""
    wait: Seconds = 0.0
    """By how much ranks of a group arrive apart at an exchange in a training step, on average: it begins when the last
    one is there."""
    notify_wait: Seconds = 0.0
    """Time that each dispatch or combine of experts waits for its peers before bytes move: about 2 ms on average in a
    published trace with 64 expert-parallel H800 (notify kernels of 0.75 to 3.8 ms, deepseek-ai/profile-data), where
    ranks drift apart under load; close to nothing between ranks in step."""


class HeldSms(Part):
    """SMs that the kernel of a transfer holds on each of its GPUs, by the group that communicates.

    NCCL runs one thread block, hence one SM, per channel: 24 seen for an all-gather on H100.  DeepEP holds 20 of 132
    (deepseek-ai/profile-data; its second version 4 to 12).  Pipeline sends are left to copy engines and NICs.
    """

    tp: int = Field(24, ge=0)
    cp: int = Field(24, ge=0)
    ep: int = Field(20, ge=0)
    dp: int = Field(24, ge=0)
    pp: int = Field(0, ge=0)


class Contention(Part):
    """How transfers and kernels that are under way at once slow each other."""

    links: bool = True
    """Transfers share the links they cross by max-min fairness; otherwise each has the cluster to itself."""
    sms: HeldSms = HeldSms()
    grid: Literal["persistent", "static"] = "persistent"
    """Persistent kernels use the SMs that communication leaves; a static grid needs more waves of thread blocks."""
    kernel_rate: float = Field(0.97, gt=0, le=1)
    """Rate of a kernel beside a transfer that holds SMs, on top of the SMs lost: memory contention, about 3 % in a
    published trace of overlapped FP8 matmuls (deepseek-ai/profile-data: 0.82 of the rate alone on 112 of 132 SMs)."""
    transfer_rate: float = Field(0.73, gt=0, le=1)
    """Rate of such a transfer while a kernel runs on one of its GPUs: 31 to 33 of 45 GB/s in the same trace."""


class Cluster(Part):
    """Nodes of one kind on one fabric."""

    title: str = ""
    node: Node | str
    nodes: int = Field(ge=1)
    fabric: Fabric | str | None = None
    """Network between nodes; needed with more than one node."""
    peaks: Literal["dense", "advertised"] = "dense"
    """Which peaks count: the dense ones, or the figures often quoted instead."""
    collectives: CollectiveSoftware = CollectiveSoftware()
    contention: Contention = Contention()
    source: str = ""
