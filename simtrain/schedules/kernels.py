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

__all__ = ["Slots", "insert", "pattern", "refill", "refine", "run", "score"]

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
def ready(slot: int, slots: Slots, finish: Floats) -> float:
    """When everything that a slot waits for is there; -1 while that is not known."""
    time, own, before = 0.0, slots.own[slot], slots.before[slot]
    if own >= 0:
        time = finish[own]
    if before >= 0 and time >= 0.0:
        time = max(time, finish[before] + slots.lag[slot]) if finish[before] >= 0.0 else -1.0
    return time


@jit
def run(order: Ints, first: Ints, slots: Slots, start: Floats, finish: Floats) -> bool:
    """Fill in ``start`` and ``finish``, each slot as early as its rank's order allows.

    Returns:
        Whether the order runs to its end within the limits.
    """
    ranks, left, moved, up = len(first) - 1, len(order), True, True
    at = first[:-1].copy()
    alive = np.zeros(ranks, np.int64)
    finish[:] = -1.0
    while moved:
        moved = False
        for turn in range(ranks):
            rank = turn if up else ranks - 1 - turn
            time = finish[order[at[rank] - 1]] if at[rank] > first[rank] else 0.0
            while at[rank] < first[rank + 1]:
                slot = order[at[rank]]
                arrival = ready(slot, slots, finish)
                if arrival < 0.0:
                    break
                alive[rank] += slots.alive[slot]
                if alive[rank] > slots.limit[rank]:
                    return False
                start[slot] = max(time, arrival)
                finish[slot] = time = start[slot] + slots.duration[slot]
                at[rank] += 1
                left -= 1
                moved = True
        up = not up
    return left == 0


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
        time = ready(slot, slots, finish)
        if turn < 2 * stages and slots.before[slot] >= 0 and slots.rank[slots.before[slot]] != slots.rank[slot]:
            time += stretch[turn]
        rank = slots.rank[slot]
        time = free_phase(taken[rank], used[rank], time, slots.duration[slot], period)
        taken[rank, used[rank], 0], taken[rank, used[rank], 1] = time, slots.duration[slot]
        used[rank] += 1
        target[place] = time
        finish[slot] = time + slots.duration[slot]
    return target


class Chain(NamedTuple):
    """Slots placed so far, linked in the order their ranks run them; -1 where there is none.

    Attributes:
        start, finish: times; ``finish`` is -1 for what is not placed.
        after, ahead: next and previous slot of the rank.
        head, tail: first and last slot of each rank, shape (ranks,).
        alive: activations that the rank holds from the slot on.
    """

    start: Floats
    finish: Floats
    after: Ints
    ahead: Ints
    head: Ints
    tail: Ints
    alive: Ints


@jit
def no_links(count: int, ranks: int) -> Chain:
    """A chain without slots."""
    return Chain(
        np.zeros(count),
        np.full(count, -1.0),
        np.full(count, -1),
        np.full(count, -1),
        np.full(ranks, -1),
        np.full(ranks, -1),
        np.zeros(count, np.int64),
    )


@jit
def last_full(rank: int, slots: Slots, links: Chain) -> int:
    """Last slot of a rank that leaves no room for another activation, or -1."""
    slot = links.tail[rank]
    while slot >= 0 and links.alive[slot] < slots.limit[rank]:
        slot = links.ahead[slot]
    return int(slot)


@jit
def link(slot: int, left: int, time: float, margin: float, slots: Slots, links: Chain) -> None:
    """Put a slot into the first gap behind ``left``, and not before ``time``, that is long enough."""
    rank, duration = slots.rank[slot], slots.duration[slot]
    while True:
        begin = max(time, links.finish[left]) if left >= 0 else time
        right = links.after[left] if left >= 0 else links.head[rank]
        if right < 0 or begin + duration <= links.start[right] + margin:
            break
        left = right
    links.start[slot], links.finish[slot] = begin, begin + duration
    links.ahead[slot], links.after[slot] = left, right
    links.alive[slot] = slots.alive[slot] + (links.alive[left] if left >= 0 else 0)
    if left >= 0:
        links.after[left] = slot
    else:
        links.head[rank] = slot
    if right >= 0:
        links.ahead[right] = slot
    else:
        links.tail[rank] = slot
    while right >= 0 and slots.alive[slot] != 0:
        links.alive[right] += slots.alive[slot]
        right = links.after[right]


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
    links = no_links(len(slots.rank), len(slots.limit))
    laps = np.floor(targets / period)
    turns = np.argsort(targets - laps * period, kind="mergesort")
    latest = np.full(len(targets), -1)
    for lap in range(microbatches + int(laps.max())):
        for place in turns:
            microbatch = lap - int(laps[place])
            if microbatch < 0 or microbatch >= microbatches:
                continue
            slot = place * microbatches + microbatch
            time = ready(slot, slots, links.finish)
            left = latest[place]
            if slots.alive[slot] > 0:
                full = last_full(slots.rank[slot], slots, links)
                if full >= 0 and full == links.tail[slots.rank[slot]]:
                    time = -1.0
                if full >= 0 and (left < 0 or links.start[full] > links.start[left]):
                    left = full
            if time < 0.0:
                return False, links.after, links.head
            link(slot, left, time, 1e-9 * period, slots, links)
            latest[place] = slot
    order, first = unlinked(links)
    return True, order, first


