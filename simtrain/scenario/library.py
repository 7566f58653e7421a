"""The library of documents: where they lie, how they are found by name, and how a file is read.

In a checkout the documents lie in ``topologies/``, ``workloads/`` and ``studies/``; a wheel carries the same
folders as ``simtrain/_library/``.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Hashable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from simtrain.errors import ScenarioError, UnknownNameError, nearest

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]

__all__ = ["FOLDERS", "display", "find", "names", "parse_yaml", "read", "root"]

FOLDERS = {
    "device": "topologies/devices",
    "node": "topologies/nodes",
    "fabric": "topologies/fabrics",
    "cluster": "topologies/clusters",
    "preset": "topologies/reliability",
    "software": "workloads/software",
    "model": "workloads/models",
    "workload": "workloads",
    "scenario": "studies",
    "study": "studies",
}
"""Folder of each kind of document, below :func:`root`."""

_SUFFIXES = (".yaml", ".yml", ".json")


@cache
def root() -> Path:
    """Folder that holds ``topologies/``, ``workloads/`` and ``studies/``."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_library"
    return installed if installed.is_dir() else package.parent


def names(kind: str) -> tuple[str, ...]:
    """Names of all library documents of a kind (a key of :data:`FOLDERS`), sorted."""
    return tuple(sorted(path.stem for path in (root() / FOLDERS[kind]).glob("*.yaml")))


def find(kind: str, name: str, base: Path | None = None, where: str = "") -> Path:
    """File of the document ``name``.

    Args:
        kind: a key of :data:`FOLDERS`.
        name: a library name, or a path (anything with a slash or ending in ``.yaml``), which is tried
            relative to ``base``, to the working directory, and to the library.
        base: folder of the document that refers to ``name``.
        where: file and key that refer to it, for the message.

    Raises:
        UnknownNameError: the library has no such document.
        ScenarioError: there is no such file.
    """
    if not _is_path(name):
        if kind == "preset" and where and name.lower() == "none":
            raise ScenarioError(f"{where}: no preset is called {name!r}; where nothing fails write null")
        if name not in names(kind):
            raise UnknownNameError(kind, name, names(kind), where)
        return root() / FOLDERS[kind] / f"{name}.yaml"
    folders = [folder for folder in (base, Path.cwd(), root()) if folder is not None]
    for folder in folders:
        path = folder / Path(name).expanduser()
        if os.path.isfile(path):
            return path.resolve()
    raise ScenarioError(_no_file(kind, name, folders[0], where))


def _is_path(name: str) -> bool:
    return "/" in name or os.sep in name or name.endswith(_SUFFIXES)


def _no_file(kind: str, name: str, base: Path, where: str) -> str:
    asked = base / Path(name).expanduser()
    prefix = f"{where}: " if where else ""
    if os.path.isdir(asked):
        return f"{prefix}{name!r} is a folder, not a {kind} file"
    siblings = asked.parent.iterdir() if os.path.isdir(asked.parent) else ()
    files = {path.stem: path.name for path in siblings if path.suffix in _SUFFIXES}
    close = nearest(asked.stem, files)
    hint = f"; did you mean {str(Path(name).parent / files[close])!r}?" if close else ""
    return f"{prefix}there is no {kind} file {name!r}{hint}"


def display(path: Path) -> str:
    """A path as a reader knows it: relative to the working directory or the library where it lies there."""
    for folder in (Path.cwd(), root()):
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return str(path)


def read(path: Path) -> dict[str, Any]:
    """Contents of a YAML file: a mapping with text keys.

    Raises:
        ScenarioError: the file cannot be read, or is not one YAML mapping without duplicate keys.
    """
    label = display(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{label}: not a text file (byte {error.start} is not UTF-8)") from None
    except OSError as error:
        raise ScenarioError(f"{label}: cannot be read: {error.strerror or error}") from None
    document = parse_yaml(text, label)
    if document is None:
        raise ScenarioError(f"{label}: the file is empty; a document is a mapping such as 'title: ...'")
    if not isinstance(document, dict):
        kind = "a list" if isinstance(document, list) else f"the value {reprlib.repr(document)}"
        raise ScenarioError(f"{label}, line 1: a document is a mapping such as 'title: ...', not {kind}")
    return document


def parse_yaml(text: str, label: str) -> Any:
    """Parse one YAML value; ``label`` names its origin in the message.

    Raises:
        ScenarioError: bad syntax, a duplicate key, or a key that is not text; with the line.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506  a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ScenarioError(f"{label}{line}: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        raise ScenarioError(f"{label}: not a text file ({error.reason}, position {error.position})") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ScenarioError(f"{label}: {error}") from None
    except RecursionError:
        raise ScenarioError(f"{label}: nested too deeply") from None


class _Loader(SafeLoader):
    """The safe loader, but a key must be text and stand only once in its mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping of a node; :class:`ScenarioError` with its line for a key that is no text or stands twice."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != "tag:yaml.org,2002:str":
                what = f"{key.value!r} is not text; put it in quotes" if isinstance(key.value, str) else "must be text"
                raise _problem(f"the key {what}", key)
            if key.value in lines:
                raise _problem(f"the key {key.value!r} stands twice (first on line {lines[key.value]})", key)
            lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


def _problem(text: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, text, node.start_mark)
