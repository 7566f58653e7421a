"""The compiled engine: one loop over all events of a run, in machine code, and over many runs."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import SimtrainError
from simtrain.jit import jit_in_place
from simtrain.reliability.draws import burst, gap, service
from simtrain.reliability.job import FailureClass, Job
from simtrain.reliability.machine import announced, begin, found, happen, returned, slow_ends
from simtrain.reliability.pack import BURST, BURST_EVENTS, COMPONENTS, HORIZON, NOTICE, SINGLE, SYSTEM, Model
from simtrain.reliability.progress import (
    DONE,
    FOUND_AT,
    JOIN_AT,
    JOINING,
    MODE,
    NOW,
    RESTARTS,
    TO_SHOP,
    UNTIL,
    State,
    advance,
)
from simtrain.reliability.recovery import due

__all__ = ["Runner"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_PENDING = 1024
"""Room for what is pending at once beyond nodes and bursts."""
_BACK = -1.0
"""Code of a node that comes back; others hold a class that strikes again in a burst, or, for an event that has been
announced, one as many further on as there are classes."""


class Runner:
    """The arrays of a run, used again for every replicate."""

    def __init__(self, job: Job, model: Model) -> None:
        classes, fleet = len(model.classes), job.fleet
        one_by_one = [0 if c.law.kind == "exponential" or c.components == 1 else c.components for c in job.classes]
        bursts = sum(c.burst_events for c in job.classes)
        known = sum(map(_known_ahead, job.classes))
        nodes = 2 * (fleet.nodes + fleet.spares + fleet.hot_spares) if fleet else 0
        self._model = model
        self._arrays = (
            np.zeros(classes),
            np.zeros(classes),
            np.zeros((2, classes + 1), dtype=np.int64),
            np.zeros((_PENDING + nodes + 64 * bursts + known, 4)),
            np.zeros((sum(one_by_one), 2)),
            np.concatenate([[0], np.cumsum(one_by_one)]).astype(np.int64),
            np.zeros(sum(one_by_one), dtype=np.int64),
            np.zeros(fleet.crews if fleet and fleet.crews else 0),
        )

    def run(self, state: State, replicate: int) -> None:
        """Bring ``state`` to the end of a replicate.

        Raises:
            SimtrainError: more was pending at once than there is room for.
        """
        if not _run(self._model, state, *self._arrays, replicate):
            raise SimtrainError("more events of bursts, or announced ones, are pending at once than there is room for")


def _known_ahead(c: FailureClass) -> int:
    """Room for events that have been announced and have yet to come: four times as many as there are on average."""
    if not c.notice_s or c.law.kind == "instants":
        return len(c.law.table)
    return int(4 * c.notice_s * c.rate_per_s)


@jit_in_place
def _run(
    m: Model, st: State, next_s: Floats, who: Floats, drawn: Ints, heap: Floats, parts: Floats, first: Ints,
    lives: Ints, crews: Floats, replicate: int,
) -> bool:  # fmt: skip
    """Run one replicate; False where the heap was full.

    Shapes: ``next_s``, ``who`` (c,) next event of a class and who fails; ``drawn`` (2, c) times and events so far;
    ``heap`` (n, 4) time, number, code, position of what is pending, at equal times in the order in which it came;
    ``drawn[:, c]`` are its length and how much came so far; ``parts`` (p, 2) time and
    number of the parts of classes drawn one by one, each class a heap from ``first[c]`` on; ``lives`` (p,) draws of a
    part; ``crews`` (k,) when each is free, none: any number.
    """
    begin(m, st, replicate)
    s, classes = st.s, len(m.classes)
    drawn[:, :] = 0
    crews[:] = 0.0
    lives[:] = 0
    for c in range(classes):
        _first(m, st, c, next_s, who, drawn, parts, first, lives)
    horizon, restarts = m.job[HORIZON], 0.0
    while s[MODE] != DONE:
        now, what = s[UNTIL], -1
        if s[FOUND_AT] < now:
            now, what = s[FOUND_AT], -2
        for c in range(classes):
            if 0.0 < st.slow_until[c] < now:
                now, what = st.slow_until[c], -4 - c
        if drawn[0, classes] and heap[0, 0] < now:
            now, what = heap[0, 0], -3
        for c in range(classes):
            known = max(0.0, next_s[c] - m.classes[c, NOTICE])
            if known < now:
                now, what = known, c
        if now >= horizon:
            advance(m, st, horizon)
            break
        if what >= 0:
            strike, position = next_s[what], who[what]
            _next(m, st, what, strike, next_s, who, drawn, parts, first, lives)
            if m.classes[what, NOTICE] > 0.0:
                announced(m, st, what, now, strike, position)
                _push(heap, drawn, strike, float(what + classes), position)
            else:
                _event(m, st, what, now, position, drawn, heap, crews, True)
        elif what == -1:
            due(m, st)
        elif what == -2:
            found(m, st)
        elif what == -3:
            code, position = heap[0, 2], heap[0, 3]
            drawn[0, classes] -= 1
            _sink(heap, 0, drawn[0, classes])
            if code == _BACK:
                returned(m, st, now)
            elif code < classes:
                _event(m, st, int(code), now, position, drawn, heap, crews, False)
            else:
                _event(m, st, int(code) - classes, now, position, drawn, heap, crews, True)
        else:
            slow_ends(m, st, -4 - what)
        if s[RESTARTS] != restarts:
            restarts = s[RESTARTS]
            for c in range(classes):
                if m.classes[c, SYSTEM]:
                    next_s[c], who[c] = gap(m, st, c, 0, drawn[0, c], s[NOW])
                    drawn[0, c] += 1
        if drawn[0, classes] >= len(heap):
            return False
    return True


@jit_in_place
def _first(
    m: Model, st: State, c: int, next_s: Floats, who: Floats, drawn: Ints, parts: Floats, first: Ints, lives: Ints
) -> None:
    """First failure of a class."""
    n = int(m.classes[c, COMPONENTS])
    next_s[c] = math.inf
    if n == 0:
        return
    if m.classes[c, SINGLE]:
        next_s[c], who[c] = gap(m, st, c, 0, 0, 0.0)
        drawn[0, c] = 1
        return
    begin_at = first[c]
    for i in range(n):
        time_s, _ = gap(m, st, c, i, 0, 0.0)
        _rise(parts, begin_at, i, time_s, float(i))
        lives[begin_at + i] = 1
    next_s[c], who[c] = parts[begin_at, 0], (parts[begin_at, 1] + 0.5) / n


@jit_in_place
def _next(
    m: Model, st: State, c: int, now: float, next_s: Floats, who: Floats, drawn: Ints, parts: Floats, first: Ints,
    lives: Ints,
) -> None:  # fmt: skip
    """The failure of a class after the one that strikes at ``now``: the part that failed starts anew."""
    if m.classes[c, SYSTEM]:
        next_s[c] = math.inf
    elif m.classes[c, SINGLE]:
        next_s[c], who[c] = gap(m, st, c, 0, drawn[0, c], now)
        drawn[0, c] += 1
    else:
        at, n = first[c], int(m.classes[c, COMPONENTS])
        part = int(parts[at, 1])
        time_s, _ = gap(m, st, c, part, lives[at + part], now)
        lives[at + part] += 1
        _replace(parts, at, n, time_s, float(part))
        next_s[c], who[c] = parts[at, 0], (parts[at, 1] + 0.5) / n


@jit_in_place
def _event(
    m: Model, st: State, c: int, now: float, position: float, drawn: Ints, heap: Floats, crews: Floats, brings: bool
) -> None:
    """An event and what follows from it: further ones, repairs, replicas that come back."""
    draw = drawn[1, c]
    drawn[1, c] += 1
    happen(m, st, c, draw, now, position)
    if st.s[MODE] == DONE:
        return
    if brings and m.classes[c, BURST] > 0.0:
        for k in range(int(m.classes[c, BURST_EVENTS])):
            after, where = burst(m, st, c, draw, k)
            if after == math.inf:
                break
            _push(heap, drawn, now + after, float(c), where)
    for node in range(int(st.s[TO_SHOP])):
        start = now
        if len(crews):
            free = 0
            for k in range(1, len(crews)):
                if crews[k] < crews[free]:
                    free = k
            start = max(now, crews[free])
        back = start + service(m, st, c, draw, node)
        if len(crews):
            crews[free] = back
        _push(heap, drawn, back, _BACK, 0.0)
    for _ in range(int(st.s[JOINING])):
        _push(heap, drawn, st.s[JOIN_AT], _BACK, 0.0)


@jit_in_place
def _push(heap: Floats, drawn: Ints, time_s: float, code: float, position: float) -> None:
    """Put something pending on the heap; where it is full, the run ends."""
    last = drawn.shape[1] - 1
    i = drawn[0, last]
    if time_s == math.inf:
        return
    if i >= len(heap):
        return
    drawn[0, last] += 1
    drawn[1, last] += 1
    while i and heap[(i - 1) // 2, 0] > time_s:
        above = (i - 1) // 2
        _copy(heap, above, i)
        i = above
    heap[i, 0], heap[i, 1], heap[i, 2], heap[i, 3] = time_s, drawn[1, last], code, position


@jit_in_place
def _sink(heap: Floats, i: int, size: int) -> None:
    """Close the gap at the top of a heap with its last entry, which stands at ``size``."""
    time_s, number, code, position = heap[size, 0], heap[size, 1], heap[size, 2], heap[size, 3]
    while 2 * i + 1 < size:
        below = 2 * i + 1
        if below + 1 < size and _sooner(heap, below + 1, heap[below, 0], heap[below, 1]):
            below += 1
        if not _sooner(heap, below, time_s, number):
            break
        _copy(heap, below, i)
        i = below
    heap[i, 0], heap[i, 1], heap[i, 2], heap[i, 3] = time_s, number, code, position


@jit_in_place
def _copy(heap: Floats, source: int, to: int) -> None:
    for k in range(heap.shape[1]):
        heap[to, k] = heap[source, k]


@jit_in_place
def _sooner(heap: Floats, i: int, time_s: float, number: float) -> bool:
    return bool(heap[i, 0] < time_s or (heap[i, 0] == time_s and heap[i, 1] < number))


@jit_in_place
def _rise(parts: Floats, at: int, i: int, time_s: float, part: float) -> None:
    """Put a part on the heap of its class, which holds ``i`` of them."""
    while i and parts[at + (i - 1) // 2, 0] > time_s:
        above = (i - 1) // 2
        parts[at + i, 0], parts[at + i, 1] = parts[at + above, 0], parts[at + above, 1]
        i = above
    parts[at + i, 0], parts[at + i, 1] = time_s, part


@jit_in_place
def _replace(parts: Floats, at: int, n: int, time_s: float, part: float) -> None:
    """Put a later time in place of the earliest; equal times go by the number of the part."""
    i = 0
    while 2 * i + 1 < n:
        below = 2 * i + 1
        if below + 1 < n and (parts[at + below + 1, 0], parts[at + below + 1, 1]) < (
            parts[at + below, 0],
            parts[at + below, 1],
        ):
            below += 1
        if (time_s, part) <= (parts[at + below, 0], parts[at + below, 1]):
            break
        parts[at + i, 0], parts[at + i, 1] = parts[at + below, 0], parts[at + below, 1]
        i = below
    parts[at + i, 0], parts[at + i, 1] = time_s, part
