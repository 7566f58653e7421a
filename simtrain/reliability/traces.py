"""Recorded faults: reading a trace of fault starts and ends, and how many nodes were down when.

A trace is a JSON list of events ``{"node_id", "event_time", "event_type", ...}`` with times in days and types
``fault_start`` and ``fault_end``: the format of InfiniteHBD-Trace (SIGCOMM 2025, arXiv 2502.03885).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import InputError

__all__ = ["DAY_S", "FaultTrace", "merge", "read_trace"]

DAY_S = 86400.0
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class FaultTrace:
    """When each node was down.

    Attributes:
        down: by node, intervals (start_s, end_s), disjoint and in order.
        starts_s: starts of all faults as recorded, in order.
        horizon_s: end of the record; it begins at 0.
    """

    down: dict[str, tuple[Span, ...]]
    starts_s: tuple[float, ...]
    horizon_s: float

    def counts(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Lengths of the stretches with a constant number of nodes down, in seconds, and that number; (n,), (n,)."""
        spans = [span for spans in self.down.values() for span in spans]
        times = np.array([t for span in spans for t in span] + [0.0, self.horizon_s])
        steps = np.array([1, -1] * len(spans) + [0, 0])
        order = np.argsort(times, kind="stable")
        return np.diff(times[order]), np.cumsum(steps[order])[:-1]

    def mean_down(self) -> float:
        """Nodes down, averaged over time."""
        return math.fsum(end - start for spans in self.down.values() for start, end in spans) / self.horizon_s

    def most_down(self) -> int:
        """Nodes down at once, for longer than an instant, at most."""
        lengths, down = self.counts()
        return int(down[lengths > 0].max(initial=0))

    def share(self, most_down: int) -> float:
        """Share of the time in which at most ``most_down`` nodes are down: with so many spares a job can run."""
        lengths, down = self.counts()
        return math.fsum(lengths[down <= most_down]) / self.horizon_s

    def throughput(self, nodes: int, data_parallel: int, nodes_per_replica: int) -> float:
        """Mean width, relative to full, of a job that shrinks to the replicas that healthy nodes can form."""
        lengths, down = self.counts()
        replicas = np.clip((nodes - down) // nodes_per_replica, 0, data_parallel)
        return math.fsum(lengths * replicas) / data_parallel / self.horizon_s


def merge(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Overlapping and touching intervals as one, in order."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def read_trace(path: Path) -> FaultTrace:
    """Read a trace; a fault that never ends lasts to the last event.

    Raises:
        InputError: no such file, no JSON, or an event that is not one; names the event by its place from 0.
    """
    # at one instant starts come before ends, so that a fault of no length is one
    events = sorted(_events(path), key=lambda event: (event[1], event[3], event[2]))
    if not events:
        raise InputError(f"{path}: the trace has no events")
    horizon = events[-1][1]
    if horizon <= 0:
        raise InputError(f"{path}: all events are at time 0; a trace needs a length")
    open_since: dict[str, list[float]] = {}
    spans: dict[str, list[Span]] = {}
    for node, time, place, ends in events:
        waiting = open_since.setdefault(node, [])
        if not ends:
            waiting.append(time)
        elif waiting:
            spans.setdefault(node, []).append((waiting.pop(0), time))
        else:
            raise InputError(
                f"{path}: event {place} ends a fault of node {node!r} that has none; event_type fault_start"
            )
    for node, waiting in open_since.items():
        spans.setdefault(node, []).extend((start, horizon) for start in waiting)
    starts = tuple(time for _, time, _, ends in events if not ends)
    return FaultTrace({node: merge(found) for node, found in spans.items()}, starts, horizon)


def _events(path: Path) -> list[tuple[str, float, int, bool]]:
    """(node, time_s, place in the file, whether it ends a fault) of each event."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"no trace file {str(path)!r}: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    if not isinstance(document, list):
        raise InputError(f"{path} is not a trace: it must be a list of events")
    return [_event(path, place, event) for place, event in enumerate(document)]


def _event(path: Path, place: int, event: Any) -> tuple[str, float, int, bool]:
    where = f"{path}: event {place}"
    if not isinstance(event, dict):
        raise InputError(f"{where} is not a mapping with node_id, event_time and event_type")
    for key in ("node_id", "event_time", "event_type"):
        if key not in event:
            raise InputError(f"{where} has no {key}; it needs node_id, event_time (days) and event_type")
    time, kind = event["event_time"], event["event_type"]
    if isinstance(time, bool) or not isinstance(time, int | float) or not (math.isfinite(time) and time >= 0):
        raise InputError(f"{where}: event_time = {time!r} must be a finite number of days, at least 0")
    if kind not in ("fault_start", "fault_end"):
        raise InputError(f"{where}: event_type = {kind!r}; allowed: fault_start, fault_end")
    return str(event["node_id"]), float(time) * DAY_S, place, kind == "fault_end"
