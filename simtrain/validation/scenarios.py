"""From a row of measurements to scenarios: one, or one for each plausible setting of what it leaves open."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from pydantic import ValidationError

from simtrain.errors import InputError, ScenarioError
from simtrain.layout.parallel import even_split, plan_parallel
from simtrain.model.layers import recompute_places
from simtrain.scenario.cluster import Cluster
from simtrain.scenario.kernels import AttentionKernel
from simtrain.scenario.layout import Layout
from simtrain.scenario.model import Model
from simtrain.scenario.scenario import Scenario
from simtrain.scenario.software import Software
from simtrain.scenario.workload import Workload
from simtrain.validation.hardware import cluster_of
from simtrain.validation.rows import Row
from simtrain.validation.stacks import profile_of

__all__ = ["IncompleteError", "candidates"]

_MICRO_BATCHES = (1, 2, 4, 8, 16)
_RECOMPUTE_PARTS = {
    "recompute-swiglu": "mlp_act",
    "recompute-norm": "layernorm",
    "recompute-ffn": "mlp",
    "rmsnorm": "layernorm",
    "mla up-proj": "mla_up_proj",
}
_ATTENTION_KERNELS: tuple[tuple[str, AttentionKernel | None], ...] = (
    (r"not stated", None),
    (r"flex ?attn|flexattention|sdpa", "fa2"),
    (r"cudnn", "cudnn"),
    (r"flash-?attention-?3|\bfa3\b", "fa3"),
    (r"flash-?attention-?2|\bfa2\b", "fa2"),
    (r"flash-?attention-?1|\bfa1\b", "fa1"),
    (r"transformer ?engine|\bte\b", None),
    (r"triton", "triton"),
)
"""Words of the column of attention kernels, the first that is found counts; PyTorch's own is FlashAttention-2.

