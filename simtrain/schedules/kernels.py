"""Loops of the schedule search, compiled where numba is installed.

The slots of a pipeline are numbered ``(kind * stages + stage) * microbatches + microbatch`` with kinds F, I, W as in
:class:`simtrain.schedules.order.Action`; in a :class:`Slots` without W the I is a full backward.  An order of all
ranks is one array of slots, rank after rank: rank r has ``order[first[r] : first[r + 1]]``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simtrain.jit import jit

__all__ = ["Slots", "insert", "pattern", "rate", "refill", "refine"]

Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]


class Slots(NamedTuple):
    """What the loops know of every slot: arrays of shape (slots,), but for ``limit``, which has (ranks,).

    Attributes:
        rank: where it runs.
        before: the slot of another stage that it waits for, or -1.
        lag: what ``before`` needs on the way.
        own: the slot of its own stage that it waits for, or -1.
        duration: what it takes.
        alive: by how many activations it raises what its rank holds: 1, 0 or -1.
        limit: most activations on a rank.
    """

    rank: Ints
    before: Ints
    lag: Floats
    own: Ints
    duration: Floats
    alive: Ints
    limit: Ints


@jit
def ready(slot: int, before: Ints, lag: Floats, own: Ints, finish: Floats) -> float:
    """When everything that a slot waits for is there; -1 while that is not known."""
    time, first, second = 0.0, own[slot], before[slot]
    if first >= 0:
        time = finish[first]
        if time < 0.0:
            return -1.0
    if second >= 0:
        if finish[second] < 0.0:
            return -1.0
        time = max(time, finish[second] + lag[slot])
    return time


@jit
def run(order: Ints, first: Ints, slots: Slots, start: Floats, finish: Floats) -> bool:
    """Fill in ``start`` and ``finish``, each slot as early as its rank's order allows.

    Returns:
        Whether the order runs to its end within the limits.
    """
    # Attributes of a tuple cost a reference count at every use, ten times the work of this loop.
    before, lag, own, duration, change = slots.before, slots.lag, slots.own, slots.duration, slots.alive
    ranks, at, moved, up = len(first) - 1, first[:-1].copy(), True, True
    alive = np.zeros(ranks, np.int64)
    finish[:] = -1.0
    while moved:
        moved = False
        for turn in range(ranks):
            rank = turn if up else ranks - 1 - turn
            here, end, most, held = at[rank], first[rank + 1], slots.limit[rank], alive[rank]
            time = finish[order[here - 1]] if here > first[rank] else 0.0
            while here < end:
                slot = order[here]
                mine, other = own[slot], before[slot]
                if (mine >= 0 and finish[mine] < 0.0) or (other >= 0 and finish[other] < 0.0):
                    break
                held += change[slot]
                if held > most:
                    return False
                # What the slot waits for on its own rank has passed.
                time = max(time, finish[other] + lag[slot]) if other >= 0 else time
                start[slot] = time
                time += duration[slot]
                finish[slot] = time
                here += 1
            moved = moved or here > at[rank]
            at[rank], alive[rank] = here, held
        up = not up
    return bool(np.all(at == first[1:]))


@jit
def score(order: Ints, first: Ints, start: Floats, finish: Floats, span_weight: float) -> tuple[float, float, float]:
    """Weighted sum of makespan, longest span of a rank and, faintly, mean end; then makespan and span alone."""
    makespan, span, total = 0.0, 0.0, 0.0
    for rank in range(len(first) - 1):
        end = finish[order[first[rank + 1] - 1]]
        makespan = max(makespan, end)
        span = max(span, end - start[order[first[rank]]])
        total += end
    return makespan + span_weight * span + 1e-3 * total / (len(first) - 1), makespan, span


@jit
def rate(
    order: Ints, first: Ints, cases: tuple[Slots, ...], doubt: float, span_weight: float, most: float
) -> tuple[float, float, float, float]:
    """How good an order is: its score in the first case, and ``doubt`` times those in the others.

    Args:
        order: of slots, see the module.
        first: where each rank's begins.
        cases: the same slots with different durations.
        doubt: weight of the cases behind the first.
        span_weight: see :func:`score`.
        most: score in the first case beyond which the others do not matter.

    Returns:
        The sum (infinite for an order that cannot run, or is beyond ``most``); score, makespan and span in the first
        case.
    """
    start, finish = np.empty(len(order)), np.empty(len(order))
    total, known, makespan, span = np.inf, np.inf, np.inf, np.inf
    for number in range(len(cases)):
        if not run(order, first, cases[number], start, finish):
            break
        value, end, longest = score(order, first, start, finish, span_weight)
        if number == 0:
            total, known, makespan, span = value, value, end, longest
            if value > most:
                return np.inf, known, makespan, span
        else:
            total += doubt * value
    return total, known, makespan, span


@jit
def free_phase(taken: Floats, count: int, time: float, duration: float, period: float) -> float:
    """Earliest start from ``time`` on that collides with none of ``count`` (start, duration) rows, modulo period."""
    margin = 1e-9 * period
    for _ in range(4 * count):
        clear = True
        for other in range(count):
            phase = (time - taken[other, 0]) % period
            if phase > period - margin:
                phase = 0.0
            if phase < taken[other, 1] - margin:
                time += taken[other, 1] - phase
                clear = False
            elif phase + duration > period + margin:
                time += period - phase + taken[other, 1]
                clear = False
        if clear:
            break
    return time


@jit
def pattern(slots: Slots, step: int, stretch: Floats, period: float) -> Floats:
    """When the slots of one micro batch run if every ``period`` starts another one and no rank does two at once.

    Args:
        slots: of ``step`` micro batches.
        step: distance of one stage's slots to the next stage's.
        stretch: longer hops between ranks, shape (stages,) for F, then the same for I, in the order they run.
        period: between micro batches.

    Returns:
        Start times, kind after kind, stage after stage.
    """
    before, lag, own = slots.before, slots.lag, slots.own
    count = len(slots.rank) // step
    stages = len(stretch) // 2
    taken = np.zeros((len(slots.limit), count, 2))
    used = np.zeros(len(slots.limit), np.int64)
    target = np.zeros(count)
    finish = np.full(len(slots.rank), -1.0)
    for turn in range(count):
        stage = turn % stages
        place = turn if turn < stages else turn // stages * stages + stages - 1 - stage
        slot = place * step
        time = ready(slot, before, lag, own, finish)
        if turn < 2 * stages and slots.before[slot] >= 0 and slots.rank[slots.before[slot]] != slots.rank[slot]:
            time += stretch[turn]
        rank = slots.rank[slot]
        time = free_phase(taken[rank], used[rank], time, slots.duration[slot], period)
        taken[rank, used[rank], 0], taken[rank, used[rank], 1] = time, slots.duration[slot]
        used[rank] += 1
        target[place] = time
        finish[slot] = time + slots.duration[slot]
    return target


@jit
def last_full(slot: int, time: float, most: int, start: Floats, alive: Ints, ahead: Ints) -> int:
    """Going back from a slot of a rank to ``time``, the first that leaves no room for an activation, or -1."""
    while slot >= 0 and alive[slot] < most:
        slot = ahead[slot] if start[slot] >= time else -1
    return slot


@jit
def gap(left: int, head: int, time: float, length: float, start: Floats, finish: Floats, after: Ints) -> int:
    """The slot at the left of the first gap behind ``left`` (-1: before ``head``) of a length from ``time`` on."""
    right = after[left] if left >= 0 else head
    while right >= 0 and (max(time, finish[left]) if left >= 0 else time) + length > start[right]:
        left, right = right, after[right]
    return left


@jit
def insert(targets: Floats, period: float, microbatches: int, slots: Slots) -> tuple[bool, Ints, Ints]:
    """Place the slots of a pattern, by target time, each into the first gap that takes it within the limits.

    Args:
        targets: start times of one micro batch's slots, see :func:`pattern`.
        period: between micro batches.
        microbatches: how many.
        slots: all of them.

    Returns:
        Whether all found a place, the order of all ranks, and where each rank's begins.
    """
    before, lag, own, duration, change = slots.before, slots.lag, slots.own, slots.duration, slots.alive
    rank_of, limit, margin = slots.rank, slots.limit, 1e-9 * period
    count, ranks = len(rank_of), len(limit)
    start, finish, alive = np.zeros(count), np.full(count, -1.0), np.zeros(count, np.int64)
    after, ahead = np.full(count, -1), np.full(count, -1)
    head, tail, latest = np.full(ranks, -1), np.full(ranks, -1), np.full(len(targets), -1)
    laps = np.floor(targets / period).astype(np.int64)
    turns = np.argsort(targets - laps * period, kind="mergesort")
    for lap in range(microbatches + laps.max()):
        for place in turns:
            if not 0 <= lap - laps[place] < microbatches:
                continue
            slot = place * microbatches + lap - laps[place]
            rank, left = rank_of[slot], latest[place]
            time = ready(slot, before, lag, own, finish)
            if change[slot] > 0:
                full = last_full(tail[rank], time, limit[rank], start, alive, ahead)
                if full >= 0 and full == tail[rank]:
                    return False, after, head
                if full >= 0 and (left < 0 or start[after[full]] > start[left]):
                    left = after[full]
            if time < 0.0:
                return False, after, head
            left = gap(left, head[rank], time, duration[slot] - margin, start, finish, after)
            right = after[left] if left >= 0 else head[rank]
            start[slot] = max(time, finish[left]) if left >= 0 else time
            finish[slot] = start[slot] + duration[slot]
            ahead[slot], after[slot], latest[place] = left, right, slot
            alive[slot] = change[slot] + (alive[left] if left >= 0 else 0)
            if left >= 0:
                after[left] = slot
            else:
                head[rank] = slot
            if right >= 0:
                ahead[right] = slot
            else:
                tail[rank] = slot
            while right >= 0 and change[slot] != 0:
                alive[right] += change[slot]
                right = after[right]
    return True, *unlinked(head, after)


@jit
def unlinked(head: Ints, after: Ints) -> tuple[Ints, Ints]:
    """The order of all ranks, and where each rank's begins."""
    order, first = np.empty(len(after), np.int64), np.zeros(len(head) + 1, np.int64)
    count = 0
    for rank in range(len(head)):
        slot = head[rank]
        while slot >= 0:
            order[count] = slot
            count += 1
            slot = after[slot]
        first[rank + 1] = count
    return order, first


