"""A plain evaluator of orders, independent of the product: the timing rule of the published order tables."""

from __future__ import annotations

from simtrain.schedules.order import Order


def finish_times(order: Order, forward: float, backward: float, comm: float = 0.0) -> list[list[tuple[float, float]]]:
    """(start, end) of every slot of every rank of an order of F and B; raises RuntimeError on a deadlock."""
    slots = order.slots()
    produced: dict[tuple[object, ...], tuple[float, int]] = {}
    spans: list[list[tuple[float, float]]] = [[] for _ in slots]
    progress = True
    while progress:
        progress = False
        for rank, todo in enumerate(slots):
            while len(spans[rank]) < len(todo):
                kind, stage, microbatch = todo[len(spans[rank])]
                needs: list[tuple[object, ...]] = []
                if kind == "F" and stage > 0:  # type: ignore[operator]
                    needs = [("F", stage - 1, microbatch)]  # type: ignore[operator]
                elif kind == "B":
                    needs = [("F", stage, microbatch)]
                    if stage < order.stages - 1:  # type: ignore[operator]
                        needs.append(("B", stage + 1, microbatch))  # type: ignore[operator]
                if any(need not in produced for need in needs):
                    break
                ready = [produced[n][0] + (comm if produced[n][1] != rank else 0.0) for n in needs]
                start = max([spans[rank][-1][1] if spans[rank] else 0.0, *ready])
                end = start + (forward if kind == "F" else backward)
                spans[rank].append((start, end))
                produced[kind, stage, microbatch] = (end, rank)
                progress = True
    if any(len(done) < len(todo) for done, todo in zip(spans, slots, strict=True)):
        raise RuntimeError("deadlock")
    return spans


def peak_chunks(order: Order) -> list[int]:
    """Most chunk activations alive on each rank, from the start of F to the end of B."""
    peaks = []
    for rank in order.slots():
        alive = peak = 0
        for slot in rank:
            alive += 1 if slot[0] == "F" else -1
            peak = max(peak, alive)
        peaks.append(peak)
    return peaks
