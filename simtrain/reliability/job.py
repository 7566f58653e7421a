"""What both engines run: a Job of work, failures, recoveries, checkpoints and spares, in SI units; and its result.

Nothing here knows a model or a cluster: a scenario is turned into a Job elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import InputError
from simtrain.reliability import laws
from simtrain.reliability.result import BUCKETS, Event, RunResult

__all__ = [
    "BUCKETS",
    "Checkpoint",
    "Effect",
    "Event",
    "FailureClass",
    "Fleet",
    "Job",
    "Law",
    "Phase",
    "Recovery",
    "RunResult",
]

Floats = NDArray[np.float64]

Phase = Literal["diagnose", "allocate", "start", "communicator", "load", "warmup", "recovery"]
Effect = Literal["stop", "hang", "slow", "degraded", "corrupt", "planned", "outage"]


def _check(where: object, **conditions: tuple[bool, str]) -> None:
    """Raise InputError for the first condition that does not hold: key=(holds, what is allowed)."""
    for key, (holds, allowed) in conditions.items():
        if not holds:
            name = f"{type(where).__name__}.{key}"
            raise InputError(f"{name} = {getattr(where, key)!r} is impossible; allowed: {allowed}")


@dataclass(frozen=True, slots=True)
class Law:
    """A distribution of times.

    Attributes:
        kind: fixed | exponential | weibull | lognormal | hazard (constant pieces of failure rate) | instants (the
            j-th draw is ``table[j]``: as the law of a class absolute instants, otherwise durations).
        mean_s: mean; of hazard and instants it is worked out and need not be given.
        shape: weibull: shape k; lognormal: sigma.
        table: instants in s; or starts of the hazard's pieces in s, the first being 0.
        rates_per_s: (len(table),) hazard of each piece, the last above 0.
    """

    kind: Literal["fixed", "exponential", "weibull", "lognormal", "hazard", "instants"] = "fixed"
    mean_s: float = 0.0
    shape: float = 1.0
    table: tuple[float, ...] = ()
    rates_per_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        table, rates = np.asarray(self.table, float), np.asarray(self.rates_per_s, float)
        starts = len(table) > 0 and table[0] == 0.0
        _check(
            self,
            kind=(self.kind in laws.KINDS, ", ".join(laws.KINDS)),
            mean_s=(math.isfinite(self.mean_s) and self.mean_s >= 0, "a finite time of 0 s or more"),
            shape=(math.isfinite(self.shape) and self.shape > 0, "a finite number above 0"),
            table=(
                bool(np.isfinite(table).all() and (table >= 0).all()) and (self.kind != "hazard" or starts),
                "finite times of 0 s or more; for a hazard the first is 0",
            ),
            rates_per_s=(
                self.kind != "hazard"
                or (len(rates) == len(table) and bool((rates >= 0).all()) and float(rates[-1]) > 0),
                "as many rates as times, 0 or more, the last above 0",
            ),
        )
        rising = self.kind != "hazard" or bool((np.diff(table) > 0).all())
        _check(self, table=(rising, "starts of pieces in rising order"))

    @staticmethod
    def of_median(median_s: float, sigma: float) -> Law:
        """The lognormal law of a median and a sigma."""
        return Law("lognormal", median_s * math.exp(0.5 * sigma * sigma), sigma)

    @property
    def code(self) -> int:
        """Number of the kind for compiled code."""
        return laws.KINDS.index(self.kind)

    @property
    def parameters(self) -> tuple[float, float]:
        """``a`` and ``b`` of :func:`simtrain.reliability.laws.quantile`."""
        if self.kind == "weibull":
            return self.mean_s / math.gamma(1.0 + 1.0 / self.shape), self.shape
        if self.kind == "lognormal":
            return self.mean_s * math.exp(-0.5 * self.shape**2), self.shape
        return self.mean_s, 0.0

    @property
    def values(self) -> Floats:
        """``table`` of :func:`simtrain.reliability.laws.quantile`."""
        return np.array([*self.table, *self.rates_per_s], dtype=np.float64)

    @property
    def mean(self) -> float:
        """Mean in s: ``mean_s``, that of the table, or the integral of the hazard's survival function."""
        if self.kind == "instants":
            return float(np.mean(self.table)) if self.table else math.inf
        if self.kind != "hazard":
            return self.mean_s
        total, survival = 0.0, 1.0
        for i, (start, rate) in enumerate(zip(self.table, self.rates_per_s, strict=True)):
            length = self.table[i + 1] - start if i + 1 < len(self.table) else math.inf
            after = survival * math.exp(-rate * length) if rate else survival
            total += (survival - after) / rate if rate else survival * length
            survival = after
        return total

    def quantile(self, u: Floats) -> Floats:
        """Times in s below which a share u of draws falls; (n,) for (n,) u.

        Raises:
            InputError: instants have no distribution.
        """
        if self.kind == "instants":
            raise InputError("a law of instants has no quantiles")
        a, b = self.parameters
        found: Floats = laws.quantiles(self.code, a, b, self.values, np.asarray(u, dtype=np.float64))
        return found


