"""Every document of the library is valid and is found by name."""

from __future__ import annotations

import pytest

from simtrain.errors import UnknownNameError
from simtrain.scenario import library
from simtrain.scenario.load import dump, load, load_study


def _any(kind: str) -> str:
    return library.names(kind)[0]


def _scenario(**parts: object) -> dict[str, object]:
    node = {"extends": _any("node"), **parts.pop("node", {})}
    cluster = parts.pop("cluster", {"node": node, "nodes": 1})
    workload = parts.pop("workload", {"model": _any("model"), "sequence_length": 8, "global_batch": 1, "tokens": 8})
    return {"cluster": cluster, "workload": workload, **parts}


def _wrapped(kind: str, name: str) -> dict[str, object]:
    """A scenario around one library document."""
    if kind == "device":
        return _scenario(node={"device": name})
    if kind == "node":
        return _scenario(node={"extends": name})
    if kind == "fabric":
        return _scenario(cluster={"node": _any("node"), "nodes": 2, "fabric": name})
    if kind == "model":
        return _scenario(workload={"extends": _any("workload"), "model": name})
    if kind == "preset":
        return _scenario(reliability=name)
    return _scenario(**{kind: name})


PARTS = [
    (kind, name)
    for kind in ("device", "node", "fabric", "cluster", "model", "workload", "preset")
    for name in library.names(kind)
]


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_every_part_of_the_library_is_valid(kind, name):
    loaded = load(_wrapped(kind, name))
    assert load(library.parse_yaml(dump(loaded), "dump")) == loaded


@pytest.mark.parametrize("name", library.names("study"))
def test_every_study_of_the_library_is_valid(name):
    if "scenarios" in library.read(library.find("study", name)):
        study, scenarios = load_study(name)
        assert len(scenarios) == len(study.scenarios)
    else:
        assert load(name).name


def test_the_library_has_documents_of_every_kind():
    for kind in library.FOLDERS:
        assert library.names(kind), kind


def test_a_misspelt_name_lists_the_nearest():
    name = _any("model")
    with pytest.raises(UnknownNameError) as caught:
        library.find("model", name + "x", where="mine.yaml: workload.model")
    assert f"Did you mean {name!r}?" in str(caught.value)
    assert str(caught.value).startswith("mine.yaml: workload.model: ")


def test_a_library_path_works_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = _any("model")
    assert library.find("model", f"workloads/models/{name}.yaml") == library.find("model", name).resolve()
