"""Jobs without a scenario: a number of GPUs with one MTBF, or with the classes of a preset."""

from __future__ import annotations

from simtrain.errors import InputError
from simtrain.reliability.blast import SWITCHES, Blast, anywhere, blasts_of, racks
from simtrain.reliability.classes import failure_classes, recovery_of
from simtrain.reliability.job import Checkpoint, FailureClass, Fleet, Job, Law, Recovery
from simtrain.reliability.memory_copies import holders
from simtrain.scenario.reliability import Failures, RecoverySteps, Reliability

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
    policy, hot = preset.checkpoint, preset.spares.hot if preset.spares else 0
    holding = holders(nodes, policy.memory_copies, policy.memory_placement)

    def parts(name: str, each: Failures) -> tuple[int, tuple[Blast, ...]]:
        count, running = (_parts(name, each, gpus, nodes, more) for more in (0, hot))
        if each.nodes_lost is not None:
            return count, (anywhere(running, nodes, each.nodes_lost, holding),)
        if each.owner in ("rack", "power_domain"):
            return count, blasts_of(racks(nodes + hot, each.span), holding)
        lost = int(each.owner not in ("storage", "job"))
        return count, (anywhere(running, nodes, lost, holding),)

    found = failure_classes(
        preset, gpus, parts, lambda each: each.factor, lambda steps: recovery_of_preset(steps, gpus)
    )
    if not found:
        raise InputError("the preset has no classes of failures")
    return found


def _parts(name: str, each: Failures, gpus: int, nodes: int, hot: int) -> int:
    """How many parts a class has, those of ``hot`` spares included."""
    if each.owner in SWITCHES:
        raise InputError(f"class {name}: how many nodes hang on a {each.owner} depends on the network; give a scenario")
    if each.owner in ("rack", "power_domain"):
        return -(-(nodes + hot) // each.span)
    if each.owner in ("storage", "job"):
        return 1
    return nodes + hot if each.owner == "node" else round(gpus * (1 + hot / nodes))


def recovery_of_preset(steps: RecoverySteps, gpus: int) -> Recovery:
    """Phases of a preset; what depends on a model (bytes to load, steps to warm up) takes no time here."""
    return recovery_of(steps, gpus)


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
