"""Times and places drawn at random: failures of a class or part, recoveries, repairs, bursts."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from simtrain.jit import jit_in_place
from simtrain.reliability.laws import EXPONENTIAL, FIXED, INSTANTS, quantile
from simtrain.reliability.pack import (
    BURST,
    BURST_WINDOW,
    COMPONENTS,
    DECAY,
    FIRST,
    HOLDS,
    INFANT,
    KEY,
    KIND,
    LAST,
    LAW,
    LEMON_FACTOR,
    LEMON_SHARE,
    REPAIR,
    A,
    B,
    Model,
)
from simtrain.reliability.philox import uniform_pair
from simtrain.reliability.progress import REPLICATE, SEED, State

__all__ = [
    "OF_BURST",
    "OF_DETAIL",
    "OF_DURATION",
    "OF_FAILS",
    "OF_LEMON",
    "OF_LIFE",
    "OF_OFFSET",
    "OF_PHASE",
    "OF_REPAIR",
    "burst",
    "drawn_time",
    "gap",
    "gaps",
    "service",
    "time_by",
]

Floats = NDArray[np.float64]

OF_LIFE, OF_DETAIL, OF_DURATION, OF_PHASE, OF_FAILS, OF_REPAIR, OF_LEMON, OF_BURST, OF_OFFSET = range(9)
"""Purposes of random numbers, a word of the counter."""


@jit_in_place
def time_by(m: Model, law: int, u: float, draw: int) -> float:
    """A time by a law; of instants the ``draw``-th, and never where the table has ended."""
    first, last = int(m.laws[law, FIRST]), int(m.laws[law, LAST])
    if m.laws[law, KIND] == INSTANTS:
        return float(m.table[first + draw]) if first + draw < last else math.inf
    return quantile(int(m.laws[law, KIND]), m.laws[law, A], m.laws[law, B], m.table, first, last, u)


@jit_in_place
def drawn_time(m: Model, st: State, law: int, key: int, purpose: int, part: int, draw: int) -> float:
    """As :func:`time_by`, with a number of its own; a fixed law needs none."""
    if m.laws[law, KIND] == FIXED:
        return float(m.laws[law, A])
    u, _ = uniform_pair(int(st.s[SEED]), key, int(st.s[REPLICATE]), purpose, part, draw)
    return time_by(m, law, u, draw)


@jit_in_place
def gap(m: Model, st: State, c: int, part: int, draw: int, since: float) -> tuple[float, float]:
    """Time of the next failure of a class (with one stream for all its parts) or of one part, and who fails.

    The first is wall time, given the time ``since`` of the one before; the second a share of all parts.  The sum of
    the streams of n exponential parts is one stream n times as fast, whose victims are anyone.
    """
    row = m.classes[c]
    law, n = int(row[LAW]), row[COMPONENTS]
    if m.laws[law, KIND] == INSTANTS:
        return max(time_by(m, law, 0.0, draw), since), 0.0
    u, v = uniform_pair(int(st.s[SEED]), int(row[KEY]), int(st.s[REPLICATE]), OF_LIFE, part, draw)
    if m.laws[law, KIND] == EXPONENTIAL:
        mean = m.laws[law, A] / (n * (1.0 + row[LEMON_SHARE] * (row[LEMON_FACTOR] - 1.0)))
        return since + _infant(-mean * math.log1p(-u), since, row[INFANT] - 1.0, row[DECAY]), v
    life = time_by(m, law, u, draw)
    if row[LEMON_SHARE] > 0.0:
        w, _ = uniform_pair(int(st.s[SEED]), int(row[KEY]), int(st.s[REPLICATE]), OF_LEMON, part, 0)
        if w < row[LEMON_SHARE]:
            life /= row[LEMON_FACTOR]
    return since + life, (part + 0.5) / n


@jit_in_place
def gaps(m: Model, st: State, c: int, draw: int, since: float, found: Floats) -> None:
    """Several failures of a class with one stream for all its parts, one after the other: (n, 2) as :func:`gap`."""
    for i in range(len(found)):
        since, found[i, 1] = gap(m, st, c, 0, draw + i, since)
        found[i, 0] = since


@jit_in_place
def _infant(gap_s: float, since: float, extra: float, decay_s: float) -> float:
    """The gap after ``since`` in which a rate of 1 + extra exp(-t / decay) adds up to what 1 does in ``gap_s``.

    Newton from below: the sum is concave and rising, so that steps never overshoot.
    """
    if extra <= 0.0 or decay_s <= 0.0:
        return gap_s
    begun = extra * math.exp(-since / decay_s)
    x = 0.0
    for _ in range(60):
        rest = gap_s - x - begun * decay_s * -math.expm1(-x / decay_s)
        x += rest / (1.0 + begun * math.exp(-x / decay_s))
        if rest <= 1e-13 * gap_s:
            break
    return x


@jit_in_place
def service(m: Model, st: State, c: int, draw: int, node: int) -> float:
    """Time in repair of one of the nodes that an event takes; a repair that does not hold is done again."""
    row = m.classes[c]
    total, attempt = 0.0, 0
    while True:
        part = node + 65536 * attempt
        total += drawn_time(m, st, int(row[REPAIR]), int(row[KEY]), OF_REPAIR, part, draw)
        if m.job[HOLDS] >= 1.0:
            return total
        _, v = uniform_pair(int(st.s[SEED]), int(row[KEY]), int(st.s[REPLICATE]), OF_REPAIR, part, draw)
        if v < m.job[HOLDS]:
            return total
        attempt += 1


@jit_in_place
def burst(m: Model, st: State, c: int, draw: int, k: int) -> tuple[float, float]:
    """Of the k-th further event that one brings: seconds after it, and at which share of the parts; inf: none."""
    row, seed, replicate = m.classes[c], int(st.s[SEED]), int(st.s[REPLICATE])
    if k == 0:
        u, _ = uniform_pair(seed, int(row[KEY]), replicate, OF_BURST, 0, draw)
        if u >= row[BURST]:
            return math.inf, 0.0
    u, v = uniform_pair(seed, int(row[KEY]), replicate, OF_OFFSET, k, draw)
    return u * row[BURST_WINDOW], v
