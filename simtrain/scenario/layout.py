"""How the model is laid over the cluster."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict, StrictInt

from simtrain.scenario.part import Part, Precision

__all__ = ["Layout"]


class Layout(Part):
    """Parallel sizes, schedule, batch of one micro step, precision, recomputation, sharding."""

    tp: int = Field(1, ge=1)
    """Tensor parallel size."""
    sp: bool | None = None
    """Sequence parallelism over the tensor parallel group; absent: on when tp is above 1."""
    tp_overlap: Literal["none", "backward", "chunked"] = "backward"
    """What runs beside tensor parallel exchanges.  none: nothing.  backward: the exchange of an input gradient runs
    beside the matmul of the weight gradient, and the second gather of an input beside that of the input gradient, as
    Megatron-LM does by default.  chunked: in addition a matmul and the exchange before or after it run in pieces along
    the rows, one beside the other, as in Transformer Engine (user buffers)."""
    tp_overlap_chunks: int = Field(4, ge=1)
    """Pieces of each matmul and exchange with tp_overlap chunked."""
    cp: int = Field(1, ge=1)
    """Context parallel size."""
    ep: int = Field(1, ge=1)
    """Expert parallel size, taken out of dp (and cp)."""
    dispatcher: Literal["alltoall", "deepep"] | None = None
    """How tokens reach experts on other ranks: a row for each token and expert through NCCL's all-to-all, or once for
    each node that needs them (DeepEP); absent: deepep where the model limits the nodes of a token, else alltoall."""
    shared_expert_overlap: bool = True
    """With ep above 1, shared experts run while tokens are dispatched (Megatron-LM's moe-shared-expert-overlap)."""
    ep_overlap_wgrad: bool = False
    """With ep above 1, weight gradients of experts come after their input gradients, and the gradients of tokens go
    back meanwhile (the experts' part of Megatron-LM's delay_wgrad_compute)."""
    pp: int = Field(1, ge=1)
    """Pipeline parallel size."""
    vpp: int = Field(1, ge=1)
    """Model chunks per pipeline rank (interleaving)."""
    dp: int | None = Field(None, ge=1)
    """Data parallel size; absent: what tp, cp and pp leave of the GPUs."""
    micro_batch: int = Field(1, ge=1)
    """Sequences per micro batch and replica."""
    schedule: str = "1f1b"
    """Pipeline schedule."""
    precision: Precision = "bf16"
    """Input precision of the matmuls."""
    grad_precision: Literal["fp32", "bf16"] = "fp32"
    """Gradients are accumulated and reduced in this precision."""
    zero: int = Field(1, ge=0, le=3)
    """ZeRO stage: 1 shards the optimizer over dp, 2 also gradients, 3 also weights."""
    recompute: Literal["none", "selective", "full"] = "none"
    """Activations recomputed in backward: none, the attention core, or whole layers."""
    attention: Literal["flash", "unfused"] = "flash"
    """Attention kernels: fused (FlashAttention) or with the score matrix in memory."""
    layers_per_stage: Annotated[tuple[StrictInt, ...], Strict(False)] | None = None
    """Layers of each stage in order (pp * vpp numbers); absent: even."""
    rank_order: Literal["tp-cp-dp-pp", "tp-cp-pp-dp", "tp-pp-cp-dp"] = "tp-cp-dp-pp"
    """Which neighbours sit closest: the first axis varies fastest over consecutive GPUs."""
    overlap_grad_reduce: bool = True
    """Reduce each layer's gradients while the backward of the last micro batch still runs."""
    blocking_sends: bool = False
    """Pipeline sends hold the compute stream until they are done."""
