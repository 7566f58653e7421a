"""From a scenario to a StepReport: the whole flow in one place."""

from __future__ import annotations

from dataclasses import dataclass

from simtrain.cluster.build import build
from simtrain.cluster.topology import Topology
from simtrain.costs.kernels import KernelModel
from simtrain.costs.prices import PriceList
from simtrain.costs.step import StepPrices, price_step, send_bytes, shard_of, slot_costs, stage_operators
from simtrain.engines import simulate
from simtrain.errors import LayoutError
from simtrain.layout.parallel import Parallel, plan_parallel
from simtrain.layout.placement import Placement, place
from simtrain.model.flops import model_flops_per_token, model_flops_utilisation
from simtrain.model.operators import Shard
from simtrain.program.actions import HostTimes
from simtrain.program.lower import Lowered, lower
from simtrain.program.program import Program
from simtrain.program.timeline import Timeline
from simtrain.program.unfold import Unfolded
from simtrain.scenario.cluster import Device, Node
from simtrain.scenario.model import Model
from simtrain.scenario.scenario import Scenario
from simtrain.schedules.order import Order
from simtrain.step.copies import copies_of, stands_for_uneven
from simtrain.step.explain import contributions, coverage
from simtrain.step.memory import activations_of, memory_report
from simtrain.step.money import job_report
from simtrain.step.network import NetworkReport
from simtrain.step.order import pipeline_order
from simtrain.step.report import MemoryReport, StepReport
from simtrain.step.uncertainty import uncertainty
from simtrain.timeline.ledger import account

__all__ = ["Plan", "plan_step", "report_step", "simulate_memory", "simulate_step"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A scenario worked out up to the Program that an engine runs.

    ``copies`` is there where one GPU of each pipeline rank cannot stand for all others.
    """

    scenario: Scenario
    model: Model
    device: Device
    parallel: Parallel
    placement: Placement
    topology: Topology
    shard: Shard
    order: Order
    prices: StepPrices
    lowered: Lowered
    copies: Unfolded | None

    @property
    def program(self) -> Program:
        """What an engine runs: the folded Program, or the copies that do not behave alike."""
        return self.copies.program if self.copies else self.lowered.program


def plan_step(scenario: Scenario) -> Plan:
    """Work a resolved scenario out to a Program.

    Raises:
        LayoutError, ScheduleError, ScenarioError: the scenario cannot exist.
        UnsupportedError: it can, but is not simulated.
    """
    scenario = scenario.settled()
    parallel = plan_parallel(scenario)
    layout, workload, cluster = scenario.layout, scenario.workload, scenario.cluster
    model, node = workload.model, cluster.node
    if not (isinstance(model, Model) and isinstance(node, Node) and isinstance(node.device, Device)):
        raise LayoutError("the scenario holds names; load it before simulating it")
    topology = build(cluster)
    placement = place(parallel, layout.rank_order)
    shard = shard_of(scenario, parallel)
    software = scenario.software
    kernels = KernelModel(
        node.device,
        cluster.peaks,
        layout.precision,
        software.attention_kernel,
        in_training=True,
        year=software.year,
    )
    price_list = PriceList(kernels, topology, placement, cluster)
    stages = stage_operators(model, shard, parallel)
    costs = slot_costs(price_list, stages, send_bytes(model, shard), parallel)
    order = pipeline_order(scenario, parallel, costs)
    prices = price_step(price_list, model, layout, shard, parallel, order, software)
    lowered = lower(order, prices, price_list, layout, parallel, _host_times(scenario, node))
    copies = copies_of(scenario, model, parallel, placement, lowered)
    return Plan(scenario, model, node.device, parallel, placement, topology, shard, order, prices, lowered, copies)


def _host_times(scenario: Scenario, node: Node) -> HostTimes:
    software = scenario.software
    return HostTimes(
        scenario.workload.host_time_per_micro_batch,
        software.calls_per_operator * node.host_call,
        software.calls_per_recompute * node.host_call,
        software.calls_per_step * node.host_call,
    )


def simulate_step(scenario: Scenario) -> StepReport:
    """Simulate one training step of a resolved scenario (see :func:`simtrain.load`).

    Raises:
        SimtrainError: see :func:`plan_step`; DeadlockError when the schedule's order cannot finish.
    """
    plan = plan_step(scenario)
    return report_step(plan, simulate(plan.program, scenario.engine))


def report_step(plan: Plan, timeline: Timeline) -> StepReport:
    """Everything a user sees of a step, read from its Timeline."""
    scenario, workload, gpus = plan.scenario, plan.scenario.workload, plan.parallel.gpus
    ledger = account(timeline)
    waterfall = ledger.shares()
    step_s = timeline.makespan_s
    tokens_per_s = workload.global_batch * workload.sequence_length / step_s
    per_gpu = tokens_per_s / gpus
    peak = plan.device.bf16_peak(scenario.cluster.peaks)
    flops = model_flops_per_token(plan.model, workload.sequence_length)
    causal = model_flops_per_token(plan.model, workload.sequence_length, causal=True)
    mfu = model_flops_utilisation(per_gpu, flops, peak)
    recomputed = _recomputed_flops(plan) / (gpus * step_s * peak)
    return StepReport(
        scenario=scenario,
        engine=timeline.engine,
        time_s=step_s,
        tokens_per_s=tokens_per_s,
        tokens_per_s_per_gpu=per_gpu,
        model_tflops_per_gpu=per_gpu * flops / 1e12,
        mfu=mfu,
        mfu_causal=model_flops_utilisation(per_gpu, causal, peak),
        hfu=mfu + recomputed,
        bubble_fraction=sum(waterfall[key] for key in ("bubble_warmup", "bubble_steady", "bubble_cooldown")),
        waterfall=waterfall,
        memory=_memory(plan, timeline),
        job=job_report(scenario, tokens_per_s),
        coverage=coverage(plan.prices),
        contributions=contributions(plan.prices, plan.lowered, timeline, ledger),
        timeline=timeline,
        topology=plan.topology,
        network=_network(plan, timeline),
        uneven=stands_for_uneven(plan.scenario, plan.lowered, plan.copies),
        unused_algorithms=plan.prices.unused_algorithms,
        uncertainty=uncertainty(plan.scenario),
    )


def simulate_memory(scenario: Scenario) -> MemoryReport:
    """Memory of one step alone."""
    plan = plan_step(scenario)
    return _memory(plan, simulate(plan.program, scenario.engine))


def _memory(plan: Plan, timeline: Timeline) -> MemoryReport:
    if plan.copies:
        timeline = plan.copies.folded(timeline, plan.lowered.program)
    activations = activations_of(plan.scenario, plan.model, plan.shard, plan.parallel)
    return memory_report(
        plan.scenario, plan.model, plan.device, plan.parallel, plan.order, activations, plan.lowered, timeline
    )


def _network(plan: Plan, timeline: Timeline) -> NetworkReport:
    sets = plan.copies.sets if plan.copies else None
    return NetworkReport(plan.topology, timeline, plan.lowered.program, plan.lowered.flows, sets)


def _recomputed_flops(plan: Plan) -> float:
    """FLOPs of repeated forward kernels in one step, over the whole cluster."""
    per_micro_batch = sum(op.flops for stage in plan.prices.backward for op in stage if op.recompute)
    return per_micro_batch * plan.parallel.micro_batches * plan.parallel.replicas
