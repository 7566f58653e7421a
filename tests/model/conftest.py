"""Catalogue models and validation tables for the tests of the model room."""

import os
from pathlib import Path

import pytest
import yaml

from simtrain.scenario.model import Model

ROOT = Path(__file__).resolve().parents[2]
VALIDATION = Path(os.environ.get("SIMTRAIN_VALIDATION") or ROOT.parent / "shared" / "validation")


def _table(name):
    path = VALIDATION / name
    if not path.exists():
        pytest.skip(f"no {name}: set SIMTRAIN_VALIDATION to the folder of published measurements")
    return path


@pytest.fixture(scope="session")
def models_csv():
    return _table("models.csv")


@pytest.fixture(scope="session")
def measured_csv():
    return _table("measured.csv")


@pytest.fixture(scope="session")
def workloads_folder():
    return ROOT / "workloads"


@pytest.fixture(scope="session")
def catalogue_model(workloads_folder):
    def load(name):
        text = (workloads_folder / "models" / f"{name}.yaml").read_text(encoding="utf-8")
        return Model.model_validate(yaml.safe_load(text))

    return load