Transformer Engine runs FlashAttention or cuDNN, of which its version and the chip decide, and so the profile."""
_OVERLAP: tuple[tuple[str, dict[str, object]], ...] = (
    (r"no tp (comm\w* )?overlap", {"tp_overlap": "none"}),
    (r"(synchronous|blocking) (pp )?(p2p|sends?)", {"blocking_sends": True}),
    (r"no (gradient|grad)\w*[- ](bucket[- ]overlap|reduce[- ]overlap|overlap)", {"overlap_grad_reduce": False}),
    (r"cp (all-?to-?all|a2a)|ulysses", {"cp_comm": "all_to_all"}),
    (r"cp (all-?gather)", {"cp_comm": "all_gather"}),
)
"""Words of the column of overlap, and what they set in the layout; other words say nothing here."""
_PARTS_SINCE = 2025
_PARTS_TRIED = (("layernorm", "mlp_act", "moe_act", "mla_up_proj"), ("core_attn",), ("core_attn", "mlp", "moe"))


class IncompleteError(ScenarioError):
    """The row does not say enough for a scenario."""


def candidates(row: Row, model: Model | None) -> list[Scenario]:
    """Scenarios of a row: all settings of unknown knobs that are possible.

    Raises:
        IncompleteError: a size or the model is missing, or sizes do not fit together.
        InputError: no such device or precision; the layout cannot exist.
    """
    if model is None:
        raise IncompleteError(f"model {row.model!r} is not in the table of models")
    cluster = cluster_of(row.hardware)
    last: InputError | None = None
    found = []
    for knobs in _knobs(row, model):
        try:
            scenario = _scenario(row, cluster, model, knobs)
            plan_parallel(scenario)
        except InputError as error:
            last = error
            continue
        except ValidationError as error:
            first = error.errors()[0]
            last = IncompleteError(f"{first['loc'][-1]} = {first['input']!r}: {first['msg']}")
            continue
        found.append(scenario)
    if not found:
        raise last or IncompleteError("no layout fits the sizes")
    return found


def _knobs(row: Row, model: Model) -> Iterator[dict[str, object]]:
    tp, pp, cp = _size(row, "tp"), _size(row, "pp"), row.cp or 1
    inner = tp * pp * cp
    gpus = row.hardware.gpus
    dp = row.dp or gpus // inner
    if inner * dp != gpus:
        raise IncompleteError(f"tp * pp * cp * dp = {inner * dp} is not n_gpus = {gpus}")
    micro = [row.micro_batch] if row.micro_batch else [m for m in _MICRO_BATCHES if row.global_batch % (dp * m) == 0]
    for micro_batch, vpp, recompute in itertools.product(micro, _chunks(row, model, pp), _recompute(row, model)):
        yield {"dp": dp, "micro_batch": micro_batch, "vpp": vpp, **recompute}


def _size(row: Row, name: str) -> int:
    value: int | None = getattr(row, name)
    if value is None:
        raise IncompleteError(f"{name} is not known")
    return value


def _chunks(row: Row, model: Model, pp: int) -> Sequence[int]:
    if pp == 1:
        return (1,)
    if row.vpp is not None:
        return (row.vpp,)
    if "interleaved" not in row.schedule.lower():
        return (1,)
    return [v for v in range(1, model.layers // pp + 1) if model.layers % (pp * v) == 0] or [1]


def _recompute(row: Row, model: Model) -> Sequence[dict[str, object]]:
    text = row.recompute.lower()
    if text.startswith("full"):
        return ({"recompute": "full"},)
    modules = tuple(module for words, module in _RECOMPUTE_PARTS.items() if words in text)
    if modules:
        return ({"recompute": "selective", "recompute_modules": modules},)
    if text.startswith("selective"):
        return ({"recompute": "selective"},)
    if text in ("none", "mostly none"):
        return ({"recompute": "none"},)
    return _unknown_recompute(row, model)


def _unknown_recompute(row: Row, model: Model) -> Sequence[dict[str, object]]:
    """From what costs least to what saves most; parts of layers other than attention since Megatron-Core of 2025."""
    some: list[tuple[str, ...]] = [("core_attn",)]
    if (row.stack_year or 9999) >= _PARTS_SINCE:
        known = {name for place in recompute_places(model) for name in place}
        some = [tuple(name for name in parts if name in known) for parts in _PARTS_TRIED]
    selective: list[dict[str, object]] = [
        {"recompute": "selective", "recompute_modules": parts} for parts in some if parts
    ]
    return ({"recompute": "none"}, *selective, {"recompute": "full"})


def _scenario(row: Row, cluster: Cluster, model: Model, knobs: dict[str, object]) -> Scenario:
    pp, vpp = row.pp or 1, int(str(knobs["vpp"]))
    software = profile_of(row.stack, row.stack_year, row.stack_version)
    stages = pp * vpp
    layout = Layout.model_validate(
        {
            **knobs,
            "tp": row.tp,
            "pp": pp,
            "cp": row.cp or 1,
            "ep": row.ep or 1,
            "sp": row.sp if (row.tp or 1) > 1 else None,
            "schedule": _schedule(row, vpp),
            "precision": row.precision or "bf16",
            "zero": 1 if row.zero is None else row.zero,
            "shard_group": row.shard_group,
            "attention": _attention(row),
            "layers_per_stage": None if model.layers % stages == 0 else even_split(model.layers, stages),
            **_state(row),
            **_overlap(row),
            **_memory(row),
        }
    )
    chosen: dict[str, str] = {}
    kernel = _attention_kernel(row)
    if kernel is not None:
        chosen["attention_kernel"] = kernel
    if row.fused_norm is not None:
        chosen["norm"] = "fused" if row.fused_norm else "eager"
    if "eager" in row.attention.lower():
        chosen["softmax"] = "eager"
    software = software.model_copy(update=chosen)
    model = _as_trained(row, model, software)
    workload = Workload(
        title=model.title,
        model=model,
        sequence_length=row.sequence,
        global_batch=row.global_batch,
        tokens=row.global_batch * row.sequence,
    )
    return Scenario(name=row.id, cluster=cluster, workload=workload, layout=layout, software=software)


def _as_trained(row: Row, model: Model, software: Software) -> Model:
    """The model with the padding, positions and dropout of its software.

    The table of models has no column for positions.  GPT-2 and its heirs, which have biases on all linear layers,
    learn them (and the counts of the table leave them out) unless its note says ALiBi.
    """
    multiple = software.vocabulary_multiple * (row.tp or 1)
    heir = model.linear_bias and not model.gated_mlp and "ALiBi" not in model.source
    positions = model.learned_positions or (row.sequence if heir else 0)
    return model.model_copy(
        update={
            "vocab": -(-model.vocab // multiple) * multiple,
            "learned_positions": positions,
            "dropout": software.dropout and positions > 0,
        }
    )


def _schedule(row: Row, vpp: int) -> str:
    if "dualpipe" in row.schedule.lower():
        return "dualpipe"
    return "interleaved_1f1b" if vpp > 1 else "1f1b"


def _attention(row: Row) -> str:
    """Fused attention where the row says so, or says nothing of its kernel but is of a time that had it."""
    text = row.attention.lower()
    if re.search(r"no flash|fused softmax|eager|megatron default", text):
        return "unfused"
    if not text and row.stack_year is not None and row.stack_year <= 2022:
        return "unfused"
    return "flash"


def _attention_kernel(row: Row) -> AttentionKernel | None:
    """Whose fused attention the row names; None: it does not say, so that the profile of its software does."""
    text = row.attention.lower()
    return next((kernel for words, kernel in _ATTENTION_KERNELS if re.search(words, text)), None)


def _state(row: Row) -> dict[str, object]:
    """Precision of gradients and optimizer, where the row's description of its numbers names them."""
    text = row.dtype.lower()
    if "bf16 weights and optimizer states" in text:
        return {"grad_precision": "bf16", "moment_precision": "bf16", "master": "bf16"}
    return {"grad_precision": "fp32"} if "fp32 grad" in text else {}


def _overlap(row: Row) -> dict[str, object]:
    """What the row's overlap column says runs beside what."""
    text = row.overlap.lower()
    found = {key: value for words, settings in _OVERLAP if re.search(words, text) for key, value in settings.items()}
    if re.search(r"deep-?ep\b", f"{text} {row.attention.lower()}"):
        found["dispatcher"] = "deepep"
    return found


_OFFLOADED = (
    ("offload-opt-m", "first_moment"),
    ("offload-opt-v", "second_moment"),
    ("offload-master", "master"),
    ("offload-gradients", "gradients"),
    ("offload-residual", "residual"),
)
_HEAD_CHUNKS = re.compile(r"lmhead-chunks=(\d+)")


def _memory(row: Row) -> dict[str, object]:
    """What the column of flags sends to host memory, and pieces of the output layer (flags of LLMQ).

    Sharded weights whose master is in host memory are fetched from there.  What it calls chunks of attention's backward
    bounds a workspace that is not counted here.
    """
    words = row.overlap.lower().split()
    offload = [where for word, where in _OFFLOADED if word in words]
    if "offload-master" in words and "shard-weights" in words:
        offload.append("weights")
    chunks = _HEAD_CHUNKS.search(row.overlap.lower())
    return {"offload": offload, "head_chunks": int(chunks[1]) if chunks else 1}