@jit
def refill(order: Ints, first: Ints, slots: Slots, patience: float, start: Floats, finish: Floats) -> tuple[bool, Ints]:
    """Keep the F and I of an order; run W where a rank would wait, and where an F has no room.

    Args:
        order: of F, I and W; see the module.
        first: where each rank's begins.
        slots: all of them.
        patience: share of a W that the wait must have for the W to fill it.
        start: filled in.
        finish: filled in.

    Returns:
        Whether the order runs to its end, and the order.
    """
    before, lag, own, duration, change = slots.before, slots.lag, slots.own, slots.duration, slots.alive
    kind, ranks, filled, moved, up = len(order) // 3, len(first) - 1, np.empty_like(order), True, True
    at, to, oldest, newest = first[:-1].copy(), first[:-1].copy(), first[:-1].copy(), first[:-1].copy()
    waiting, alive, clock = np.empty_like(order), np.zeros(ranks, np.int64), np.zeros(ranks)
    finish[:] = -1.0
    while moved:
        moved = False
        for turn in range(ranks):
            rank = turn if up else ranks - 1 - turn
            time, held, most, end = clock[rank], alive[rank], slots.limit[rank], first[rank + 1]
            here, there, old, new = at[rank], to[rank], oldest[rank], newest[rank]
            while there < end:
                while here < end and order[here] >= 2 * kind:
                    here += 1
                slot, arrival, fill = -1, time, old < new
                if here < end:
                    slot = order[here]
                    arrival = ready(slot, before, lag, own, finish)
                    if arrival < 0.0:
                        break
                    if fill:
                        enough = arrival > time and arrival - time >= patience * duration[waiting[old]]
                        fill = enough or (change[slot] > 0 and held >= most)
                if fill:
                    slot, arrival = waiting[old], time
                    old += 1
                else:
                    here += 1
                if kind <= slot < 2 * kind:
                    waiting[new] = slot + kind
                    new += 1
                held += change[slot]
                if held > most:
                    return False, filled
                time = max(time, arrival)
                start[slot] = time
                time += duration[slot]
                finish[slot] = time
                filled[there] = slot
                there += 1
            moved = moved or there > to[rank]
            clock[rank], alive[rank], at[rank], to[rank], oldest[rank], newest[rank] = time, held, here, there, old, new
        up = not up
    return bool(np.all(to == first[1:])), filled


