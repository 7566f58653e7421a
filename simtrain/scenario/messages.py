"""What is wrong with a document, one line per problem: file, key, value, what is allowed, the nearest valid name."""

from __future__ import annotations

import re
import reprlib
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError, WithJsonSchema
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from simtrain.errors import nearest
from simtrain.scenario import library
from simtrain.scenario.overrides import LABEL
from simtrain.scenario.part import Part
from simtrain.scenario.resolve import PARTS, Document, Origin

__all__ = ["explain"]

MOST = 10
"""Problems listed in one message; the rest is counted."""

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text; put it in quotes",
    "model": "a mapping of keys",
    "dict": "a mapping of keys",
    "tuple": "a list",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "above"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "below"),
}
_EXAMPLES: dict[Any, str] = {int: "8", float: "0.9", bool: "true", str: "text"}

Keys = tuple[str | int, ...]


def explain(error: ValidationError, schema: type[Part], document: Document) -> str:
    """The problems pydantic found in ``document``, a line each, at most :data:`MOST`."""
    details = [d for d in error.errors(include_url=False) if d["loc"][-1:] != ("str",)]
    lines = list(dict.fromkeys(_line(d, schema, document) for d in details))
    more = [f"... and {len(lines) - MOST} more problems"] if len(lines) > MOST else []
    return "\n".join(lines[:MOST] + more)


def _line(detail: ErrorDetails, schema: type[Part], document: Document) -> str:
    keys = _keys(detail, document)
    what = _describe(detail, keys, schema, document)
    label = _origin(keys, document)
    if detail["type"] == "impossible":  # of a whole mapping: whoever changed a key of it last
        label = next((o.label for o in _origins(keys, document) if o.label == LABEL), label)
    return " ".join((f"{label}:", *filter(None, (".".join(map(str, keys)), what))))


def _keys(detail: ErrorDetails, document: Document) -> Keys:
    """Key path of a problem: pydantic's location without the labels of unions and discriminators."""
    keys: list[str | int] = []
    here: Any = document
    location = [element for element in detail["loc"] if element != "[key]"]
    fresh = True
    for number, element in enumerate(location):
        is_tag = fresh and isinstance(here, Mapping) and here.get("kind") == element
        absent = detail["type"] == "missing" and number == len(location) - 1
        if is_tag or not (absent or _holds(here, element)):
            fresh = fresh and not is_tag
            continue
        keys.append(element)
        here, fresh = (None if absent else here[element]), True
    return tuple(keys)


def _holds(here: Any, element: str | int) -> bool:
    if isinstance(here, Mapping):
        return element in here
    return isinstance(here, list) and isinstance(element, int) and element < len(here)


def _origin(keys: Keys, document: Document) -> str:
    """Label of the file that wrote the value at ``keys``, or the mapping in which it is missing."""
    label = document.origin.label
    here: Any = document
    for key in keys:
        if isinstance(here, Document):
            label = here.origins[str(key)].label if key in here else here.origin.label
        here = here[key] if _holds(here, key) else None
    return label


def _origins(keys: Keys, document: Document) -> list[Origin]:
    """Where the keys of the mapping at ``keys`` come from."""
    here = _written(keys, document)
    return list(here.origins.values()) if isinstance(here, Document) else []


def _describe(detail: ErrorDetails, keys: Keys, schema: type[Part], document: Document) -> str:
    kind = detail["type"]
    value = _show(_written(keys, document))
    if kind in _DESCRIBERS:
        return _DESCRIBERS[kind](detail, keys, schema, document)
    if kind == "quantity":
        return f"= {detail['ctx']['message']}"
    if kind in _BOUNDS:
        limit, words = _BOUNDS[kind]
        return f"= {value} is not allowed; it must be {words} {detail['ctx'][limit]:g}"
    expected = _EXPECTED.get(kind.split("_")[0])
    if expected is None:
        return f"= {value}: {detail['msg']}"
    return f"= {value} is not allowed; it must be {expected}{_or_name(keys, schema)}"


def _written(keys: Keys, document: Document) -> Any:
    """The value at ``keys`` as the document has it, before any unit was read."""
    here: Any = document
    for key in keys:
        here = here[key] if _holds(here, key) else None
    return here


