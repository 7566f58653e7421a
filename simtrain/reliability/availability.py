"""Closed forms of how many nodes or parts are down: spare pools, elastic jobs, renewal of parts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import UnsupportedError

__all__ = ["binomial", "elastic", "erlang_b", "nodes_down", "renewal_function", "spare_pool"]

Floats = NDArray[np.float64]
MOST_STATES = 2000
"""Size of the largest Markov chain that is solved."""


def erlang_b(servers: int, load: float) -> float:
    """Probability that all ``servers`` are busy under ``load`` erlangs: B_n = a·B_(n−1) / (n + a·B_(n−1)), B_0 = 1."""
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    return blocked


def spare_pool(
    active: int, spares: int, mtbf_s: float, mttr_s: float, *, crews: int | None = None, stopped_ages: bool = False
) -> Floats:
    """Probability of 0, 1, … nodes down where ``active`` nodes run and ``spares`` cold ones replace them at once.

    Birth and death: failures at active/MTBF, none while the job stops (more than ``spares`` down) unless
    ``stopped_ages``, then of the nodes left; repairs at min(down, crews)/MTTR. With unlimited crews the last
    probability is Erlang-B(spares + 1, active·MTTR/MTBF), for any law of repair with that mean (insensitivity).

    Returns:
        (spares + 2,) or, with ``stopped_ages``, (active + spares + 1,).
    """
    most = active + spares if stopped_ages else spares + 1
    logs = [0.0]
    for down in range(most):
        births = min(active, active + spares - down) / mtbf_s
        deaths = min(down + 1, crews or down + 1) / mttr_s
        logs.append(logs[-1] + math.log(births / deaths))
    weights = np.exp(np.array(logs) - max(logs))
    return np.asarray(weights / weights.sum())


def nodes_down(
    active: int, spares: int, events_per_s: Sequence[float], nodes_lost: Sequence[int], mttr_s: float
) -> Floats:
    """Probability of 0, 1, … nodes down where one event takes several nodes; none comes while the job stops.

    Stationary vector of the Markov chain: from j ≤ spares down to j + lost at each class's rate, from j to j − 1 at
    j/MTTR (exponential repair, unlimited crews).

    Raises:
        UnsupportedError: more than :data:`MOST_STATES` nodes can be down.
    """
    most = min(spares + max(nodes_lost), active + spares)
    if most > MOST_STATES:
        raise UnsupportedError(f"{most} nodes may be down; the chain takes up to {MOST_STATES}")
    rates = np.zeros((most + 1, most + 1))
    for down in range(most + 1):
        if down:
            rates[down, down - 1] += down / mttr_s
        if down <= spares:
            for rate, lost in zip(events_per_s, nodes_lost, strict=True):
                rates[down, min(down + lost, most)] += rate
    np.fill_diagonal(rates, -rates.sum(axis=1))
    balance = rates.T * mttr_s
    balance[0] = 1.0  # any one of the balance equations follows from the others; the sum is 1 instead
    found: Floats = np.linalg.solve(balance, np.eye(most + 1)[0])
    return found


def binomial(n: int, share: float) -> Floats:
    """Probability of 0 to ``n`` successes, (n + 1,), through logarithms so that large n do not overflow."""
    if share in (0.0, 1.0):
        sure: Floats = np.eye(n + 1)[n if share else 0]
        return sure
    ways = [math.lgamma(n + 1) - math.lgamma(j + 1) - math.lgamma(n - j + 1) for j in range(n + 1)]
    j = np.arange(n + 1)
    return np.asarray(np.exp(np.array(ways) + j * math.log(share) + (n - j) * math.log1p(-share)))


def elastic(
    nodes: int,
    data_parallel: int,
    nodes_per_replica: int,
    mtbf_s: float,
    mttr_s: float,
    *,
    idle_fail: bool = True,
    lost_work_s: float = 0.0,
) -> tuple[float, float]:
    """Mean throughput relative to full width, and the share of time at full width, of a job that shrinks.

    With j of n nodes down, r(j) = min(dp, floor((n − j)/g)) replicas run: any g healthy nodes form one, and changing
    the width is free.  The number down is Binom(n, MTTR/(MTBF + MTTR)) where all nodes age at all times; where only
    those in a replica do, it is birth and death with failures at g·r(j)/MTBF and (exponential) repairs at j/MTTR.
    Either way the throughput Σ_j P(j)·r(j)/dp loses ``lost_work_s`` seconds of work at full width with each failure
    of a node at work, of which there are g·Σ_j P(j)·r(j)/MTBF a second; less than nothing is nothing.
    """
    replicas = np.minimum(data_parallel, (nodes - np.arange(nodes + 1)) // nodes_per_replica)
    if idle_fail:
        down = binomial(nodes, mttr_s / (mtbf_s + mttr_s))
    else:
        births = nodes_per_replica * replicas[:-1] / mtbf_s
        with np.errstate(divide="ignore"):
            logs = np.concatenate(([0.0], np.cumsum(np.log(births * mttr_s / np.arange(1, nodes + 1)))))
        down = np.exp(logs - logs.max())
        down /= down.sum()
    running = float(down @ replicas)
    kept = running / data_parallel - nodes_per_replica * running / mtbf_s * lost_work_s
    return max(0.0, kept), float(down[replicas == data_parallel].sum())


def renewal_function(time_s: float, shape: float, scale_s: float) -> tuple[float, float]:
    """Expected renewals m(t) of one Weibull part that is replaced by a new one whenever it fails, and an error bound.

    Series of Smith and Leadbetter (Technometrics 5(3), 1963): m(t) = Σ_{n≥1} (−1)^(n−1)·A_n·x^n / Γ(1 + k·n) with
    x = (t/scale)^k, A_n = g_n − Σ_{j<n} g_j·A_(n−j), g_n = Γ(1 + k·n)/n!. Where its alternating terms cancel too much
    for double precision, the integral equation is solved on a grid (Xie, Comm. Stat. B 18(1), 1989) with Richardson
    extrapolation.

    Raises:
        UnsupportedError: neither reaches an error below 1e-6.
    """
    if shape == 1:
        return time_s / scale_s, 0.0
    value, error = _renewal_series((time_s / scale_s) ** shape, shape)
    if error > 1e-9:
        value, error = _renewal_grid(time_s / scale_s, shape)
    if error > 1e-6:
        raise UnsupportedError(f"no closed form: a horizon of {time_s / scale_s:.3g} times the scale is too long")
    return value, error


def _renewal_series(x: float, shape: float, terms: int = 120) -> tuple[float, float]:
    """Sum and error: rounding of the largest term, and the last term kept."""
    n = np.arange(1, terms + 1)
    log_gamma = np.array([math.lgamma(1 + shape * k) for k in n])
    g = np.exp(log_gamma - np.array([math.lgamma(k + 1) for k in n]))
    a = np.zeros(terms)
    for i in range(terms):
        a[i] = g[i] - g[:i] @ a[:i][::-1]
    with np.errstate(over="ignore", invalid="ignore"):
        parts = a * np.exp(n * math.log(x) - log_gamma) * (-1.0) ** (n - 1)
        total, largest = float(parts.sum()), float(np.abs(parts).max())
    if not math.isfinite(total):
        return math.nan, math.inf
    return total, 1e-14 * largest + abs(float(parts[-1]))


def _renewal_grid(t: float, shape: float) -> tuple[float, float]:
    """Xie's method on finer and finer grids; the error is what the last refinement changed."""
    last = best = 0.0
    previous: list[float] = []
    for steps in (250, 500, 1000, 2000, 4000):
        row = [_xie(t, shape, steps)]
        for power, older in enumerate(previous):  # errors of order h^(1+k) first, then whole orders above
            factor = 2.0 ** (min(1 + shape, 2.0) + power)
            row.append((factor * row[-1] - older) / (factor - 1))
        last, best, previous = best, row[-1], row
    return best, abs(best - last)


def _xie(t: float, shape: float, steps: int) -> float:
    h = t / steps
    whole = -np.expm1(-((h * np.arange(1, steps + 1)) ** shape))
    middle = -np.expm1(-((h * (np.arange(steps) + 0.5)) ** shape))
    m = np.zeros(steps + 1)
    increments = np.zeros(steps + 1)
    for i in range(1, steps + 1):
        known = increments[1:i] @ middle[1:i][::-1]
        m[i] = (whole[i - 1] + known - middle[0] * m[i - 1]) / (1 - middle[0])
        increments[i] = m[i] - m[i - 1]
    return float(m[steps])
