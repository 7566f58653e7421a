"""What the checkpoints of a scenario cost: bytes over the bandwidths on their way."""

from __future__ import annotations

import math
from dataclasses import dataclass

from simtrain.costs.memory import adam_bytes, element_bytes
from simtrain.errors import ScenarioError
from simtrain.model.counts import total_parameters
from simtrain.quantities import format_quantity, parse_quantity
from simtrain.reliability.job import Checkpoint, FailureClass, Recovery
from simtrain.reliability.optimum import best_interval, fallback_rate
from simtrain.reliability.slowdown import node_of, speed_with
from simtrain.scenario.cluster import PcieTree
from simtrain.scenario.model import Model
from simtrain.scenario.reliability import RULES, STEPS, CheckpointPolicy, Reliability
from simtrain.scenario.scenario import Scenario
from simtrain.step.report import StepReport

__all__ = ["Tier", "checkpoint_bytes", "checkpoint_of", "memory_tier", "persist_s", "speed_while_persisting"]

_SHARED = 0.5
"""What storage gets of a port that training wants too: max-min fairness between the two."""


def checkpoint_bytes(scenario: Scenario) -> float:
    """Weights and optimizer state of the whole model, each once."""
    model, layout = scenario.workload.model, scenario.layout
    if not isinstance(model, Model):
        raise ScenarioError("workload.model is a name; load the scenario before simulating it")
    return total_parameters(model) * (element_bytes(layout.precision) + adam_bytes(layout))


@dataclass(frozen=True, slots=True)
class Tier:
    """Checkpoints beside the durable ones, in the memory of hosts or on their disks."""

    interval: str
    stall_s: float
    load_s: float


def memory_tier(part: Reliability, step: StepReport) -> Tier | None:
    """The fast tier that a scenario asks for; None without one."""
    policy, size = part.checkpoint, checkpoint_bytes(step.scenario)
    if policy.local is not None:
        of_node = size / step.topology.nodes
        return Tier(policy.local.interval, of_node / policy.local.write, of_node / policy.local.read)
    if policy.kind not in ("tiered", "just_in_time"):
        return None
    load_s = _copy_s(step) if policy.memory_load is None else policy.memory_load
    interval = policy.memory_interval if policy.kind == "tiered" else "1 step"
    return Tier(interval, policy.memory_stall, load_s)


def persist_s(part: Reliability, step: StepReport) -> float:
    """From a stall's end until its checkpoint is durable, training going on meanwhile."""
    if part.checkpoint.persist is not None:
        return float(part.checkpoint.persist)
    return _written_s(part, step, _SHARED)


def _written_s(part: Reliability, step: StepReport, share: float) -> float:
    """All bytes over storage, or over this share of the ports that training uses, whichever is slower."""
    rate = float(part.storage.write)
    if part.storage.network == "training":
        rate = min(rate, _ports_bytes_per_s(step) * share)
    return checkpoint_bytes(step.scenario) / rate


def speed_while_persisting(part: Reliability, step: StepReport) -> float:
    """Speed of the training while a checkpoint is on its way to storage.

    Where it leaves by the ports that training uses (``storage.network: training``), the step is simulated again with
    what it takes of each port gone; otherwise 1.

    Raises:
        ScenarioError: there are no such ports.
    """
    if part.checkpoint.kind in ("none", "blocking") or part.storage.network == "frontend":
        return 1.0
    ports, lasts_s = _ports_bytes_per_s(step), persist_s(part, step)
    taken = checkpoint_bytes(step.scenario) / lasts_s / ports if lasts_s else 0.0
    return speed_with(step, "degraded", 1.0 - min(taken, _SHARED))


def _ports_bytes_per_s(step: StepReport) -> float:
    """What the network ports of all nodes carry in one direction."""
    node = node_of(step.scenario)
    if node.nic is None or node.nics == 0:
        raise ScenarioError(
            "reliability.storage.network = 'training', but the nodes of the cluster have no network ports; "
            "allowed here: frontend"
        )
    return float(step.topology.nodes * node.nics * node.nic.bandwidth * node.nic.efficiency)


