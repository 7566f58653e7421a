"""From a scenario with reliability, and its step, to the Job that engines run."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

from simtrain.costs.memory import adam_bytes, element_bytes
from simtrain.errors import ScenarioError
from simtrain.layout.parallel import plan_parallel
from simtrain.model.counts import total_parameters
from simtrain.quantities import parse_quantity
from simtrain.reliability.alone import LONGEST, fleet_of
from simtrain.reliability.blast import parts_of
from simtrain.reliability.job import Checkpoint, FailureClass, Fleet, Job, Law, Phase, Recovery
from simtrain.reliability.optimum import best_interval, fallback_rate
from simtrain.scenario.cluster import Device, Node, PcieTree
from simtrain.scenario.model import Model
from simtrain.scenario.reliability import RULES, STEPS, Failures, RecoverySteps, Reliability, TimeLaw
from simtrain.scenario.scenario import Scenario
from simtrain.step.report import StepReport
from simtrain.step.simulate import simulate_step

__all__ = ["checkpoint_bytes", "job_of"]

_NO_TIME = TimeLaw(mean=0.0)


def checkpoint_bytes(scenario: Scenario) -> float:
    """Weights and optimizer state of the whole model, each once."""
    model, layout = scenario.workload.model, scenario.layout
    if not isinstance(model, Model):
        raise ScenarioError("workload.model is a name; load the scenario before simulating it")
    return total_parameters(model) * (element_bytes(layout.precision) + adam_bytes(layout))


def job_of(step: StepReport) -> Job:
    """The run that a step belongs to, as a Job.

    Raises:
        ScenarioError: the scenario has no reliability, or asks for parts or replicas that its cluster has not.
    """
    scenario, part = step.scenario, step.scenario.reliability
    if part is None:
        raise ScenarioError("the scenario has no reliability; set reliability, for example to the preset h100")
    work_s = scenario.workload.tokens / step.tokens_per_s
    size = checkpoint_bytes(scenario)
    load_s, copy_s = size / part.storage.read, size / step.topology.gpus / _host_copy_bytes_per_s(scenario)
    memory_load_s = copy_s if part.checkpoint.memory_load is None else part.checkpoint.memory_load

    def recovery(steps: RecoverySteps, loading_s: float = load_s) -> Recovery:
        return _recovery(steps, step, loading_s)

    classes = tuple(_class(name, c, step, part, recovery) for name, c in _classes(part).items())
    return Job(
        work_s=work_s,
        horizon_s=part.horizon or LONGEST * work_s,
        classes=classes,
        recovery=recovery(part.recovery),
        checkpoint=_checkpoint(part, step, classes, size, copy_s, recovery(part.recovery, memory_load_s)),
        fleet=_fleet(scenario, part),
    )


def _classes(part: Reliability) -> dict[str, Failures]:
    if part.classes or part.mtbf_per_gpu is None:
        return part.classes
    return {"any": Failures(owner="gpu", share=1.0)}


def _law(time: TimeLaw) -> Law:
    return Law(time.law, time.mean, time.shape)


def _recovery(steps: RecoverySteps, step: StepReport, load_s: float) -> Recovery:
    ranks_s, warm_s = steps.communicator_per_rank * step.topology.gpus, steps.warmup_steps * step.time_s
    phases: list[tuple[Phase, Law]] = [
        ("diagnose", _law(steps.diagnose)),
        ("allocate", _law(steps.allocate)),
        ("start", _law(steps.start)),
        ("communicator", Law(mean_s=ranks_s)),
        ("communicator", _law(steps.communicator)),
        ("load", Law(mean_s=load_s)),
        ("load", _law(steps.load)),
        ("warmup", Law(mean_s=warm_s)),
    ]
    return Recovery(
        phases=tuple((bucket, law) for bucket, law in phases if law.mean_s > 0),
        interruptible=steps.interruptible,
        failure_probability=steps.failure_probability,
    )


def _class(
    name: str, c: Failures, step: StepReport, part: Reliability, recovery: Callable[[RecoverySteps], Recovery]
) -> FailureClass:
    where = f"reliability.classes.{name}"
    count, nodes = parts_of(step.topology, c.owner, c.span, where)
    mean_s = c.mtbf if c.mtbf is not None else _of_share(c, part, count, step.topology.gpus)
    if c.renewal == "system":
        mean_s, count = mean_s / count, 1
    elif part.spares and c.owner not in ("storage", "job", "leaf_switch"):
        count = round(count * (1 + part.spares.hot / step.topology.nodes))
    lost = nodes if c.nodes_lost is None else c.nodes_lost
    kept = 1.0 if lost < part.checkpoint.memory_copies else 0.0
    return FailureClass(
        name=name,
        owner=c.owner,
        components=count,
        law=Law(c.law, mean_s, c.shape),
        renewal=c.renewal,
        effect=c.effect,
        factor=_factor(step, c.effect, c.factor),
        duration=_law(c.duration),
        nodes_lost=lost,
        detection=_law(c.detection or (c.recovery or part.recovery).detection),
        recovery=recovery(c.recovery) if c.recovery else None,
        survives_memory=kept if c.survives_memory is None else c.survives_memory,
        repair=_law(c.repair) if c.repair else None,
        infant_factor=c.infant_factor,
        infant_decay_s=c.infant_decay,
        lemon_share=c.lemon_share,
        lemon_factor=c.lemon_factor,
        burst_probability=c.burst_probability,
        burst_events=c.burst_events,
        burst_window_s=c.burst_window,
    )


def _of_share(c: Failures, part: Reliability, count: int, gpus: int) -> float:
    """MTBF of a part, so that all classes with a share fail once in ``mtbf_per_gpu`` GPU-seconds together."""
    if c.share is None or part.mtbf_per_gpu is None:
        raise ScenarioError("a class of failures needs mtbf, or share and reliability.mtbf_per_gpu")
    total = sum(other.share or 0.0 for other in _classes(part).values())
    return float(count * part.mtbf_per_gpu / gpus * total / c.share)


@cache
def _slowed(document: str, effect: str, factor: float) -> float:
    """Step time in s of a scenario (as JSON) whose GPUs or network ports run at ``factor``."""
    scenario = Scenario.model_validate_json(document)
    node = scenario.cluster.node
    if not (isinstance(node, Node) and isinstance(node.device, Device)):
        raise ScenarioError("cluster.node is a name; load the scenario before simulating it")
    if effect == "slow":
        peaks = {
            key: {precision: peak * factor for precision, peak in getattr(node.device, key).items()}
            for key in ("peaks", "advertised_peaks")
        }
        bandwidth = node.device.memory_bandwidth * factor
        node = node.model_copy(
            update={"device": node.device.model_copy(update={**peaks, "memory_bandwidth": bandwidth})}
        )
    elif node.nic is not None:
        node = node.model_copy(update={"nic": node.nic.model_copy(update={"bandwidth": node.nic.bandwidth * factor})})
    cluster = scenario.cluster.model_copy(update={"node": node})
    return simulate_step(scenario.model_copy(update={"cluster": cluster})).time_s


def _factor(step: StepReport, effect: str, factor: float) -> float:
    """Speed of the job with a slow GPU or port: everyone waits for it, so all are as slow as it is."""
    if effect not in ("slow", "degraded") or factor == 1.0:
        return 1.0
    plain = step.scenario.model_copy(update={"reliability": None})
    return min(1.0, step.time_s / _slowed(plain.model_dump_json(), effect, factor))


def _host_copy_bytes_per_s(scenario: Scenario) -> float:
    """From one GPU to host memory while all of a node copy: its PCIe link, or its part of the socket's memory."""
    node = scenario.cluster.node
    if not isinstance(node, Node):
        raise ScenarioError("cluster.node is a name; load the scenario before simulating it")
    links = node.links
    rate = links.pcie.bandwidth * links.pcie.efficiency
    if isinstance(links, PcieTree):
        rate = min(rate, links.host.bandwidth * links.host.efficiency * links.sockets / node.gpus)
    return float(rate)


