"""Pipeline orders run by the engine reproduce the published evaluations of the same orders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simtrain import schedules
from simtrain.engines import des
from simtrain.program.builder import ProgramBuilder
from simtrain.program.program import Program, Stream
from simtrain.schedules.order import Order
from tests.orders import tables

FAMILIES = ("gpipe", "1f1b", "interleaved_1f1b")
Costs = dict[str, float]


def program_of(order: Order, costs: Costs) -> Program:
    """One operation per slot; what comes from another rank arrives ``comm`` later and holds no lane."""
    slots = [(rank, *slot) for rank, todo in enumerate(order.slots()) for slot in todo]
    number = {(kind, stage, mb): (i, rank) for i, (rank, kind, stage, mb) in enumerate(slots)}
    builder = ProgramBuilder(order.ranks)
    for rank, kind, stage, mb in slots:
        needs = [("F", stage - 1, mb)] if kind == "F" else [("F", stage, mb), ("B", stage + 1, mb)]
        found = [number[need] for need in needs if need in number]
        after = [(op, costs["comm"] if other != rank else 0.0) for op, other in found]
        seconds = costs["F"] if kind == "F" else costs.get("B", costs["I"] + costs["W"])
        builder.op(kind, [(rank, Stream.COMPUTE)], float(seconds), after, stage=stage, microbatch=mb)
    return builder.build()


@pytest.mark.parametrize("path", tables(FAMILIES))
def test_the_engine_reproduces_every_evaluation(path: Path) -> None:
    table = json.loads(path.read_text())
    order = schedules.get(table["schedule"]).order(table["P"], table["M"], table["V"])
    for case in table["evals"]:
        timeline = des.simulate(program_of(order, case["costs"]))
        lanes = [timeline.lane(rank, Stream.COMPUTE) for rank in range(order.ranks)]
        busy = [float((timeline.end_s[ops] - timeline.start_s[ops]).sum()) for ops in lanes]
        span = [float(timeline.end_s[ops[-1]] - timeline.start_s[ops[0]]) for ops in lanes]
        got = {
            "makespan": timeline.makespan_s,
            "bubble_fraction": 1.0 - sum(busy) / (order.ranks * timeline.makespan_s),
            "max_rank_span": max(span),
            "busy": busy,
            "idle_in_span": [s - b for s, b in zip(span, busy, strict=True)],
        }
        assert got == {key: pytest.approx(case[key], rel=1e-9, abs=1e-9) for key in got}