@jit
def critical(order: Ints, first: Ints, place: Ints, slots: Slots, start: Floats, finish: Floats, span: bool) -> Ints:
    """Slots that none may be later without a longer makespan, or a longer longest span; the last one first."""
    before, rank_of = slots.before, slots.rank
    slot, longest = -1, -1.0
    for rank in range(len(first) - 1):
        end = finish[order[first[rank + 1] - 1]] - (start[order[first[rank]]] if span else 0.0)
        if end > longest:
            slot, longest = order[first[rank + 1] - 1], end
    path, count = np.empty_like(order), 0
    while slot >= 0:
        path[count] = slot
        count += 1
        previous = order[place[slot] - 1] if place[slot] > first[rank_of[slot]] else -1
        slot = previous if previous >= 0 and finish[previous] >= start[slot] else before[slot]
    return path[:count]


@jit
def moved(order: Ints, at: int, to: int) -> None:
    """Move one entry of an order, those between by one."""
    slot, step = order[at], 1 if to > at else -1
    for place in range(at, to, step):
        order[place] = order[place + step]
    order[to] = slot


@jit
def refine(order: Ints, first: Ints, cases: tuple[Slots, ...], doubt: float, span_weight: float, tries: int) -> None:
    """Improve an order in place: ``tries`` times move a slot of a critical path by at most 6, keep what is no worse.

    Args:
        order: of slots, see the module; it must run.
        first: where each rank's begins.
        cases: see :func:`rate`; the path is that of the first.
        doubt: see :func:`rate`.
        span_weight: see :func:`score`.
        tries: moves to look at.
    """
    start, finish, slots = np.zeros(len(order)), np.zeros(len(order)), cases[0]
    best, known, _, _ = rate(order, first, cases, doubt, span_weight, np.inf)
    place, path, state = np.empty_like(order), order[:0], 1
    for _ in range(tries):
        if len(path) == 0:
            run(order, first, slots, start, finish)
            for at in range(len(order)):
                place[order[at]] = at
            state = (state * 1103515245 + 12345) % 2147483648
            path = critical(order, first, place, slots, start, finish, state >> 16 & 1 == 1)
        state = (state * 1103515245 + 12345) % 2147483648
        slot = path[(state >> 7) % len(path)]
        state = (state * 1103515245 + 12345) % 2147483648
        shift = (state >> 7) % 12 - 6
        at, rank = place[slot], slots.rank[slot]
        to = at + shift + (1 if shift >= 0 else 0)
        if not first[rank] <= to < first[rank + 1]:
            continue
        moved(order, at, to)
        # No single move gains more than a hundredth in the other cases.
        total, own, _, _ = rate(order, first, cases, doubt, span_weight, known + 0.01 * (best - known))
        if total <= best:
            best, known, path = total, own, order[:0]
        else:
            moved(order, to, at)
