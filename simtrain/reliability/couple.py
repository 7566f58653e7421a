"""From a scenario with reliability, and its step, to the Job that engines run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from simtrain.errors import ScenarioError
from simtrain.layout.parallel import plan_parallel
from simtrain.reliability.alone import fleet_of
from simtrain.reliability.blast import Blast, anywhere, blasts_of, hits
from simtrain.reliability.classes import failure_classes, recovery_of
from simtrain.reliability.headway import LONGEST
from simtrain.reliability.job import FailureClass, Fleet, Job, Recovery
from simtrain.reliability.memory_copies import holders
from simtrain.reliability.saving import checkpoint_bytes, checkpoint_of, memory_tier
from simtrain.reliability.slowdown import node_of, speed_with
from simtrain.scenario.reliability import Failures, RecoverySteps, Reliability
from simtrain.scenario.scenario import Scenario
from simtrain.step.report import StepReport

__all__ = ["checkpoint_bytes", "job_of"]


def job_of(step: StepReport) -> Job:
    """The run that a step belongs to, as a Job.

    Raises:
        ScenarioError: the scenario has no reliability, or asks for parts or replicas that its cluster has not.
    """
    scenario, part = step.scenario, step.scenario.reliability
    if part is None:
        raise ScenarioError("the scenario has no reliability; set reliability, for example to the preset h100")
    work_s = scenario.workload.tokens / step.tokens_per_s
    load_s, tier = checkpoint_bytes(scenario) / part.storage.read, memory_tier(part, step)

    def recovery(steps: RecoverySteps, loading_s: float = load_s) -> Recovery:
        return recovery_of(steps, step.topology.gpus, loading_s, step.time_s)

    classes = _classes(part, step, recovery)
    from_tier = recovery(part.recovery, tier.load_s) if tier else None
    return Job(
        work_s=work_s,
        horizon_s=part.horizon or LONGEST * work_s,
        classes=classes,
        recovery=recovery(part.recovery),
        checkpoint=checkpoint_of(part, step, classes, tier, from_tier),
        fleet=_fleet(scenario, part),
    )


def _classes(
    part: Reliability, step: StepReport, recovery: Callable[[RecoverySteps], Recovery]
) -> tuple[FailureClass, ...]:
    cluster, topology, policy = step.scenario.cluster, step.topology, part.checkpoint
    hot = part.spares.hot if part.spares else 0
    local = policy.local is not None
    holding = holders(topology.nodes, 1 if local else policy.memory_copies, policy.memory_placement)
    waits = local and part.spares is not None and part.spares.policy == "wait"  # for the very nodes with their disks

    def parts(name: str, each: Failures) -> tuple[int, tuple[Blast, ...]]:
        """Components of a class under the job, and what each failure of those that run takes with it."""
        where = f"reliability.classes.{name}"
        under_job = hits(cluster, topology, each.owner, each.span, 0, where)
        running = hits(cluster, topology, each.owner, each.span, hot, where) if hot else under_job
        made = blasts_of(running, holding, by_node=local)
        if each.nodes_lost is not None:
            count = sum(blast.components for blast in made)
            made = (anywhere(count, topology.nodes, each.nodes_lost, holding),)
        if waits:
            made = tuple(replace(blast, survives_memory=1.0) for blast in made)
        return sum(hit.parts for hit in under_job), made

    def speed(each: Failures) -> float:
        return speed_with(step, each.effect, each.factor)

    return failure_classes(part, topology.gpus, parts, speed, recovery)


def _fleet(scenario: Scenario, part: Reliability) -> Fleet | None:
    spares = part.spares
    if spares is None:
        return None
    per_replica = 1
    if spares.policy in ("shrink", "replica"):
        per_replica = _nodes_per_replica(scenario, spares.policy)
    return fleet_of(spares, scenario.cluster.nodes, per_replica)


def _nodes_per_replica(scenario: Scenario, policy: str) -> int:
    node = node_of(scenario)
    gpus = scenario.cluster.nodes * node.gpus // plan_parallel(scenario).dp
    if gpus > node.gpus and gpus % node.gpus:
        raise ScenarioError(
            f"reliability.spares.policy = {policy!r} needs replicas of whole nodes, but tp * cp * pp = {gpus} GPUs are "
            f"no multiple of the {node.gpus} of a node; allowed here: wait, spare"
        )
    return max(1, gpus // node.gpus)
