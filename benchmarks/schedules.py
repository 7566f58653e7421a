"""Order and evaluation of every pipeline schedule, against a plain-Python dependency pass over the same tables.

Prints, in one run: the hand-made families at P=16 V=2 M=128 and P=64 V=2 M=512 by the compiled engine (order and
evaluation apart, medians), the plain pass beside them, and SimPy; the searches of the cost-driven families at the
first size; and one schedule under a thousand sets of costs.  V is 2 where the schedule has chunks, otherwise 1.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from simtrain import schedules
from simtrain.errors import ScheduleError
from simtrain.schedules.order import Order
from simtrain.schedules.slot_costs import SlotCosts
from simtrain.step.schedule import evaluate_many, evaluate_order

COSTS = SlotCosts(10.0, 12.0, 8.0, comm=1.0)
SIZES = ((16, 128, 1.5e-3), (64, 512, 60e-3))  # ranks, micro batches, target in seconds
SEARCHED = ("zb_auto_1p", "zb_auto_2p", "zbv_auto", "v_half", "v_min")
SEARCH_TARGET_S, MANY_TARGET_S = 0.5, 1.0


def order_of(name: str, ranks: int, microbatches: int) -> Order:
    """The order with two chunks where the schedule takes them."""
    schedule = schedules.get(name)
    try:
        return schedule.order(ranks, microbatches, 2, COSTS)
    except ScheduleError:
        return schedule.order(ranks, microbatches, None, COSTS)


def plain(slots: list[list[list[Any]]], stages: int, costs: SlotCosts) -> float:
    """Makespan of a table, the way a script would find it: dictionaries and one pass per wake-up of a rank."""
    f, i, w, comm = costs.f, costs.i, costs.w, costs.comm
    seconds: dict[str, Any] = {"F": f, "I": i, "W": w, "B": i + w, "X": f + i + w}  # type: ignore[operator]
    done: dict[tuple[str, int, int], tuple[float, int]] = {}
    at, clock = [0] * len(slots), [0.0] * len(slots)
    waiting: dict[tuple[str, int, int], list[int]] = {}
    ready = list(range(len(slots)))
    while ready:
        rank = ready.pop()
        todo = slots[rank]
        while at[rank] < len(todo):
            slot = todo[at[rank]]
            kind, stage, mb = slot[0], slot[1], slot[2]
            needs = [("F", stage - 1, mb)] if kind in "FX" and stage else []
            makes = [("F", stage, mb)] if kind in "FX" else []
            if kind == "X":
                stage, mb = slot[3], slot[4]
            if kind in "IBX":
                needs += [("F", stage, mb), ("I", stage + 1, mb)] if stage < stages - 1 else [("F", stage, mb)]
                makes.append(("I", stage, mb))
            missing = next((need for need in needs if need not in done), None)
            if missing is not None:
                waiting.setdefault(missing, []).append(rank)
                break
            begin = max([clock[rank], *(done[n][0] + (comm if done[n][1] != rank else 0.0) for n in needs)])
            clock[rank] = begin + seconds[kind]
            at[rank] += 1
            for result in makes:
                done[result] = (clock[rank], rank)
                ready += waiting.pop(result, ())
    return max(clock)


def median(run: Callable[[], Any], repeat: int) -> float:
    """Median seconds of ``repeat`` runs."""
    seconds = []
    for _ in range(repeat):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def families(ranks: int, microbatches: int, target_s: float) -> None:
    """One line per hand-made family."""
    print(f"\nP={ranks} M={microbatches}, target {target_s * 1e3:g} ms for order and evaluation; times in ms")
    print(f"{'schedule':28} {'slots':>7} {'order':>8} {'evaluate':>8} {'sum':>8} {'of target':>9} "
          f"{'plain':>8} {'plain/sum':>9} {'SimPy':>9}")  # fmt: skip
    small = ranks < 64
    for name in (name for name in schedules.names() if name not in SEARCHED):
        order = order_of(name, ranks, microbatches)
        makespan = evaluate_order(order, COSTS, "compiled").makespan
        repeat = 21 if small else 5
        order_s = median(lambda name=name: order_of(name, ranks, microbatches), repeat)  # type: ignore[misc]
        evaluate_s = median(lambda order=order: evaluate_order(order, COSTS, "compiled"), repeat)  # type: ignore[misc]
        slots = order.slots()
        plain_s = median(lambda o=order, s=slots: plain(s, o.stages, COSTS), 3 if small else 1)  # type: ignore[misc]
        agree(name, plain(slots, order.stages, COSTS), makespan)
        simpy = ""
        if small or name == "interleaved_1f1b":
            simpy = f"{median(lambda order=order: evaluate_order(order, COSTS, 'des'), 1) * 1e3:9.1f}"  # type: ignore[misc]
        total = order_s + evaluate_s
        count = sum(map(len, order.actions))
        print(f"{name:28} {count:7} {order_s * 1e3:8.3f} {evaluate_s * 1e3:8.3f} {total * 1e3:8.3f} "
              f"{total / target_s:8.2f}x {plain_s * 1e3:8.1f} {plain_s / total:8.0f}x {simpy:>9}")  # fmt: skip


def agree(name: str, first: float, second: float) -> None:
    """Stop where the plain pass and the engine differ."""
    if abs(first - second) > 1e-9 * second:
        raise SystemExit(f"{name}: plain pass {first}, engine {second}")


def searches(ranks: int, microbatches: int) -> None:
    """Cost-driven families: search, makespan and what the same work would take without bubbles."""
    print(f"\ncost-driven searches, P={ranks} M={microbatches}, target {SEARCH_TARGET_S:g} s")
    for name in (name for name in SEARCHED if name in schedules.names()):
        order = order_of(name, ranks, microbatches)
        search_s = median(lambda name=name: order_of(name, ranks, microbatches), 3)  # type: ignore[misc]
        report = evaluate_order(order, COSTS)
        print(f"{name:28} {search_s:7.3f} s {search_s / SEARCH_TARGET_S:5.2f}x of target, bubble "
              f"{report.bubble_fraction:.2%}, peak {max(report.peak_chunks) / order.chunks:g} stages")  # fmt: skip


def many(ranks: int, microbatches: int, sets: int = 1000) -> None:
    """One order under many costs in one call, against one call for each."""
    order = order_of("interleaved_1f1b", ranks, microbatches)
    random = np.random.default_rng(1)
    costs = [SlotCosts(*(random.uniform(5.0, 15.0, order.stages) for _ in range(3)), comm=1.0) for _ in range(sets)]
    evaluate_many(order, costs[:2])
    seconds = median(lambda: evaluate_many(order, costs), 1)
    one_by_one = median(lambda: [evaluate_order(order, each) for each in costs[:20]], 1) * sets / 20
    print(f"\n{sets} cost sets of interleaved_1f1b, P={ranks} V=2 M={microbatches}: {seconds:.3f} s in one call "
          f"({seconds / MANY_TARGET_S:.2f}x of target {MANY_TARGET_S:g} s), {one_by_one:.2f} s one by one")  # fmt: skip


def main() -> None:
    """Print everything."""
    for ranks, microbatches, target_s in SIZES:
        families(ranks, microbatches, target_s)
    searches(*SIZES[0][:2])
    many(*SIZES[0][:2])


if __name__ == "__main__":
    main()
