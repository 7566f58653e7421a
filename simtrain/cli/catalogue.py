"""What the library holds, as rows and documents."""

from __future__ import annotations

from simtrain import schedules
from simtrain.errors import InputError, UnknownNameError
from simtrain.scenario import library

__all__ = ["document", "entries", "kinds"]

_ODD = {"study": "studies", "software": "software"}
_PLURAL = {kind: _ODD.get(kind, f"{kind}s") for kind in (*library.FOLDERS, "schedule")}


def kinds(wanted: str | None) -> list[str]:
    """Kinds to list: all of them, or the one named (singular or plural).

    Raises:
        UnknownNameError: there is no such kind.
    """
    if wanted is None:
        return list(_PLURAL)
    for kind, plural in _PLURAL.items():
        if wanted.lower() in (kind, plural):
            return [kind]
    raise UnknownNameError("kind of catalogue entry", wanted, _PLURAL.values())


def entries(kind: str) -> list[dict[str, str]]:
    """Rows of one kind: name, title, source."""
    if kind == "schedule":
        return [
            {"name": name, "title": schedules.get(name).summary, "source": "simtrain.schedules"}
            for name in schedules.names()
        ]
    return [_row(kind, name) for name in library.names(kind) if _is_of(kind, name)]


def document(kind: str, name: str) -> str:
    """The text of one entry.

    Raises:
        InputError: schedules have no document; UnknownNameError: no such entry.
    """
    if kind == "schedule":
        raise InputError(f"schedule {name!r} has no document: it is code (simtrain.schedules)")
    return library.find(kind, name).read_text(encoding="utf-8")


def _is_of(kind: str, name: str) -> bool:
    """Scenarios and studies share a folder: a study is what holds scenarios, or axes."""
    if kind not in ("scenario", "study"):
        return True
    content = library.read(library.find(kind, name))
    return any(key in content for key in ("scenarios", "axes", "zip")) == (kind == "study")


def _row(kind: str, name: str) -> dict[str, str]:
    content = library.read(library.find(kind, name))
    title, source = (" ".join(str(content.get(key, "")).split()) for key in ("title", "source"))
    return {"name": name, "title": title, "source": source}
