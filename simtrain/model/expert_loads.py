"""How unevenly tokens fall on the ranks of an expert parallel group."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from simtrain.scenario.model import MixtureOfExperts
from simtrain.scenario.workload import ExpertRouting

__all__ = ["dropped_share", "expert_loads", "rank_loads"]

Floats = NDArray[np.float64]


def rank_loads(moe: MixtureOfExperts, ep: int, layer: int, routing: ExpertRouting) -> Floats:
    """Rows that the experts of each rank compute, relative to an even spread of all rows.

    Args:
        moe: experts lie on the ranks in order, equally many on each.
        ep: ranks; it divides the experts.
        layer: each layer (0-based) has a draw of its own, whatever the others are.
        routing: how tokens choose, and what an expert takes.

    Returns:
        (ep,) loads.  Without a capacity their mean is 1; with one it is 1 minus :func:`dropped_share`, or with
        padding the capacity factor on every rank.
    """
    return np.asarray(_taken(moe, layer, routing).reshape(ep, -1).mean(axis=1))


def dropped_share(moe: MixtureOfExperts, layer: int, routing: ExpertRouting) -> float:
    """Share of (token, expert) pairs of a layer that exceed the capacity of their expert, and are dropped."""
    if routing.capacity_factor is None:
        return 0.0
    return float(1.0 - np.minimum(expert_loads(moe, layer, routing), routing.capacity_factor).mean())


def expert_loads(moe: MixtureOfExperts, layer: int, routing: ExpertRouting) -> Floats:
    """(experts,) popularity of each expert before any capacity; the mean is 1.

    Natural popularities are lognormal with coefficient of variation ``routing.spread``.  A token takes an expert at
    most once, so that none is above experts / top_k; the excess goes to the others in proportion.
    """
    if routing.kind == "balanced":
        return np.ones(moe.experts)
    key = np.array([routing.seed, layer], dtype=np.uint64)
    normal = np.random.Generator(np.random.Philox(key=key)).standard_normal(moe.experts)
    popularity = np.exp(math.sqrt(math.log1p(routing.spread**2)) * normal)
    return _at_most(popularity / popularity.mean(), moe.experts / moe.top_k)


def _at_most(loads: Floats, limit: float) -> Floats:
    """Loads of mean 1 none of which is above ``limit`` (1 or more)."""
    full = np.zeros(len(loads), dtype=bool)
    while (loads > limit).any():
        full |= loads >= limit
        free = loads[~full].sum()
        rest = len(loads) - limit * full.sum()
        loads = np.where(full, limit, loads * (rest / free if free else 0.0))
    return loads


def _taken(moe: MixtureOfExperts, layer: int, routing: ExpertRouting) -> Floats:
    """(experts,) load of each expert within its capacity, filled up to it where the layout pads."""
    capacity = routing.capacity_factor
    if capacity is None:
        return expert_loads(moe, layer, routing)
    if routing.pad_to_capacity:
        return np.full(moe.experts, capacity)
    return np.minimum(expert_loads(moe, layer, routing), capacity)
