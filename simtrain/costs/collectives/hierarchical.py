"""Two levels: inside each node, and between nodes over each GPU's own rail.

``hierarchical`` does one level after the other: an all-reduce is a reduce-scatter inside, an all-reduce between
GPUs of equal position, an all-gather inside (Jia et al. 2018, arXiv 1807.11205; Horovod's hierarchical all-reduce); an
all-gather goes between nodes first, a reduce-scatter inside first; an all-to-all hands everything for a position
to the local GPU of that position, which sends it on (Tutel's two-dimensional all-to-all, arXiv 2206.03382).
``hierarchical_pipelined`` cuts the data so finely that both levels run at once and the slowest link decides
(BlueConnect, Cho et al. 2019).  NCCL does neither by itself; its own all-to-all of this kind is ``pxn``.
"""

from __future__ import annotations

import numpy as np

from simtrain.costs.collectives.groups import Groups
from simtrain.costs.collectives.plan import Algorithm, Plan, Stage, passes
from simtrain.costs.collectives.traffic import Ints, Traffic
from simtrain.model.operators import Collective

__all__ = ["ALL_TO_ALL", "PIPELINED", "STAGED"]

_PROTOCOLS = ("LL", "LL128", "Simple")


def _plan_staged(groups: Groups, collective: Collective) -> Plan | None:
    each, nodes = groups.per_node, groups.most_nodes
    if each is None or each == 1 or nodes == 1:
        return None
    between = _ring(groups, f"{collective} between nodes", groups.rails, passes(collective) / each, far=True)
    scatter = _ring(groups, "reduce_scatter inside nodes", groups.local, 1.0)
    gather = _ring(groups, "all_gather inside nodes", groups.local, 1.0)
    stages = {
        "all_reduce": (scatter, between, gather),
        "reduce_scatter": (scatter, between),
        "all_gather": (between, gather),
    }[collective]
    return Plan("hierarchical", stages, _PROTOCOLS, _formula(collective, each, nodes))


def _plan_pipelined(groups: Groups, collective: Collective) -> Plan | None:
    each, nodes = groups.per_node, groups.most_nodes
    if each is None or each == 1 or nodes == 1:
        return None
    rounds = passes(collective)
    traffic = Traffic(groups)
    _add_ring(traffic, groups.local, rounds)
    _add_ring(traffic, groups.rails, rounds / each)
    stage = Stage("both levels", traffic, near_steps=rounds * (each - 1), far_steps=rounds * (nodes - 1))
    return Plan("hierarchical_pipelined", (stage,), _PROTOCOLS, _formula(collective, each, nodes))


def _plan_all_to_all(groups: Groups, collective: Collective) -> Plan | None:
    each, nodes = groups.per_node, groups.most_nodes
    if each is None or each == 1 or nodes == 1:
        return None
    inside, between = Traffic(groups), Traffic(groups)
    inside.exchange(groups.local, 1.0 / each)
    between.exchange(groups.rails, 1.0 / nodes)
    return Plan(
        "hierarchical",
        (
            Stage("all_to_all inside nodes", inside, each - 1, 0, family="exchange"),
            Stage("all_to_all between nodes", between, 0, nodes - 1, family="exchange"),
        ),
        protocols=("LL", "Simple"),
        formula=f"size: ({each} - 1) / {each} inside, then ({nodes} - 1) / {nodes} between nodes",
    )


def _ring(groups: Groups, name: str, rows: Ints, share: float, *, far: bool = False) -> Stage:
    """A stage of rings over ``rows``, around which ``share`` of the size goes."""
    traffic = Traffic(groups)
    _add_ring(traffic, rows, share)
    reduces = name.startswith("all_reduce")
    steps = (rows.shape[1] - 1) * (2 if reduces else 1)
    return Stage(name, traffic, 0 if far else steps, steps if far else 0, reduces_in_ring=reduces)


def _add_ring(traffic: Traffic, rows: Ints, share: float) -> None:
    size = rows.shape[1]
    traffic.add(rows.ravel(), np.roll(rows, -1, axis=1).ravel(), share * (size - 1) / size)


def _formula(collective: Collective, each: int, nodes: int) -> str:
    return f"{passes(collective)} * size: ({each} - 1) / {each} inside, ({nodes} - 1) / {nodes} / {each} between nodes"


_REDUCTIONS: tuple[Collective, ...] = ("all_reduce", "all_gather", "reduce_scatter")
STAGED = Algorithm("hierarchical", _REDUCTIONS, _plan_staged, nccl=False)
PIPELINED = Algorithm("hierarchical_pipelined", _REDUCTIONS, _plan_pipelined, nccl=False, mscclpp=True)
ALL_TO_ALL = Algorithm("hierarchical", ("all_to_all", "dispatch", "combine"), _plan_all_to_all, nccl=False)
