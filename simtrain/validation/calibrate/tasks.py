"""What is fitted, to which rows, and with which coefficients free.

Shape coefficients that rows of a device leave open are taken from a device of the same kind (``lender``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from simtrain.validation.calibrate.search import Range

__all__ = ["COPIES", "RANGES", "TASKS", "Copy", "Task"]

RANGES = {
    "compute": Range(0.01, 1.0, (0.7, 0.5)),
    "memory": Range(0.01, 1.2, (0.85, 0.6, 0.3)),
    "latency": Range(1e-7, 2e-4, (4e-6, 8e-6, 2e-6)),
    "tile": Range(0.01, 1.5, (0.1, 0.5)),
    "wave": Range(0.01, 1.0, (0.5, 0.2)),
    "fill": Range(1e-8, 1e-5, (1e-6, 5e-7)),
    "accumulate": Range(1.0, 2.0, (1.05,)),
    "throttle": Range(0.01, 1.0, (0.3,)),
    "throttle_time": Range(1e-6, 1e-2, (2e-4,)),
    "ramp": Range(1.0, 2000.0, (100.0, 30.0)),
    "each": Range(1e-7, 5e-5, (5e-6, 2e-6)),
    "alone": Range(0.05, 2.0, (0.6, 1.5)),
    "cached": Range(0.01, 0.9, (0.05, 0.4, 0.6)),
    "floor": Range(1e-6, 2e-3, (1e-4, 6e-4)),
}
"""Where each coefficient may lie, in SI units, and the starts of its search."""


Place = tuple[str, str]
"""A device and a class of its table."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One class of one device.

    Attributes:
        device: whose table is written; target: class, or a key of a table of variants (``memory_variants.x``).
        kernels: names in the table of timings; free: coefficients that are fitted.
        rows_of: device of the rows, where it is another one of the same chip; lender: (device, class) that gives all
            other coefficients; fixed: coefficients by hand.
        dtype: what the rows' dtype starts with. kind: only rows of this kernel class.
    """

    device: str
    target: str
    kernels: tuple[str, ...]
    free: tuple[str, ...]
    rows_of: str = ""
    lender: Place | None = None
    fixed: dict[str, float | int | bool] = field(default_factory=dict)
    dtype: str = ""
    kind: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Copy:
    """A class that takes its coefficients from others.

    Attributes:
        device, target: as of a :class:`Task`. lender: (device, class) of all coefficients.
        source: what the catalogue says of it.
        base: (device, class) of ``compute``, where it is not the lender; ratios: pairs of such, whose mean ratio of
            ``compute`` multiplies it.
        without: coefficients left out.
    """

    device: str
    target: str
    lender: Place
    source: str
    base: Place | None = None
    ratios: tuple[tuple[Place, Place], ...] = ()
    without: tuple[str, ...] = ()


_A100, _PCIE, _H100, _B200 = "a100-80gb-sxm", "a100-80gb-pcie", "h100-sxm", "b200-sxm"
_TILES = ("compute", "tile", "wave", "fill", "latency")
_NORMS = ("mem_input_layernorm", "mem_post_attention_layernorm")
_STREAM = ("memory", "latency", "cached")
_BLOCKS = ("compute", "ramp", "alone")


def _best(device: str, lender: Place | None = None, low: bool = False) -> Task:
    name = "gemm_variants.best_shape" + ("_fp8" if low else "")
    dtype = "fp8" if low else "bf16"
    full_waves = {"wave": 0.0, "fill": 0.0, "throttle": 0.0, "throttle_time": 0.0}  # what makes a shape the best
    lender = lender or (device, "gemm")
    return Task(device, name, ("gemm_best_shape",), ("compute",), lender=lender, fixed=dict(full_waves), dtype=dtype)


def _liger(name: str, *free: str) -> Task:
    fixed = {} if "latency" in free else {"latency": 5e-6}  # beside the floor it cannot be told
    return Task(_A100, f"memory_variants.{name}", (f"mem_{name}",), free, fixed=fixed)


TASKS = (
    Task(_A100, "gemm", ("gemm",), (*_TILES, "memory"), dtype="fp16"),
    Task(_H100, "gemm", ("gemm",), (*_TILES, "memory"), dtype="fp16"),
    Task(_PCIE, "gemm", ("gemm",), (*_TILES[:-1], "accumulate"), lender=(_A100, "gemm"), dtype="bf16"),
    Task(
        _B200,
        "gemm",
        ("gemm",),
        (*_TILES, "accumulate", "throttle", "throttle_time"),
        lender=(_H100, "gemm"),
        dtype="bf16",
    ),
    Task(
        _H100,
        "gemm_fp8",
        ("gemm",),
        ("compute", "memory", "latency", "tile", "fill"),
        rows_of="h800-sxm",
        lender=(_H100, "gemm"),
        dtype="fp8",
        note="block-scaled, on H800, the same chip",
    ),
    Task(_PCIE, "grouped_gemm", ("grouped_gemm",), ("compute", "accumulate"), lender=(_PCIE, "gemm")),
    Task(
        _B200,
        "grouped_gemm",
        ("grouped_gemm",),
        ("compute", "accumulate", "memory", "each"),
        lender=(_B200, "gemm"),
        fixed={"throttle": 0.0, "throttle_time": 0.0},
    ),
    Task(
        _H100,
        "grouped_gemm_fp8",
        ("grouped_gemm",),
        ("compute",),
        rows_of="h800-sxm",
        lender=(_H100, "gemm_fp8"),
        dtype="fp8",
        note="block-scaled, on H800, the same chip",
    ),
    Task(_PCIE, "attention_forward", ("sdp_fwd",), _BLOCKS, fixed={"memory": 0.85, "latency": 10e-6}),
    Task(
        _PCIE,
        "attention_backward",
        ("sdp_bwd",),
        _BLOCKS,
        fixed={"memory": 0.85, "latency": 10e-6, "equal_heads": True},
    ),
    Task(_B200, "attention_forward", ("sdp_fwd",), _BLOCKS, fixed={"memory": 0.85, "latency": 10e-6}),
    Task(
        _B200,
        "attention_backward",
        ("sdp_bwd",),
        _BLOCKS,
        fixed={"memory": 0.85, "latency": 10e-6, "equal_heads": True},
    ),
    Task(
        _H100,
        "attention_forward",
        ("fa3_fwd",),
        ("compute", "ramp"),
        fixed={"memory": 0.85, "latency": 5e-6, "alone": 0.8},
        note="FlashAttention-3; few heads were not measured, so that alone, memory and latency are assumed",
    ),
    Task(
        _H100,
        "attention_backward",
        ("attn_bwd_causal_overlapped",),
        ("compute",),
        rows_of="h800-sxm",
        lender=(_H100, "attention_forward"),
        note="on H800, the same chip, beside communication that held 20 of its 132 SMs; shape as forward",
    ),
    *(
        Task(
            _H100,
            f"attention_variants.{name}_forward",
            (kernel,),
            ("compute", "ramp"),
            fixed={"memory": 0.85, "latency": 5e-6, "alone": 0.8},
        )
        for name, kernel in (("fa2", "fa2_fwd"), ("triton_fa2", "triton_fa2_fwd"), ("cudnn", "cudnn_attn_fwd"))
    ),
    Task(_A100, "elementwise", ("mem_add",), _STREAM),
    Task(_H100, "elementwise", ("mem_add",), _STREAM),
    Task(_A100, "activation", ("mem_mlp_act",), _STREAM[:2], kind="activation"),
    Task(_H100, "activation", ("mem_mlp_act",), _STREAM, kind="activation"),
    Task(_A100, "plain_activation", ("mem_mlp_act",), _STREAM[:2], kind="plain_activation"),
    Task(_H100, "plain_activation", ("mem_mlp_act",), _STREAM[:2], kind="plain_activation"),
    Task(_A100, "memory_variants.layernorm", _NORMS, _STREAM[:2]),
    Task(_H100, "memory_variants.layernorm", _NORMS, _STREAM),
    Task(_A100, "norm", ("mem_rms_norm_forward_liger",), ("memory", "latency")),
    *(_liger(f"rms_norm_{name}_liger", "memory", "floor") for name in ("backward", "full")),
    *(_liger(f"rms_norm_{name}_huggingface", "memory", "latency") for name in ("forward", "backward", "full")),
    *(_liger(f"cross_entropy_{name}_liger", "memory", "floor") for name in ("forward", "full")),
    *(_liger(f"cross_entropy_{name}_huggingface", "memory", "floor") for name in ("forward", "full")),
    *(_best(device) for device in (_A100, _PCIE, _H100, _B200)),
    _best(_H100, (_H100, "gemm_fp8"), low=True),
    _best(_B200, low=True),
    *(_best(device, (_A100, "gemm")) for device in ("rtx3090", "l40s")),
    _best("mi300x", (_H100, "gemm")),
    _best("gb200", (_B200, "gemm")),
    _best("gb200", (_B200, "gemm"), low=True),
)

_BEST = "gemm_variants.best_shape"
_STREAMS = ("norm", "norm_backward", "activation", "plain_activation", "elementwise", "embedding")
_MATMULS = ("grouped_gemm", "attention_forward", "attention_backward")
_SEARCHED = tuple(((device, "gemm"), (device, _BEST)) for device in (_A100, _H100))
"""Devices on which both training shapes and the best shape were measured."""


def _derived(device: str, lender: str, searched: tuple[tuple[Place, Place], ...] = _SEARCHED) -> tuple[Copy, ...]:
    """Classes of a device of which only the best shape of a matmul is known."""
    source = (
        f"derived: best shape of a search times the mean ratio of training shapes to best on {{}}; shape as {lender}"
    )
    on = " and ".join(sorted({place[0].split("-")[0].upper() for place, _ in searched}))
    return (
        Copy(device, "gemm", (lender, "gemm"), source.format(on), base=(device, _BEST), ratios=searched),
        *_scaled(device, lender),
    )


def _scaled(device: str, lender: str) -> tuple[Copy, ...]:
    """Other matmul classes, scaled like gemm."""
    ratio = (((device, "gemm"), (lender, "gemm")),)
    return tuple(
        Copy(device, name, (lender, name), f"derived: {lender}, scaled like gemm", ratios=ratio) for name in _MATMULS
    )


def _searched_fp8(device: str) -> tuple[Copy, ...]:
    """Matmuls in 8 bits of which only the best shape is known; that search ran at the clock that power allows."""
    return (
        Copy(
            device,
            "gemm_fp8",
            (_B200, "gemm"),
            "derived: best shape of a search in fp8; tiles and waves as b200-sxm in 16 bits",
            base=(device, f"{_BEST}_fp8"),
            without=("throttle", "throttle_time"),
        ),
        Copy(
            device,
            "grouped_gemm_fp8",
            (device, "grouped_gemm"),
            "derived: grouped_gemm, scaled as gemm_fp8 to gemm",
            ratios=(((device, "gemm_fp8"), (device, "gemm")),),
        ),
    )


def _streams(device: str, lender: str, source: str, names: tuple[str, ...] = _STREAMS) -> tuple[Copy, ...]:
    return tuple(Copy(device, name, (lender, name), source) for name in names)


_SAME_CHIP = "measured on the PCIe card of the same chip"
COPIES = (
    Copy(
        _A100,
        "norm_backward",
        (_A100, "memory_variants.rms_norm_backward_liger"),
        "Liger-Kernel (memory_variants) without the time that Python takes to launch it",
        without=("floor",),
    ),
    Copy(_A100, "embedding", (_A100, "elementwise"), "assumed: gathers whole rows, as an addition of tensors does"),
    Copy(_H100, "embedding", (_H100, "elementwise"), "assumed: gathers whole rows, as an addition of tensors does"),
    *_streams(_H100, _A100, "assumed: share of the memory bandwidth as on a100-80gb-sxm", ("norm", "norm_backward")),
    *(Copy(_A100, name, (_PCIE, name), _SAME_CHIP) for name in _MATMULS),
    *_streams(_PCIE, _A100, "measured on the SXM card of the same chip"),
    Copy(_H100, "grouped_gemm", (_H100, "gemm"), "assumed as gemm: in fp8 grouped matmuls reach the same share"),
    *_derived("rtx3090", _A100),
    *_derived("l40s", _A100),
    *_derived("h100-pcie", _H100),
    *_derived("mi300x", _H100),
    *_derived("gb200", _B200, (((_B200, "gemm"), (_B200, _BEST)),)),
    *_scaled("rtx4090", _A100),
    *_searched_fp8(_B200),
    *_searched_fp8("gb200"),
    *(
        copy
        for device, lender in (
            *((device, _A100) for device in ("rtx3090", "rtx4090", "l40s")),
            *((device, _H100) for device in ("h100-pcie", "mi300x")),
        )
        for copy in _streams(device, lender, f"assumed: share of the memory bandwidth as on {lender}")
    ),
)