@jit
def unlinked(links: Chain) -> tuple[Ints, Ints]:
    """Order of all ranks, and where each rank's begins."""
    order, first = np.empty(len(links.after), np.int64), np.zeros(len(links.head) + 1, np.int64)
    count = 0
    for rank in range(len(links.head)):
        slot = links.head[rank]
        while slot >= 0:
            order[count] = slot
            count += 1
            slot = links.after[slot]
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
    kind, ranks, filled, moved, up = len(order) // 3, len(first) - 1, np.empty_like(order), True, True
    at, to = first[:-1].copy(), first[:-1].copy()
    waiting, oldest, newest = np.empty_like(order), first[:-1].copy(), first[:-1].copy()
    alive, clock = np.zeros(ranks, np.int64), np.zeros(ranks)
    finish[:] = -1.0
    while moved:
        moved = False
        for turn in range(ranks):
            rank = turn if up else ranks - 1 - turn
            while to[rank] < first[rank + 1]:
                while at[rank] < first[rank + 1] and order[at[rank]] >= 2 * kind:
                    at[rank] += 1
                slot, arrival, fill = -1, clock[rank], oldest[rank] < newest[rank]
                if at[rank] < first[rank + 1]:
                    slot = order[at[rank]]
                    arrival = ready(slot, slots, finish)
                    if arrival < 0.0:
                        break
                    if fill:
                        wait = arrival - clock[rank] - patience * slots.duration[waiting[oldest[rank]]]
                        fill = (arrival > clock[rank] and wait >= 0.0) or (
                            slots.alive[slot] > 0 and alive[rank] >= slots.limit[rank]
                        )
                if fill:
                    slot = waiting[oldest[rank]]
                    oldest[rank] += 1
                    arrival = clock[rank]
                else:
                    at[rank] += 1
                if kind <= slot < 2 * kind:
                    waiting[newest[rank]] = slot + kind
                    newest[rank] += 1
                alive[rank] += slots.alive[slot]
                if alive[rank] > slots.limit[rank]:
                    return False, filled
                start[slot] = max(clock[rank], arrival)
                finish[slot] = clock[rank] = start[slot] + slots.duration[slot]
                filled[to[rank]] = slot
                to[rank] += 1
                moved = True
        up = not up
    return np.all(to == first[1:]), filled


@jit
def critical(order: Ints, first: Ints, place: Ints, slots: Slots, start: Floats, finish: Floats, span: bool) -> Ints:
    """Slots that none may be later without a longer makespan, or a longer longest span; the last one first."""
    slot, longest = -1, -1.0
    for rank in range(len(first) - 1):
        end = finish[order[first[rank + 1] - 1]] - (start[order[first[rank]]] if span else 0.0)
        if end > longest:
            slot, longest = order[first[rank + 1] - 1], end
    path, count = np.empty_like(order), 0
    while slot >= 0:
        path[count] = slot
        count += 1
        previous = order[place[slot] - 1] if place[slot] > first[slots.rank[slot]] else -1
        slot = previous if previous >= 0 and finish[previous] >= start[slot] else slots.before[slot]
    return path[:count]


@jit
def moved(order: Ints, at: int, to: int) -> None:
    """Move one entry of an order, those between by one."""
    slot, step = order[at], 1 if to > at else -1
    for place in range(at, to, step):
        order[place] = order[place + step]
    order[to] = slot


@jit
def refine(order: Ints, first: Ints, slots: Slots, tries: int, span_weight: float) -> None:
    """Improve an order in place: ``tries`` times move a slot of a critical path by at most 6, keep what is no worse."""
    start, finish = np.zeros(len(order)), np.zeros(len(order))
    if not run(order, first, slots, start, finish):
        return
    best = score(order, first, start, finish, span_weight)[0]
    place, path, state = np.empty_like(order), order[:0], 1
    for _ in range(tries):
        if len(path) == 0:
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
        found = run(order, first, slots, start, finish)
        if found and score(order, first, start, finish, span_weight)[0] <= best:
            best = score(order, first, start, finish, span_weight)[0]
            path = order[:0]
        else:
            moved(order, to, at)