def _copy_s(step: StepReport) -> float:
    """Each GPU's part to host memory while all of a node copy: by its PCIe link, or its part of the socket's memory."""
    node = node_of(step.scenario)
    links = node.links
    rate = links.pcie.bandwidth * links.pcie.efficiency
    if isinstance(links, PcieTree):
        rate = min(rate, links.host.bandwidth * links.host.efficiency * links.sockets / node.gpus)
    return float(checkpoint_bytes(step.scenario) / step.topology.gpus / rate)


def checkpoint_of(
    part: Reliability, step: StepReport, classes: tuple[FailureClass, ...], tier: Tier | None, recovery: Recovery | None
) -> Checkpoint:
    """The policy as the engines run it; ``recovery`` is that from the ``tier``.

    A tier whose interval by rule is no shorter than that of durable checkpoints is left out.

    Raises:
        ScenarioError: one on local disks that is asked for less often than durable checkpoints are made.
    """
    policy, durable_s = part.checkpoint, persist_s(part, step)
    stall_s = _stall_s(policy, part, step)
    rate = fallback_rate(classes, in_memory=tier is not None)
    work_s = step.scenario.workload.tokens / step.tokens_per_s
    interval_s = _interval(policy.interval, step.time_s, 1 / rate if rate else math.inf, stall_s)
    if policy.kind != "blocking" and policy.interval in RULES:
        interval_s = max(interval_s, durable_s - stall_s)  # sooner it only waits for the one before
    interval_s = min(interval_s, work_s)
    memory_s = _tier_interval(tier, classes, step) if tier else step.time_s
    if tier and tier.interval in RULES and memory_s >= interval_s:
        return checkpoint_of(part, step, classes, None, None)  # by rule, durable ones alone cost less
    if policy.local and tier and interval_s < min(memory_s, work_s):
        raise ScenarioError(
            f"reliability.checkpoint.local.interval = {tier.interval!r} is longer than the "
            f"{format_quantity(interval_s, 'time')} between durable checkpoints, beside which it saves nothing; "
            "allowed: a shorter one, a longer reliability.checkpoint.interval, or no local"
        )
    return Checkpoint(
        kind="tiered" if policy.local and tier else policy.kind,
        interval_s=interval_s,
        stall_s=stall_s,
        persist_s=0.0 if policy.kind == "blocking" else durable_s,
        persist_speed=speed_while_persisting(part, step) if policy.persist_speed is None else policy.persist_speed,
        memory_interval_s=min(memory_s, interval_s),
        memory_stall_s=tier.stall_s if tier else policy.memory_stall,
        memory_recovery=recovery,
        after_last_segment=policy.after_last_segment,
        keep_last=policy.keep_last,
    )


def _stall_s(policy: CheckpointPolicy, part: Reliability, step: StepReport) -> float:
    if policy.stall is not None:
        return float(policy.stall)
    return _written_s(part, step, 1.0) if policy.kind == "blocking" else _copy_s(step)


def _tier_interval(tier: Tier, classes: tuple[FailureClass, ...], step: StepReport) -> float:
    """By rule, from the failures that the tier outlives."""
    rate = sum(c.rate_per_s * c.survives_memory for c in classes if c.effect in ("stop", "hang"))
    return _interval(tier.interval, step.time_s, 1 / rate if rate else math.inf, tier.stall_s)


def _interval(text: str, step_s: float, mtbf_s: float, stall_s: float) -> float:
    """An interval in s; one by a rule is a whole number of steps, at least one."""
    steps = STEPS.fullmatch(text)
    if steps:
        return int(steps[1]) * step_s
    if text not in RULES:
        return parse_quantity(text, "time")
    best = best_interval(text, mtbf_s, stall_s)
    return best if math.isinf(best) else max(1, round(best / step_s)) * step_s
