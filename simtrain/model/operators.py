"""What a layer runs: kernels and exchanges, with FLOPs, bytes and what backward needs kept.

Sizes are those of ONE rank after tensor, context and expert parallel sharding (:class:`Shard`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from simtrain.model.routing import Routing
from simtrain.scenario.layout import CompressedSaved, RecomputeModule, expert_tp
from simtrain.scenario.part import Precision
from simtrain.scenario.workload import ExpertRouting

__all__ = [
    "EAGER",
    "NORMS",
    "Collective",
    "Exchange",
    "Kernel",
    "KernelClass",
    "LayerOperators",
    "Operator",
    "Part",
    "Shard",
]

KernelClass = Literal[
    "gemm",
    "grouped_gemm",
    "attention_forward",
    "attention_backward",
    "norm",
    "norm_backward",
    "activation",
    "plain_activation",
    "elementwise",
    "quantise",
    "embedding",
    "cross_entropy",
    "permute",
    "optimizer",
]
Collective = Literal[
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "dispatch",
    "combine",
    "broadcast",
    "reduce",
    "gather",
    "scatter",
    "send_recv",
]
Part = Literal["F", "I", "W"]
EAGER = ("norm", "rotary", "activation", "softmax", "grad_accumulation")
"""Operators that software may run as several kernels."""
NORMS = ("attention_norm", "mlp_norm")
"""What the recomputation module layernorm consists of: each runs again where its own output is needed."""


@dataclass(frozen=True, slots=True)
class Shard:
    """How one layer is cut, and what one micro batch is.

    Attributes:
        tp, cp, ep: parallel sizes; etp: as in :class:`simtrain.scenario.layout.Layout`; sp: sequence parallelism over
            the tp group.
        micro_batch: sequences of a micro batch; sequence: their full length in tokens.
        act_bytes: bytes of one activation element (2 for bf16); weight_bytes: of one matmul weight element;
            grad_bytes: of one element of a weight gradient (4 where micro batches are summed in fp32).
        precision: inputs of the matmuls; it decides in how many bits they are kept for gradients of weights, and tokens
            dispatched to experts.
        cp_comm, recompute, compress_saved, attention, tp_overlap, tp_overlap_chunks, shared_expert_overlap,
            ep_overlap_wgrad: as in :class:`simtrain.scenario.layout.Layout`.
        recompute_modules: likewise, with what counts where it is absent there.
        dispatcher: likewise, worked out where it is absent there.
        routing: how evenly tokens spread over experts; expert_load: rows of the busiest rank's experts in a layer,
            relative to an even spread of all rows; traffic_load: rows over the busiest link to experts, likewise.
        eager: what runs as several kernels, of norm, rotary, activation, softmax and grad_accumulation; copies: tensors
            copied once more each way; scatter_sends: ranks send parts.  See
            :class:`simtrain.scenario.software.Software`.
        ep_per_link: ranks of an expert parallel group whose rows share the busiest link to experts.
        recompute_stops, dummy_gradients, logits, loss: as in :class:`simtrain.scenario.software.Software`.
        head_chunks: as in :class:`simtrain.scenario.layout.Layout`.
    """

    micro_batch: int
    sequence: int
    tp: int = 1
    cp: int = 1
    ep: int = 1
    sp: bool = False
    act_bytes: float = 2.0
    weight_bytes: float = 2.0
    grad_bytes: float = 4.0
    recompute: Literal["none", "selective", "full"] = "none"
    recompute_modules: tuple[RecomputeModule, ...] = ("core_attn",)
    compress_saved: tuple[CompressedSaved, ...] = ()
    attention: Literal["flash", "unfused"] = "flash"
    precision: Precision = "bf16"
    tp_overlap: Literal["none", "backward", "chunked"] = "backward"
    tp_overlap_chunks: int = 4
    dispatcher: Literal["alltoall", "deepep"] = "alltoall"
    shared_expert_overlap: bool = True
    ep_overlap_wgrad: bool = False
    routing: ExpertRouting = field(default_factory=ExpertRouting)
    expert_load: float = 1.0
    traffic_load: float = 1.0
    ep_per_link: int = 1
    etp: int | None = None
    cp_comm: Literal["all_gather", "all_to_all"] = "all_gather"
    eager: frozenset[str] = frozenset()
    copies: int = 0
    scatter_sends: bool = False
    recompute_stops: bool = False
    dummy_gradients: bool = False
    logits: Literal["parallel", "gathered"] = "parallel"
    loss: Literal["fused", "eager", "in_place"] = "fused"
    head_chunks: int = 1

    @property
    def expert_tp(self) -> int:
        """Ranks over which each expert is cut."""
        return expert_tp(self.tp, self.ep, self.etp)

    @property
    def experts_apart(self) -> bool:
        """Whether experts are cut in another way than a dense MLP: not over the tp group alone."""
        return self.ep > 1 or self.expert_tp != self.tp

    @property
    def again(self) -> frozenset[str]:
        """Parts of a layer that run again in backward by themselves; none with full recomputation."""
        chosen = self.recompute_modules if self.recompute == "selective" else ()
        return frozenset(part for name in chosen for part in (NORMS if name == "layernorm" else (name,)))


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel of one rank.

    Attributes:
        flops: floating point operations of its matmuls (fused causal attention: half of the square), 0 without.
        bytes: bytes it reads and writes in device memory.
        m, n, k, groups: matmul shape (m x k times k x n, ``groups`` of them); 0 for others.
        v: of fused attention the size of a value head (k is that of queries and keys), 0 as k.
        plain: a matmul that runs in 16 bit whatever the precision of the others.
        aligned: rows of its operands start at multiples of 16 bytes, which tensor cores need.
        saved_bytes: bytes a forward kernel leaves in memory until its backward; of the last kernel of a part of a layer
            that runs again, what the part makes and backward holds meanwhile.
        remade_bytes: of those of a recomputed one, what gradients of weights read.
        working_bytes: bytes held beside what is saved, while it runs.
        part: F forward, I backward for inputs, W backward for weights.
        recompute: executed again during backward (counted apart, HFU includes it).
        routed: its rows are tokens that chose experts of this rank, so that ranks may have more or less to do.
        after: operators of the same layer and part that it waits for, of several of one name the one before it;
            empty: everything before it that nothing has waited for yet, and so the join of all that.
    """

    name: str
    kind: KernelClass
    flops: float
    bytes: float
    part: Part = "F"
    m: int = 0
    n: int = 0
    k: int = 0
    groups: int = 1
    saved_bytes: float = 0.0
    remade_bytes: float = 0.0
    recompute: bool = False
    routed: bool = False
    after: tuple[str, ...] = ()
    v: int = 0
    plain: bool = False
    working_bytes: float = 0.0
    aligned: bool = True


