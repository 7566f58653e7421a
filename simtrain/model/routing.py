"""Where the tokens of a mixture of experts go: how many nodes and GPUs each of them needs."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, floor

from simtrain.errors import InputError, LayoutError

__all__ = ["Routing"]


@dataclass(frozen=True, slots=True)
class Routing:
    """Balanced routing: every token takes ``top_k`` of ``experts``, all of them equally often.

    Attributes:
        experts: of the layer, spread evenly over the GPUs of a group.
        top_k: experts that each token takes.
        max_nodes: nodes on which they may lie (node-limited routing, DeepSeek-V3, arXiv 2412.19437, section
            2.1.2), and do: a token then takes ``top_k / max_nodes`` experts on each of them; None: anywhere.

    Raises:
        InputError: less than one of anything, or ``top_k`` above ``experts``.
    """

    experts: int
    top_k: int
    max_nodes: int | None = None

    def __post_init__(self) -> None:
        if self.experts < 1:
            raise InputError(f"routing: experts = {self.experts} must be at least 1")
        if not 1 <= self.top_k <= self.experts:
            raise InputError(f"routing: top_k = {self.top_k} must be from 1 to experts = {self.experts}")
        if self.max_nodes is not None and self.max_nodes < 1:
            raise InputError(f"routing: max_nodes = {self.max_nodes} must be at least 1, or absent")

    def spread(self, nodes: int, gpus: int) -> tuple[float, float]:
        """Expected number of distinct nodes, and of distinct GPUs, that hold an expert of one token.

        Without a limit the experts of a token are any ``top_k`` of all: a part that holds m of E experts is
        missed with probability C(E - m, k) / C(E, k).

        Args:
            nodes: nodes of the group.
            gpus: GPUs of the group, as many on each node.

        Raises:
            LayoutError: the experts cannot be spread evenly, or the nodes of a token hold too few of them.
        """
        if self.experts % gpus:
            raise LayoutError(f"routing: experts = {self.experts} must be a multiple of the group's {gpus} GPUs")
        limit = nodes if self.max_nodes is None else min(self.max_nodes, nodes)
        per_node, per_gpu = self.experts // nodes, self.experts // gpus
        if self.max_nodes is None or self.top_k < limit:
            return (
                nodes * _touched(self.experts, per_node, self.top_k),
                gpus * _touched(self.experts, per_gpu, self.top_k),
            )
        on_each = self.top_k / limit
        if on_each > per_node:
            raise LayoutError(
                f"routing: top_k = {self.top_k} experts do not fit on max_nodes = {self.max_nodes} nodes "
                f"with {per_node} experts each"
            )
        return float(limit), limit * (gpus // nodes) * _touched(per_node, per_gpu, on_each)


def _touched(experts: int, part: int, taken: float) -> float:
    """Probability that some of ``taken`` experts, of ``experts`` in all, lie in a part that holds ``part``.

    Between whole numbers it is the mean of both neighbours, as if tokens took one or the other number.
    """
    low = floor(taken)
    missed = [comb(experts - part, k) / comb(experts, k) for k in (low, min(low + 1, experts))]
    return 1.0 - missed[0] - (missed[1] - missed[0]) * (taken - low)
