"""A plain evaluator of orders, independent of the product: the timing rule of the published order tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from simtrain.schedules.order import Order

Spans = list[list[tuple[float, float]]]
Costs = Mapping[str, float]
Halves = list[tuple[str, int, int]]


def finish_times(order: Order, forward: float, backward: float, comm: float = 0.0) -> Spans:
    """:func:`timed` for orders of F and B alone."""
    return timed(order, {"F": forward, "I": 0.0, "W": 0.0, "B": backward, "comm": comm})


def timed(order: Order, costs: Costs) -> Spans:
    """(start, end) of every slot of every rank; costs F, I, W and, where given, B, X, comm.

    Raises:
        RuntimeError: the order deadlocks.
    """
    last, comm = order.stages - 1, costs.get("comm", 0.0)
    took = {"B": costs["I"] + costs["W"], **costs}
    took.setdefault("X", took["F"] + took["B"])
    todo = [[(slot[0], _halves(slot)) for slot in rank] for rank in order.slots()]
    produced: dict[tuple[str, int, int], tuple[float, int]] = {}
    spans: Spans = [[] for _ in todo]
    progress = True
    while progress:
        progress = False
        for rank, slots in enumerate(todo):
            for kind, halves in slots[len(spans[rank]) :]:
                needs = [need for half in halves for need in _needs(*half, last)]
                if not all(need in produced for need in needs):
                    break
                ready = [time + comm * (rank != producer) for time, producer in map(produced.__getitem__, needs)]
                start = max([spans[rank][-1][1] if spans[rank] else 0.0, *ready])
                spans[rank].append((start, start + took[kind]))
                for what, stage, microbatch in halves:
                    produced["I" if what == "B" else what, stage, microbatch] = (start + took[kind], rank)
                progress = True
    if any(len(done) < len(slots) for done, slots in zip(spans, todo, strict=True)):
        raise RuntimeError("deadlock")
    return spans


def evaluate(order: Order, costs: Costs) -> dict[str, Any]:
    """The figures of one entry of ``evals``, under its names."""
    spans = timed(order, costs)
    busy = [sum(end - start for start, end in rank) for rank in spans]
    span = [rank[-1][1] - rank[0][0] for rank in spans]
    makespan = max(rank[-1][1] for rank in spans)
    return {
        "makespan": makespan,
        "bubble_fraction": 1 - sum(busy) / (order.ranks * makespan),
        "max_rank_span": max(span),
        "busy": busy,
        "idle_in_span": [whole - used for whole, used in zip(span, busy, strict=True)],
    }


def peak_chunks(order: Order, free_at: str = "W") -> list[int]:
    """Most chunk activations alive on each rank, from the start of F to the end of B or ``free_at``."""
    return [max(_alive(rank, free_at)) for rank in order.slots()]


def actions(order: Order) -> list[tuple[str, int, int, int]]:
    """(kind, stage, micro batch, rank) of every half of every slot, sorted; kinds F, B, I, W."""
    return sorted((*half, rank) for rank, slots in enumerate(order.slots()) for slot in slots for half in _halves(slot))


def _alive(slots: list[list[Any]], free_at: str) -> Iterator[int]:
    alive = 0
    for slot in slots:
        for kind, _, _ in _halves(slot):
            alive += (kind == "F") - (kind in ("B", free_at))
            yield alive


def _halves(slot: list[Any]) -> Halves:
    if slot[0] == "X":
        return [("F", slot[1], slot[2]), ("B", slot[3], slot[4])]
    return [(slot[0], slot[1], slot[2])]


def _needs(kind: str, stage: int, microbatch: int, last: int) -> Halves:
    if kind == "W":
        return [("I", stage, microbatch)]
    if kind == "F":
        return [("F", stage - 1, microbatch)] if stage else []
    return [("F", stage, microbatch)] + ([("I", stage + 1, microbatch)] if stage < last else [])
