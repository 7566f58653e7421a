"""Pipeline schedules by name.

One module here, or one entry point of the group ``simtrain.schedules``, is one schedule: it offers ``SCHEDULE``.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from simtrain.errors import UnknownNameError

if TYPE_CHECKING:
    from simtrain.schedules.base import Schedule

__all__ = ["get", "names"]

ENTRY_POINTS = "simtrain.schedules"


def get(name: str) -> Schedule:
    """The schedule called ``name`` (or with that alias).

    Raises:
        UnknownNameError: there is none; the message names the nearest.
    """
    schedules = _schedules()
    by_alias = {alias: schedule for schedule in schedules.values() for alias in schedule.aliases}
    found = schedules.get(name) or by_alias.get(name)
    if found is None:
        raise UnknownNameError("pipeline schedule", name, (*schedules, *by_alias))
    return found


def names() -> tuple[str, ...]:
    """Names of all schedules, sorted, without aliases."""
    return tuple(sorted(_schedules()))


@cache
def _schedules() -> dict[str, Schedule]:
    modules = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))
    own = [module.SCHEDULE for module in modules if hasattr(module, "SCHEDULE")]
    others = [point.load() for point in entry_points(group=ENTRY_POINTS)]
    return {schedule.name: schedule for schedule in (*others, *own)}
