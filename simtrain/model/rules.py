"""Rules of thumb, to stand beside what is simulated; units are bytes, FLOPs and seconds throughout.

Symbols: s sequence length, b micro batch, h hidden size, a heads, L layers, t tensor parallel size, N parameters.
"""

from __future__ import annotations

import math
from typing import Literal

__all__ = [
    "adam_state_bytes",
    "full_recompute_activation_bytes",
    "gpus_needed",
    "gradient_bytes",
    "layer_activation_bytes",
    "selective_activation_bytes",
    "tensor_parallel_bound",
    "training_flops",
    "weight_bytes",
]


def weight_bytes(parameters: float, bytes_per_parameter: float = 2.0) -> float:
    """Weights held for the matmuls."""
    return parameters * bytes_per_parameter


def gradient_bytes(parameters: float, bytes_per_parameter: float = 2.0) -> float:
    """Gradients of all weights."""
    return parameters * bytes_per_parameter


def adam_state_bytes(parameters: float) -> float:
    """12*N: fp32 master weight and two moments (ZeRO, arXiv 1910.02054, section 3.1)."""
    return 12.0 * parameters


def layer_activation_bytes(
    sequence: int,
    micro_batch: int,
    hidden: int,
    heads: int,
    *,
    tp: int = 1,
    sp: bool = False,
    recompute: Literal["none", "selective", "full"] = "none",
) -> float:
    """Activations of one GPT layer with unfused attention and dropout, in 16 bits, on one rank.

    s*b*h*(10 + 24/t + 5*a*s/(h*t)), all of it over t with sequence parallelism; without the square under
    selective recomputation; 2*s*b*h, the input, under full (Korthikanti et al. 2022, arXiv 2205.05198,
    equations 1, 2, 4 and section 5).
    """
    one, ranks = float(sequence * micro_batch * hidden), tp if sp else 1
    if recompute == "full":
        return 2 * one / ranks
    square = 0.0 if recompute == "selective" else 5 * heads * sequence / (hidden * tp)
    return one * (10 / ranks + 24 / tp + square)


def selective_activation_bytes(sequence: int, micro_batch: int, hidden: int, layers: int, tp: int = 1) -> float:
    """s*b*h*L*(10 + 24/t): a model's activations with the attention core recomputed, without sequence parallelism."""
    return layers * layer_activation_bytes(sequence, micro_batch, hidden, 1, tp=tp, recompute="selective")


def full_recompute_activation_bytes(sequence: int, micro_batch: int, hidden: int, layers: int) -> float:
    """2*s*b*h*L: the input of every layer."""
    return layers * layer_activation_bytes(sequence, micro_batch, hidden, 1, recompute="full")


def gpus_needed(needed_bytes: float, bytes_per_gpu: float) -> int:
    """Fewest GPUs that hold so much, if it could be cut evenly."""
    return math.ceil(needed_bytes / bytes_per_gpu)


def tensor_parallel_bound(
    hidden: int, bytes_per_element: float, flops_per_s: float, bytes_per_s_one_direction: float
) -> float:
    """Largest t whose exchanges hide behind its matmuls: 2*3*(h/t)/bytes >= FLOP/s over bandwidth.

    Args:
        hidden: h.
        bytes_per_element: of an activation.
        flops_per_s: of one GPU.
        bytes_per_s_one_direction: of one GPU's link, one way (half of what is often quoted for both).
    """
    return 2 * 3 * hidden / bytes_per_element / (flops_per_s / bytes_per_s_one_direction)


def training_flops(parameters: float, tokens: float) -> float:
    """6*N*D: forward and backward through N (active) parameters for D tokens, without attention."""
    return 6.0 * parameters * tokens
