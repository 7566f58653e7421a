"""The training software as a document (``workloads/software/``): what it fuses and overlaps, pads and reserves.

Booleans and counts that describe a stack; seconds of kernels and links belong to devices and nodes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simtrain.quantities import Bytes, Seconds
from simtrain.scenario.kernels import AttentionKernel
from simtrain.scenario.part import Part

__all__ = ["Fusion", "Loss", "Software"]

Fusion = Literal["fused", "eager"]
Loss = Literal["fused", "eager", "in_place"]


class Software(Part):
    """A software stack. The defaults are a current Megatron-LM with Transformer Engine."""

    title: str = ""
    year: int | None = Field(None, ge=2000, le=2100)
    """Year of its libraries (PyTorch, cuBLAS), where they are not current: a chip's first ones get less out of it."""
    norm: Fusion = "fused"
    """RMSNorm. fused: one kernel each way. eager: PyTorch operators one after the other, in fp32. LayerNorm is one
    kernel in PyTorch too."""
    rotary: Fusion = "fused"
    """fused: one kernel. eager: halves of heads are negated and joined, multiplied twice and added, for queries and
    keys apart."""
    activation: Fusion = "fused"
    """Of gated MLPs. fused: one kernel. eager: the activation and the product with the other half, a kernel each."""
    softmax: Fusion = "fused"
    """Without fused attention. fused: scale, mask and softmax in one kernel. eager: a kernel each, softmax in fp32."""
    overlap_grad_reduce: bool = True
    """Gradients are reduced bucket by bucket under the last backward."""
    overlap_param_gather: bool = True
    """Under ZeRO 1 and 2, updated weights are gathered under the next forward."""
    tp_overlap: Literal["none", "backward", "chunked"] = "backward"
    """As ``layout.tp_overlap``."""
    blocking_sends: bool = False
    """Pipeline sends hold the compute stream."""
    prefetch: int = Field(1, ge=0)
    """As ``layout.prefetch``."""
    dropout: bool = False
    """Models with learned positions (GPT-2 and its heirs) train with dropout; used where a table of models does not
    say."""
    vocabulary_multiple: int = Field(1, ge=1)
    """Vocabularies of a table of models are padded to a multiple of this times tp (Megatron-LM: 128)."""
    framework_memory: Bytes = Field("1 GiB", ge=0)
    """Outside the allocator: CUDA context, libraries and communication buffers; 1 GiB is an assumption."""
    dispatcher: Literal["alltoall", "deepep"] | None = None
    """As ``layout.dispatcher``."""
    scatter_sends: bool = False
    """Without sequence parallelism each tensor parallel rank sends its part of the activations to the next stage, where
    they are gathered (Narayanan et al. 2021, arXiv 2104.04473, section 4.1); otherwise every rank sends them whole."""
    grad_accumulation: Fusion = "fused"
    """Gradients of weights over micro batches. fused: the matmul adds to the sum. eager: it writes a gradient in the
    precision of activations, and a kernel adds that."""
    calls_per_operator: int = Field(6, ge=0)
    """Calls of Python, dispatcher and autograd for each kernel or exchange, of ``host_call`` of the node each; 0 where
    the host never holds the GPU up (CUDA graphs, C++)."""
    calls_per_step: int = Field(3000, ge=0)
    """Calls between the last backward and the next forward: gradient norm, optimizer, learning rate, log, data."""
    recompute_stops: bool = False
    """Full recomputation stops where all is made that backward reads, and so before the last matmul of a layer without
    dropout (torch.utils.checkpoint without reentrant autograd, from PyTorch 2.1 on)."""
    calls_per_recompute: int = Field(0, ge=0)
    """Calls before each layer that runs again in backward, with the GPU idle: random states are saved and restored,
    saved inputs gathered and freed."""
    copies: int = Field(0, ge=0)
    """Tensors of a layer, as large as its input, that are copied once more each way beside what its kernels move:
    strided views made dense, casts, buffers of exchanges."""
    attention_kernel: AttentionKernel | None = None
    """Whose kernels fused attention runs: fa1, fa2, fa3 (FlashAttention 1 to 3), triton (FlashAttention 1 in Triton),
    cudnn (Transformer Engine).  A device without coefficients of them takes the ratio to its own from a device that has
    both, or else its own, which the coverage then says.  Absent: the device's own."""
    zero_unit: Literal["layer", "parameter"] = "layer"
    """What ZeRO 2 and 3 exchange at once.  layer: all of a layer (the block that PyTorch's FSDP wraps).  parameter:
    each tensor by itself (DeepSpeed's first ZeRO 3)."""
    zero_persistent: int = Field(0, ge=0)
    """ZeRO 3 with zero_unit parameter: tensors of fewer elements are never gathered, every rank keeps them (DeepSpeed's
    stage3_param_persistence_threshold)."""
    zero_part_time: Seconds = Field(0.0, ge=0)
    """Time that the host takes to cut out and copy the part of one rank, where a gather or a reduction is handed over
    as a list of as many tensors as ranks (torch.distributed.all_gather); 0: one flat tensor."""
    zero_regather: bool = False
    """ZeRO 3 with recomputation: weights are dropped again after the repeated forward, and gathered once more for the
    backward after it."""
    zero_one_stream: bool = False
    """Gathers and reductions of ZeRO 2 and 3 wait for one another: they are of one communicator, whose collectives run
    in the order of their launch."""
    zero_once_in_pipeline: bool = False
    """With pp above 1, ``layout.reshard_after_forward`` is false and ``layout.reduce_once`` true unless given, as
    torch.distributed.pipelining does."""
    source: str = ""

    # What decides the memory that a step takes.
    grad_precision: Literal["fp32", "bf16"] = "fp32"
    """As ``layout.grad_precision``."""
    master: Literal["fp32", "bf16", "remainder", "none"] = "fp32"
    """As ``layout.master``."""
    both_gradients: bool = False
    """Beside gradients summed in fp32 the 16-bit ones of a backward stay (DeepSpeed's BF16_Optimizer)."""
    dummy_gradients: bool = True
    """Where gradients of weights are added up by their matmul, autograd still gets a 16-bit tensor of each weight's
    shape.  Transformer Engine keeps one for each shape of a layer (``get_dummy_wgrad``), Megatron-Core makes one for
    the output layer."""
    workspace_memory: Bytes = Field("0 GiB", ge=0)
    """Inside the allocator through the whole step: buckets of communication, flattened copies, workspaces."""
    logits: Literal["parallel", "gathered"] = "parallel"
    """parallel: the loss runs on each rank's part of the vocabulary.  gathered: every rank gathers the whole."""
    loss: Loss = "fused"
    """fused: of logits in 16 bits one fp32 copy is kept, which becomes the softmax (Megatron-LM's vocabulary-parallel
    cross entropy).  eager: PyTorch's cross entropy on an fp32 copy; its backward makes two more, and the stage keeps
    its output.  in_place: the gradient overwrites the 16-bit logits (llm.c and its heirs, Liger)."""
    fragmentation: float = Field(0.0, ge=0)
    """Share of activation memory that a caching allocator reserves on top, in blocks that fit nothing that comes;
    0 with expandable segments."""