@dataclass(frozen=True, slots=True)
class Exchange:
    """One collective that a layer needs.

    Attributes:
        stream: which group takes part: tp, cp, ep or etp.
        bytes: size in the convention of nccl-tests: all_reduce the tensor of one rank; all_gather and
            reduce_scatter the whole (gathered) tensor; all_to_all all that one rank sends, its own part included;
            dispatch and combine as an all_to_all of a row for each token and expert, before rows that share a
            way are sent once.
        routing: of dispatch and combine, None of others.
        of_bytes: size of the whole exchange that this is a piece of; None: it is whole.  Pieces follow one another
            in one exchange, whose latency the ``first`` has.
        after: as of :class:`Kernel`.
    """

    name: str
    stream: Literal["tp", "cp", "ep", "etp"]
    collective: Collective
    bytes: float
    part: Part = "F"
    recompute: bool = False
    routing: Routing | None = None
    of_bytes: float | None = None
    first: bool = True
    after: tuple[str, ...] = ()


Operator = Kernel | Exchange


@dataclass(frozen=True, slots=True)
class LayerOperators:
    """Operators of a layer (or of the embedding or the head), in the order a single stream runs them.

    The last one of forward, of backward, and of each part of backward waits for all others, so that a layer is
    done when it is.
    ``backward`` holds I and W parts in the order autograd runs them (I of an operator, then its W);
    forward operators that run again stand where they are needed, with ``recompute`` set and part I.
    """

    forward: tuple[Operator, ...]
    backward: tuple[Operator, ...]

    @property
    def saved_bytes(self) -> float:
        """Activation bytes one micro batch leaves behind in this layer."""
        return sum(op.saved_bytes for op in self.forward if isinstance(op, Kernel))

    @property
    def weight_shapes(self) -> frozenset[tuple[int, int]]:
        """Rows and columns of its weights, those of matmuls that stay in 16 bits left out."""
        kernels = (op for op in self.backward if isinstance(op, Kernel) and op.part == "W")
        return frozenset((op.m, op.n) for op in kernels if op.kind in ("gemm", "grouped_gemm") and not op.plain)
