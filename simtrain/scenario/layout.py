"""How the model is laid over the cluster."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict, StrictInt

from simtrain.quantities import Bytes
from simtrain.scenario.part import Part, Precision

__all__ = ["CompressedSaved", "Layout", "Offloaded", "RecomputeModule", "expert_tp"]

RecomputeModule = Literal["core_attn", "layernorm", "mla_up_proj", "mlp_act", "moe_act", "mlp", "moe", "shared_experts"]
CompressedSaved = Literal["activation_input", "attention_output"]
Offloaded = Literal["first_moment", "second_moment", "master", "weights", "gradients", "residual"]


def expert_tp(tp: int, ep: int, etp: int | None) -> int:
    """Ranks over which each expert is cut: ``etp``, and where it is absent 1 with ep above 1, else tp."""
    if etp is not None:
        return etp
    return tp if ep == 1 else 1


class Layout(Part):
    """Parallel sizes, schedule, batch of one micro step, precision, recomputation, sharding."""

    tp: int = Field(1, ge=1)
    """Tensor parallel size."""
    sp: bool | None = None
    """Sequence parallelism over the tensor parallel group; absent: on when tp is above 1."""
    tp_overlap: Literal["none", "backward", "chunked"] | None = None
    """What runs beside tensor parallel exchanges.  none: nothing.  backward: the exchange of an input gradient runs
    beside the matmul of the weight gradient, and the second gather of an input beside that of the input gradient, as
    Megatron-LM does by default.  chunked: in addition a matmul and the exchange before or after it run in pieces along
    the rows, one beside the other, as in Transformer Engine (user buffers).  Absent: as the software does."""
    tp_overlap_chunks: int = Field(4, ge=1)
    """Pieces of each matmul and exchange with tp_overlap chunked."""
    cp: int = Field(1, ge=1)
    """Context parallel size."""
    cp_comm: Literal["all_gather", "all_to_all"] = "all_gather"
    """How attention reaches the whole context (Megatron-LM's cp-comm-type).  all_gather: keys and values are gathered,
    each rank attends with its own queries.  all_to_all: queries, keys and values change from a part of the tokens with
    all heads to all tokens with a part of the heads, and the output changes back (DeepSpeed-Ulysses, arXiv 2309.14509);
    cp then divides the heads and key-value heads of a tensor parallel rank."""
    ep: int = Field(1, ge=1)
    """Expert parallel size, taken out of tp, cp and dp together."""
    etp: int | None = Field(None, ge=1)
    """Expert tensor parallel size (Megatron-LM's expert-tensor-parallel-size): ranks over which each expert is cut, a
    divisor or a multiple of tp.  Experts lie on ep * etp consecutive ranks; absent: 1 with ep above 1, else tp."""
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
    grad_precision: Literal["fp32", "bf16"] | None = None
    """Gradients are accumulated and reduced in this precision, bf16 standing for any 16 bits; absent: as the software
    does."""
    moment_precision: Literal["fp32", "bf16"] = "fp32"
    """Adam's two moments are kept in this precision; DeepSeek-V3: bf16 (arXiv 2412.19437, section 3.3.3)."""
    zero: int = Field(1, ge=0, le=3)
    """ZeRO stage: 1 shards the optimizer over dp, 2 also gradients, 3 also weights."""
    recompute: Literal["none", "selective", "full"] = "none"
    """What runs a second time in backward instead of being kept: nothing, parts of the layers, or whole layers."""
    recompute_modules: Annotated[tuple[RecomputeModule, ...], Strict(False)] | None = None
    """With recompute selective: the parts of each layer that run again, by the names of Megatron-Core's
    recompute-modules; absent: core_attn.  Each keeps what enters it and not what it makes.  core_attn: the attention
    core; its output is kept.  layernorm: the norms before attention and before the MLP; saves the inputs of the
    projections and of the MLP.  mla_up_proj: the up-projections of latent attention with their norms and the rotary
    positions; saves queries, keys and values.  mlp_act, moe_act: the activation function of dense MLPs and shared
    experts, and of routed experts; saves the input of the matmul after it.  mlp, moe, shared_experts: the whole dense
    MLP, the whole layer of experts with its exchanges, the shared experts alone; saves all but the input.  DeepSeek-V3
    (arXiv 2412.19437, sections 3.2.3 and 3.3.3): layernorm, mla_up_proj, moe_act, mlp_act."""
    compress_saved: Annotated[tuple[CompressedSaved, ...], Strict(False)] = ()
    """Kept for backward in fewer bits than computed.  activation_input: what enters the MLP's activation function, in 8
    bits (Megatron-LM's activation-func-fp8-input-store; DeepSeek-V3, section 3.3.3).  attention_output: in 12
    (DeepSeek-V3, likewise).  Other inputs of matmuls in 8 or 4 bits are always kept so (Transformer Engine)."""
    attention: Literal["flash", "unfused"] = "flash"
    """Attention kernels: fused (FlashAttention) or with the score matrix in memory."""
    layers_per_stage: Annotated[tuple[StrictInt, ...], Strict(False)] | None = None
    """Layers of each stage in order (pp * vpp numbers); absent: even."""
    rank_order: Literal["tp-cp-dp-pp", "tp-cp-pp-dp", "tp-pp-cp-dp"] = "tp-cp-dp-pp"
    """Which neighbours sit closest: the first axis varies fastest over consecutive GPUs."""
    overlap_grad_reduce: bool | None = None
    """Reduce gradients bucket by bucket while the backward of the last micro batch still runs (ZeRO 0 and 1; 2 and 3
    always reduce under the backward of every micro batch); absent: as the software does."""
    overlap_param_gather: bool | None = None
    """ZeRO 1 and 2: gather the updated weights under the first forwards of the next step, not after the optimizer;
    absent: as overlap_grad_reduce says, which Megatron-LM's recipes switch on together, else as the software
    does."""
    grad_bucket: Bytes | None = None
    """Bytes of gradients at which whole layers are reduced (and gathered) as one collective, 0: a layer each; absent:
    a layer each with ZeRO 2 and 3 (PyTorch FSDP's unit), else max(40e6, 1e6 * dp * cp) parameters (Megatron-LM)."""
    prefetch: int | None = Field(None, ge=0)
    """ZeRO 3: layers whose weights are gathered ahead of the one that computes, forward and backward (PyTorch FSDP:
    1); 0: gathered when needed; absent: as the software does."""
    reshard_after_forward: bool | None = None
    """ZeRO 3: drop gathered weights after forward and gather them again for backward (PyTorch FSDP); false keeps them
    from a micro batch's forward to its backward (Llama 3, arXiv 2407.21783, section 3.3.2).  Absent: true, with a
    pipeline as the software does."""
    reduce_once: bool | None = None
    """ZeRO 2 and 3: whole gradients of all micro batches are added up on every GPU and reduced with the last one;
    absent: false, with a pipeline as the software does."""
    shard_group: int | None = Field(None, ge=1)
    """GPUs over which ZeRO 1 to 3 shard, consecutive ranks of dp * cp, which it divides: gradients are summed across
    these groups (PyTorch's HSDP); absent: all of dp * cp."""
    blocking_sends: bool | None = None
    """Pipeline sends hold the compute stream until they are done; absent: as the software does."""
    accumulate_runs: bool = False
    """ZeRO 2 and 3: gradients of micro batches whose backwards through a stage follow one another are summed, and
    reduced after the last of them, instead of after each (PyTorch FSDP).  Llama 3 sums gradients in fp32 over several
    micro batches before it reduce-scatters them (arXiv 2407.21783, section 3.3.2); that a run through one stage is what
    it sums over is from memory."""

    # What of the memory a GPU holds.
    master: Literal["fp32", "bf16", "remainder", "none"] | None = None
    """What the optimizer keeps of a 16-bit weight beside its moments.  fp32: a copy (ZeRO, arXiv 1910.02054, section
    3.1).  remainder: the 16 bits that make the weight an fp32 number (store_param_remainders of Apex's
    DistributedFusedAdam).  bf16: the weight in 16 bits, where matmuls in 8 read a copy that stands for it; where they
    do not, the weight is its own master.  none: nothing, the weight is updated as it is.  Absent: as the software
    does."""
    offload: Annotated[tuple[Offloaded, ...], Strict(False)] = ()
    """What lies in host memory.  first_moment, second_moment, master: of the optimizer.  weights, gradients: a GPU
    holds those of the layers at work alone.  residual: what enters each layer, until its backward.  State of
    the optimizer is copied to the GPU and back around the update, a layer after the other; the rest takes no time."""
    head_chunks: int = Field(1, ge=1)
    """Pieces of the tokens that the output layer and the loss run on, forward and backward of one before the next, so
    that the logits of one piece are all that is held."""
