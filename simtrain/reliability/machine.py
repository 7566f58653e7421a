"""What failures, repairs and corruptions do to a run: the rules both engines share, each a compiled function.

An engine decides only what happens next and when; it calls one of these at that time.
"""

from __future__ import annotations

import math

from simtrain.jit import jit_in_place
from simtrain.reliability.draws import OF_DETAIL, OF_DURATION, OF_PHASE, drawn_time, time_by
from simtrain.reliability.pack import (
    COLD,
    DETAIL,
    DETECTION,
    DURATION,
    EFFECT,
    EFFECTS,
    FAILS_IDLE,
    FAILS_STOPPED,
    FLEET,
    FROM,
    HOT,
    KEEP,
    KEY,
    LOST,
    MIN_REPLICAS,
    NODES,
    PER_REPLICA,
    PERSIST,
    POLICY,
    RECOVERY,
    RECOVERY_KEY,
    STOPS_ALL,
    SURVIVES,
    SWAP,
    TAU,
    TIERED,
    TO,
    WORK,
    Model,
)
from simtrain.reliability.philox import uniform_pair
from simtrain.reliability.progress import (
    ATTEMPTS,
    BASE,
    COLD_LEFT,
    CORRUPT,
    CORRUPT_CLASS,
    CORRUPT_COUNT,
    CORRUPT_STALL,
    COUNT,
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
    MODE,
    NOW,
    OUT,
    PENDING,
    PENDING_AT,
    PLANNED,
    RECOVER,
    REPLICAS,
    REPLICATE,
    RESTARTS,
    RUN,
    SEED,
    SERVING,
    STALLED,
    TO_SHOP,
    UNTIL,
    URGENT,
    WAIT,
    State,
    advance,
    finish,
    saves,
    segment_work,
    settle,
    stall_end,
)
from simtrain.reliability.recovery import (
    BACK_EVENT,
    CORRUPT_EVENT,
    FAILURE_EVENT,
    FOUND_EVENT,
    NOTICE_EVENT,
    OUTAGE_EVENT,
    PLANNED_EVENT,
    REPLICA,
    SHRINK,
    clear,
    hold_loading,
    note,
    phase,
    regroup,
    resume,
    set_rate,
    staff_and_recover,
    stop,
)

__all__ = ["announced", "begin", "found", "happen", "returned", "slow_ends"]

STOP, HANG, SLOW, DEGRADES, CORRUPTS, PLANNED_STOP, OUTAGE = range(len(EFFECTS))

MISSES, IDLE, HITS = range(3)
"""What an event strikes: nothing that runs, idle nodes alone, the job."""


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
    resume(m, st)
    s[RESTARTS] = s[EVENTS] = 0.0


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
    elif effect == OUTAGE:
        _outage(m, st, c, draw, now)
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
    lasts = drawn_time(m, st, int(row[DURATION]), int(row[KEY]), OF_DURATION, 0, draw)
    st.slow_until[c] = max(st.slow_until[c], now + lasts)
    st.failures[c] += 1.0
    if st.s[MODE] == RUN:
        set_rate(m, st)


@jit_in_place
def slow_ends(m: Model, st: State, c: int) -> None:
    """A class slows no longer."""
    now = st.slow_until[c]
    advance(m, st, now)
    st.slow_until[c] = 0.0
    if st.s[MODE] == RUN:
        set_rate(m, st)


@jit_in_place
def _outage(m: Model, st: State, c: int, draw: int, now: float) -> None:
    """Storage does not answer for a while: what is written or read waits, training goes on."""
    s, row = st.s, m.classes[c]
    advance(m, st, now)
    if s[MODE] == DONE:
        return
    lasts = drawn_time(m, st, int(row[DURATION]), int(row[KEY]), OF_DURATION, 0, draw)
    st.failures[c] += 1.0
    note(st, OUTAGE_EVENT, c, lasts)
    works, until = max(now, s[OUT]), max(now + lasts, s[OUT])
    if until == works:
        return
    settle(s, now)
    if s[PENDING_AT] > now:
        s[PENDING_AT] += until - works
    hold_loading(st, works, until)
    s[OUT] = until
    if s[MODE] == RUN:
        s[UNTIL] = finish(m, st)


@jit_in_place
def announced(m: Model, st: State, c: int, now: float, strike: float, position: float) -> None:
    """An event is announced that comes at ``strike``: save before it, where that helps and will be durable in time."""
    s = st.s
    if s[MODE] == DONE:
        return
    advance(m, st, now)
    if s[MODE] == DONE:
        return
    note(st, NOTICE_EVENT, c, strike - now)
    if s[MODE] != RUN or m.job[TAU] == math.inf or _target(m, st, c, position) != HITS or _goes_on(m, st, c):
        return
    settle(s, now)
    saved = s[PENDING] if s[PENDING_AT] > now else s[DURABLE]
    stalls = s[DID] >= segment_work(m, s)
    if s[BASE] + s[DID] <= saved or (stalls and (saves(m, s) or m.job[WORK] - s[BASE] <= s[DID])):
        return  # nothing new, or just being saved
    end = stall_end(m, s, now, True, s[STALLED])
    if max(end, s[OUT]) + m.job[PERSIST] <= strike:
        s[URGENT] = 1.0
        s[UNTIL] = finish(m, st)


