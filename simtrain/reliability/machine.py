"""What failures, repairs and recoveries do to a run: the rules both engines share, each a compiled function.

An engine decides only what happens next and when; it calls one of these at that time.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from simtrain.jit import jit_in_place
from simtrain.reliability.laws import EXPONENTIAL, FIXED, INSTANTS, quantile
from simtrain.reliability.pack import (
    BURST,
    BURST_WINDOW,
    COLD,
    COMPONENTS,
    DECAY,
    DETAIL,
    DETECTION,
    DURATION,
    EFFECT,
    EFFECTS,
    FACTOR,
    FAILS,
    FAILS_STOPPED,
    FIRST,
    FLEET,
    FROM,
    HOLDS,
    HOT,
    INFANT,
    INTERRUPTIBLE,
    JOB_RECOVERY,
    KEEP,
    KEY,
    KIND,
    LAST,
    LAW,
    LEMON_FACTOR,
    LEMON_SHARE,
    LOST,
    MEMORY_RECOVERY,
    MIN_REPLICAS,
    NODES,
    PER_REPLICA,
    POLICIES,
    POLICY,
    RECOVERY,
    RECOVERY_KEY,
    REGROUP,
    REPAIR,
    STOPS_ALL,
    SURVIVES,
    SWAP,
    TIERED,
    TO,
    A,
    B,
    Model,
)
from simtrain.reliability.philox import uniform_pair
from simtrain.reliability.progress import (
    ALLOCATE,
    ATTEMPTS,
    BASE,
    BASE_STALL,
    CAUSE,
    CHECKPOINT,
    COLD_LEFT,
    COMMUNICATOR,
    CORRUPT,
    CORRUPT_CLASS,
    CORRUPT_COUNT,
    CORRUPT_STALL,
    COUNT,
    DETECT,
    DETECTED,
    DID,
    DONE,
    DURABLE,
    DURABLE_STALL,
    EVENTS,
    FELL,
    FOUND_AT,
    HOT_LEFT,
    IMMUNE,
    JOIN_AT,
    JOINING,
    LOST_CHECKPOINT,
    LOST_WORK,
    MODE,
    NOW,
    PART,
    PENDING_AT,
    PHASE,
    PHASES,
    PLANNED,
    RATE,
    RECOVER,
    REPLICAS,
    REPLICATE,
    RESTARTS,
    RUN,
    SEED,
    SERVING,
    STALLED,
    SWAPPED,
    THROUGH,
    TO_SHOP,
    UNTIL,
    USEFUL,
    WAIT,
    State,
    advance,
    finish,
    settle,
)

__all__ = ["KINDS", "begin", "burst", "due", "found", "gap", "gaps", "happen", "returned", "service", "slow_ends"]

Floats = NDArray[np.float64]

STOP, HANG, SLOW, DEGRADES, CORRUPTS, PLANNED_STOP = range(len(EFFECTS))
_, _, SHRINK, REPLICA = range(len(POLICIES))

_LIFE, _DETAIL, _DURATION, _PHASE, _FAILS, _REPAIR, _LEMON, _BURST, _OFFSET = range(9)
"""Purposes of random numbers, a word of the counter."""

KINDS = ("failure", "rate", "waiting", "corrupt", "found", "planned", "back", "done")
"""Events in the record of a run."""
FAILURE_EVENT, RATE_EVENT, WAIT_EVENT, CORRUPT_EVENT, FOUND_EVENT, PLANNED_EVENT, BACK_EVENT, DONE_EVENT = range(8)


@jit_in_place
def note(st: State, kind: int, cause: float, value: float) -> None:
    """Write an event down, where there is room."""
    n = int(st.s[EVENTS])
    if n < len(st.events):
        st.events[n, 0], st.events[n, 1], st.events[n, 2], st.events[n, 3] = st.s[NOW], kind, cause, value
        st.events[n, 4] = st.ledger[USEFUL]
    st.s[EVENTS] += 1.0


@jit_in_place
def _time(m: Model, law: int, u: float, draw: int) -> float:
    """A time by a law; of instants the ``draw``-th, and never where the table has ended."""
    first, last = int(m.laws[law, FIRST]), int(m.laws[law, LAST])
    if m.laws[law, KIND] == INSTANTS:
        return float(m.table[first + draw]) if first + draw < last else math.inf
    return quantile(int(m.laws[law, KIND]), m.laws[law, A], m.laws[law, B], m.table, first, last, u)


@jit_in_place
def _drawn(m: Model, st: State, law: int, key: int, purpose: int, part: int, draw: int) -> float:
    """As :func:`_time`, with a number of its own; a fixed law needs none."""
    if m.laws[law, KIND] == FIXED:
        return float(m.laws[law, A])
    u, _ = uniform_pair(int(st.s[SEED]), key, int(st.s[REPLICATE]), purpose, part, draw)
    return _time(m, law, u, draw)


@jit_in_place
def gap(m: Model, st: State, c: int, part: int, draw: int, since: float) -> tuple[float, float]:
    """Time of the next failure of a class (with one stream for all its parts) or of one part, and who fails.

    The first is wall time, given the time ``since`` of the one before; the second a share of all parts.  The sum of
    the streams of n exponential parts is one stream n times as fast, whose victims are anyone.
    """
    row = m.classes[c]
    law, n = int(row[LAW]), row[COMPONENTS]
    if m.laws[law, KIND] == INSTANTS:
        return max(_time(m, law, 0.0, draw), since), 0.0
    u, v = uniform_pair(int(st.s[SEED]), int(row[KEY]), int(st.s[REPLICATE]), _LIFE, part, draw)
    if m.laws[law, KIND] == EXPONENTIAL:
        mean = m.laws[law, A] / (n * (1.0 + row[LEMON_SHARE] * (row[LEMON_FACTOR] - 1.0)))
        return since + _infant(-mean * math.log1p(-u), since, row[INFANT] - 1.0, row[DECAY]), v
    life = _time(m, law, u, draw)
    if row[LEMON_SHARE] > 0.0:
        w, _ = uniform_pair(int(st.s[SEED]), int(row[KEY]), int(st.s[REPLICATE]), _LEMON, part, 0)
        if w < row[LEMON_SHARE]:
            life /= row[LEMON_FACTOR]
    return since + life, (part + 0.5) / n


@jit_in_place
def gaps(m: Model, st: State, c: int, draw: int, since: float, found: Floats) -> None:
    """Several failures of a class with one stream for all its parts, one after the other: (n, 2) as :func:`gap`."""
    for i in range(len(found)):
        since, found[i, 1] = gap(m, st, c, 0, draw + i, since)
        found[i, 0] = since


@jit_in_place
def _infant(gap_s: float, since: float, extra: float, decay_s: float) -> float:
    """The gap after ``since`` in which a rate of 1 + extra exp(-t / decay) adds up to what 1 does in ``gap_s``.

    Newton from below: the sum is concave and rising, so that steps never overshoot.
    """
    if extra <= 0.0 or decay_s <= 0.0:
        return gap_s
    begun = extra * math.exp(-since / decay_s)
    x = 0.0
    for _ in range(60):
        rest = gap_s - x - begun * decay_s * -math.expm1(-x / decay_s)
        x += rest / (1.0 + begun * math.exp(-x / decay_s))
        if rest <= 1e-13 * gap_s:
            break
    return x


@jit_in_place
def begin(m: Model, st: State, replicate: int) -> None:
    """Put a run at its start: all nodes and spares there, nothing done."""
    s, seed = st.s, st.s[SEED]
    s[:] = 0.0
    s[SEED], s[REPLICATE] = seed, replicate
    s[PENDING_AT] = -math.inf
    s[FOUND_AT] = s[CORRUPT] = math.inf
    st.ledger[:] = 0.0
    st.slow_until[:] = 0.0
    st.failures[:] = 0.0
    s[SERVING], s[HOT_LEFT], s[COLD_LEFT] = m.job[NODES], m.job[HOT], m.job[COLD]
    _resume(m, st)
    s[RESTARTS] = s[EVENTS] = 0.0


@jit_in_place
def _set_rate(m: Model, st: State) -> None:
    """Speed: replicas at work over all of them, times the slowest factor under way."""
    s = st.s
    slowest = 1.0
    for c in range(len(st.slow_until)):
        if st.slow_until[c] > s[NOW]:
            slowest = min(slowest, m.classes[c, FACTOR])
    rate = slowest * s[REPLICAS] * m.job[PER_REPLICA] / m.job[NODES]
    if rate != s[RATE]:
        s[RATE] = rate
        note(st, RATE_EVENT, -1.0, rate)
    s[UNTIL] = finish(m, st)


@jit_in_place
def _resume(m: Model, st: State) -> None:
    s = st.s
    s[MODE], s[IMMUNE], s[PHASE], s[PHASES] = RUN, 0.0, 0.0, 0.0
    s[REPLICAS] = s[SERVING] // m.job[PER_REPLICA]
    s[RATE] = 0.0
    _set_rate(m, st)
    if s[FELL]:
        s[FELL] = 0.0
        s[RESTARTS] += 1.0


@jit_in_place
def due(m: Model, st: State) -> None:
    """``UNTIL`` has come: the work is done, or what the job waited for."""
    s = st.s
    advance(m, st, s[UNTIL])
    if s[MODE] == DONE:
        note(st, DONE_EVENT, -1.0, st.ledger[USEFUL])
    elif s[MODE] == RUN:
        s[UNTIL] = finish(m, st)
    elif s[MODE] == DETECT:
        _staff_and_recover(m, st)
    elif s[FELL] and _fails_again(m, st):
        _plan_recovery(m, st)
    else:
        _resume(m, st)


@jit_in_place
def _fails_again(m: Model, st: State) -> bool:
    chance = m.recoveries[int(st.s[THROUGH]), FAILS]
    if chance == 0.0:
        return False
    u, _ = uniform_pair(int(st.s[SEED]), int(m.job[RECOVERY_KEY]), int(st.s[REPLICATE]), _FAILS, 0, int(st.s[ATTEMPTS]))
    return bool(u < chance)


@jit_in_place
def _phase(st: State, bucket: int, time_s: float) -> None:
    """One more phase after those planned."""
    s, k = st.s, int(st.s[PHASES])
    st.plan[0, k] = (st.plan[0, k - 1] if k else s[NOW]) + time_s
    st.plan[1, k] = bucket
    s[PHASES] += 1.0
    s[UNTIL] = st.plan[0, k]


@jit_in_place
def _clear(st: State) -> None:
    st.s[PHASE] = st.s[PHASES] = 0.0


@jit_in_place
def _staffed(m: Model, st: State) -> bool:
    """Put spares in, hot ones first; whether the job can run."""
    s, job = st.s, m.job
    if job[FLEET] == 0.0:
        return True
    hot = min(job[NODES] - s[SERVING], s[HOT_LEFT])
    s[HOT_LEFT] -= hot
    cold = min(job[NODES] - s[SERVING] - hot, s[COLD_LEFT])
    s[COLD_LEFT] -= cold
    s[SERVING] += hot + cold
    if cold > 0.0:
        s[SWAPPED] = 1.0
    if job[POLICY] >= SHRINK:
        return bool(s[SERVING] // job[PER_REPLICA] >= job[MIN_REPLICAS])
    return bool(s[SERVING] >= job[NODES])


@jit_in_place
def _staff_and_recover(m: Model, st: State) -> None:
    """From detection or waiting on: recover if the nodes are there, else wait for them."""
    s = st.s
    _clear(st)
    if _staffed(m, st):
        _plan_recovery(m, st)
    else:
        if s[MODE] != WAIT:
            note(st, WAIT_EVENT, s[CAUSE], m.job[NODES] - s[SERVING])
        s[MODE], s[UNTIL] = WAIT, math.inf


@jit_in_place
def _plan_recovery(m: Model, st: State) -> None:
    """Append the phases of one more attempt."""
    s = st.s
    if s[PHASE] >= s[PHASES]:
        _clear(st)
    s[MODE] = RECOVER
    s[ATTEMPTS] += 1.0
    s[UNTIL] = max(s[NOW], st.plan[0, int(s[PHASES]) - 1]) if s[PHASES] else s[NOW]
    if s[SWAPPED]:
        s[SWAPPED] = 0.0
        _phase(st, ALLOCATE, m.job[SWAP])
    row = m.recoveries[int(s[THROUGH])]
    first = int(row[FROM])
    for k in range(first, int(row[TO])):
        law, attempt = int(m.phases[k, 1]), int(s[ATTEMPTS])
        _phase(st, int(m.phases[k, 0]), _drawn(m, st, law, int(m.job[RECOVERY_KEY]), _PHASE, k - first, attempt))


@jit_in_place
def _fall_back(m: Model, st: State, to_memory: bool) -> float:
    """Back to the last checkpoint that is left, or before a corruption that was found; returns the work lost."""
    s, ledger = st.s, st.ledger
    settle(s, s[NOW])
    target, stall = s[DURABLE], s[DURABLE_STALL]
    if to_memory:
        target, stall = s[BASE], s[BASE_STALL]
    else:
        s[PART] = 0.0
    lost = s[BASE] + s[DID] - target
    ledger[USEFUL] -= lost
    ledger[LOST_WORK] += lost
    ledger[LOST_CHECKPOINT] += ledger[CHECKPOINT] - stall
    ledger[CHECKPOINT] = stall
    s[BASE], s[BASE_STALL], s[DID], s[STALLED], s[PENDING_AT] = target, stall, 0.0, 0.0, -math.inf
    if target <= s[CORRUPT]:
        s[CORRUPT] = s[FOUND_AT] = math.inf
    return float(lost)


@jit_in_place
def _stop(m: Model, st: State, c: int, detection_s: float, from_memory: bool, kind: int) -> None:
    """The job falls back and stops; it is brought back as soon as this is noticed and the nodes are there."""
    s = st.s
    note(st, kind, c, _fall_back(m, st, from_memory))
    s[CAUSE], s[FELL] = c, 1.0
    s[THROUGH] = m.classes[c, MEMORY_RECOVERY if from_memory else RECOVERY]
    s[IMMUNE] = 1.0 - m.recoveries[int(s[THROUGH]), INTERRUPTIBLE]
    _clear(st)
    s[MODE], s[UNTIL] = DETECT, s[NOW]
    if detection_s > 0.0:
        _phase(st, DETECTED, detection_s)
    if _staffed(m, st):
        _plan_recovery(m, st)


@jit_in_place
def _regroup(m: Model, st: State, detection_s: float) -> None:
    """The replicas that are left, or one more, go on together after a short stop."""
    s = st.s
    if detection_s + m.job[REGROUP] == 0.0:
        _resume(m, st)
        return
    _clear(st)
    s[MODE] = RECOVER
    s[IMMUNE] = 1.0 - m.recoveries[int(m.job[JOB_RECOVERY]), INTERRUPTIBLE]
    _phase(st, DETECTED, detection_s)
    _phase(st, COMMUNICATOR, m.job[REGROUP])


@jit_in_place
def happen(m: Model, st: State, c: int, draw: int, now: float, position: float) -> None:
    """An event of a class strikes at ``now``, at a part that stands at this share of all of them.

    ``TO_SHOP`` says how many nodes go to repair, ``JOINING`` how many come back by themselves at ``JOIN_AT``.
    """
    s, row = st.s, m.classes[c]
    s[TO_SHOP] = s[JOINING] = 0.0
    effect = int(row[EFFECT])
    if s[MODE] == DONE:
        return
    if effect in (SLOW, DEGRADES):
        _slow(m, st, c, draw, now)
    elif effect == PLANNED_STOP:
        if s[MODE] == RUN:
            advance(m, st, now)
            _planned(m, st, c, draw)
    elif effect == CORRUPTS:
        if s[MODE] == RUN:
            advance(m, st, now)
            _corrupt(m, st, c, draw)
    elif not ((s[MODE] == WAIT and m.job[FAILS_STOPPED] == 0.0) or (s[MODE] != RUN and s[MODE] != WAIT and s[IMMUNE])):
        advance(m, st, now)
        if s[MODE] != DONE:
            _strike(m, st, c, draw, position)


@jit_in_place
def _slow(m: Model, st: State, c: int, draw: int, now: float) -> None:
    row = m.classes[c]
    advance(m, st, now)
    lasts = _drawn(m, st, int(row[DURATION]), int(row[KEY]), _DURATION, 0, draw)
    st.slow_until[c] = max(st.slow_until[c], now + lasts)
    st.failures[c] += 1.0
    if st.s[MODE] == RUN:
        _set_rate(m, st)


@jit_in_place
def slow_ends(m: Model, st: State, c: int) -> None:
    """A class slows no longer."""
    now = st.slow_until[c]
    advance(m, st, now)
    st.slow_until[c] = 0.0
    if st.s[MODE] == RUN:
        _set_rate(m, st)


@jit_in_place
def _planned(m: Model, st: State, c: int, draw: int) -> None:
    s, row = st.s, m.classes[c]
    if s[MODE] == DONE:
        return
    st.failures[c] += 1.0
    _clear(st)
    s[MODE], s[IMMUNE] = RECOVER, 1.0
    _phase(st, PLANNED, _drawn(m, st, int(row[DURATION]), int(row[KEY]), _DURATION, 0, draw))
    note(st, PLANNED_EVENT, c, s[UNTIL] - s[NOW])


@jit_in_place
def _corrupt(m: Model, st: State, c: int, draw: int) -> None:
    s, row = st.s, m.classes[c]
    if s[MODE] == DONE:
        return
    st.failures[c] += 1.0
    note(st, CORRUPT_EVENT, c, 0.0)
    if s[FOUND_AT] < math.inf:
        return  # found together with the one before, which lies further back
    settle(s, s[NOW])
    s[CORRUPT], s[CORRUPT_STALL], s[CORRUPT_COUNT], s[CORRUPT_CLASS] = s[DURABLE], s[DURABLE_STALL], s[COUNT], c
    u, _ = uniform_pair(int(s[SEED]), int(row[KEY]), int(s[REPLICATE]), _DETAIL, 0, draw)
    s[FOUND_AT] = s[NOW] + _time(m, int(row[DETECTION]), u, draw)


@jit_in_place
def found(m: Model, st: State) -> None:
    """A silent corruption is found: back to the last checkpoint before it, or to the start where none is kept."""
    s = st.s
    advance(m, st, s[FOUND_AT])
    s[FOUND_AT] = math.inf
    if s[MODE] == DONE:
        return
    settle(s, s[NOW])
    kept = s[COUNT] - s[CORRUPT_COUNT] < m.job[KEEP]
    s[DURABLE], s[DURABLE_STALL] = (s[CORRUPT], s[CORRUPT_STALL]) if kept else (0.0, 0.0)
    s[COUNT] = s[CORRUPT_COUNT] if kept else 0.0
    s[PENDING_AT] = -math.inf
    _stop(m, st, int(s[CORRUPT_CLASS]), 0.0, False, FOUND_EVENT)


@jit_in_place
def _strike(m: Model, st: State, c: int, draw: int, position: float) -> None:
    """A failure that stops what it hits: the job, an idle node, or a node that is down already (nothing)."""
    s, row, job = st.s, m.classes[c], m.job
    lost = row[LOST]
    if job[FLEET] == 0.0:
        lost = 0.0
    elif row[STOPS_ALL] == 0.0:
        at = position * (job[NODES] + job[HOT])
        if at >= s[SERVING] + s[HOT_LEFT]:
            return
        working = s[REPLICAS] * job[PER_REPLICA] if s[MODE] == RUN else s[SERVING]
        if at >= working:
            _lose_idle(st, c, lost, at < s[SERVING])
            return
    st.failures[c] += 1.0
    lost = min(lost, s[SERVING])
    s[SERVING] -= lost
    s[TO_SHOP] = lost
    if s[MODE] == WAIT:
        note(st, FAILURE_EVENT, c, 0.0)
        return
    u = v = 0.0
    if row[DETAIL]:
        u, v = uniform_pair(int(s[SEED]), int(row[KEY]), int(s[REPLICATE]), _DETAIL, 0, draw)
    detection_s = _time(m, int(row[DETECTION]), u, draw)
    if job[POLICY] == REPLICA and s[FELL] == 0.0 and row[STOPS_ALL] == 0.0 and _lose_replica(m, st, c, detection_s):
        return
    _stop(m, st, c, detection_s, job[TIERED] > 0.0 and v < row[SURVIVES], FAILURE_EVENT)


@jit_in_place
def _lose_idle(st: State, c: int, lost: float, serving: bool) -> None:
    s = st.s
    if lost == 0.0:
        return
    if serving:
        lost = min(lost, s[SERVING])
        s[SERVING] -= lost
    else:
        lost = min(lost, s[HOT_LEFT])
        s[HOT_LEFT] -= lost
    st.failures[c] += 1.0
    s[TO_SHOP] = lost


@jit_in_place
def _lose_replica(m: Model, st: State, c: int, detection_s: float) -> bool:
    """One replica drops out and comes back by itself, the others go on; False where too few are left."""
    s, job = st.s, m.job
    out = 0.0 if s[TO_SHOP] else min(1.0, s[SERVING])
    if (s[SERVING] - out) // job[PER_REPLICA] < job[MIN_REPLICAS]:
        return False
    s[SERVING] -= out
    hot = min(s[TO_SHOP], s[HOT_LEFT])
    cold = min(s[TO_SHOP] - hot, s[COLD_LEFT])
    s[HOT_LEFT] -= hot
    s[COLD_LEFT] -= cold
    s[JOINING] = out + hot + cold
    s[ATTEMPTS] += 1.0
    row = m.recoveries[int(m.classes[c, RECOVERY])]
    first, away_s = int(row[FROM]), detection_s + (job[SWAP] if cold > 0.0 else 0.0)
    for k in range(first, int(row[TO])):
        law, attempt = int(m.phases[k, 1]), int(s[ATTEMPTS])
        away_s += _drawn(m, st, law, int(job[RECOVERY_KEY]), _PHASE, k - first, attempt)
    s[JOIN_AT] = s[NOW] + away_s
    note(st, FAILURE_EVENT, c, 0.0)
    _regroup(m, st, detection_s)
    return True


@jit_in_place
def service(m: Model, st: State, c: int, draw: int, node: int) -> float:
    """Time in repair of one of the nodes that an event takes; a repair that does not hold is done again."""
    row = m.classes[c]
    total, attempt = 0.0, 0
    while True:
        part = node + 65536 * attempt
        total += _drawn(m, st, int(row[REPAIR]), int(row[KEY]), _REPAIR, part, draw)
        if m.job[HOLDS] >= 1.0:
            return total
        _, v = uniform_pair(int(st.s[SEED]), int(row[KEY]), int(st.s[REPLICATE]), _REPAIR, part, draw)
        if v < m.job[HOLDS]:
            return total
        attempt += 1


@jit_in_place
def burst(m: Model, st: State, c: int, draw: int, k: int) -> tuple[float, float]:
    """Of the k-th further event that one brings: seconds after it, and at which share of the parts; inf: none."""
    row, seed, replicate = m.classes[c], int(st.s[SEED]), int(st.s[REPLICATE])
    if k == 0:
        u, _ = uniform_pair(seed, int(row[KEY]), replicate, _BURST, 0, draw)
        if u >= row[BURST]:
            return math.inf, 0.0
    u, v = uniform_pair(seed, int(row[KEY]), replicate, _OFFSET, k, draw)
    return u * row[BURST_WINDOW], v


@jit_in_place
def returned(m: Model, st: State, now: float) -> None:
    """A node comes back at ``now``, from repair or after its own recovery: to work, to the spares, to who waits."""
    s, job = st.s, m.job
    advance(m, st, now)
    if s[MODE] == DONE:
        return
    if job[POLICY] >= SHRINK and s[SERVING] < job[NODES]:
        s[SERVING] += 1.0
        if s[MODE] == RUN and s[SERVING] // job[PER_REPLICA] > s[REPLICAS]:
            _regroup(m, st, 0.0)
    elif s[HOT_LEFT] < job[HOT]:
        s[HOT_LEFT] += 1.0
    else:
        s[COLD_LEFT] += 1.0
    note(st, BACK_EVENT, -1.0, s[HOT_LEFT] + s[COLD_LEFT])
    if s[MODE] == WAIT:
        _staff_and_recover(m, st)
