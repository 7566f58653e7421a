"""A log of incidents replayed: what a job would have made of exactly these failures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from simtrain.engines import Engine
from simtrain.errors import InputError
from simtrain.reliability.engines import simulate
from simtrain.reliability.incidents import Incident, IncidentLog
from simtrain.reliability.job import Checkpoint, FailureClass, Fleet, Job, Law, Recovery
from simtrain.reliability.traces import FaultTrace, merge

__all__ = ["Replay", "as_trace", "merged", "replay"]


@dataclass(frozen=True, slots=True)
class Replay:
    """One run through a log; nothing in it is random.

    Attributes:
        goodput: useful work over the length of the record.
        can_run: share of the time with enough healthy nodes; None without a fleet.
        throughput: of a job that shrinks to whole replicas, relative to full width; None where it cannot shrink.
    """

    engine: str
    observed_s: float
    failures: int
    goodput: float
    recovery_can_fail: bool
    ledger: dict[str, float]
    mean_down: float
    most_down: int
    can_run: float | None
    throughput: float | None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "engine": self.engine,
            "observed_s": self.observed_s,
            "failures": self.failures,
            "goodput": self.goodput,
            "recovery_can_fail": self.recovery_can_fail,
            "ledger": self.ledger,
            "mean_nodes_down": self.mean_down,
            "max_nodes_down": self.most_down,
            "fraction_time_job_can_run": self.can_run,
            "mean_relative_throughput": self.throughput,
        }


def merged(log: IncidentLog) -> tuple[Incident, ...]:
    """Incidents with those that overlap on one node made into one, which keeps the class of the first.

    An incident without a node stands for itself; one without an end takes no time.
    """
    by_node: dict[str, list[Incident]] = {}
    for number, incident in enumerate(log.incidents):
        by_node.setdefault(incident.node or f"\0{number}", []).append(incident)
    found = []
    for node, incidents in by_node.items():
        first = {incident.time_s: incident.name for incident in reversed(incidents)}
        spans = merge((incident.time_s, incident.time_s + (incident.repair_s or 0.0)) for incident in incidents)
        found += [Incident(start, first[start], node, end - start) for start, end in spans]
    return tuple(sorted(found, key=lambda incident: incident.time_s))


def as_trace(log: IncidentLog) -> FaultTrace:
    """When each node was down, cut off at the end of the record."""
    down: dict[str, list[tuple[float, float]]] = {}
    for each in merged(log):
        down.setdefault(each.node, []).append((each.time_s, min(each.time_s + (each.repair_s or 0.0), log.observed_s)))
    starts = tuple(incident.time_s for incident in log.incidents)
    return FaultTrace({node: tuple(spans) for node, spans in down.items()}, starts, log.observed_s)


def replay_classes(log: IncidentLog, *, repairs: bool) -> tuple[FailureClass, ...]:
    """A class for each name, failing at the instants of the log; with ``repairs`` each takes a node for its time."""
    incidents = [incident for incident in merged(log) if incident.time_s < log.observed_s]
    classes = []
    for name in sorted({incident.name for incident in incidents}):
        mine = [incident for incident in incidents if incident.name == name]
        classes.append(
            FailureClass(
                name=name,
                law=Law("instants", table=tuple(incident.time_s for incident in mine)),
                nodes_lost=int(repairs),
                repair=Law("instants", table=tuple(incident.repair_s or 0.0 for incident in mine)),
            )
        )
    return tuple(classes)


def replay(
    log: IncidentLog,
    interval_s: float,
    checkpoint_s: float,
    recovery: Recovery,
    fleet: Fleet | None = None,
    engine: Engine = "auto",
) -> Replay:
    """Train through the whole record with blocking checkpoints, or without any where the interval is endless.

    Args:
        log: what happened.
        interval_s: useful work between checkpoints.
        checkpoint_s: stall of each.
        recovery: after each failure.
        fleet: nodes, spares and policy; its ``repair`` is not used: each incident has its own. None: nodes are
            replaced at once.
        engine: which one runs.

    Raises:
        InputError: the fleet is larger than the record can tell anything about.
    """
    trace = as_trace(log)
    checkpoint = Checkpoint()
    if interval_s < math.inf:
        checkpoint = Checkpoint(kind="blocking", interval_s=interval_s, stall_s=checkpoint_s)
    classes = replay_classes(log, repairs=fleet is not None)
    if not classes:
        raise InputError("the record holds no incident before its end")
    job = Job(horizon_s=log.observed_s, classes=classes, recovery=recovery, checkpoint=checkpoint, fleet=fleet)
    result = simulate(job, 1, 0, engine)
    can_run = throughput = None
    if fleet is not None:
        can_run = trace.share(fleet.spares)
        if fleet.policy in ("shrink", "replica"):
            width = fleet.nodes // fleet.nodes_per_replica
            throughput = trace.throughput(fleet.nodes + fleet.spares, width, fleet.nodes_per_replica)
    return Replay(
        result.engine,
        log.observed_s,
        int(result.failures[0].sum()),
        result.goodput,
        result.recovery_can_fail,
        result.shares(),
        trace.mean_down(),
        trace.most_down(),
        can_run,
        throughput,
    )
