"""Speed of a job while some of its hardware is slow: the step is simulated again with such hardware."""

from __future__ import annotations

from functools import cache

from simtrain.errors import ScenarioError
from simtrain.scenario.cluster import Device, Node
from simtrain.scenario.scenario import Scenario
from simtrain.step.report import StepReport
from simtrain.step.simulate import simulate_step

__all__ = ["node_of", "speed_with"]


def node_of(scenario: Scenario) -> Node:
    """The node of a scenario that has been loaded."""
    node = scenario.cluster.node
    if not isinstance(node, Node):
        raise ScenarioError("cluster.node is a name; load the scenario before simulating it")
    return node


def speed_with(step: StepReport, effect: str, factor: float) -> float:
    """Speed of the job where GPUs (effect slow) or network ports (degraded) run at ``factor``; 1 for other effects.

    Everyone waits for a slow one, so all are as slow as it is.
    """
    if effect not in ("slow", "degraded") or factor == 1.0:
        return 1.0
    plain = step.scenario.model_copy(update={"reliability": None})
    return min(1.0, step.time_s / _slowed(plain.model_dump_json(), effect, factor))


@cache
def _slowed(document: str, effect: str, factor: float) -> float:
    """Step time in s of a scenario (as JSON) whose GPUs or network ports run at ``factor``."""
    scenario = Scenario.model_validate_json(document)
    node = node_of(scenario)
    if effect == "slow":
        node = node.model_copy(update={"device": _slow_device(node, factor)})
    elif node.nic is not None:
        node = node.model_copy(update={"nic": node.nic.model_copy(update={"bandwidth": node.nic.bandwidth * factor})})
    cluster = scenario.cluster.model_copy(update={"node": node})
    return simulate_step(scenario.model_copy(update={"cluster": cluster})).time_s


def _slow_device(node: Node, factor: float) -> Device:
    device = node.device
    if not isinstance(device, Device):
        raise ScenarioError("cluster.node.device is a name; load the scenario before simulating it")
    peaks = {
        key: {precision: peak * factor for precision, peak in getattr(device, key).items()}
        for key in ("peaks", "advertised_peaks")
    }
    return device.model_copy(update={**peaks, "memory_bandwidth": device.memory_bandwidth * factor})