@jit_in_place
def _planned(m: Model, st: State, c: int, draw: int) -> None:
    s, row = st.s, m.classes[c]
    if s[MODE] == DONE:
        return
    st.failures[c] += 1.0
    clear(st)
    s[MODE], s[IMMUNE] = RECOVER, 1.0
    phase(st, PLANNED, drawn_time(m, st, int(row[DURATION]), int(row[KEY]), OF_DURATION, 0, draw))
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
    u, _ = uniform_pair(int(s[SEED]), int(row[KEY]), int(s[REPLICATE]), OF_DETAIL, 0, draw)
    s[FOUND_AT] = s[NOW] + time_by(m, int(row[DETECTION]), u, draw)


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
    stop(m, st, int(s[CORRUPT_CLASS]), 0.0, False, FOUND_EVENT)


@jit_in_place
def _strike(m: Model, st: State, c: int, draw: int, position: float) -> None:
    """A failure that stops what it hits: the job, an idle node, or a node that is down already (nothing)."""
    s, row, job = st.s, m.classes[c], m.job
    struck = _target(m, st, c, position)
    if struck != HITS:
        if struck == IDLE:
            _lose_idle(st, c, row[LOST], position * (job[NODES] + job[HOT]) < s[SERVING])
        return
    st.failures[c] += 1.0
    goes_on = _goes_on(m, st, c)
    lost = min(row[LOST], s[SERVING]) if job[FLEET] else 0.0
    s[SERVING] -= lost
    s[TO_SHOP] = lost
    if s[MODE] == WAIT:
        note(st, FAILURE_EVENT, c, 0.0)
        return
    u = v = 0.0
    if row[DETAIL]:
        u, v = uniform_pair(int(s[SEED]), int(row[KEY]), int(s[REPLICATE]), OF_DETAIL, 0, draw)
    detection_s = time_by(m, int(row[DETECTION]), u, draw)
    if goes_on:
        _lose_replica(m, st, c, detection_s)
    else:
        stop(m, st, c, detection_s, job[TIERED] > 0.0 and v < row[SURVIVES], FAILURE_EVENT)


@jit_in_place
def _target(m: Model, st: State, c: int, position: float) -> int:
    """What an event at this share of the parts strikes as things stand: MISSES, IDLE or HITS."""
    s, row, job = st.s, m.classes[c], m.job
    if job[FLEET] == 0.0 or row[STOPS_ALL]:
        return HITS
    at = position * (job[NODES] + job[HOT])
    if at >= s[SERVING] + s[HOT_LEFT]:
        return MISSES
    working = s[REPLICAS] * job[PER_REPLICA] if s[MODE] == RUN else s[SERVING]
    if at < working:
        return HITS
    if job[FAILS_IDLE] == 0.0:
        return MISSES
    more = at < s[SERVING] and row[LOST] > s[SERVING] - working  # than is idle: the job is hit too
    return HITS if more else IDLE


@jit_in_place
def _goes_on(m: Model, st: State, c: int) -> bool:
    """Whether the other replicas go on at once after such an event, without falling back."""
    s, job, row = st.s, m.job, m.classes[c]
    if job[POLICY] != REPLICA or s[FELL] or row[STOPS_ALL]:
        return False
    left = s[SERVING] - min(max(row[LOST], 1.0), s[SERVING])
    return bool(left // job[PER_REPLICA] >= job[MIN_REPLICAS])


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
def _lose_replica(m: Model, st: State, c: int, detection_s: float) -> None:
    """One replica drops out and comes back by itself, the others go on; its state comes from them, not from storage."""
    s, job = st.s, m.job
    out = 0.0 if s[TO_SHOP] else min(1.0, s[SERVING])
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
        away_s += drawn_time(m, st, law, int(job[RECOVERY_KEY]), OF_PHASE, k - first, attempt)
    s[JOIN_AT] = s[NOW] + away_s
    note(st, FAILURE_EVENT, c, 0.0)
    regroup(m, st, detection_s)


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
            regroup(m, st, 0.0)
    elif s[HOT_LEFT] < job[HOT]:
        s[HOT_LEFT] += 1.0
    else:
        s[COLD_LEFT] += 1.0
    note(st, BACK_EVENT, -1.0, s[HOT_LEFT] + s[COLD_LEFT])
    if s[MODE] == WAIT:
        staff_and_recover(m, st)
