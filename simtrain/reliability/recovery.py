"""How a run stops, gets its nodes together and comes back: compiled functions that both engines share."""

from __future__ import annotations

import math

from simtrain.jit import jit_in_place
from simtrain.reliability.draws import OF_FAILS, OF_PHASE, drawn_time
from simtrain.reliability.pack import (
    FACTOR,
    FAILS,
    FLEET,
    FROM,
    INTERRUPTIBLE,
    JOB_RECOVERY,
    MEMORY_RECOVERY,
    MIN_REPLICAS,
    NODES,
    PER_REPLICA,
    POLICIES,
    POLICY,
    RECOVERY,
    RECOVERY_KEY,
    REGROUP,
    SWAP,
    TO,
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
    LOAD,
    LOADS,
    LOST_CHECKPOINT,
    LOST_WORK,
    MODE,
    NOW,
    OUT,
    PART,
    PENDING_AT,
    PHASE,
    PHASES,
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
    UNTIL,
    URGENT,
    USEFUL,
    WAIT,
    State,
    advance,
    finish,
    settle,
)

__all__ = [
    "BACK_EVENT",
    "CORRUPT_EVENT",
    "DONE_EVENT",
    "FAILURE_EVENT",
    "FOUND_EVENT",
    "KINDS",
    "NOTICE_EVENT",
    "OUTAGE_EVENT",
    "PLANNED_EVENT",
    "RATE_EVENT",
    "REPLICA",
    "SHRINK",
    "WAIT_EVENT",
    "clear",
    "due",
    "fall_back",
    "hold_loading",
    "note",
    "phase",
    "plan_recovery",
    "regroup",
    "resume",
    "set_rate",
    "staff_and_recover",
    "staffed",
    "stop",
]

_, _, SHRINK, REPLICA = range(len(POLICIES))

KINDS = ("failure", "rate", "waiting", "corrupt", "found", "planned", "back", "done", "outage", "notice")
"""Events in the record of a run."""
(
    FAILURE_EVENT, RATE_EVENT, WAIT_EVENT, CORRUPT_EVENT, FOUND_EVENT, PLANNED_EVENT, BACK_EVENT, DONE_EVENT,
    OUTAGE_EVENT, NOTICE_EVENT,
) = range(len(KINDS))  # fmt: skip


@jit_in_place
def note(st: State, kind: int, cause: float, value: float) -> None:
    """Write an event down, where there is room."""
    n = int(st.s[EVENTS])
    if n < len(st.events):
        st.events[n, 0], st.events[n, 1], st.events[n, 2], st.events[n, 3] = st.s[NOW], kind, cause, value
        st.events[n, 4] = st.ledger[USEFUL]
    st.s[EVENTS] += 1.0


@jit_in_place
def set_rate(m: Model, st: State) -> None:
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
def resume(m: Model, st: State) -> None:
    """The job is at work (again), with as many replicas as are whole."""
    s = st.s
    s[MODE], s[IMMUNE], s[PHASE], s[PHASES] = RUN, 0.0, 0.0, 0.0
    s[REPLICAS] = s[SERVING] // m.job[PER_REPLICA]
    s[RATE] = 0.0
    set_rate(m, st)
    if s[FELL]:
        s[FELL] = 0.0
        s[RESTARTS] += 1.0


@jit_in_place
def _fails_again(m: Model, st: State) -> bool:
    chance = m.recoveries[int(st.s[THROUGH]), FAILS]
    if chance == 0.0:
        return False
    u, _ = uniform_pair(
        int(st.s[SEED]), int(m.job[RECOVERY_KEY]), int(st.s[REPLICATE]), OF_FAILS, 0, int(st.s[ATTEMPTS])
    )
    return bool(u < chance)


@jit_in_place
def phase(st: State, bucket: int, time_s: float) -> None:
    """One more phase after those planned."""
    s, k = st.s, int(st.s[PHASES])
    st.plan[0, k] = (st.plan[0, k - 1] if k else s[NOW]) + time_s
    st.plan[1, k] = bucket
    s[PHASES] += 1.0
    s[UNTIL] = st.plan[0, k]


@jit_in_place
def clear(st: State) -> None:
    """No phases are planned."""
    st.s[PHASE] = st.s[PHASES] = 0.0


