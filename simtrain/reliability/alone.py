"""Jobs without a scenario: a number of GPUs with one MTBF, or with the classes of a preset."""

from __future__ import annotations

from simtrain.errors import InputError
from simtrain.reliability.job import Checkpoint, FailureClass, Fleet, Job, Law, Phase, Recovery
from simtrain.scenario.reliability import Failures, RecoverySteps, Reliability, TimeLaw

__all__ = ["classes_of_preset", "job_alone", "one_class", "recovery_of_preset"]


def one_class(gpus: int, mtbf_s: float) -> tuple[FailureClass, ...]:
    """GPUs that each fail every ``mtbf_s`` and take their node along."""
    return (FailureClass(name="gpu", owner="gpu", components=gpus, law=Law("exponential", mtbf_s), nodes_lost=1),)


def classes_of_preset(preset: Reliability, gpus: int, nodes: int) -> tuple[FailureClass, ...]:
    """The classes of a preset for so many GPUs and nodes; NICs and links count one for each GPU.

    A slow GPU or port slows the job as much as itself: everyone waits for it.

    Raises:
        InputError: a class needs to know the network, or there is none.
    """
    found = preset.classes
    if not found and preset.mtbf_per_gpu is not None:
        found = {"any": Failures(owner="gpu", share=1.0)}
    if not found:
        raise InputError("the preset has no classes of failures")
    shares = sum(each.share or 0.0 for each in found.values())
    return tuple(_class(name, each, preset, shares, gpus, nodes) for name, each in found.items())


def _class(name: str, each: Failures, preset: Reliability, shares: float, gpus: int, nodes: int) -> FailureClass:
    count, lost = _parts(name, each, gpus, nodes)
    mean_s = each.mtbf or count * (preset.mtbf_per_gpu or 0.0) / gpus * shares / (each.share or 1.0)
    if each.renewal == "system":
        mean_s, count = mean_s / count, 1
    return FailureClass(
        name=name,
        owner=each.owner,
        components=count,
        law=Law(each.law, mean_s, each.shape),
        renewal=each.renewal,
        effect=each.effect,
        factor=each.factor,
        duration=_law(each.duration),
        notice_s=each.notice,
        nodes_lost=lost if each.nodes_lost is None else each.nodes_lost,
        detection=_law(each.detection or (each.recovery or preset.recovery).detection),
        recovery=recovery_of_preset(each.recovery, gpus) if each.recovery else None,
        repair=_law(each.repair) if each.repair else None,
        infant_factor=each.infant_factor,
        infant_decay_s=each.infant_decay,
        lemon_share=each.lemon_share,
        lemon_factor=each.lemon_factor,
        burst_probability=each.burst_probability,
        burst_events=each.burst_events,
        burst_window_s=each.burst_window,
    )


def _parts(name: str, each: Failures, gpus: int, nodes: int) -> tuple[int, int]:
    """How many parts a class has, and how many nodes an event takes."""
    if each.owner in ("gpu", "gpu_memory", "nic", "link"):
        return gpus, 1
    if each.owner == "node":
        return nodes, 1
    if each.owner in ("rack", "power_domain"):
        return -(-nodes // each.span), min(each.span, nodes)
    if each.owner in ("storage", "job"):
        return 1, 0
    raise InputError(f"class {name}: how many nodes hang on a {each.owner} depends on the network; give a scenario")


def _law(time: TimeLaw) -> Law:
    return Law(time.law, time.mean, time.shape)


def recovery_of_preset(steps: RecoverySteps, gpus: int) -> Recovery:
    """Phases of a preset; what depends on a model (bytes to load, steps to warm up) takes no time here."""
    phases: tuple[tuple[Phase, Law], ...] = (
        ("diagnose", _law(steps.diagnose)),
        ("allocate", _law(steps.allocate)),
        ("start", _law(steps.start)),
        ("communicator", Law(mean_s=steps.communicator_per_rank * gpus)),
        ("communicator", _law(steps.communicator)),
        ("load", _law(steps.load)),
    )
    return Recovery(
        phases=tuple((bucket, law) for bucket, law in phases if law.mean_s > 0),
        interruptible=steps.interruptible,
        failure_probability=steps.failure_probability,
    )


def job_alone(
    classes: tuple[FailureClass, ...],
    recovery: Recovery,
    work_s: float,
    checkpoint_s: float,
    persist_s: float | None = None,
    fleet: Fleet | None = None,
) -> Job:
    """A Job whose checkpoint interval is still to be set; with ``persist_s`` checkpoints are asynchronous."""
    kind = Checkpoint(kind="blocking", interval_s=work_s, stall_s=checkpoint_s)
    if persist_s is not None:
        kind = Checkpoint(kind="async", interval_s=work_s, stall_s=checkpoint_s, persist_s=persist_s)
    return Job(work_s=work_s, classes=classes, recovery=recovery, checkpoint=kind, fleet=fleet)
