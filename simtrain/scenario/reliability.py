"""What fails, how often, how a job comes back, and what it saves meanwhile (``topologies/reliability/``)."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from simtrain.errors import QuantityError
from simtrain.quantities import BytesPerSecond, Seconds, parse_quantity
from simtrain.scenario.part import Part

__all__ = [
    "RULES",
    "STEPS",
    "CheckpointPolicy",
    "Duration",
    "Failures",
    "LocalDisk",
    "RecoverySteps",
    "Reliability",
    "Spares",
    "Storage",
]

Owner = Literal[
    "gpu",
    "gpu_memory",
    "nic",
    "link",
    "node",
    "leaf_switch",
    "spine_switch",
    "rack",
    "power_domain",
    "storage",
    "job",
]
Chance = Annotated[float, Field(ge=0, le=1)]


class TimeLaw(Part):
    """A time that varies; a plain text such as "10 min" is one that does not."""

    mean: Seconds
    law: Literal["fixed", "exponential", "weibull", "lognormal"] = "fixed"
    shape: float = Field(1.0, gt=0)
    """Weibull: shape k. Lognormal: sigma."""


def _as_law(value: Any) -> Any:
    return value if isinstance(value, dict | TimeLaw) else {"mean": value}


Duration = Annotated[
    TimeLaw,
    BeforeValidator(_as_law, json_schema_input_type=TimeLaw | str),
]


class RecoverySteps(Part):
    """From a failure to the first useful step, phase by phase.

    Phases without a value take no time; ``load`` and ``communicator`` add to what is worked out for them.
    """

    detection: Duration = TimeLaw(mean=0.0)
    """From the failure until it is noticed, for classes that do not say: seconds with agents in the job, ten minutes
    and more where a collective has to time out."""
    diagnose: Duration = TimeLaw(mean=0.0)
    """Until the culprit is known."""
    allocate: Duration = TimeLaw(mean=0.0)
    """Until nodes are there, spares that are ready being swapped in by ``spares.swap``."""
    start: Duration = TimeLaw(mean=0.0)
    """Containers and processes."""
    communicator: Duration = TimeLaw(mean=0.0)
    """Process groups, beyond ``communicator_per_rank`` for each rank."""
    communicator_per_rank: Seconds = Field("3 ms")
    """Assumed: 30 s for 10,000 GPUs, where process groups are made to scale; far longer where they are not."""
    load: Duration = TimeLaw(mean=0.0)
    """Reading the checkpoint, beyond its bytes over ``storage.read``."""
    warmup_steps: float = Field(0.0, ge=0)
    """Steps' worth of time lost until the job runs at full speed again (compilation, allocator, caches)."""
    interruptible: bool = True
    """Failures strike during recovery too and start it again; otherwise none does. This moves results by points of
    goodput where failures are frequent, so every result says which it is."""
    failure_probability: float = Field(0.0, ge=0, lt=1)
    """Chance that a recovery fails at its end and is repeated."""


