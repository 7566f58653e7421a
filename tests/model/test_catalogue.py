"""Every model and workload of the catalogue is valid, sourced, and as large as its title says."""

import re
from pathlib import Path

import pytest
import yaml

from simtrain.model.counts import active_parameters, total_parameters
from simtrain.scenario.model import Model
from simtrain.scenario.workload import Workload

FOLDER = Path(__file__).resolve().parents[2] / "workloads"
MODELS = sorted((FOLDER / "models").glob("*.yaml"))
WORKLOADS = sorted(FOLDER.glob("*.yaml"))
REQUIRED = {
    "llama2-13b",
    "gpt3-175b",
    "deepseek-v2",
    "mixtral-8x7b",
    "llama-13b",
    "megatron-530b",
    "llama3-405b",
    "llama-65b",
    "megatron-22b",
    "deepseek-v3",
    "llama2-70b",
    "llama-7b",
    "llama2-7b",
    "llama-30b",
    "llama3-70b",
    "llama3-8b",
    "qwen3-30b-a3b",
    "megatron-1t",
    "qwen3-235b-a22b",
}


def _load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_required_models_and_workloads_are_there():
    assert {path.stem for path in MODELS} >= REQUIRED
    assert {path.stem for path in WORKLOADS} >= REQUIRED


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_model_is_as_large_as_its_title_says(path):
    model = Model.model_validate(_load(path))
    total_b = re.search(r"([\d.]+)B parameters", model.title)
    assert f"{total_parameters(model) / 1e9:.2f}" == total_b.group(1)
    if model.moe:
        active_b = re.search(r"([\d.]+)B active", model.title)
        assert f"{active_parameters(model) / 1e9:.2f}" == active_b.group(1)
    assert len(model.source) > 10


@pytest.mark.parametrize("path", WORKLOADS, ids=lambda p: p.stem)
def test_workload_is_valid_and_names_a_model(path):
    workload = Workload.model_validate(_load(path))
    assert workload.model in {model.stem for model in MODELS}
    assert len(workload.source) > 10


@pytest.mark.parametrize(
    ("name", "sequence", "batch", "tokens"),
    [
        ("llama2-70b", 4096, 1024, 2e12),
        ("gpt3-175b", 2048, 1536, 300e9),
        ("llama3-405b", 8192, 2048, 15.6e12),
        ("deepseek-v3", 4096, 15360, 14.8e12),
    ],
)
def test_known_workloads(name, sequence, batch, tokens):
    workload = Workload.model_validate(_load(FOLDER / f"{name}.yaml"))
    assert (workload.sequence_length, workload.global_batch, workload.tokens) == (sequence, batch, tokens)
