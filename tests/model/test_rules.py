"""The rules of thumb give the figures they are known for."""

import pytest

from simtrain.model.rules import (
    adam_state_bytes,
    full_recompute_activation_bytes,
    gpus_needed,
    gradient_bytes,
    layer_activation_bytes,
    selective_activation_bytes,
    tensor_parallel_bound,
    training_flops,
    weight_bytes,
)

LLAMA2_70B = 70e9


def test_memory_of_llama2_70b():
    activations = selective_activation_bytes(sequence=4096, micro_batch=8, hidden=8192, layers=80)
    parts = [weight_bytes(LLAMA2_70B), gradient_bytes(LLAMA2_70B), adam_state_bytes(LLAMA2_70B), activations]
    assert [round(part / 1e9) for part in parts] == [140, 140, 840, 730]
    assert round(sum(parts) / 1e9) == 1850
    assert gpus_needed(sum(parts), 80e9) == 24
    assert gpus_needed(sum(parts), 24e9) == 78


def test_full_recomputation_keeps_layer_inputs():
    assert full_recompute_activation_bytes(4096, 8, 8192, 80) == 2 * 4096 * 8 * 8192 * 80


@pytest.mark.parametrize(
    ("tflops", "both_directions_gb_per_s", "bound"),
    [(330, 64, 2.38), (1979, 900, 5.59), (1979, 400, 2.48), (1979, 128, 0.79)],
)
def test_tensor_parallel_bound(tflops, both_directions_gb_per_s, bound):
    found = tensor_parallel_bound(8192, 2, tflops * 1e12, both_directions_gb_per_s * 1e9 / 2)
    assert found == pytest.approx(bound, abs=0.005)


def test_tensor_parallel_bound_with_the_dense_peaks():
    """A 4090 does 165 TFLOPS and an H100 989, so both may be cut twice as fine as the quoted peaks suggest."""
    assert tensor_parallel_bound(8192, 2, 165.2e12, 32e9) == pytest.approx(4.76, abs=0.005)
    assert tensor_parallel_bound(8192, 2, 989e12, 450e9) == pytest.approx(11.18, abs=0.005)


def test_one_stage_per_layer():
    flops = training_flops(1e9, 8 * 4096)
    assert flops / 1e12 == pytest.approx(196, abs=1)
    assert flops / 330e12 == pytest.approx(0.6, abs=0.005)
    assert gradient_bytes(1e9, 4.0) / 32e9 == pytest.approx(0.12, abs=0.006)
    assert 80 * flops / 330e12 == pytest.approx(48, abs=0.5)


def test_deepseek_v3_matmul_rate():
    assert round(training_flops(37e9, 14.8e12) / (2.788e6 * 3600) / 1e12) == 327


def test_activations_of_a_gpt3_layer():
    """Korthikanti et al. print 5*a*s/h = 80 for GPT-3, so selective recomputation saves 70 % of 114."""
    one = 2048 * 12288
    assert layer_activation_bytes(2048, 1, 12288, 96) == one * (34 + 80)
    assert layer_activation_bytes(2048, 1, 12288, 96, recompute="selective") == one * 34
    assert layer_activation_bytes(2048, 1, 12288, 96, tp=8) == one * (10 + 3 + 10)
    assert layer_activation_bytes(2048, 1, 12288, 96, tp=8, sp=True) == one * (34 + 80) / 8