def _checkpoint(
    part: Reliability, step: StepReport, classes: tuple[FailureClass, ...], size: float, copy_s: float, memory: Recovery
) -> Checkpoint:
    policy, written_s = part.checkpoint, size / part.storage.write
    stall_s = policy.stall if policy.stall is not None else written_s if policy.kind == "blocking" else copy_s
    persist_s = policy.persist if policy.persist is not None else written_s
    in_memory = policy.kind in ("tiered", "just_in_time")
    rate = fallback_rate(classes, in_memory=in_memory)
    work_s = step.scenario.workload.tokens / step.tokens_per_s
    interval_s = _interval(policy.interval, step.time_s, 1 / rate if rate else math.inf, stall_s)
    if policy.kind != "blocking" and policy.interval in RULES:
        interval_s = max(interval_s, persist_s - stall_s)  # sooner it only waits for the one before
    interval_s = min(interval_s, work_s)
    memory_s = step.time_s
    if policy.kind == "tiered":
        memory_s = _interval(policy.memory_interval, step.time_s, 1.0, policy.memory_stall)
    return Checkpoint(
        kind=policy.kind,
        interval_s=interval_s,
        stall_s=stall_s,
        persist_s=persist_s,
        memory_interval_s=min(memory_s, interval_s),
        memory_stall_s=policy.memory_stall,
        memory_recovery=memory if in_memory else None,
        after_last_segment=policy.after_last_segment,
        keep_last=policy.keep_last,
    )


def _interval(text: str, step_s: float, mtbf_s: float, stall_s: float) -> float:
    """An interval in s; one by a rule is a whole number of steps, at least one."""
    steps = STEPS.fullmatch(text)
    if steps:
        return int(steps[1]) * step_s
    if text not in RULES:
        return parse_quantity(text, "time")
    best = best_interval(text, mtbf_s, stall_s)
    return best if math.isinf(best) else max(1, round(best / step_s)) * step_s


def _fleet(scenario: Scenario, part: Reliability) -> Fleet | None:
    spares, node = part.spares, scenario.cluster.node
    if spares is None or not isinstance(node, Node):
        return None
    per_replica = 1
    if spares.policy in ("shrink", "replica"):
        per_replica = _nodes_per_replica(scenario, node, spares.policy)
    return fleet_of(spares, scenario.cluster.nodes, per_replica)


def _nodes_per_replica(scenario: Scenario, node: Node, policy: str) -> int:
    gpus = scenario.cluster.nodes * node.gpus // plan_parallel(scenario).dp
    if gpus > node.gpus and gpus % node.gpus:
        raise ScenarioError(
            f"reliability.spares.policy = {policy!r} needs replicas of whole nodes, but tp * cp * pp = {gpus} GPUs are "
            f"no multiple of the {node.gpus} of a node; allowed here: wait, spare"
        )
    return max(1, gpus // node.gpus)
