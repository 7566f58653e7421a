"""Expected wall time, goodput and availability as formulas: no run is simulated.

Symbols: M mean time between failures of the whole system, tau useful work of a segment, C blocking checkpoint,
L = tau + C, R recovery from the failure to the first useful second, W useful work of the run. Failures are Poisson
unless a function says otherwise. All times are seconds, all rates per second.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from simtrain.errors import UnsupportedError

__all__ = [
    "Blocking",
    "FailureMix",
    "async_goodput",
    "asynchronous",
    "blocking",
    "daly_segment_s",
    "ettr",
    "expected_failures",
    "failure_mix",
    "optimal_segment_s",
    "segments_of",
    "two_tier_wall_s",
    "weibull_goodput",
    "weibull_scale_s",
    "young_segment_s",
]

ROUNDING = 1e-6
"""A last segment below this share of a whole one is what rounding has left, and part of the one before it."""
_MOST_TERMS = 100_000_000
_MOST_SEGMENTS = 1_000_000
_LEAST = 1e-100
"""Chance below which something counts as never happening."""


def segments_of(work_s: float, segment_work_s: float) -> tuple[int, float]:
    """Whole segments in ``work_s`` and the work left for a shorter last one (0 where it divides)."""
    whole = math.floor(work_s / segment_work_s * (1 + 1e-12))
    rest = work_s - whole * segment_work_s
    return whole, rest if not whole or rest > ROUNDING * segment_work_s else 0.0


@dataclass(frozen=True, slots=True)
class Blocking:
    """Mean and standard deviation of the wall time of a run, and its expected failures."""

    work_s: float
    mean_wall_s: float
    sd_wall_s: float
    expected_failures: float

    @property
    def goodput(self) -> float:
        """W / E[T], the ratio of expectations."""
        return self.work_s / self.mean_wall_s


def blocking(
    mtbf_s: float,
    work_s: float,
    segment_work_s: float,
    checkpoint_s: float,
    recovery_s: float,
    *,
    restarts: bool,
    checkpoint_last: bool = True,
) -> Blocking:
    """Run of segments, each followed by a blocking checkpoint; a failure loses the segment under way.

    ``restarts``: failures strike recovery and start it again, E[T] = (W/tau)·M·e^(R/M)·(e^(L/M) − 1); otherwise
    recovery is immune, E[T] = (W/tau)·(M + R)·(e^(L/M) − 1). Daly 2006, eq. 13, for the first form. The variance is
    that of a geometric number of attempts, each an exponential time cut off at L (and at R in recovery).
    ``mtbf_s`` is the whole system's, infinite where nothing fails; ``checkpoint_last`` says whether a checkpoint is
    also written after the last segment.

    Raises:
        UnsupportedError: a segment is never done.
    """
    whole, rest = segments_of(work_s, segment_work_s)
    lengths = [(n, work + checkpoint_s) for n, work in ((whole, segment_work_s), (1, rest)) if n and work]
    if not checkpoint_last:
        count, last = lengths.pop()
        lengths += [(count - 1, last), (1, last - checkpoint_s)]
    mean = variance = failures = 0.0
    for count, length in lengths:
        one = _segment(mtbf_s, length, recovery_s, restarts=restarts)
        mean, variance, failures = mean + count * one[0], variance + count * one[1], failures + count * one[2]
    return Blocking(work_s, mean, math.sqrt(variance), failures)


def _segment(mtbf_s: float, length_s: float, recovery_s: float, *, restarts: bool) -> tuple[float, float, float]:
    """Mean and variance of the time until a segment is done, and its expected failures."""
    if math.isinf(mtbf_s):
        return length_s, 0.0, 0.0
    tries, tries_variance = _failed_tries(mtbf_s, length_s)
    lost, lost_variance = _cut_off(mtbf_s, length_s)
    down, down_variance, strikes = recovery_s, 0.0, 1.0
    if restarts and recovery_s > 0:
        again, again_variance = _failed_tries(mtbf_s, recovery_s)
        part, part_variance = _cut_off(mtbf_s, recovery_s)
        down += again * part
        down_variance = again * part_variance + again_variance * part**2
        strikes += again
    mean = length_s + tries * (lost + down)
    return mean, tries * (lost_variance + down_variance) + tries_variance * (lost + down) ** 2, tries * strikes


def _failed_tries(mtbf_s: float, length_s: float) -> tuple[float, float]:
    """Mean and variance of the geometric number of failures before ``length_s`` passes without one."""
    mean = expected_failures(length_s, mtbf_s)
    return mean, mean * (mean + 1)


def expected_failures(length_s: float, mtbf_s: float) -> float:
    """e^(length/M) − 1, Poisson failures before ``length_s`` passes without one.

    Raises:
        UnsupportedError: it never does.
    """
    if length_s > mtbf_s * -math.log(_LEAST):
        raise _never("a segment", length_s, mtbf_s)
    return math.expm1(length_s / mtbf_s)


def _never(what: str, length_s: float, mtbf_s: float) -> UnsupportedError:
    return UnsupportedError(
        f"{what} of {length_s:g} s is never done at a system MTBF of {mtbf_s:g} s; allowed: up to "
        f"{mtbf_s * -math.log(_LEAST):.4g} s, beyond which it fails more than 1e100 times"
    )


def _cut_off(mtbf_s: float, length_s: float) -> tuple[float, float]:
    """Mean and variance of an exponential time given that it is below ``length_s``."""
    x = length_s / mtbf_s
    if x < 1e-3:  # the difference below would cancel: series to the next order
        return length_s * (0.5 - x / 12), length_s**2 * (1 / 12 - x**2 / 240)
    odds = x / math.expm1(x)
    return mtbf_s * (1 - odds), mtbf_s**2 * (1 - odds * (odds + x))


def optimal_segment_s(mtbf_s: float, checkpoint_s: float) -> float | None:
    """Segment with the least expected wall time: M·(1 + W0(−e^(−1 − C/M))), W0 the Lambert W function.

    Exact whether or not recovery is immune, and independent of R (set the derivative of (e^(L/M) − 1)/tau to 0).
    None for a free checkpoint: the shorter the better. Infinite where nothing fails.
    """
    if checkpoint_s == 0:
        return None
    if math.isinf(mtbf_s):
        return math.inf
    return mtbf_s * _one_plus_w0(checkpoint_s / mtbf_s)


def _one_plus_w0(ratio: float) -> float:
    """1 + W0(−e^(−1 − ratio)) = y with −log(1 − y) − y = ratio, by Newton from Young's square root.

    For large ratios −W0 = z is tiny and its fixed point z = e^(z − 1 − ratio) contracts.
    """
    if ratio > 1:
        z = 0.0
        for _ in range(60):
            z = math.exp(z - 1 - ratio)
        return 1 - z
    y = min(math.sqrt(2 * ratio), 0.9)
    for _ in range(100):
        step = (-math.log1p(-y) - y - ratio) * (1 - y) / y
        y = min(max(y - step, y / 2), (1 + y) / 2)
        if abs(step) <= 1e-15 * y:
            break
    return y


def young_segment_s(mtbf_s: float, checkpoint_s: float) -> float | None:
    """sqrt(2·M·C): Young, CACM 17(9), 1974. None for a free checkpoint."""
    return math.sqrt(2 * mtbf_s * checkpoint_s) if checkpoint_s else None


def daly_segment_s(mtbf_s: float, checkpoint_s: float) -> float | None:
    """sqrt(2CM)·(1 + sqrt(C/2M)/3 + (C/2M)/9) − C below C = 2M, from there M: Daly, FGCS 22(3), 2006, eq. 37."""
    if checkpoint_s == 0:
        return None
    if checkpoint_s >= 2 * mtbf_s:
        return mtbf_s
    root = math.sqrt(checkpoint_s / (2 * mtbf_s))
    return math.sqrt(2 * checkpoint_s * mtbf_s) * (1 + root / 3 + root**2 / 9) - checkpoint_s


def ettr(failures_per_s: float, recovery_s: float, segment_work_s: float, checkpoint_s: float) -> float:
    """Expected effective training time: (1 − r·(u0 + dt/2)) / (1 + w/dt), r failures of the whole job per second.

    First order in r and a line of reference only: it fails once about a quarter of the time is lost (Kokolis et al.,
    HPCA 2025).
    """
    return (1 - failures_per_s * (recovery_s + segment_work_s / 2)) / (1 + checkpoint_s / segment_work_s)


def async_goodput(
    mtbf_s: float,
    segment_work_s: float,
    stall_s: float,
    persist_s: float,
    recovery_s: float,
    *,
    persist_speed: float = 1.0,
) -> tuple[float, float]:
    """Long-run goodput of asynchronous checkpoints, and work and stall lost per failure in seconds.

    A segment stalls for Cb and is durable P after that, and training runs at speed v until then; recovery is immune.
    The first segment after a recovery takes L = tau + Cb, those after it L' = max(L + (1 − v)·min(P, tau/v), P), as
    the next snapshot waits for the one before.  A failure comes after an exponential time, so that segment k is
    durable with the chance e^(−(L + (k − 1)·L' + P)/M), and saved segments per failure are
    s = e^(−(L − L' + P)/M) / (e^(L'/M) − 1); goodput is s·tau / (M + R), lost per failure M − s·tau. Without failures
    goodput is tau / L'.

    Raises:
        UnsupportedError: a segment is never done.
    """
    first = segment_work_s + stall_s
    slowed = min(persist_s, segment_work_s / persist_speed) * (1 - persist_speed)
    length = max(first + slowed, persist_s)
    if math.isinf(mtbf_s):
        return segment_work_s / length, math.inf
    saved = math.exp((length - first - persist_s) / mtbf_s) / expected_failures(length, mtbf_s) * segment_work_s
    return saved / (mtbf_s + recovery_s), mtbf_s - saved


def asynchronous(
    mtbf_s: float,
    work_s: float,
    segment_work_s: float,
    stall_s: float,
    persist_s: float,
    recovery_s: float,
    *,
    persist_speed: float = 1.0,
    checkpoint_last: bool = True,
) -> Blocking:
    """Run of segments with asynchronous checkpoints, as :func:`async_goodput` has them, to the end of the last stall.

    With m segments ahead after a recovery, the k-th is durable at t_k = L + (k − 1)·L' + P and all is done at T_m, the
    last persist not being awaited. The failure that comes first leaves m − k of them with the chance p_k that it
    falls between t_k and the earlier of t_(k+1) and T_m, so that expected failures are
    F_m = (1 − e^(−T_m/M) + Σ_{k≥1} p_k·F_(m−k)) / (1 − p_0), and the wall time (M + R)·F_m. Beyond a million segments
    the ends do not show and the long run stands for it. The standard deviation is NaN.

    Raises:
        UnsupportedError: a segment is never done.
    """
    whole, rest = segments_of(work_s, segment_work_s)
    count, last_s = whole + (rest > 0), rest or segment_work_s
    slow = 1 - persist_speed
    length = max(segment_work_s + stall_s + slow * min(persist_s, segment_work_s / persist_speed), persist_s)
    first, fresh = segment_work_s + stall_s, last_s + (stall_s if checkpoint_last else 0.0)
    end = fresh + slow * min(persist_s, last_s / persist_speed)
    if checkpoint_last:
        end = max(end, persist_s)
    if math.isinf(mtbf_s):
        wall_s = first + (count - 2) * length + end if count > 1 else fresh
        return Blocking(work_s, wall_s, math.nan, 0.0)
    if count > _MOST_SEGMENTS:
        goodput, _ = async_goodput(mtbf_s, segment_work_s, stall_s, persist_s, recovery_s, persist_speed=persist_speed)
        return Blocking(work_s, work_s / goodput, math.nan, work_s / goodput / (mtbf_s + recovery_s))
    expected_failures(fresh if count == 1 else max(fresh, first + persist_s), mtbf_s)  # or this never ends
    failures = _async_failures(count, *(x / mtbf_s for x in (first, length, persist_s, fresh, end)))
    return Blocking(work_s, (mtbf_s + recovery_s) * failures, math.nan, failures)


def _async_failures(count: int, first: float, length: float, persist: float, fresh: float, end: float) -> float:
    """F of :func:`asynchronous`, times in units of M.

    All of the sum over k but its end is what it was for m − 1, times e^(−L'), and one term more: O(count).
    """
    failures = [0.0, expected_failures(fresh, 1.0)]
    saves, shrinks, far = math.exp(-first - persist) * -math.expm1(-length), math.exp(-length), 0.0
    for m in range(2, count + 1):
        done = first + (m - 2) * length + end
        if m > 3:
            far = saves * failures[m - 1] + shrinks * far
        total = far - math.expm1(-done)
        for k in range(max(1, m - 2), m):
            durable = first + (k - 1) * length + persist
            until = min(durable + length, done) if k < m - 1 else done
            if until > durable:
                total += math.exp(-durable) * -math.expm1(durable - until) * failures[m - k]
        failures.append(total * (1 + expected_failures(min(first + persist, done), 1.0)))
    return failures[count]


def two_tier_wall_s(
    mtbf_s: float,
    memory_share: float,
    micro_segments_s: Sequence[float],
    recovery_memory_s: float,
    recovery_persistent_s: float,
) -> float:
    """Expected seconds of one macro segment: memory checkpoints after each micro segment, a persistent one at its end.

    E_i from micro segment i to the end of the macro, with s_i = e^(−L_i/M), p the share recovered from memory:
    E_i = (1 − s_i)·M + (1 − s_i)·(p·(R1 + E_i) + (1 − p)·(R2 + E_0)) + s_i·E_(i+1), E_m = 0; recovery is immune.
    ``micro_segments_s`` are the L_i, each with the checkpoints that end it; ``mtbf_s`` is finite.

    Raises:
        UnsupportedError: a macro segment is never done.
    """
    ahead, again = 0.0, 0.0  # E_i = ahead + again · E_0
    recovery = memory_share * recovery_memory_s + (1 - memory_share) * recovery_persistent_s
    for length in reversed(micro_segments_s):
        survives, fails = math.exp(-length / mtbf_s), -math.expm1(-length / mtbf_s)
        stays = 1 - fails * memory_share
        ahead = (fails * (mtbf_s + recovery) + survives * ahead) / stays
        again = (fails * (1 - memory_share) + survives * again) / stays
    if not again < 1:
        raise _never("a macro segment", sum(micro_segments_s), mtbf_s)
    return ahead / (1 - again)


def weibull_scale_s(mean_s: float, shape: float) -> float:
    """Scale of a Weibull law with this mean: mean / Γ(1 + 1/shape)."""
    return mean_s / math.gamma(1 + 1 / shape)


def weibull_goodput(
    mean_s: float, shape: float, segment_work_s: float, checkpoint_s: float, recovery_s: float
) -> float:
    """Long-run goodput where time to failure is Weibull and its clock restarts after an immune recovery.

    Renewal reward: tau · Σ_{j≥1} S(j·(tau + C)) / (E[X] + R), S(t) = e^(−(t/scale)^shape).

    Raises:
        UnsupportedError: the sum needs more than a hundred million terms.
    """
    length = (segment_work_s + checkpoint_s) / weibull_scale_s(mean_s, shape)
    terms = 44 ** (1 / shape) / length  # from there on S < e^-44
    if terms > _MOST_TERMS:
        raise UnsupportedError(f"weibull_shape = {shape:g}: the closed form would add up {terms:.0e} terms")
    total = sum(float(np.exp(-((j * length) ** shape)).sum()) for j in _blocks(int(terms) + 1))
    return segment_work_s * total / (mean_s + recovery_s)


def _blocks(count: int, size: int = 1_000_000) -> Iterator[np.ndarray]:
    """1 to ``count`` as arrays of at most ``size``."""
    for start in range(1, count + 1, size):
        yield np.arange(start, min(start + size, count + 1), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class FailureMix:
    """Several Poisson classes as one.

    Attributes:
        shares: of the failures, by class.
        recovery_s: E[D], what one failure takes with all further ones that strike its recovery.
        strikes: failures counted for one that interrupts work: itself and those in its recovery.
    """

    mtbf_s: float
    shares: tuple[float, ...]
    mean_recovery_s: float
    recovery_s: float
    strikes: float


def failure_mix(rates_per_s: Sequence[float], recoveries_s: Sequence[float], *, restarts: bool = False) -> FailureMix:
    """Rates add up, 1/M = Σ count/MTBF; the mean recovery is weighted by rate (only its mean matters when immune).

    With ``restarts`` a failure in recovery starts that of its own class: with q = Σ share·e^(−R_c/M) the whole takes
    M·(1 − q)/q and counts 1/q failures.

    Raises:
        UnsupportedError: a recovery is never done.
    """
    rate = math.fsum(rates_per_s)
    if rate == 0:
        return FailureMix(math.inf, (0.0,) * len(rates_per_s), 0.0, 0.0, 1.0)
    shares = tuple(r / rate for r in rates_per_s)
    mean = math.fsum(s * r for s, r in zip(shares, recoveries_s, strict=True))
    if not restarts:
        return FailureMix(1 / rate, shares, mean, mean, 1.0)
    fails = math.fsum(-s * math.expm1(-r * rate) for s, r in zip(shares, recoveries_s, strict=True))
    ends = math.fsum(s * math.exp(-r * rate) for s, r in zip(shares, recoveries_s, strict=True))
    if ends < _LEAST:
        raise _never("a recovery", max(recoveries_s), 1 / rate)
    return FailureMix(1 / rate, shares, mean, fails / ends / rate, 1 / ends)
