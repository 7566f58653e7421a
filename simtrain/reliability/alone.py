"""Jobs without a scenario: a number of GPUs with the failures, recovery, checkpoints and spares of a preset."""

from __future__ import annotations

from simtrain.errors import InputError
from simtrain.quantities import parse_quantity
from simtrain.reliability.blast import SWITCHES, Blast, anywhere, blasts_of, racks
from simtrain.reliability.classes import failure_classes, law_of, recovery_of
from simtrain.reliability.headway import LONGEST
from simtrain.reliability.job import Checkpoint, FailureClass, Fleet, Job, Recovery
from simtrain.reliability.memory_copies import holders
from simtrain.reliability.outlook import Setup
from simtrain.scenario.reliability import (
    RULES,
    STEPS,
    CheckpointPolicy,
    Failures,
    RecoverySteps,
    Reliability,
    Spares,
    TimeLaw,
)

__all__ = ["STALL_S", "classes_of_preset", "fleet_of", "recovery_of_preset", "setup_alone"]

STALL_S = 30.0
"""Stall of a blocking checkpoint where nobody says (assumed)."""


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


def setup_alone(part: Reliability, gpus: int, nodes: int, work_s: float, replicas: int | None = None) -> Setup:
    """``work_s`` of useful work on so many GPUs and nodes, without a model or a network.

    Args:
        part: classes, recovery, checkpoints, spares, horizon. Where it does not say how state is saved, checkpoints
            are blocking and take :data:`STALL_S`; asynchronous where it says how long they take to be durable.
        gpus: of the job.
        nodes: that hold them.
        work_s: useful work.
        replicas: of data parallelism, for jobs that go on without some of them.

    Raises:
        InputError: something depends on a model or a network, or the nodes do not divide into replicas.
    """
    job = Job(
        work_s=work_s,
        horizon_s=part.horizon or LONGEST * work_s,
        classes=classes_of_preset(part, gpus, nodes),
        recovery=recovery_of_preset(part.recovery, gpus),
        checkpoint=_checkpoint(part, gpus),
        fleet=fleet_of(part.spares, nodes, _nodes_per_replica(part.spares, nodes, replicas)) if part.spares else None,
    )
    ruled = job.checkpoint.kind != "none" and part.checkpoint.interval in RULES
    return Setup(gpus, job, part.checkpoint.interval if ruled else job.checkpoint.interval_s)


def _checkpoint(part: Reliability, gpus: int) -> Checkpoint:
    """How state is saved; the interval is infinite where it follows from a rule."""
    if "storage" in part.model_fields_set:
        raise InputError(
            "storage says how fast the state of a model is written, and there is no model here; allowed: "
            "checkpoint.stall, checkpoint.persist and recovery.load, or a scenario"
        )
    policy, kind = part.checkpoint, part.checkpoint.kind
    if policy.local is not None:
        raise InputError("checkpoint.local needs the bytes of a model: allowed in a scenario")
    if "kind" not in policy.model_fields_set:
        kind = "blocking" if policy.persist is None else "async"
    if kind == "just_in_time":
        raise InputError("checkpoint.kind = 'just_in_time' needs the time of a step: allowed in a scenario")
    if kind == "none":
        return Checkpoint()
    if kind != "blocking" and "kind" in policy.model_fields_set and None in (policy.stall, policy.persist):
        raise InputError(
            f"checkpoint.kind = {kind!r} needs checkpoint.stall and checkpoint.persist, such as 1 s and 60 s: "
            "without a model they cannot be worked out"
        )
    every_s = 1e12 if policy.interval in RULES else _time("interval", policy)
    memory = part.recovery if policy.memory_load is None else _loading(part.recovery, policy.memory_load)
    return Checkpoint(
        kind=kind,
        interval_s=every_s,
        stall_s=STALL_S if policy.stall is None else policy.stall,
        persist_s=policy.persist or 0.0,
        persist_speed=policy.persist_speed or 1.0,
        memory_interval_s=min(_time("memory_interval", policy), every_s) if kind == "tiered" else every_s,
        memory_stall_s=policy.memory_stall,
        memory_recovery=recovery_of_preset(memory, gpus) if kind == "tiered" else None,
        after_last_segment=policy.after_last_segment,
        keep_last=policy.keep_last,
    )


def _time(key: str, policy: CheckpointPolicy) -> float:
    """Seconds between two checkpoints.

    Raises:
        InputError: steps or a rule.
    """
    text: str = getattr(policy, key)
    if STEPS.fullmatch(text) or text in RULES:
        raise InputError(f"checkpoint.{key} = {text!r} needs the time of a step; without a scenario give a time: 1 min")
    return parse_quantity(text, "time")


def _loading(steps: RecoverySteps, load_s: float) -> RecoverySteps:
    return steps.model_copy(update={"load": TimeLaw.model_validate({"mean": f"{load_s!r} s"})})


def _nodes_per_replica(spares: Spares, nodes: int, replicas: int | None) -> int:
    if spares.policy in ("shrink", "replica") and replicas is None:
        raise InputError(f"spares.policy = {spares.policy!r} needs --replicas, the number of replicas of the model")
    if replicas is None:
        return 1
    if nodes % replicas:
        raise InputError(f"--replicas = {replicas} does not divide the {nodes} nodes of the job")
    return nodes // replicas


def fleet_of(spares: Spares, nodes: int, nodes_per_replica: int = 1) -> Fleet:
    """Nodes, spares and repair as ``spares`` has them."""
    return Fleet(
        nodes=nodes,
        spares=spares.cold,
        hot_spares=spares.hot,
        swap_s=spares.swap,
        repair=law_of(spares.repair),
        crews=spares.crews,
        repair_success=spares.repair_success,
        failures_while_stopped=spares.failures_while_stopped,
        policy=spares.policy,
        nodes_per_replica=nodes_per_replica,
        min_replicas=min(spares.min_replicas, nodes // nodes_per_replica),
        reconfigure_s=spares.reconfigure,
    )
