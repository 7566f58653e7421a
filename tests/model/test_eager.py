"""Operators that software runs as several kernels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simtrain.model.layers import layer_operators
from simtrain.model.operators import EAGER, Kernel, LayerOperators, Shard
from simtrain.scenario.load import load

MODEL = load("llama2-70b-on-2048-h100").workload.model
SHARD = Shard(micro_batch=1, sequence=4096, tp=8, sp=True)


def moved_bytes(layer: LayerOperators) -> float:
    return sum(op.bytes for op in (*layer.forward, *layer.backward) if isinstance(op, Kernel))


@pytest.mark.parametrize("what", ["norm", "rotary", "activation"])
def test_eager_moves_more_bytes_with_the_same_matmuls(what: str) -> None:
    fused = layer_operators(MODEL, 0, SHARD)
    eager = layer_operators(MODEL, 0, replace(SHARD, eager=frozenset({what})))
    assert moved_bytes(eager) > moved_bytes(fused)
    assert eager.saved_bytes >= fused.saved_bytes
    for part in ("forward", "backward"):
        flops = [
            [op.flops for op in getattr(layer, part) if isinstance(op, Kernel) and op.flops] for layer in (fused, eager)
        ]
        assert flops[0] == flops[1]


def test_an_eager_softmax_needs_attention_that_is_not_fused() -> None:
    flash, unfused = SHARD, replace(SHARD, attention="unfused")
    assert layer_operators(MODEL, 0, replace(flash, eager=frozenset({"softmax"}))) == layer_operators(MODEL, 0, flash)
    eager = layer_operators(MODEL, 0, replace(unfused, eager=frozenset({"softmax"})))
    assert moved_bytes(eager) > moved_bytes(layer_operators(MODEL, 0, unfused))


def test_an_eager_norm_by_hand() -> None:
    """Six kernels and 36 bytes an element, backward 10 and 68; the input, its fp32 copy and the normalised are kept."""
    layer = layer_operators(MODEL, 0, replace(SHARD, eager=frozenset({"norm"})))
    forward = [op for op in layer.forward if isinstance(op, Kernel) and op.name.startswith("mlp_norm")]
    backward = [op for op in layer.backward if isinstance(op, Kernel) and op.name.startswith("mlp_norm_backward")]
    elements = 4096 / 8 * MODEL.hidden
    assert [len(forward), len(backward)] == [6, 10]
    assert sum(op.bytes for op in forward) == 36 * elements
    assert sum(op.bytes for op in backward) == 68 * elements
    assert sum(op.saved_bytes for op in forward) == 8 * elements


def test_what_runs_again_is_not_kept() -> None:
    eager = replace(SHARD, eager=frozenset(EAGER), recompute="full")
    fused = replace(SHARD, recompute="full")
    assert layer_operators(MODEL, 0, eager).saved_bytes == layer_operators(MODEL, 0, fused).saved_bytes