def _show(value: Any) -> str:
    """A value as a document spells it, shortened."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return reprlib.repr(value)


def _or_name(keys: Keys, schema: type[Part]) -> str:
    part = _named_part(keys, schema)
    none = "; null: nothing fails" if part == "preset" else ""
    return f", or the name of a {part}{none}" if part else ""


def _named_part(keys: Keys, schema: type[Part]) -> str:
    """Kind of the part at ``keys`` if it may be given by name, otherwise empty."""
    kind = schema.__name__.lower()
    for key in keys:
        kind = PARTS.get(kind, {}).get(str(key), "")
    return kind


def _unknown_key(detail: ErrorDetails, keys: Keys, schema: type[Part], document: Document) -> str:
    owner = _owner(keys, schema, document)
    valid = sorted(field.alias or name for name, field in owner.model_fields.items()) if owner else []
    where = ".".join(map(str, keys[:-1])) or "the document"
    return f"= {_show(detail['input'])}: there is no such key in {where}; {_allowed(str(keys[-1]), valid)}"


def _literal(detail: ErrorDetails, keys: Keys, schema: type[Part], document: Document) -> str:
    valid = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
    if detail["loc"][-1] == "[key]":
        return f"is not a valid key; {_allowed(str(keys[-1]), valid)}"
    return f"= {_show(detail['input'])} is not allowed; {_allowed(str(detail['input']), valid)}"


def _wrong_kind(detail: ErrorDetails, keys: Keys, schema: type[Part], document: Document) -> str:
    valid = re.findall(r"'([^']*)'", detail["ctx"]["expected_tags"])
    return f"has kind = {detail['ctx']['tag']!r}, which is not allowed; {_allowed(detail['ctx']['tag'], valid)}"


def _no_kind(detail: ErrorDetails, keys: Keys, schema: type[Part], document: Document) -> str:
    field = _field(keys, schema, document)
    kinds = [part.model_fields["kind"].default for part in _parts(field.annotation)] if field else []
    return f"has no key 'kind'; allowed: {', '.join(kinds)}"


def _missing(detail: ErrorDetails, keys: Keys, schema: type[Part], document: Document) -> str:
    field = _field(keys, schema, document)
    meaning = f": {field.description.rstrip('.')}" if field and field.description else ""
    part = _named_part(keys, schema)
    example = _example(field.annotation, field.metadata) if field else ""
    if part:
        known = library.names("device" if part == "kernels" else part)
        example = f"a mapping of keys, or the name of a {part}" + (f" such as {known[0]}" if known else "")
    return f"is missing{meaning}; write for example {keys[-1]}: {example}"


def _too_short(detail: ErrorDetails, keys: Keys, schema: type[Part], document: Document) -> str:
    return f"= {_show(detail['input'])} is too short; it needs at least {detail['ctx']['min_length']}"


def _impossible(detail: ErrorDetails, keys: Keys, schema: type[Part], document: Document) -> str:
    return f"cannot be: {detail['ctx']['message']}"


def _allowed(name: str, valid: list[str]) -> str:
    close = nearest(name, valid)
    hint = f" (did you mean {close!r}?)" if close else ""
    return f"allowed: {', '.join(valid)}{hint}"


_DESCRIBERS: dict[str, Callable[[ErrorDetails, Keys, type[Part], Document], str]] = {
    "extra_forbidden": _unknown_key,
    "impossible": _impossible,
    "literal_error": _literal,
    "missing": _missing,
    "too_short": _too_short,
    "union_tag_invalid": _wrong_kind,
    "union_tag_not_found": _no_kind,
}


def _field(keys: Keys, schema: type[Part], document: Document) -> FieldInfo | None:
    owner = _owner(keys, schema, document)
    return owner.model_fields.get(str(keys[-1])) if owner else None


def _owner(keys: Keys, schema: type[Part], document: Document) -> type[Part] | None:
    """The class of the mapping that holds the last of ``keys``; None where it is no Part."""
    owner: type[Part] | None = schema
    parts: list[type[Part]] = []
    here: Any = document
    for key in keys[:-1]:
        here = here[key]
        field = owner.model_fields.get(str(key)) if owner else None
        if field:
            parts = list(_parts(field.annotation))
        several = field is not None and get_origin(field.annotation) in (dict, tuple)  # the next key says which
        owner = None if several else _chosen(parts, here)
    return owner


def _chosen(parts: list[type[Part]], value: Any) -> type[Part] | None:
    if len(parts) < 2:
        return parts[0] if parts else None
    kind = value.get("kind") if isinstance(value, Mapping) else None
    return next((part for part in parts if part.model_fields["kind"].default == kind), None)


def _parts(annotation: Any) -> Iterator[type[Part]]:
    """All Part classes in a type: of a union, an Annotated, a tuple, the values of a dict."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, Annotated, tuple, dict):
        for argument in get_args(annotation):
            yield from _parts(argument)


def _example(annotation: Any, metadata: list[Any]) -> str:
    for item in metadata:
        if isinstance(item, WithJsonSchema) and item.json_schema:
            return str(item.json_schema["examples"][0])
    if get_origin(annotation) is Literal:
        return str(get_args(annotation)[0])
    return _EXAMPLES.get(annotation, "{...}")
