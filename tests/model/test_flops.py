"""FLOPs per token: the formula, the operators, and published utilisations."""

import csv

import pytest

from simtrain.importers.model_table import read_models
from simtrain.model.counts import active_parameters, non_matmul_parameters, router_parameters
from simtrain.model.flops import (
    attention_flops_per_token,
    attention_head_dim,
    model_flops_per_token,
    model_flops_utilisation,
    operator_flops_per_token,
)

A100_FLOPS_PER_S = 312e12


@pytest.mark.parametrize(
    "name",
    ["gpt3-175b", "llama2-7b", "llama2-70b", "deepseek-v2", "deepseek-v3", "mixtral-8x7b", "qwen3-30b-a3b"],
)
@pytest.mark.parametrize("sequence", [2048, 4096])
def test_adding_up_operators_equals_the_formula_but_for_named_terms(catalogue_model, name, sequence):
    model = catalogue_model(name)
    unmultiplied = sum(non_matmul_parameters(model).values())
    expected = model_flops_per_token(model, sequence) + 6 * (router_parameters(model) - unmultiplied)
    assert operator_flops_per_token(model, sequence) == pytest.approx(expected, rel=1e-12)


def test_the_formula_for_llama2_70b(catalogue_model):
    model = catalogue_model("llama2-70b")
    attention = 12 * 80 * 64 * 128 * 4096
    assert model_flops_per_token(model, 4096) == 6 * active_parameters(model) + attention
    assert model_flops_per_token(model, 4096, causal=True) == 6 * active_parameters(model) + attention / 2


def test_latent_attention_takes_the_mean_head_size(catalogue_model):
    model = catalogue_model("deepseek-v3")
    assert attention_head_dim(model) == (192 + 128) / 2
    assert attention_flops_per_token(model, 4096) == 12 * 61 * 128 * 160 * 4096


@pytest.mark.parametrize(
    ("gpu_hours", "weights_tflops", "attention_tflops", "mfu_percent"),
    [(2.788e6, 327, 91, 42), (2.664e6, 343, 95, 44)],
)
def test_deepseek_v3_from_its_gpu_hours(catalogue_model, gpu_hours, weights_tflops, attention_tflops, mfu_percent):
    tokens_per_s_per_gpu = 14.8e12 / (gpu_hours * 3600)
    attention = tokens_per_s_per_gpu * attention_flops_per_token(catalogue_model("deepseek-v3"), 4096)
    weights = tokens_per_s_per_gpu * 6 * 37e9
    assert round(weights / 1e12) == weights_tflops
    assert round(attention / 1e12) == attention_tflops
    assert round(100 * (weights + attention) / 989e12) == mfu_percent


def test_deepseek_v3_causal_attention_is_half(catalogue_model):
    model = catalogue_model("deepseek-v3")
    causal = attention_flops_per_token(model, 4096, causal=True)
    assert round(14.8e12 / (2.788e6 * 3600) * causal / 1e12) == 45


def test_utilisation_of_published_runs_from_their_tokens_per_second(models_csv, measured_csv):
    """Rows with MFU by this very definition, of N in billions to three decimals (0.4 % of the smallest)."""
    models = read_models(models_csv)
    with measured_csv.open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["mfu_std"] and r["device"].startswith("A100")]
    assert len(rows) > 1000
    for row in rows:
        flops = model_flops_per_token(models[row["model"]], int(row["seq"]))
        mfu = model_flops_utilisation(float(row["measured_tokens_s_gpu"]), flops, A100_FLOPS_PER_S)
        assert mfu == pytest.approx(float(row["mfu_std"]), rel=0.004, abs=1e-4), row["id"]


def test_llama_13b_on_64_a100(models_csv, measured_csv):
    """The best published 13B runs on 64 GPUs, from tokens per second to the MFU their authors print."""
    model = read_models(models_csv)["llama-13b-v128k"]
    with measured_csv.open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["model"] == "llama-13b-v128k" and r["n_gpus"] == "64"]
    timed = [r for r in rows if r["measured_mfu"] and r["measured_tokens_s_gpu"]]
    best = max(timed, key=lambda r: float(r["measured_mfu"]))
    flops = model_flops_per_token(model, int(best["seq"]))
    mfu = model_flops_utilisation(float(best["measured_tokens_s_gpu"]), flops, A100_FLOPS_PER_S)
    assert mfu == pytest.approx(float(best["measured_mfu"]), rel=0.002)


def test_llama_13b_on_64_a100_reaches_70_5_percent(catalogue_model):
    """Hagemann et al. 2023, arXiv 2311.05610: 13B at 2k tokens with a 128k vocabulary, 2048 sequences a step.

    70.5 % of 312 TFLOPS is a step of 26.54 s, 2469 tokens/s on each of 64 A100 (step quoted from memory of the table).
    """
    model = catalogue_model("llama-13b").model_copy(update={"vocab": 128_000})
    tokens_per_s_per_gpu = 2048 * 2048 / 26.54 / 64
    mfu = model_flops_utilisation(tokens_per_s_per_gpu, model_flops_per_token(model, 2048), A100_FLOPS_PER_S)
    assert mfu == pytest.approx(0.705, abs=0.0006)
