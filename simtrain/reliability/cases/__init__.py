"""Questions about failures as files, by kind.

One module here that offers ``CASE`` is one kind: its parameters, and a closed form, a Job for the engines, or both.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from simtrain.errors import UnknownNameError

if TYPE_CHECKING:
    from simtrain.reliability.cases.base import Case

__all__ = ["get", "names"]


def get(kind: str, where: str = "") -> type[Case]:
    """The class of a kind.

    Raises:
        UnknownNameError: there is none; the message names the nearest.
    """
    found = _kinds().get(kind)
    if found is None:
        raise UnknownNameError("kind of case", kind, _kinds(), where)
    return found


def names() -> tuple[str, ...]:
    """All kinds, sorted."""
    return tuple(sorted(_kinds()))


@cache
def _kinds() -> dict[str, type[Case]]:
    modules = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))
    return {module.CASE.kind: module.CASE for module in modules if hasattr(module, "CASE")}
