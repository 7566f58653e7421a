"""How work, checkpoints and the phases of a recovery go on while nothing strikes; whole segments are one jump.

State of a run as arrays, and the functions both engines call to bring it forward.  A part is the work between two
checkpoints of any kind; ``parts`` of them end in a durable one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simtrain.jit import jit_in_place
from simtrain.reliability.closed_form import ROUNDING
from simtrain.reliability.pack import (
    AFTER,
    BLOCKS,
    COLD,
    FLEET,
    HOT,
    MEMORY_STALL,
    NODES,
    PARTS,
    PERSIST,
    SPEED,
    STALL,
    TAU,
    WORK,
    Model,
)
from simtrain.reliability.result import BUCKETS

__all__ = ["State", "advance", "finish", "new_state", "saves", "segment_work", "settle", "stall_end"]

Floats = NDArray[np.float64]

USEFUL = BUCKETS.index("useful")
CHECKPOINT = BUCKETS.index("checkpoint")
LOST_WORK = BUCKETS.index("lost_work")
LOST_CHECKPOINT = BUCKETS.index("lost_checkpoint")
DETECTED = BUCKETS.index("detection")
ALLOCATE = BUCKETS.index("allocate")
LOAD = BUCKETS.index("load")
COMMUNICATOR = BUCKETS.index("communicator")
WAITING = BUCKETS.index("waiting_for_spares")
DEGRADED = BUCKETS.index("degraded")
PLANNED = BUCKETS.index("planned")

RUN, DETECT, WAIT, RECOVER, DONE = range(5)
"""Modes: at work; noticing a failure with too few nodes; waiting for nodes; in phases of a recovery; at the end."""

# numbers of a run
(
    NOW, MODE, RATE, UNTIL, DID, STALLED, PART, BASE, BASE_STALL, DURABLE, DURABLE_STALL, COUNT, PENDING, PENDING_STALL,
    PENDING_AT, CORRUPT, CORRUPT_STALL, CORRUPT_COUNT, FOUND_AT, CORRUPT_CLASS, SERVING, HOT_LEFT, COLD_LEFT, REPLICAS,
    CAUSE, THROUGH, IMMUNE, FELL, ATTEMPTS, RESTARTS, PHASE, PHASES, WAITED, FULL, SWAPPED, TO_SHOP, JOINING, JOIN_AT,
    OUT, LOADS, URGENT, MISSED, SEED, REPLICATE, EVENTS,
) = range(45)  # fmt: skip


class State(NamedTuple):
    """Where a run stands.

    Attributes:
        s: (45,) numbers, see the names above: ``BASE`` work at the last checkpoint of any kind and ``DID`` since;
            ``DURABLE`` work saved for good, ``PENDING`` work on its way there until ``PENDING_AT``; the same with
            ``_STALL``: stalls until then; ``CORRUPT`` work saved before the oldest unnoticed corruption.
            ``OUT`` when storage works again; ``URGENT`` a checkpoint is due now; ``LOADS`` the recovery reads storage;
            ``MISSED`` seconds times nodes that are away.
        ledger: (15,) seconds by bucket.
        plan: (2, 40) ends of the phases under way, and their buckets.
        slow_until: (c,) end of the slowdown by each class.
        failures: (c,) events that took effect.
        trial, trial_ledger: as ``s`` and ``ledger``, to look ahead.
        events: (n, 5) time, kind, class, value, useful work.
    """

    s: Floats
    ledger: Floats
    plan: Floats
    slow_until: Floats
    failures: Floats
    trial: Floats
    trial_ledger: Floats
    events: Floats


def new_state(model: Model, seed: int, events: int) -> State:
    """Room for a run; :func:`simtrain.reliability.machine.begin` puts it at its start."""
    classes = len(model.classes)
    s = np.zeros(EVENTS + 1)
    s[SEED] = seed
    return State(
        s, np.zeros(len(BUCKETS)), np.zeros((2, 40)), np.zeros(classes), np.zeros(classes), np.zeros(EVENTS + 1),
        np.zeros(len(BUCKETS)), np.zeros((events, 5)),
    )  # fmt: skip


@jit_in_place
def advance(m: Model, st: State, to: float) -> None:
    """Bring a run forward to ``to``, or to the end of its work where that comes first."""
    s, span = st.s, to - st.s[NOW]
    if span < 0.0 or s[MODE] == DONE or (span == 0.0 and s[MODE] != RUN):
        return  # at work, a stall that a pause has made due ends within the instant
    start = s[NOW]
    if s[MODE] == RUN:
        work(m, s, st.ledger, to)
        span = s[NOW] - start
    if s[SERVING] >= m.job[NODES]:
        s[FULL] += span
    if m.job[FLEET]:
        s[MISSED] += span * (m.job[NODES] + m.job[HOT] + m.job[COLD] - s[SERVING] - s[HOT_LEFT] - s[COLD_LEFT])
    if s[MODE] == RUN or s[MODE] == DONE:
        return
    if s[MODE] == WAIT:
        s[WAITED] += span
        st.ledger[WAITING] += span
    else:
        _phases(st, to)
    s[NOW] = to


@jit_in_place
def _phases(st: State, to: float) -> None:
    s, now = st.s, st.s[NOW]
    while s[PHASE] < s[PHASES]:
        end = st.plan[0, int(s[PHASE])]
        stop = min(end, to)
        st.ledger[int(st.plan[1, int(s[PHASE])])] += stop - now
        now = stop
        if end > to:
            return
        s[PHASE] += 1.0


@jit_in_place
def finish(m: Model, st: State) -> float:
    """When the work is done if nothing happens any more; endless work: never."""
    if m.job[WORK] == math.inf:
        return math.inf
    for i in range(len(st.s)):
        st.trial[i] = st.s[i]
    for i in range(len(st.ledger)):
        st.trial_ledger[i] = st.ledger[i]
    work(m, st.trial, st.trial_ledger, math.inf)
    return float(st.trial[NOW])


@jit_in_place
def work(m: Model, s: Floats, ledger: Floats, to: float) -> None:
    """Work and checkpoints from ``NOW`` until ``to``; at the end of the work the mode is DONE."""
    job, rate, now = m.job, s[RATE], s[NOW]
    while True:
        final = s[URGENT] == 0.0 and job[WORK] - s[BASE] <= job[TAU] * (1.0 + ROUNDING)
        goal = segment_work(m, s)
        left = goal - s[DID]
        if left > 0.0:
            share, edge = _pace(m, s, now)
            stop = now + left / (rate * share)
            if stop > min(edge, to):
                stop = min(edge, to)
                left = (stop - now) * rate * share
                s[DID] += left
            else:
                s[DID] = goal
            ledger[USEFUL] += left
            ledger[DEGRADED] += left / rate - left
            ledger[CHECKPOINT] += (stop - now) * (1.0 - share)
            now = stop
            if s[DID] != goal:
                if now < to:
                    continue
                break
        if final and job[AFTER] == 0.0:
            s[MODE] = DONE
            break
        durable = final or saves(m, s)
        end = stall_end(m, s, now, durable, s[STALLED])
        stop = min(end, to)
        ledger[CHECKPOINT] += stop - now
        if end > to or end == math.inf:
            s[STALLED] += max(0.0, stop - (max(now, s[OUT]) if durable and job[BLOCKS] else now))
            now = stop
            break
        now = end
        _save(m, s, ledger, goal, durable, now)
        if final:
            s[MODE] = DONE
            break
        now = _jump(m, s, ledger, now, to)
    s[NOW] = now


@jit_in_place
def segment_work(m: Model, s: Floats) -> float:
    """Work between the last checkpoint and the next."""
    if s[URGENT]:
        return float(s[DID])
    rest = m.job[WORK] - s[BASE]
    return float(rest if rest <= m.job[TAU] * (1.0 + ROUNDING) else m.job[TAU])


@jit_in_place
def saves(m: Model, s: Floats) -> bool:
    """Whether the next checkpoint before the last goes to storage."""
    return bool(s[URGENT] or s[PART] + 1.0 >= m.job[PARTS])


@jit_in_place
def stall_end(m: Model, s: Floats, now: float, durable: bool, stalled_s: float) -> float:
    """When a stall that has lasted ``stalled_s`` is over: storage has to work, and the checkpoint before be durable."""
    if not durable:
        return float(max(now, now + m.job[MEMORY_STALL] - stalled_s))
    start = max(now, s[OUT]) if m.job[BLOCKS] else now
    end = start + m.job[MEMORY_STALL] + m.job[STALL] - stalled_s
    return float(max(now, end, s[PENDING_AT]))  # now: a pause has let the checkpoint before become durable meanwhile


@jit_in_place
def _pace(m: Model, s: Floats, now: float) -> tuple[float, float]:
    """Speed that persisting leaves to training, and until when that holds."""
    if m.job[SPEED] == 1.0 or s[PENDING_AT] <= now:
        return 1.0, math.inf
    if s[OUT] > now:
        return 1.0, float(s[OUT])
    return float(m.job[SPEED]), float(s[PENDING_AT])


@jit_in_place
def _save(m: Model, s: Floats, ledger: Floats, goal: float, durable: bool, now: float) -> None:
    s[BASE] += goal
    s[BASE_STALL] = ledger[CHECKPOINT]
    s[DID] = s[STALLED] = 0.0
    s[PART] += 1.0
    if durable:
        s[PART] = s[URGENT] = 0.0
        settle(s, now)
        s[PENDING], s[PENDING_STALL], s[PENDING_AT] = s[BASE], s[BASE_STALL], max(now, s[OUT]) + m.job[PERSIST]
        settle(s, now)


@jit_in_place
def settle(s: Floats, now: float) -> None:
    """A checkpoint on its way is durable once its time has come."""
    if s[PENDING_AT] <= now and s[PENDING_AT] > -math.inf:
        s[DURABLE], s[DURABLE_STALL], s[PENDING_AT] = s[PENDING], s[PENDING_STALL], -math.inf
        s[COUNT] += 1.0


@jit_in_place
def _jump(m: Model, s: Floats, ledger: Floats, now: float, to: float) -> float:
    """Whole segments that fit before ``to``, all but the last of them at once; returns the time after them."""
    job, rate = m.job, s[RATE]
    tau, parts = job[TAU], job[PARTS]
    if s[PART] == 0.0 and s[OUT] <= now and (job[PERSIST] == 0.0 or s[PENDING_AT] > now):
        whole, span = parts * tau, max(_segment_s(m, rate) + job[STALL], job[PERSIST])
        fit = min((to - now) / span, (job[WORK] - s[BASE]) / whole)
        if fit > 2.0:
            n = math.floor(fit) - 1.0
            stall = span - whole / rate
            now += n * span
            _gain(s, ledger, rate, n * whole, n * stall)
            s[DURABLE], s[DURABLE_STALL] = s[BASE], s[BASE_STALL]
            s[COUNT] += n
            if job[PERSIST] > 0.0:
                s[DURABLE] -= whole
                s[DURABLE_STALL] -= stall
                s[PENDING], s[PENDING_STALL], s[PENDING_AT] = s[BASE], s[BASE_STALL], now + job[PERSIST]
    share, edge = _pace(m, s, now)
    part_s = tau / (rate * share) + job[MEMORY_STALL]
    fit = min((min(to, edge) - now) / part_s, (job[WORK] - s[BASE]) / tau, parts - 1.0 - s[PART])
    if fit > 2.0:
        n = math.floor(fit) - 1.0
        now += n * part_s
        s[PART] += n
        _gain(s, ledger, rate, n * tau, n * (part_s - tau / rate))
    return float(now)


@jit_in_place
def _segment_s(m: Model, rate: float) -> float:
    """From one durable checkpoint to the stall of the next: work, first while that one is persisted, memory stalls."""
    job = m.job
    total = job[PARTS] * (job[TAU] / rate + job[MEMORY_STALL])
    if job[SPEED] < 1.0:
        work_s = job[TAU] / (rate * job[SPEED])
        slow = min(math.floor(job[PERSIST] / (work_s + job[MEMORY_STALL])), job[PARTS])
        slow_s = slow * work_s
        if slow < job[PARTS]:
            slow_s += min(job[PERSIST] - slow * (work_s + job[MEMORY_STALL]), work_s)
        total += slow_s * (1.0 - job[SPEED])
    return float(total)


@jit_in_place
def _gain(s: Floats, ledger: Floats, rate: float, work_s: float, stall_s: float) -> None:
    ledger[USEFUL] += work_s
    ledger[DEGRADED] += work_s / rate - work_s
    ledger[CHECKPOINT] += stall_s
    s[BASE] += work_s
    s[BASE_STALL] = ledger[CHECKPOINT]
