"""Failure classes and recoveries of a Job, from those of a preset or a scenario.

What a class needs to know beyond its own keys (how many parts, what an event takes, how slow a slow part makes the job)
comes from outside: from the graph of a cluster, or from bare numbers of GPUs and nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simtrain.errors import ScenarioError
from simtrain.reliability.blast import Blast
from simtrain.reliability.job import FailureClass, Law, Phase, Recovery
from simtrain.scenario.reliability import Failures, RecoverySteps, Reliability, TimeLaw

__all__ = ["Parts", "classes_by_name", "failure_classes", "law_of", "recovery_of"]

Parts = Callable[[str, Failures], tuple[int, Sequence[Blast]]]
"""From the name of a class and the class to its parts under the job, and to those that run, hot spares included."""


def law_of(time: TimeLaw) -> Law:
    """The law of a time as written."""
    return Law(time.law, time.mean, time.shape)


def recovery_of(steps: RecoverySteps, gpus: int, load_s: float = 0.0, step_s: float = 0.0) -> Recovery:
    """Phases that take any time.

    Args:
        steps: as written.
        gpus: ranks that join the communicator.
        load_s: for the bytes of a checkpoint; 0 where no model is known.
        step_s: of one step, for the warm-up; likewise.
    """
    phases: tuple[tuple[Phase, Law], ...] = (
        ("diagnose", law_of(steps.diagnose)),
        ("allocate", law_of(steps.allocate)),
        ("start", law_of(steps.start)),
        ("communicator", Law(mean_s=steps.communicator_per_rank * gpus)),
        ("communicator", law_of(steps.communicator)),
        ("load", Law(mean_s=load_s)),
        ("load", law_of(steps.load)),
        ("warmup", Law(mean_s=steps.warmup_steps * step_s)),
    )
    return Recovery(
        phases=tuple((bucket, law) for bucket, law in phases if law.mean_s > 0),
        interruptible=steps.interruptible,
        failure_probability=steps.failure_probability,
    )


def classes_by_name(part: Reliability) -> dict[str, Failures]:
    """The classes as written; GPUs that all fail alike where only ``mtbf_per_gpu`` is there."""
    if part.classes or part.mtbf_per_gpu is None:
        return part.classes
    return {"any": Failures(owner="gpu", share=1.0)}


def failure_classes(
    part: Reliability,
    gpus: int,
    parts: Parts,
    speed: Callable[[Failures], float],
    recovery: Callable[[RecoverySteps], Recovery],
) -> tuple[FailureClass, ...]:
    """Every class of ``part``, once for each number of nodes that its events take.

    The streams of random numbers go by name, so those of other classes do not change with these numbers.

    Args:
        part: as written.
        gpus: of the job.
        parts: of a class.
        speed: of the job while a part is slow or degraded.
        recovery: of a class that has its own.

    Raises:
        SimtrainError: a class asks for parts that the cluster has not.
    """
    return tuple(
        made
        for name, each in classes_by_name(part).items()
        for made in _sized(name, each, part, gpus, *parts(name, each), speed(each), recovery)
    )


def _sized(
    name: str,
    each: Failures,
    part: Reliability,
    gpus: int,
    count: int,
    blasts: Sequence[Blast],
    factor: float,
    recovery: Callable[[RecoverySteps], Recovery],
) -> list[FailureClass]:
    mean_s = each.mtbf if each.mtbf is not None else _of_share(each, part, count, gpus)
    running = sum(blast.components for blast in blasts)
    made = []
    for blast in blasts:
        components, own_s = blast.components, mean_s
        if each.renewal == "system":  # one clock, or one for each size
            components, own_s = 1, mean_s / count * running / blast.components
        made.append(
            FailureClass(
                name=name if len(blasts) == 1 else f"{name}, {blast.nodes_lost} node{'s' * (blast.nodes_lost != 1)}",
                owner=each.owner,
                components=components,
                law=Law(each.law, own_s, each.shape),
                renewal=each.renewal,
                effect=each.effect,
                factor=factor,
                duration=law_of(each.duration),
                notice_s=each.notice,
                nodes_lost=blast.nodes_lost,
                detection=law_of(each.detection or (each.recovery or part.recovery).detection),
                recovery=recovery(each.recovery) if each.recovery else None,
                survives_memory=blast.survives_memory if each.survives_memory is None else each.survives_memory,
                repair=law_of(each.repair) if each.repair else None,
                infant_factor=each.infant_factor,
                infant_decay_s=each.infant_decay,
                lemon_share=each.lemon_share,
                lemon_factor=each.lemon_factor,
                burst_probability=each.burst_probability,
                burst_events=each.burst_events,
                burst_window_s=each.burst_window,
            )
        )
    return made


def _of_share(each: Failures, part: Reliability, count: int, gpus: int) -> float:
    """MTBF of a part, so that all classes with a share fail once in ``mtbf_per_gpu`` GPU-seconds together."""
    if each.share is None or part.mtbf_per_gpu is None:
        raise ScenarioError("a class of failures needs mtbf, or share and reliability.mtbf_per_gpu")
    total = sum(other.share or 0.0 for other in classes_by_name(part).values())
    return float(count * part.mtbf_per_gpu / gpus * total / each.share)
