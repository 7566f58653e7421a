"""Laws fitted to times by likelihood, and failure classes fitted to a log of incidents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from simtrain.errors import InputError
from simtrain.reliability.incidents import IncidentLog
from simtrain.reliability.job import Law

__all__ = [
    "FittedClass",
    "FittedLaw",
    "fit_incidents",
    "fit_laws",
    "fitted_document",
    "fitted_yaml",
    "poisson_interval",
]

Floats = NDArray[np.float64]
_NO_SPREAD = 1e-6
LEAST_GAPS = 10
"""Below so many gaps the law stays exponential: shapes of so few are noise."""


@dataclass(frozen=True, slots=True)
class FittedLaw:
    """A law with its maximum likelihood; ``aic`` = 2·parameters − 2·log-likelihood, the lower the better (Akaike)."""

    law: Law
    log_likelihood: float
    parameters: int

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return 2 * self.parameters - 2 * self.log_likelihood


@dataclass(frozen=True, slots=True)
class FittedClass:
    """One class of a log.

    Attributes:
        mtbf_s: of all its components together: observed time over events.
        interval_s: 95 % interval of it.
        laws: of the gaps between its events, best first.
        repair: lognormal law of the repair times, with their mean; None without any.
        repairs: how many repair times stand behind it.
    """

    name: str
    events: int
    mtbf_s: float
    interval_s: tuple[float, float]
    laws: tuple[FittedLaw, ...]
    repair: Law | None
    repairs: int


def fit_laws(times_s: Sequence[float] | Floats) -> tuple[FittedLaw, ...]:
    """Exponential, Weibull and lognormal laws of times (n,) above 0 by maximum likelihood, best first.

    Raises:
        InputError: no times, or one that is not above 0.
    """
    times = np.asarray(times_s, dtype=np.float64)
    if not len(times) or not (times > 0).all():
        raise InputError("a law is fitted to at least one time, all above 0 s")
    n, mean = len(times), float(times.mean())
    fits = [FittedLaw(Law("exponential", mean), -n * (math.log(mean) + 1), 1)]
    if n >= 2 and times.min() < times.max():
        fits += [_weibull(times), _lognormal(times)]
    return tuple(sorted(fits, key=lambda fit: fit.aic))


def _weibull(times: Floats) -> FittedLaw:
    """Shape k by bisection on Σ x^k·ln x / Σ x^k − 1/k = mean ln x, which rises in k."""
    logs = np.log(times / times.max())
    low, high = 1e-3, 1e3
    for _ in range(100):
        k = math.sqrt(low * high)
        weights = np.exp(k * logs)
        excess = float(weights @ logs / weights.sum()) - 1 / k - float(logs.mean())
        low, high = (low, k) if excess > 0 else (k, high)
    k = math.sqrt(low * high)
    scale = float(times.max()) * float(np.exp(k * logs).mean()) ** (1 / k)
    x = times / scale
    likelihood = float((math.log(k / scale) + (k - 1) * np.log(x) - x**k).sum())
    return FittedLaw(Law("weibull", scale * math.gamma(1 + 1 / k), k), likelihood, 2)


def _lognormal(times: Floats) -> FittedLaw:
    logs = np.log(times)
    sigma = float(logs.std())
    likelihood = -len(times) * (math.log(sigma * math.sqrt(2 * math.pi)) + 0.5) - float(logs.sum())
    return FittedLaw(Law.of_median(math.exp(float(logs.mean())), sigma), likelihood, 2)


def poisson_interval(events: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the mean of a Poisson count, by Byar's approximation (Breslow and Day 1987, section 2.3)."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)

    def limit(n: int, side: float) -> float:
        return n * (1 - 1 / (9 * n) + side * z / (3 * math.sqrt(n))) ** 3

    return (max(limit(events, -1), 0.0) if events else 0.0), limit(events + 1, 1)


def fit_incidents(log: IncidentLog) -> tuple[FittedClass, ...]:
    """Each class of a log, the most frequent first.

    Incidents of a class at one instant are one event (a shared cause); a law other than the exponential is offered
    from :data:`LEAST_GAPS` gaps on. The mean of every law is scaled to the observed MTBF, so that its rate is that of
    the log.
    """
    names = sorted({incident.name for incident in log.incidents})
    fitted = [_fit_class(name, log) for name in names]
    return tuple(sorted(fitted, key=lambda each: -each.events))


def _fit_class(name: str, log: IncidentLog) -> FittedClass:
    mine = [incident for incident in log.incidents if incident.name == name]
    instants = np.unique([incident.time_s for incident in mine])
    low, high = poisson_interval(len(instants))
    gaps = np.diff(instants)
    mtbf_s = log.observed_s / len(instants)
    laws = fit_laws(gaps) if len(gaps) >= LEAST_GAPS else ()
    plain = FittedLaw(Law("exponential", mtbf_s), math.nan, 1)
    repairs = [incident.repair_s for incident in mine if incident.repair_s]
    return FittedClass(
        name,
        len(instants),
        mtbf_s,
        (log.observed_s / high, log.observed_s / low if low else math.inf),
        tuple(_with_mean(fit, mtbf_s) for fit in laws) or (plain,),
        _repair(repairs),
        len(repairs),
    )


def _with_mean(fit: FittedLaw, mean_s: float) -> FittedLaw:
    return FittedLaw(Law(fit.law.kind, mean_s, fit.law.shape), fit.log_likelihood, fit.parameters)


def _repair(times_s: Sequence[float]) -> Law | None:
    """Sigma by likelihood, the mean that of the log: how many nodes are down rests on the mean alone (Erlang)."""
    if not times_s:
        return None
    return Law("lognormal", float(np.mean(times_s)), max(float(np.log(times_s).std()), _NO_SPREAD))


def fitted_document(classes: Sequence[FittedClass], observed_s: float, gpus: int) -> dict[str, Any]:
    """As JSON; ``mtbf_per_gpu_s`` is what each GPU's would be if the class struck any of ``gpus`` alike."""
    return {"observed_s": observed_s, "gpus": gpus, "classes": [_class_document(each, gpus) for each in classes]}