@jit_in_place
def staffed(m: Model, st: State) -> bool:
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
def staff_and_recover(m: Model, st: State) -> None:
    """From detection or waiting on: recover if the nodes are there, else wait for them."""
    s = st.s
    clear(st)
    if staffed(m, st):
        plan_recovery(m, st)
    else:
        if s[MODE] != WAIT:
            note(st, WAIT_EVENT, s[CAUSE], m.job[NODES] - s[SERVING])
        s[MODE], s[UNTIL] = WAIT, math.inf


@jit_in_place
def plan_recovery(m: Model, st: State) -> None:
    """Append the phases of one more attempt."""
    s = st.s
    if s[PHASE] >= s[PHASES]:
        clear(st)
    s[MODE] = RECOVER
    s[ATTEMPTS] += 1.0
    s[UNTIL] = max(s[NOW], st.plan[0, int(s[PHASES]) - 1]) if s[PHASES] else s[NOW]
    if s[SWAPPED]:
        s[SWAPPED] = 0.0
        phase(st, ALLOCATE, m.job[SWAP])
    row = m.recoveries[int(s[THROUGH])]
    first = int(row[FROM])
    for k in range(first, int(row[TO])):
        law, attempt = int(m.phases[k, 1]), int(s[ATTEMPTS])
        phase(st, int(m.phases[k, 0]), drawn_time(m, st, law, int(m.job[RECOVERY_KEY]), OF_PHASE, k - first, attempt))
    if s[OUT] > s[NOW]:
        hold_loading(st, s[NOW], s[OUT])


@jit_in_place
def hold_loading(st: State, since: float, until: float) -> None:
    """Phases that read a checkpoint from storage wait from ``since`` to ``until``, and those after them too."""
    s, plan = st.s, st.plan
    if s[MODE] != RECOVER or s[LOADS] == 0.0:
        return
    for k in range(int(s[PHASE]), int(s[PHASES])):
        start = max(plan[0, k - 1] if k else since, since)
        if plan[1, k] == LOAD and start < until:
            for later in range(k, int(s[PHASES])):
                plan[0, later] += until - start
            s[UNTIL] = plan[0, int(s[PHASES]) - 1]
            return


@jit_in_place
def fall_back(m: Model, st: State, to_memory: bool) -> float:
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
    s[URGENT] = 0.0
    s[BASE], s[BASE_STALL], s[DID], s[STALLED], s[PENDING_AT] = target, stall, 0.0, 0.0, -math.inf
    if target <= s[CORRUPT]:
        s[CORRUPT] = s[FOUND_AT] = math.inf
    return float(lost)


@jit_in_place
def stop(m: Model, st: State, c: int, detection_s: float, from_memory: bool, kind: int) -> None:
    """The job falls back and stops; it is brought back as soon as this is noticed and the nodes are there."""
    s = st.s
    note(st, kind, c, fall_back(m, st, from_memory))
    s[CAUSE], s[FELL], s[LOADS] = c, 1.0, 0.0 if from_memory else 1.0
    s[THROUGH] = m.classes[c, MEMORY_RECOVERY if from_memory else RECOVERY]
    s[IMMUNE] = 1.0 - m.recoveries[int(s[THROUGH]), INTERRUPTIBLE]
    clear(st)
    s[MODE], s[UNTIL] = DETECT, s[NOW]
    if detection_s > 0.0:
        phase(st, DETECTED, detection_s)
    if staffed(m, st):
        plan_recovery(m, st)


@jit_in_place
def regroup(m: Model, st: State, detection_s: float) -> None:
    """The replicas that are left, or one more, go on together after a short stop."""
    s = st.s
    if detection_s + m.job[REGROUP] == 0.0:
        resume(m, st)
        return
    clear(st)
    s[MODE] = RECOVER
    s[IMMUNE] = 1.0 - m.recoveries[int(m.job[JOB_RECOVERY]), INTERRUPTIBLE]
    phase(st, DETECTED, detection_s)
    phase(st, COMMUNICATOR, m.job[REGROUP])


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
        staff_and_recover(m, st)
    elif s[FELL] and _fails_again(m, st):
        plan_recovery(m, st)
    else:
        resume(m, st)
