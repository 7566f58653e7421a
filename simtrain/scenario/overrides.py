"""Overrides: ``layout.tp=2`` from the command line, ``layout.tp: 2`` from the ``set`` of a study."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from simtrain.errors import ScenarioError
from simtrain.scenario.library import parse_yaml
from simtrain.scenario.resolve import Document, Origin, merge

__all__ = ["apply", "parse", "put"]

LABEL = "--set"


def parse(text: str) -> tuple[str, Any]:
    """Split ``"a.b.c=value"`` into the key path and the value, which is read as YAML.

    Raises:
        ScenarioError: there is no ``=``, or the value is not YAML.
    """
    keys, equals, value = text.partition("=")
    if not equals:
        raise ScenarioError(f"{LABEL}: {text!r} is not of the form key=value, for example layout.tp=2")
    try:
        return keys.strip(), parse_yaml(value, LABEL)
    except ScenarioError as error:
        raise ScenarioError(f"{LABEL}: {keys.strip()} = {value!r} is not a YAML value ({error})") from None


def put(document: Document, path: str, value: Any, origin: Origin, kind: str = "scenario") -> Document:
    """``document`` of a ``kind`` with ``value`` at the key path ``a.b.c``; parts given by name are opened.

    Raises:
        ScenarioError: an empty key.
    """
    keys = path.split(".")
    if not all(keys):
        raise ScenarioError(f"{origin.label}: {path!r} is not a key path, for example layout.tp")
    for key in reversed(keys):
        value = {key: value}
    return merge(kind, document, Document.wrap(value, origin))


def apply(document: Document, overrides: Iterable[str], kind: str = "scenario") -> Document:
    """``document`` of a ``kind`` with every override applied, in the order given."""
    for text in overrides:
        document = put(document, *parse(text), Origin(LABEL), kind)
    return document