class Failures(Part):
    """One class of failures: how often each part of its kind fails, and what that does."""

    owner: Owner = "node"
    """What fails. It says how many parts there are (from the cluster), and which nodes an event takes down."""
    mtbf: Annotated[Seconds, Field(gt=0)] | None = None
    """Mean time between failures of one part."""
    share: float | None = Field(None, gt=0)
    """In place of ``mtbf``: weight of this class in ``reliability.mtbf_per_gpu``."""
    law: Literal["exponential", "weibull", "lognormal"] = "exponential"
    shape: float = Field(1.0, gt=0)
    """Weibull: shape k (below 1: new parts fail more often). Lognormal: sigma."""
    renewal: Literal["replaced", "system"] = "replaced"
    """replaced: a failed part is replaced by a new one, the others keep their age. system: one clock for all parts
    together, started anew by every recovery."""
    effect: Literal["stop", "hang", "slow", "degraded", "corrupt", "planned", "outage"] = "stop"
    """stop, hang: the job stops (what differs is ``detection``). slow: GPUs run at ``factor``. degraded: network ports
    run at ``factor``. corrupt: silent, found after ``detection``; work falls back to before it. planned: nothing is
    lost but ``duration``. outage, of owner storage: nothing is written or read for ``duration``, and training goes
    on."""
    factor: float = Field(1.0, gt=0, le=1)
    """Speed left under slow and degraded; the step is simulated again to see what this does to the job."""
    duration: Duration = TimeLaw(mean=0.0)
    """Of slow, degraded, planned and outage."""
    notice: Seconds = 0.0
    """A stop is announced so long before: the job saves its state at once if that will be durable in time, and works
    on. Clouds that preempt nodes tell 30 to 120 s before."""
    detection: Duration | None = None
    """Until it is noticed; absent: ``recovery.detection``."""
    recovery: RecoverySteps | None = None
    """Absent: that of the job."""
    span: int = Field(1, ge=1)
    """Nodes of one rack or power domain."""
    nodes_lost: int | None = Field(None, ge=0)
    """Nodes that go to repair; absent: the nodes that hang on the part (1 for what is inside a node, all nodes with a
    port on a leaf switch, ``span`` for a rack or less for the last; none for storage, the job, and a spine switch
    beside which there are others). Given, they are any so many nodes in a row."""
    survives_memory: Chance | None = None
    """Chance that checkpoints in memory or on local disks outlive the event; absent: worked out from the nodes that it
    takes and those that hold copies."""
    repair: Duration | None = None
    """Absent: ``spares.repair``."""
    infant_factor: float = Field(1.0, ge=1)
    """How much more often than later a new cluster fails (exponential only), fading with ``infant_decay``."""
    infant_decay: Seconds = 0.0
    lemon_share: Chance = 0.0
    """Share of parts that fail ``lemon_factor`` times as often."""
    lemon_factor: float = Field(1.0, gt=0)
    burst_probability: Chance = 0.0
    """Chance that an event brings ``burst_events`` more of its class within ``burst_window``."""
    burst_events: int = Field(0, ge=0)
    burst_window: Seconds = 0.0
    source: str = ""

    @model_validator(mode="after")
    def _says_how_often(self) -> Self:
        if (self.mtbf is None) == (self.share is None):
            message = 'needs either mtbf, such as "6000 days", or share, a weight above 0'
            raise PydanticCustomError("impossible", "{message}", {"message": message})
        if self.effect == "outage" and self.owner != "storage":
            message = f"effect = 'outage' needs owner: storage; the owner is {self.owner!r}"
            raise PydanticCustomError("impossible", "{message}", {"message": message})
        if self.notice and (self.effect != "stop" or self.renewal != "replaced"):
            message = "notice needs effect: stop and renewal: replaced"
            raise PydanticCustomError("impossible", "{message}", {"message": message})
        if self.infant_factor > 1 and self.law != "exponential":
            message = f"infant_factor = {self.infant_factor:g} needs law: exponential"
            raise PydanticCustomError("impossible", "{message}", {"message": message})
        return self


STEPS = re.compile(r"\s*([1-9][0-9]*)\s*steps?\s*")
RULES = ("young", "daly", "exact")
"""Intervals that are worked out."""


def _interval(value: Any) -> str:
    """A time, a number of steps, or a rule; kept as text."""
    if isinstance(value, str) and (value in RULES or STEPS.fullmatch(value)):
        return value
    try:
        if parse_quantity(value, "time") > 0:
            return str(value)
    except QuantityError:
        pass
    message = f'{value!r} is no interval; write for example "10 min", "100 steps", or one of {", ".join(RULES)}'
    raise PydanticCustomError("quantity", "{message}", {"message": message})


Interval = Annotated[str, BeforeValidator(_interval)]


class LocalDisk(Part):
    """Checkpoints on the SSDs of nodes: they outlive a process or a GPU whose node stays, but not a node."""

    interval: Interval = "exact"
    """Work between two: as ``checkpoint.interval``, by rule from the failures that they outlive. Where that is no
    shorter than ``checkpoint.interval``, none are written."""
    write: BytesPerSecond = Field("4 GB/s", gt=0)
    """Of one node; training waits for its part of the bytes over this. Assumed: one PCIe 4.0 x4 drive of data centre
    grade; put in your own."""
    read: BytesPerSecond = Field("6.5 GB/s", gt=0)
    """Of one node, at recovery. Assumed: the same drive."""


