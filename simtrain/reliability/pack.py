"""A Job as arrays of numbers, which the compiled functions of :mod:`simtrain.reliability.machine` read."""

from __future__ import annotations

import math
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from simtrain.reliability.job import Checkpoint, Effect, FailureClass, Fleet, Job, Law, Recovery
from simtrain.reliability.philox import key_of
from simtrain.reliability.result import BUCKETS

__all__ = ["Model", "pack"]

Floats = NDArray[np.float64]

EFFECTS = get_args(Effect)
POLICIES = ("wait", "spare", "shrink", "replica")
WHOLE = ("job", "storage")
"""Owners whose failures stop every replica, wherever they strike."""

# columns of a class
(
    COMPONENTS, LAW, SYSTEM, EFFECT, FACTOR, DURATION, LOST, DETECTION, RECOVERY, MEMORY_RECOVERY, SURVIVES, REPAIR,
    STOPS_ALL, KEY, INFANT, DECAY, LEMON_SHARE, LEMON_FACTOR, BURST, BURST_EVENTS, BURST_WINDOW, DETAIL, NOTICE, SINGLE,
) = range(24)  # fmt: skip
# of a law
KIND, A, B, FIRST, LAST = range(5)
# of a recovery
FROM, TO, INTERRUPTIBLE, FAILS = range(4)
# of the job
(
    WORK, HORIZON, TAU, PARTS, MEMORY_STALL, STALL, PERSIST, SPEED, AFTER, KEEP, TIERED, BLOCKS, FLEET, NODES, HOT,
    COLD, SWAP, HOLDS, FAILS_STOPPED, FAILS_IDLE, POLICY, PER_REPLICA, MIN_REPLICAS, REGROUP, JOB_RECOVERY,
    RECOVERY_KEY,
) = range(26)  # fmt: skip


class Model(NamedTuple):
    """A Job.

    Attributes:
        job: (26,) settings of the job.
        classes: (c, 24), laws: (l, 5), recoveries: (r, 4), phases: (p, 2) bucket and law, table: (t,) of all laws.
    """

    job: Floats
    classes: Floats
    laws: Floats
    recoveries: Floats
    phases: Floats
    table: Floats


class _Tables:
    def __init__(self) -> None:
        self.laws: list[list[float]] = []
        self.recoveries: list[list[float]] = []
        self.phases: list[list[float]] = []
        self.table: list[float] = []

    def law(self, law: Law) -> int:
        first = len(self.table)
        self.table += law.values.tolist()
        self.laws.append([law.code, *law.parameters, first, len(self.table)])
        return len(self.laws) - 1

    def recovery(self, recovery: Recovery) -> int:
        rows: list[list[float]] = [[BUCKETS.index(bucket), self.law(law)] for bucket, law in recovery.phases]
        first = len(self.phases)
        self.phases += rows
        last = len(self.phases)
        self.recoveries.append([first, last, recovery.interruptible, recovery.failure_probability])
        return len(self.recoveries) - 1


def pack(job: Job) -> Model:
    """The arrays of a Job."""
    tables = _Tables()
    usual = tables.recovery(job.recovery)
    memory = job.checkpoint.memory_recovery
    from_memory = tables.recovery(memory) if memory else usual
    repair = tables.law(job.fleet.repair if job.fleet else Law())
    classes = [_class(c, tables, usual, from_memory, repair) for c in job.classes]
    numbers = [job.work_s, job.horizon_s, *_checkpoint(job.checkpoint), *_fleet(job.fleet), usual, key_of("recovery")]
    return Model(
        np.array(numbers, dtype=np.float64),
        np.array(classes, dtype=np.float64).reshape(len(classes), SINGLE + 1),
        np.array(tables.laws, dtype=np.float64),
        np.array(tables.recoveries, dtype=np.float64),
        np.array(tables.phases, dtype=np.float64).reshape(len(tables.phases), 2),
        np.array(tables.table, dtype=np.float64),
    )


def _class(c: FailureClass, tables: _Tables, usual: int, from_memory: int, repair: int) -> list[float]:
    recovery = tables.recovery(c.recovery) if c.recovery else usual
    return [
        c.components,
        tables.law(c.law),
        c.renewal == "system",
        EFFECTS.index(c.effect),
        c.factor,
        tables.law(c.duration),
        c.nodes_lost,
        tables.law(c.detection),
        recovery,
        from_memory,
        c.survives_memory,
        tables.law(c.repair) if c.repair else repair,
        c.owner in WHOLE,
        key_of(c.name),
        c.infant_factor,
        c.infant_decay_s,
        c.lemon_share,
        c.lemon_factor,
        c.burst_probability,
        c.burst_events,
        c.burst_window_s,
        c.detection.kind not in ("fixed", "instants") or 0 < c.survives_memory < 1,
        c.notice_s,
        c.law.kind == "exponential" or c.components <= 1,
    ]


def _checkpoint(c: Checkpoint) -> list[float]:
    none, tiered = c.kind == "none", c.kind in ("tiered", "just_in_time")
    micro = c.memory_interval_s if tiered else c.interval_s
    return [
        math.inf if none else micro,
        c.parts,
        c.memory_stall_s if tiered else 0.0,
        c.stall_s,
        c.persist_s if c.kind != "blocking" else 0.0,
        c.persist_speed,
        c.after_last_segment and not none,
        c.keep_last if c.keep_last is not None else math.inf,
        tiered,
        c.kind == "blocking",
    ]


def _fleet(fleet: Fleet | None) -> list[float]:
    if fleet is None:
        return [0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    waits = fleet.policy == "wait"
    return [
        1.0,
        fleet.nodes,
        0 if waits else fleet.hot_spares,
        0 if waits else fleet.spares,
        fleet.swap_s,
        fleet.repair_success,
        fleet.failures_while_stopped,
        fleet.idle_nodes_fail,
        POLICIES.index(fleet.policy),
        fleet.nodes_per_replica,
        fleet.min_replicas,
        fleet.reconfigure_s,
    ]
