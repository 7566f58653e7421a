"""The training software as a document (``workloads/software/``): what it fuses and overlaps, pads and reserves.

Booleans and counts that describe a stack; seconds of kernels and links belong to devices and nodes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simtrain.quantities import Bytes
from simtrain.scenario.part import Part

__all__ = ["Fusion", "Loss", "Software"]

Fusion = Literal["fused", "eager"]
Loss = Literal["fused", "eager", "in_place"]


class Software(Part):
    """A software stack. The defaults are a current Megatron-LM with Transformer Engine."""

    title: str = ""
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