class CheckpointPolicy(Part):
    """When the state of the training is saved, and at what cost."""

    kind: Literal["none", "blocking", "async", "tiered", "just_in_time"] = "async"
    """blocking: training waits until it is written. async: only until it is copied to host memory. tiered: also into
    the memory of hosts, more often. just_in_time: survivors keep the state of the last step."""
    interval: Interval = "exact"
    """Useful work between two: a time, "100 steps", or the optimum by young (sqrt(2 M C)), daly (2006) or exactly."""
    stall: Seconds | None = None
    """Absent: blocking, the bytes over ``storage.write``; otherwise each GPU's part over its PCIe link."""
    persist: Seconds | None = None
    """From the stall's end until it is durable; absent: the bytes over ``storage.write``."""
    persist_speed: float | None = Field(None, gt=0, le=1)
    """Speed left to training while a checkpoint is on its way to storage; absent: worked out from
    ``storage.network``."""
    memory_interval: Interval = "1 step"
    """Work between two copies in memory, with tiered; one step with just_in_time."""
    memory_stall: Seconds = 0.0
    """Stall of a copy in memory: 0.01 to 0.04 s a step in ByteRobust, nothing where it hides under computation."""
    memory_copies: int = Field(2, ge=1)
    """Nodes that hold each node's state, itself included: an event that takes them all takes the checkpoint."""
    memory_placement: Literal["neighbour", "spread"] = "neighbour"
    """neighbour: groups of so many nodes in a row hold each other's state (the placement of GEMINI, SOSP 2023).
    spread: nodes as far apart as can be, hence under different leaf switches where there are enough."""
    memory_load: Seconds | None = None
    """Loading from memory; absent: each GPU's part over its PCIe link."""
    local: LocalDisk | None = None
    """Also on local disks, with kind blocking or async; a policy of ``spares`` that waits for the same nodes finds
    these checkpoints again."""
    after_last_segment: bool = True
    """Also at the end."""
    keep_last: int | None = Field(None, ge=1)
    """Checkpoints kept; absent: all. Where a silent corruption is in all of them, training starts over."""

    @model_validator(mode="after")
    def _has_one_fast_tier(self) -> Self:
        if self.local is not None and self.kind not in ("blocking", "async"):
            why = "saves nothing" if self.kind == "none" else "saves in memory"
            message = f"kind = {self.kind} {why}, and local saves on disks; allowed with local: kind blocking or async"
            raise PydanticCustomError("impossible", "{message}", {"message": message})
        return self


class Storage(Part):
    """Where checkpoints lie."""

    write: BytesPerSecond = Field("100 GB/s", gt=0)
    """All GPUs together. 50 to 200 GB/s in a survey of 85,000 production checkpoints (VAST Data); Llama 3: 2 TB/s."""
    read: BytesPerSecond = Field("100 GB/s", gt=0)
    network: Literal["frontend", "training"] = "frontend"
    """How checkpoints leave a node: by a network of their own, as large clusters have one for storage, or by the ports
    that training uses. Of these an asynchronous one gets at most half (max-min fairness), and training the rest; a
    blocking one gets all."""


class Spares(Part):
    """Nodes beyond those of the cluster, repair, and what the job does without enough nodes."""

    cold: int = Field(0, ge=0)
    """Spare nodes that do not run."""
    hot: int = Field(0, ge=0)
    """Spare nodes that run, and fail, like the others; taken first and without delay."""
    swap: Seconds = 0.0
    """To bring a cold one in."""
    repair: Duration = TimeLaw(mean="5.67 days", law="lognormal", shape=1.9)
    """Out of service: median 0.94 and mean 5.67 days among 400 servers (InfiniteHBD trace)."""
    crews: int | None = Field(None, ge=1)
    """Repairs at once; absent: any number."""
    repair_success: float = Field(1.0, gt=0, le=1)
    """Chance that a repair holds."""
    failures_while_stopped: bool = False
    policy: Literal["wait", "spare", "shrink", "replica"] = "spare"
    """Without enough nodes: wait (never using spares); wait for spares; go on with the data parallel replicas that are
    whole; or lose only the replica that failed and go on at once."""
    min_replicas: int = Field(1, ge=1)
    reconfigure: Seconds = 0.0
    """A change of the number of replicas without a recovery."""


class Reliability(Part):
    """What fails, how the job comes back, and what it saves. Absent: nothing fails."""

    title: str = ""
    mtbf_per_gpu: Annotated[Seconds, Field(gt=0)] | None = None
    """Time between two failures that stop the job, times its GPUs: the classes with a ``share`` divide them."""
    classes: dict[str, Failures] = {}
    recovery: RecoverySteps = RecoverySteps()
    checkpoint: CheckpointPolicy = CheckpointPolicy()
    storage: Storage = Storage()
    spares: Spares | None = None
    """Absent: whoever runs the cluster replaces a failed node within ``recovery.allocate``."""
    horizon: Annotated[Seconds, Field(gt=0)] | None = None
    """Stop after this time; absent: when all tokens are trained, or after 20 times as long as without failures."""
    runs: int = Field(100, ge=1)
    """Replicates that are simulated."""
    source: str = ""

    @model_validator(mode="after")
    def _shares_have_a_total(self) -> Self:
        shared = [name for name, c in self.classes.items() if c.share is not None]
        if shared and self.mtbf_per_gpu is None:
            message = f"classes.{shared[0]}.share needs mtbf_per_gpu, which it is a share of"
            raise PydanticCustomError("impossible", "{message}", {"message": message})
        if self.classes and self.mtbf_per_gpu is not None and not shared:
            message = "mtbf_per_gpu needs classes with a share, or no classes at all"
            raise PydanticCustomError("impossible", "{message}", {"message": message})
        return self
