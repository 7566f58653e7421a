"""The training software as a document (``workloads/software/``): what it fuses, what it overlaps, what its host does.

Booleans and counts that describe a stack; seconds of kernels and links belong to devices and nodes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simtrain.quantities import Bytes, Seconds
from simtrain.scenario.part import Part

__all__ = ["Software"]

Fusion = Literal["fused", "eager"]


class Software(Part):
    """A software stack. The defaults are a current Megatron-LM with Transformer Engine."""

    title: str = ""
    norm: Fusion = "fused"
    """fused: one kernel a norm and direction. eager: PyTorch operators, one after the other, in fp32."""
    rotary: Fusion = "fused"
    """eager: the halves of each head are cut, negated, joined, multiplied and added by kernels of their own."""
    activation: Fusion = "fused"
    """fused: bias, activation and product with the gate in one kernel. eager: a kernel each."""
    residual: Fusion = "fused"
    """fused: bias, dropout and sum in one kernel. eager: a kernel each."""
    softmax: Fusion = "fused"
    """Without fused attention. fused: scale, mask and softmax in one kernel. eager: a kernel each."""
    cross_entropy: Fusion = "fused"
    """eager: the logits are copied to fp32, and maximum, exponential, sum and division are kernels of their own."""
    wgrad_accumulate: Fusion = "fused"
    """fused: the matmul of a weight's gradient adds it to what micro batches before left, in fp32 (Apex, Transformer
    Engine). eager: it is written in 16 bits, and a kernel of its own adds it."""
    dropout: bool = False
    """Models with learned positions (GPT-2 and its heirs) train with dropout."""
    vocabulary_multiple: int = Field(1, ge=1)
    """Vocabularies are padded to a multiple of this times tp (Megatron-LM: 128)."""
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
    launch: Seconds = 0.0
    """Host time for each kernel or collective that is launched, Python included; nothing with CUDA graphs."""
    host_per_micro_batch: Seconds = 0.0
    """Host time of each micro batch and stage beyond its launches: data loading, schedule, send set-up."""
    host_per_step: Seconds = 0.0
    """Host time of each step beyond that: logging, learning rate, checks of gradients."""
    framework_memory: Bytes = Field("1 GiB")
    """CUDA context, communication buffers and allocator slack of a GPU."""
    source: str = ""
