"""The wheel holds the library and works where there is no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
PROGRAM = """
import sys, simtrain
from simtrain.scenario import library
print(simtrain.__file__)
print(library.find("model", "llama2-70b"))
print(simtrain.load_study("4090-vs-h100")[1][0].workload.model.layers)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [*PIP, "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "-w", str(folder)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("simtrain-*.whl"))


def test_the_wheel_holds_every_document_of_the_checkout_and_nothing_of_the_tests(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("topologies", "workloads", "studies"):
        documents = [path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.yaml")]
        assert documents
        assert {f"simtrain/_library/{document}" for document in documents} <= names
    assert "simtrain/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "topologies/"))]


def test_the_installed_wheel_works_away_from_the_checkout(wheel, tmp_path):
    target, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run([*PIP, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(target)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=elsewhere, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    package, document, layers = done.stdout.split()
    assert Path(package).is_relative_to(target)
    assert Path(document).is_relative_to(target / "simtrain" / "_library")
    assert layers == "80"
