"""Loading scenarios and studies: one call from a file, a library name or a mapping to a validated object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from simtrain.errors import ScenarioError
from simtrain.scenario import overrides as changes
from simtrain.scenario.cluster import Cluster
from simtrain.scenario.messages import explain
from simtrain.scenario.part import Part
from simtrain.scenario.reliability import Reliability
from simtrain.scenario.resolve import PARTS, Document, Origin, finish, follow, open_document
from simtrain.scenario.scenario import Scenario, Study, StudyEntry
from simtrain.scenario.software import Software

__all__ = [
    "Source",
    "dump",
    "load",
    "load_cluster",
    "load_preset",
    "load_software",
    "load_study",
    "open_source",
    "scenario_schema",
    "validate",
]

Source = str | Path | Mapping[str, Any]
P = TypeVar("P", bound=Part)

_FABRICS = ("SingleSwitch", "FatTree", "Dragonfly", "Torus")
_NAMED = ("Cluster", "Node", "Device", "KernelTable", *_FABRICS, "Workload", "Model", "Reliability", "Software")


def load(source: Source, *overrides: str) -> Scenario:
    """Read a scenario and everything it refers to.

    Every part given by name is replaced by its document, so the result is self-contained.

    Args:
        source: library name, path of a YAML file, or a mapping.
        overrides: changes such as ``"layout.tp=2"``, applied in order before validation.

    Raises:
        InputError: the document or an override is wrong; the message has one line per problem.
    """
    document = open_source(source, "scenario")
    name = document.origin.opened[0].stem if document.origin.opened else ""
    scenario = follow("scenario", document, document.origin)
    return _scenario(changes.apply(scenario, overrides), name)


def load_cluster(source: Source, *overrides: str) -> Cluster:
    """Read a cluster alone, with its node, device and fabric.

    Args:
        source: library name, path of a YAML file, or a mapping.
        overrides: changes such as ``"nodes=4"`` or ``"node.nics=2"``.

    Raises:
        InputError: as :func:`load`.
    """
    document = open_source(source, "cluster")
    if "cluster" in document:
        raise ScenarioError(f"{document.origin.label} is a scenario, not a cluster; give what its key 'cluster' names")
    return _part(Cluster, "cluster", document, overrides)


def load_preset(source: Source, *overrides: str) -> Reliability:
    """Read the failures of a preset alone.

    Args:
        source: library name, path of a YAML file, or a mapping.
        overrides: changes such as ``"classes.gpu.mtbf=6000 days"``.

    Raises:
        InputError: as :func:`load`.
    """
    return _part(Reliability, "preset", open_source(source, "preset"), overrides)


def load_software(source: Source, *overrides: str) -> Software:
    """Read a software profile alone.

    Args:
        source: library name, path of a YAML file, or a mapping.
        overrides: changes such as ``"rotary=eager"``.

    Raises:
        InputError: as :func:`load`.
    """
    return _part(Software, "software", open_source(source, "software"), overrides)


def _part(model: type[P], kind: str, document: Document, overrides: Sequence[str]) -> P:
    """A document of ``kind`` with everything it refers to, changed and validated."""
    followed = follow(kind, document, document.origin)
    return validate(model, finish(kind, changes.apply(followed, overrides, kind)))


def load_study(source: Source, *overrides: str) -> tuple[Study, list[Scenario]]:
    """Read a study and its scenarios, in the order written.

    Args:
        source: library name, path of a YAML file, or a mapping.
        overrides: changes such as ``"money.electricity=0.2 USD/kWh"``, applied to every scenario.

    Raises:
        InputError: as :func:`load`; or the file is a single scenario, or a scenario's name stands twice.
    """
    document = open_source(source, "study")
    label = document.origin.label
    if "axes" in document or "zip" in document:
        raise ScenarioError(f"{label} is a sweep (a grid of scenarios); use it with 'simtrain sweep'")
    if "scenarios" not in document:
        raise ScenarioError(
            f"{label} has no 'scenarios': it is one scenario, not a study; use 'simtrain run' or load()"
        )
    study = validate(Study, document)
    names = [entry.name for entry in study.scenarios]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ScenarioError(f"{label}: scenarios: the name {twice!r} stands twice; names must differ")
    return study, [_entry(entry, document, overrides) for entry in study.scenarios]


def dump(scenario: Scenario) -> str:
    """The self-contained document of a scenario as YAML; :func:`load` reads it back to an equal scenario."""
    text: str = yaml.safe_dump(scenario.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    return text


def scenario_schema() -> dict[str, Any]:
    """JSON Schema of a scenario document as users write it: parts inline, by name, or with ``extends``."""
    schema = Scenario.model_json_schema()
    for definition in [schema, *(schema["$defs"][name] for name in _NAMED)]:
        definition["properties"]["extends"] = {"type": "string", "description": "Name or path this part starts from."}
        if "required" in definition:
            definition["anyOf"] = [{"required": definition.pop("required")}, {"required": ["extends"]}]
    for key in PARTS["scenario"]:
        schema["properties"][key] = {"anyOf": [schema["properties"][key], {"type": "string"}]}
    return schema


def open_source(source: Source, kind: str) -> Document:
    """The document of ``kind`` that a user names by a library name, a path or a mapping; not yet followed.

    Raises:
        InputError: it does not exist or cannot be read.
    """
    if isinstance(source, Mapping):
        return Document.wrap(source, Origin(kind))
    if not isinstance(source, str | Path):
        raise ScenarioError(f"a {kind} is a library name, a path or a mapping, not {type(source).__name__}")
    reference = str(source) if isinstance(source, str) or source.is_absolute() else f"./{source}"
    return open_document(kind, reference, Origin(""))


def _entry(entry: StudyEntry, study: Document, overrides: tuple[str, ...]) -> Scenario:
    origin = Origin(f"{study.origin.label}, scenario {entry.name!r}", study.origin.folder, study.origin.opened)
    base = entry.extends or study.get("extends")
    document = follow("scenario", base, origin, ("extends",)) if base else Document(origin)
    for path, value in entry.set.items():
        document = changes.put(document, path, value, origin)
    document = changes.apply(document, overrides)
    document.put("name", entry.name, origin)
    if entry.title:
        document.put("title", entry.title, origin)
    return _scenario(document, entry.name)


def _scenario(document: Document, name: str) -> Scenario:
    resolved = finish("scenario", document)
    if not resolved.get("name"):
        resolved.put("name", name, resolved.origin)
    return validate(Scenario, resolved)


def validate(cls: type[P], document: Document) -> P:
    """``document`` as an object of ``cls``.

    Raises:
        ScenarioError: one line per problem.
    """
    try:
        return cls.model_validate(document)
    except ValidationError as error:
        raise ScenarioError(explain(error, cls, document)) from None
