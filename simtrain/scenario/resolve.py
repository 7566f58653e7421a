"""Resolving documents: ``extends``, parts given by name, and where every key was written.

A :class:`Document` is a mapping that remembers, per key, the file it came from.  References are followed
lazily, so that an override of ``cluster.node.device.memory`` also reaches into parts given by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simtrain.errors import ScenarioError
from simtrain.scenario import library

__all__ = ["PARTS", "Document", "Origin", "finish", "follow", "merge", "open_document"]

PARTS: dict[str, dict[str, str]] = {
    "scenario": {"cluster": "cluster", "workload": "workload", "reliability": "preset", "software": "software"},
    "cluster": {"node": "node", "fabric": "fabric"},
    "node": {"device": "device"},
    "device": {"kernels": "kernels"},
    "workload": {"model": "model"},
}
"""Keys of each kind of document that hold a part which may be given by name, and the kind of that part."""

Keys = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a key was written: a label for messages, the folder of its references, the files opened on the way."""

    label: str
    folder: Path | None = None
    opened: tuple[Path, ...] = ()


class Document(dict[str, Any]):
    """A mapping that knows its origin and that of each of its keys."""

    def __init__(self, origin: Origin) -> None:
        super().__init__()
        self.origin = origin
        self.origins: dict[str, Origin] = {}

    def put(self, key: str, value: Any, origin: Origin) -> None:
        """Set a key and remember where it was written."""
        self[key] = value
        self.origins[key] = origin

    def copy(self) -> Document:
        """A shallow copy."""
        twin = Document(self.origin)
        twin.update(self)
        twin.origins.update(self.origins)
        return twin

    @staticmethod
    def wrap(mapping: Mapping[Any, Any], origin: Origin) -> Document:
        """A Document of ``mapping`` and all mappings in it, every key written at ``origin``.

        Raises:
            ScenarioError: a key that is not text, or a mapping that holds itself.
        """
        try:
            return _wrap_mapping(mapping, origin)
        except RecursionError:
            raise ScenarioError(f"{origin.label}: nested too deeply, or a part that holds itself") from None


def _wrap_mapping(mapping: Mapping[Any, Any], origin: Origin) -> Document:
    document = Document(origin)
    for key, value in mapping.items():
        if not isinstance(key, str):
            raise ScenarioError(f"{origin.label}: the key {key!r} is not text")
        document.put(key, _wrap(value, origin), origin)
    return document


def _wrap(value: Any, origin: Origin) -> Any:
    if isinstance(value, Mapping):
        return _wrap_mapping(value, origin)
    if isinstance(value, list | tuple):
        return [_wrap(item, origin) for item in value]
    return value


def open_document(kind: str, reference: str, origin: Origin, keys: Keys = ()) -> Document:
    """The document of ``kind`` that ``reference``, written at ``origin`` under ``keys``, names; not yet followed.

    Raises:
        InputError: it does not exist, cannot be read, or is being opened already (a cycle).
    """
    where = ": ".join(filter(None, (origin.label, ".".join(keys))))
    path = library.find(kind, reference, origin.folder, where)
    opened = (*origin.opened, path)
    if path in origin.opened:
        chain = " -> ".join(library.display(p) for p in opened)
        raise ScenarioError(f"{where} = {reference!r} refers back to itself: {chain}")
    return Document.wrap(library.read(path), Origin(library.display(path), path.parent, opened))


def follow(kind: str, value: Any, origin: Origin, keys: Keys = ()) -> Any:
    """Replace a reference by its document and apply ``extends``, at this level only.

    Values that are neither text nor a mapping come back as they are; validation refuses them with a message.
    """
    if isinstance(value, str):
        if kind == "kernels":
            return _borrowed_kernels(value, origin, keys)
        return follow(kind, open_document(kind, value, origin, keys), origin, keys)
    if not isinstance(value, Document):
        return value
    if kind == "scenario" and "scenarios" in value:
        raise ScenarioError(
            f"{value.origin.label} is a study (several scenarios), not one scenario; "
            "use it with 'simtrain compare' or load_study()"
        )
    if kind == "scenario" and ("axes" in value or "zip" in value):
        raise ScenarioError(
            f"{value.origin.label} is a sweep (a grid of scenarios), not one scenario; use it with 'simtrain sweep'"
        )
    if "extends" not in value:
        return value
    return _extended(kind, value, keys)


def _extended(kind: str, document: Document, keys: Keys) -> Document:
    rest = document.copy()
    origin = rest.origins.pop("extends")
    reference = rest.pop("extends")
    keys_here = keys if keys[-1:] == ("extends",) else (*keys, "extends")
    if not isinstance(reference, str):
        raise ScenarioError(
            f"{origin.label}: {'.'.join(keys_here)} = {reference!r} must be the name or path of a {kind}"
        )
    merged = merge(kind, follow(kind, reference, origin, keys_here), rest, keys)
    merged.origin = document.origin
    return merged


def _borrowed_kernels(reference: str, origin: Origin, keys: Keys) -> Document:
    device = follow("device", reference, origin, keys)
    table = follow("kernels", device["kernels"], device.origins["kernels"], keys) if "kernels" in device else None
    if not isinstance(table, Document):
        where = f"{origin.label}: {'.'.join(keys)} = {reference!r}"
        raise ScenarioError(f"{where}: that device has no table of kernels to borrow")
    return table


def merge(kind: str, base: Document, over: Document, keys: Keys = ()) -> Document:
    """``base`` with the keys of ``over`` on top, mapping by mapping.

    A mapping with an ``extends`` of its own or another ``kind`` replaces what was there; everything that is
    not a mapping, lists included, replaces too.
    """
    merged = base.copy()
    for key, value in over.items():
        part = PARTS.get(kind, {}).get(key, "")
        if isinstance(value, Document) and "extends" not in value and key in base:
            below = follow(part, base[key], base.origins[key], (*keys, key)) if part else base[key]
            if isinstance(below, Document) and value.get("kind", below.get("kind")) == below.get("kind"):
                value = merge(part, below, value, (*keys, key))
        merged.put(key, value, over.origins[key])
    return merged


def finish(kind: str, document: Document, keys: Keys = ()) -> Document:
    """``document`` with every part that was given by name or with ``extends`` replaced by its document."""
    done = document.copy()
    for key, part in PARTS.get(kind, {}).items():
        if key not in done:
            continue
        value = follow(part, done[key], done.origins[key], (*keys, key))
        done[key] = finish(part, value, (*keys, key)) if isinstance(value, Document) else value
    return done
