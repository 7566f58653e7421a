"""Rows of a table of kernel timings as kernels of the simulator.

The columns ``device kernel dtype m n k groups extra`` say what ran; no other column is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from simtrain.errors import InputError
from simtrain.model.operators import Kernel, KernelClass, Part
from simtrain.scenario.part import Precision

__all__ = ["KernelCase", "SkippedRowError", "case"]

_PRECISIONS: dict[str, Precision] = {
    "bf16": "bf16",
    "bfloat16": "bf16",
    "fp16": "fp16",
    "float16": "fp16",
    "half": "fp16",
    "tf32": "tf32",
    "fp32": "fp32",
    "float32": "fp32",
    "mxfp8": "mxfp8",
    "nvfp4": "nvfp4",
    "fp4": "nvfp4",
}
_ELEMENT_BYTES: dict[Precision, float] = {"fp8": 1, "mxfp8": 1, "nvfp4": 0.5, "tf32": 4, "fp32": 4}
_MEMORY_CLASSES: tuple[tuple[str, KernelClass], ...] = (
    ("norm", "norm"),
    ("softmax", "norm"),
    ("act", "activation"),
    ("glu", "activation"),
    ("gelu", "plain_activation"),
    ("cross_entropy", "cross_entropy"),
    ("permute", "permute"),
    ("embed", "embedding"),
    ("adam", "optimizer"),
    ("quant", "quantise"),
    ("cast", "quantise"),
    ("add", "elementwise"),
    ("rotary", "elementwise"),
    ("rope", "elementwise"),
    ("dropout", "elementwise"),
    ("copy", "elementwise"),
)
"""What the name of a kernel bound by memory contains, and its class; the first that fits."""
_PASSES = {"forward": 2, "backward": 3, "full": 5}
"""Tensors that a kernel bound by memory moves where its row does not say how many bytes: input and output; both
gradients and the input; all of them."""
_ATTENTION = re.compile(r"(.*?)(?:_attn|_attention)?_?(fwd|bwd|forward|backward)")


class SkippedRowError(InputError):
    """A row that cannot be predicted, with the reason."""


@dataclass(frozen=True, slots=True)
class KernelCase:
    """One row: the kernel, its precision, and under which name the table of a device may hold its coefficients.

    Attributes:
        device: name in the catalogue; variant: key of ``gemm_variants``, ``attention_variants`` or
            ``memory_variants``, empty for the class itself.
        stated_flops: FLOPs by which the row states a rate of attention (often the full square for a causal kernel).
        overlapped: ran beside communication that held SMs.
    """

    device: str
    kernel: Kernel
    precision: Precision
    variant: str = ""
    stated_flops: float = 0.0
    overlapped: bool = False


def case(row: Mapping[str, str]) -> KernelCase:
    """The kernel of one row; a missing column counts as blank.

    Raises:
        SkippedRowError: something that a prediction needs is absent or unknown.
    """
    device, name = _text(row, "device").lower(), _text(row, "kernel")
    if not device:
        raise SkippedRowError("no device")
    extra = _text(row, "extra")
    if name.startswith("mem_"):
        return _memory(device, name.removeprefix("mem_"), row, extra)
    precision = _precision(_text(row, "dtype"))
    if "gemm" in name:
        return _gemm(device, name, row, extra, precision)
    match = _ATTENTION.fullmatch(name.removesuffix("_overlapped").removesuffix("_causal"))
    if match is None:
        raise SkippedRowError(f"kernel {name!r} is not known")
    return _attention(device, match[1], match[2][0] == "b", row, extra, precision)


def _gemm(device: str, name: str, row: Mapping[str, str], extra: str, precision: Precision) -> KernelCase:
    m, n, k, groups = (_size(row, key) for key in ("m", "n", "k", "groups"))
    if not (m and n and k):
        raise SkippedRowError("m, n or k is missing")
    if name not in ("gemm", "grouped_gemm", "gemm_best_shape", "gemm_power_randn"):
        raise SkippedRowError(f"kernel {name!r} is not known")
    part: Part = "F"
    adds = re.search(r"accumulate=True", extra)
    output = _ELEMENT_BYTES.get(precision, 2.0) if precision in ("tf32", "fp32") else 2.0
    if adds:
        part, output = "W", 8.0 if "out=fp32" in extra else 4.0
    elif "bwd_grad_w" in extra:
        # whether gradients are added in 16 or in 32 bits is not said: the mean of the two
        part, output, (m, n, k) = "W", 6.0, (k, n, m)
    elif "bwd_grad_act" in extra:
        part, (n, k) = "I", (k, n)
    elif "layout=NN" in extra:
        part = "I"
    groups = groups or 1
    moved = groups * (_ELEMENT_BYTES.get(precision, 2.0) * (m * k + k * n) + output * m * n)
    kind: KernelClass = "grouped_gemm" if name == "grouped_gemm" else "gemm"
    kernel = Kernel(name, kind, 2.0 * m * n * k * groups, moved, part, m, n, k, groups)
    return KernelCase(device, kernel, precision, "best_shape" if name == "gemm_best_shape" else "")


def _attention(
    device: str, software: str, backward: bool, row: Mapping[str, str], extra: str, precision: Precision
) -> KernelCase:
    sizes = {key: int(value) * (1024 if kilo else 1) for key, value, kilo in re.findall(r"(\w+)=(\d+)(k?)\b", extra)}
    causal = "causal=False" not in extra
    length = sizes.get("seq_len", 0) or _size(row, "m")
    qk = sizes.get("qk_head_dim", sizes.get("qk_dim", sizes.get("head_dim", 0))) or _size(row, "n")
    v = sizes.get("v_head_dim", sizes.get("v_dim", 0)) or qk
    if not (length and qk):
        raise SkippedRowError("sequence length or head size is missing")
    heads = sizes.get("head_num", sizes.get("heads", sizes.get("hidden", 0) // qk))
    batch = sizes.get("b", sizes.get("seq", length) // length)
    if not (heads and batch):
        raise SkippedRowError("heads or batch are missing")
    keys = sizes.get("kv_head_num", heads)
    pairs = 2.0 * batch * heads * length**2
    tensors = 2 * (2 if backward else 1) * batch * length * (heads + keys) * (qk + v)
    kind: KernelClass = "attention_backward" if backward else "attention_forward"
    columns = 3 * qk + 2 * v if backward else qk + v
    flops = pairs * columns * (0.5 if causal else 1.0)
    kernel = Kernel(kind, kind, flops, tensors, "I" if backward else "F", length, length, qk, batch * heads, v=v)
    stated = pairs * (qk + v) * (2.5 if backward else 1.0)
    if causal and "flop convention of SimuMax" not in extra:
        stated = flops
    variant = f"{software}_{'backward' if backward else 'forward'}" if software not in ("", "sdp", "attn") else ""
    return KernelCase(device, kernel, precision, variant, stated, "overlapped" in extra)


def _memory(device: str, name: str, row: Mapping[str, str], extra: str) -> KernelCase:
    kind = next((kind for part, kind in _MEMORY_CLASSES if part in name), None)
    if kind is None:
        raise SkippedRowError(f"kernel 'mem_{name}' is not known")
    rows, width = _size(row, "m"), _size(row, "n")
    match = re.search(r"bytes=([0-9.e+]+)", extra)
    passes = next((passes for part, passes in _PASSES.items() if part in name), 2)
    element = 4 if kind == "cross_entropy" else 2
    moved = float(match[1]) if match else float(element * passes * rows * width)
    if not moved:
        raise SkippedRowError("bytes, or rows and width, are missing")
    if kind == "activation" and rows and width and moved <= 5 * rows * width:
        kind = "plain_activation"  # reads one tensor and not two for each that it writes
    if kind == "norm" and "backward" in name:
        kind = "norm_backward"
    variant = "layernorm" if name.endswith("layernorm") else name
    return KernelCase(device, Kernel(name, kind, 0.0, moved), "bf16", variant)


def _precision(text: str) -> Precision:
    if text.lower().startswith("fp8"):
        return "fp8"
    if text.lower() not in _PRECISIONS:
        raise SkippedRowError(f"dtype {text!r} is not known")
    return _PRECISIONS[text.lower()]


def _text(row: Mapping[str, str], key: str) -> str:
    return (row.get(key) or "").strip()


def _size(row: Mapping[str, str], key: str) -> int:
    """A size, 0 where it is blank."""
    text = _text(row, key)
    try:
        size = float(text) if text else 0.0
    except ValueError:
        raise SkippedRowError(f"{key} = {text!r} is not a number") from None
    if not (0 <= size < 1e12 and size == int(size)):
        raise SkippedRowError(f"{key} = {text!r} is not a whole number from 0 up")
    return int(size)