def _class_document(each: FittedClass, gpus: int) -> dict[str, Any]:
    repair = each.repair and {
        "median_s": each.repair.parameters[0],
        "sigma": each.repair.shape,
        "mean_s": each.repair.mean_s,
        "count": each.repairs,
    }
    laws = [{"law": fit.law.kind, "shape": fit.law.shape, "log_likelihood": _finite(fit)} for fit in each.laws]
    return {
        "name": each.name,
        "events": each.events,
        "system_mtbf_s": each.mtbf_s,
        "interval_95_s": [each.interval_s[0], each.interval_s[1] if each.interval_s[1] < math.inf else None],
        "mtbf_per_gpu_s": each.mtbf_s * gpus,
        "laws": laws,
        "repair": repair,
    }


def _finite(fit: FittedLaw) -> float | None:
    return None if math.isnan(fit.log_likelihood) else fit.log_likelihood


def fitted_yaml(classes: Sequence[FittedClass], observed_s: float, gpus: int, origin: str, recovery: str) -> str:
    """A reliability preset: every class counted per GPU, so that it holds for other sizes too.

    A class whose gaps are not exponential keeps its law as one clock of the whole system (``renewal: system``).
    ``recovery`` is what the log does not tell, such as "10 min".
    """
    found = {each.name: _preset_class(each, gpus) for each in classes}
    events = sum(each.events for each in classes)
    document = {
        "title": f"Fitted to {origin}",
        "classes": found,
        "recovery": {"start": recovery},
        "source": f"{origin}: {events} events in {observed_s / 86400:.4g} days on {gpus} GPUs, by maximum likelihood. "
        "The recovery is not in the log: it was given beside it.",
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _preset_class(each: FittedClass, gpus: int) -> dict[str, Any]:
    law = each.laws[0].law
    found: dict[str, Any] = {"owner": "gpu", "mtbf": f"{each.mtbf_s * gpus / 86400:.6g} days"}
    if law.kind != "exponential":
        found |= {"law": law.kind, "shape": float(f"{law.shape:.4g}"), "renewal": "system"}
    if each.repair is None:
        found["nodes_lost"] = 0
    else:
        mean, sigma = f"{each.repair.mean_s / 86400:.6g} days", float(f"{each.repair.shape:.4g}")
        found["repair"] = {"mean": mean, "law": "lognormal", "shape": sigma} if sigma > _NO_SPREAD else mean
    return found
