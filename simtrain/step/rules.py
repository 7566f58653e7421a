"""Rules of thumb shown beside what is simulated."""

from __future__ import annotations

from dataclasses import dataclass

from simtrain.errors import ScenarioError
from simtrain.model.rules import tensor_parallel_bound
from simtrain.scenario.cluster import Device, MeshLinks, Node, PcieTree
from simtrain.scenario.model import Model
from simtrain.step.report import StepReport

__all__ = ["TensorParallelRule", "tensor_parallel_rule"]


@dataclass(frozen=True, slots=True)
class TensorParallelRule:
    """Largest tensor parallel size whose compute still covers its traffic, beside what was simulated.

    2 * 3 * (h / t) / bytes >= FLOP/s / bandwidth of one direction, with two-byte elements.

    Attributes:
        bound: the rule with the device's dense peak; advertised_bound: with the figure often quoted instead.
        hidden: h; dense_flops_per_s, advertised_flops_per_s, bytes_per_s: what the rule was fed.
        tp: tensor parallel size of the layout; exposed_tp: share of the step its communication is exposed.
    """

    bound: float
    advertised_bound: float
    hidden: int
    dense_flops_per_s: float
    advertised_flops_per_s: float
    bytes_per_s: float
    tp: int
    exposed_tp: float

    def text(self) -> str:
        """Two lines that set the rule beside the simulated exposure."""
        return (
            f"Rule of thumb 2*3*(h/t)/bytes >= FLOP/s / bandwidth (h {self.hidden}, {self.bytes_per_s / 1e9:.4g} GB/s "
            f"one way): t <= {self.bound:.2f} at {self.dense_flops_per_s / 1e12:.4g} TFLOPS dense, "
            f"{self.advertised_bound:.2f} at the often quoted {self.advertised_flops_per_s / 1e12:.4g}.\n"
            f"Simulated: tp {self.tp} leaves {100 * self.exposed_tp:.1f} % of the step as exposed tp communication."
        )


def tensor_parallel_rule(step: StepReport) -> TensorParallelRule:
    """The rule for a step's model, device and link, beside the exposure that was simulated."""
    scenario = step.scenario
    node, model = scenario.cluster.node, scenario.workload.model
    if not (isinstance(node, Node) and isinstance(node.device, Device) and isinstance(model, Model)):
        raise ScenarioError("the scenario holds names; load it before simulating it")
    dense = node.device.bf16_peak("dense")
    advertised = node.device.bf16_peak("advertised")
    bandwidth = _link_bytes_per_s(node)
    return TensorParallelRule(
        bound=tensor_parallel_bound(model.hidden, 2.0, dense, bandwidth),
        advertised_bound=tensor_parallel_bound(model.hidden, 2.0, advertised, bandwidth),
        hidden=model.hidden,
        dense_flops_per_s=dense,
        advertised_flops_per_s=advertised,
        bytes_per_s=bandwidth,
        tp=scenario.layout.tp,
        exposed_tp=step.waterfall["exposed_tp"],
    )


def _link_bytes_per_s(node: Node) -> float:
    """Line rate of a GPU's own link in one direction."""
    if isinstance(node.links, PcieTree):
        return float(node.links.pcie.bandwidth)
    if isinstance(node.links, MeshLinks):
        return float(node.links.pair.bandwidth * (node.gpus - 1))
    return float(node.links.gpu.bandwidth)
