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
    """Largest tensor parallel size whose compute still covers its traffic.

    2 * 3 * (h / t) / bytes >= FLOP/s / bandwidth of one direction.
    """

    bound: float
    hidden: int
    flops_per_s: float
    bytes_per_s: float
    tp: int
    exposed_tp: float

    def text(self) -> str:
        """One line that sets the rule beside the simulated exposure."""
        return (
            f"Rule of thumb 2*3*(h/t)/bytes >= FLOP/s / bandwidth: t <= {self.bound:.2f} "
            f"(h {self.hidden}, {self.flops_per_s / 1e12:.4g} TFLOPS, {self.bytes_per_s / 1e9:.4g} GB/s one way). "
            f"Simulated: tp {self.tp} leaves {100 * self.exposed_tp:.1f} % of the step as exposed tp communication."
        )


def tensor_parallel_rule(step: StepReport) -> TensorParallelRule:
    """The rule for a step's model, device peak and link, beside the exposure that was simulated."""
    scenario = step.scenario
    node, model = scenario.cluster.node, scenario.workload.model
    if not (isinstance(node, Node) and isinstance(node.device, Device) and isinstance(model, Model)):
        raise ScenarioError("the scenario holds names; load it before simulating it")
    peaks = node.device.peaks
    if scenario.cluster.peaks == "advertised":
        peaks = {**peaks, **node.device.advertised_peaks}
    flops = peaks.get("bf16") or peaks["fp16"]
    bandwidth = _link_bytes_per_s(node)
    bound = tensor_parallel_bound(model.hidden, 2.0, flops, bandwidth)
    return TensorParallelRule(bound, model.hidden, flops, bandwidth, scenario.layout.tp, step.waterfall["exposed_tp"])


def _link_bytes_per_s(node: Node) -> float:
    """Line rate of a GPU's own link in one direction."""
    if isinstance(node.links, PcieTree):
        return float(node.links.pcie.bandwidth)
    if isinstance(node.links, MeshLinks):
        return float(node.links.pair.bandwidth * (node.gpus - 1))
    return float(node.links.gpu.bandwidth)