NOTHING = Law()
"""No time at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """From the end of detection to the first useful step.

    Attributes:
        phases: (bucket, law) one after the other.
        interruptible: True: a failure meanwhile (detection included) starts all over; False: none strikes: what would
            have failed is replaced silently.
        failure_probability: chance that a recovery fails at its very end and its phases run again.
    """

    phases: tuple[tuple[Phase, Law], ...] = ()
    interruptible: bool = True
    failure_probability: float = 0.0

    def __post_init__(self) -> None:
        known = BUCKETS[BUCKETS.index("diagnose") : BUCKETS.index("recovery") + 1]
        _check(
            self,
            phases=(all(bucket in known for bucket, _ in self.phases), f"buckets {', '.join(known)}"),
            failure_probability=(0 <= self.failure_probability < 1, "0 to below 1"),
        )

    @property
    def mean_s(self) -> float:
        """Mean duration of one successful pass."""
        return sum(law.mean for _, law in self.phases)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureClass:
    """One source of failures: ``components`` parts, each failing by ``law``.

    Attributes:
        name: identifies the class and its random numbers.
        owner: what fails (gpu, gpu_memory, nic, link, node, leaf_switch, rack, power_domain, storage, job, ...); a
            class owned by ``job`` or ``storage`` stops every replica.
        components: parts of this kind under the job and its hot spares.
        law: time to failure of one part.
        renewal: replaced: the failed part alone starts anew; system: one clock for the whole class (``law`` is the
            system's, ``components`` 1) that starts anew when the job runs again.
        effect: stop | hang: the job stops (``detection`` says after how long it is noticed); slow | degraded: work
            goes on at ``factor`` of its speed for ``duration``; corrupt: silent, noticed after ``detection``, and work
            falls back to the last checkpoint before it; planned: a stop of ``duration`` that loses no work; outage
            (owner storage): for ``duration`` nothing is written to storage or read from it while training goes on: a
            persist or a blocking stall under way goes on afterwards, and the ``load`` phase of a recovery from
            storage waits (an undivided ``recovery`` does not: nobody knows when it loads).
        notice_s: an event (of effect stop) is announced so long before; further ones of a burst are not. A job that it
            will stop takes a checkpoint then, if that will be durable in time, and works on until the stop.
        nodes_lost: nodes that go to repair at each event.
        recovery: from storage; None: the job's.
        survives_memory: chance that a memory checkpoint survives.
        repair: of these nodes; None: the fleet's.
        infant_factor, infant_decay_s: exponential classes only: the rate is (1 + (infant_factor - 1) exp(-t / decay))
            times that of old age, t wall time since the start.
        lemon_share, lemon_factor: this share of parts fails ``lemon_factor`` times as often, for good.
        burst_probability, burst_events, burst_window_s: an event brings, with this chance, further ones of its class
            within the window, evenly spread at random.
    """

    name: str
    owner: str = "node"
    components: int = 1
    law: Law = field(default_factory=lambda: NOTHING)
    renewal: Literal["replaced", "system"] = "replaced"
    effect: Effect = "stop"
    factor: float = 1.0
    duration: Law = NOTHING
    notice_s: float = 0.0
    nodes_lost: int = 0
    detection: Law = NOTHING
    recovery: Recovery | None = None
    survives_memory: float = 1.0
    repair: Law | None = None
    infant_factor: float = 1.0
    infant_decay_s: float = 0.0
    lemon_share: float = 0.0
    lemon_factor: float = 1.0
    burst_probability: float = 0.0
    burst_events: int = 0
    burst_window_s: float = 0.0

    def __post_init__(self) -> None:
        endless = self.law.kind != "instants" and self.law.mean <= 0
        single = self.components == 1 or (self.law.kind != "instants" and self.renewal == "replaced")
        _check(
            self,
            components=(self.components >= 0 and single, "0 or more; 1 with instants and with renewal system"),
            law=(not endless, "a mean above 0 s"),
            effect=(self.effect in get_args(Effect), ", ".join(get_args(Effect))),
            owner=(self.effect != "outage" or self.owner == "storage", "storage, with effect outage"),
            notice_s=(
                self.notice_s == 0
                or (0 < self.notice_s < math.inf and self.effect == "stop" and self.renewal == "replaced"),
                "0 s; more with effect stop and renewal replaced",
            ),
            factor=(0 < self.factor <= 1, "above 0 to 1"),
            nodes_lost=(self.nodes_lost >= 0, "0 or more"),
            survives_memory=(0 <= self.survives_memory <= 1, "0 to 1"),
            infant_factor=(
                self.infant_factor == 1 or (self.infant_factor >= 1 and self.law.kind == "exponential"),
                "1 or more, with an exponential law",
            ),
            lemon_share=(0 <= self.lemon_share <= 1, "0 to 1"),
            lemon_factor=(self.lemon_factor > 0, "above 0"),
            burst_probability=(0 <= self.burst_probability <= 1, "0 to 1"),
            burst_events=(self.burst_events >= 0, "0 or more"),
        )

    @property
    def rate_per_s(self) -> float:
        """Events per second in the long run, whatever the law (renewal theorem); infinite gaps count as none."""
        mean = self.law.mean
        return self.components * (1 + self.lemon_share * (self.lemon_factor - 1)) / mean if mean else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """When state is saved, what that costs, and what a failure leaves.

    Attributes:
        kind: none; blocking: durable when the stall ends; async: durable ``persist_s`` after it, and the next stall
            lasts until the previous checkpoint is durable; tiered: every ``memory_interval_s`` also into memory;
            just_in_time: tiered, the memory interval being one step and its stall usually 0.
        interval_s: useful work between two (durable) checkpoints.
        stall_s: training stands still so long for each.
        persist_s: from the end of the stall until it is durable.
        persist_speed: speed of training while a checkpoint is on its way to storage; by what this lets work take
            longer, the bucket ``checkpoint`` grows.
        memory_interval_s, memory_stall_s: the same for memory checkpoints; ``interval_s`` is rounded to a multiple.
        memory_recovery: from memory, where it survives; None: the job's.
        after_last_segment: also at the end of the work.
        keep_last: durable checkpoints kept; if all of them hold a silent corruption, work starts over; None: all.
    """

    kind: Literal["none", "blocking", "async", "tiered", "just_in_time"] = "none"
    interval_s: float = math.inf
    stall_s: float = 0.0
    persist_s: float = 0.0
    persist_speed: float = 1.0
    memory_interval_s: float = math.inf
    memory_stall_s: float = 0.0
    memory_recovery: Recovery | None = None
    after_last_segment: bool = True
    keep_last: int | None = None

    def __post_init__(self) -> None:
        memory = self.kind in ("tiered", "just_in_time")
        _check(
            self,
            interval_s=(
                self.interval_s > 0 and (not memory or self.interval_s < math.inf),
                "above 0 s, finite with memory",
            ),
            stall_s=(0 <= self.stall_s < math.inf, "0 s or more"),
            persist_s=(0 <= self.persist_s < math.inf, "0 s or more"),
            persist_speed=(0 < self.persist_speed <= 1, "above 0 to 1"),
            memory_interval_s=(
                not memory or 0 < self.memory_interval_s <= self.interval_s,
                "above 0 s, up to interval_s",
            ),
            memory_stall_s=(0 <= self.memory_stall_s < math.inf, "0 s or more"),
            keep_last=(self.keep_last is None or self.keep_last >= 1, "1 or more, or None"),
        )

    @property
    def parts(self) -> int:
        """Memory checkpoints for each durable one; 1 without memory checkpoints."""
        if self.kind not in ("tiered", "just_in_time"):
            return 1
        return max(1, round(self.interval_s / self.memory_interval_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Nodes, spares and repair.

    Attributes:
        nodes: what the job uses at full width.
        spares: cold ones, which do not fail.
        hot_spares: ones that run and fail like the others (classes count their components too); taken first.
        swap_s: to put a cold spare in (bucket allocate); hot ones take none.
        repair: out of service; crews: repairs at once, None: any number; repair_success: chance that a repair
            holds, otherwise it is done again.
        failures_while_stopped: nodes go on failing while the job waits for nodes.
        idle_nodes_fail: so do hot spares and nodes that form no whole replica.
        policy: wait and spare: stop until all nodes are there (wait uses no spares); shrink: after the recovery go on
            with the replicas that are whole; replica: the others go on at once, without falling back, and the
            one that failed joins again after its recovery.
        nodes_per_replica: of data parallelism; any healthy nodes form one.
        min_replicas: fewer wait.
        reconfigure_s: whenever the number of replicas changes without a recovery (bucket communicator).
    """

    nodes: int
    spares: int = 0
    hot_spares: int = 0
    swap_s: float = 0.0
    repair: Law = NOTHING
    crews: int | None = None
    repair_success: float = 1.0
    failures_while_stopped: bool = False
    idle_nodes_fail: bool = True
    policy: Literal["wait", "spare", "shrink", "replica"] = "spare"
    nodes_per_replica: int = 1
    min_replicas: int = 1
    reconfigure_s: float = 0.0

    def __post_init__(self) -> None:
        _check(
            self,
            nodes=(self.nodes >= 1, "1 or more"),
            spares=(self.spares >= 0, "0 or more"),
            hot_spares=(self.hot_spares >= 0, "0 or more"),
            swap_s=(0 <= self.swap_s < math.inf, "0 s or more"),
            crews=(self.crews is None or self.crews >= 1, "1 or more, or None"),
            repair_success=(0 < self.repair_success <= 1, "above 0 to 1"),
            policy=(self.policy in ("wait", "spare", "shrink", "replica"), "wait, spare, shrink, replica"),
            nodes_per_replica=(
                1 <= self.nodes_per_replica <= self.nodes and self.nodes % self.nodes_per_replica == 0,
                f"a divisor of nodes = {self.nodes}",
            ),
            min_replicas=(
                1 <= self.min_replicas <= self.nodes // max(1, self.nodes_per_replica),
                "1 to nodes / nodes_per_replica",
            ),
            reconfigure_s=(0 <= self.reconfigure_s < math.inf, "0 s or more"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything an engine needs.

    Attributes:
        work_s: useful seconds at full speed after which the job is done.
        horizon_s: wall time at which it ends at the latest; one of both must be finite.
    """

    work_s: float = math.inf
    horizon_s: float = math.inf
    classes: tuple[FailureClass, ...] = ()
    recovery: Recovery = field(default_factory=Recovery)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    fleet: Fleet | None = None

    def __post_init__(self) -> None:
        names = [c.name for c in self.classes]
        _check(
            self,
            work_s=(self.work_s > 0 and min(self.work_s, self.horizon_s) < math.inf, "above 0 s; or give horizon_s"),
            horizon_s=(self.horizon_s > 0, "above 0 s"),
            classes=(len(set(names)) == len(names), "classes of different names"),
        )

    @property
    def rate_per_s(self) -> float:
        """Events per second that stop the job, in the long run."""
        return sum(c.rate_per_s for c in self.classes if c.effect in ("stop", "hang"))
