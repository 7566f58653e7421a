"""Every exception simtrain raises on purpose.

::

    SimtrainError
    ├── InputError            (ValueError)   the user's input is wrong: exit status 2
    │   ├── QuantityError                    a number, a unit or a dimension cannot be read
    │   ├── ScenarioError                    a key or a value of a document is wrong
    │   ├── UnknownNameError  (LookupError)  a name is not in the library or a registry
    │   ├── LayoutError                      the layout cannot exist on this model and cluster
    │   └── ScheduleError                    the schedule cannot be built for these settings
    ├── UnsupportedError                     valid, but this version or engine cannot simulate it: exit 2
    ├── ProgramError                         a Program breaks the rules of its own arrays
    └── DeadlockError                        operations are left that can never start
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = [
    "DeadlockError",
    "InputError",
    "LayoutError",
    "ProgramError",
    "QuantityError",
    "ScenarioError",
    "ScheduleError",
    "SimtrainError",
    "UnknownNameError",
    "UnsupportedError",
    "nearest",
]


class SimtrainError(Exception):
    """Root of all exceptions raised by simtrain."""

    exit_status = 1


class InputError(SimtrainError, ValueError):
    """The input is wrong; the message says where, the value, and what is allowed."""

    exit_status = 2


class QuantityError(InputError):
    """A quantity such as ``"400 Gbps"`` could not be read."""


class ScenarioError(InputError):
    """A document (scenario, cluster, model, study) has a wrong key or value."""


class UnknownNameError(InputError, LookupError):
    """A name was not found; the message lists the nearest valid ones."""

    def __init__(self, what: str, name: str, valid: Iterable[str], where: str = "") -> None:
        self.what = what
        self.name = name
        self.valid = tuple(sorted(valid))
        self.where = where
        super().__init__(self._message())

    def _message(self) -> str:
        close = nearest(self.name, self.valid)
        place = f"{self.where}: " if self.where else ""
        hint = f" Did you mean {close!r}?" if close else ""
        known = f"Valid: {', '.join(self.valid)}" if self.valid else "There are none."
        return f"{place}no {self.what} is called {self.name!r}.{hint} {known}"

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, Sequence[str], str]]:
        return type(self), (self.what, self.name, self.valid, self.where)


class LayoutError(InputError):
    """The layout is impossible: sizes that do not multiply or divide."""


class ScheduleError(InputError):
    """A pipeline schedule does not exist for the given ranks, chunks and micro batches."""


class UnsupportedError(SimtrainError):
    """The input is valid, but what it asks for is not simulated."""

    exit_status = 2


class ProgramError(SimtrainError):
    """A Program is inconsistent: a defect of whoever built it."""


class DeadlockError(SimtrainError):
    """Nothing is due and operations are left; ``waits`` says, per operation, for what.

    Attributes:
        waits: one line per operation that heads a lane, sorted by operation id.
    """

    def __init__(self, waits: Sequence[str]) -> None:
        self.waits = tuple(waits)
        shown = "\n  ".join(self.waits[:20])
        more = f"\n  … and {len(self.waits) - 20} more" if len(self.waits) > 20 else ""
        super().__init__(f"deadlock: these operations can never start\n  {shown}{more}")

    def __reduce__(self) -> tuple[type[DeadlockError], tuple[tuple[str, ...]]]:
        return type(self), (self.waits,)


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name closest to ``name`` in spelling, or None when nothing is close."""
    matches = difflib.get_close_matches(name.lower(), {v.lower(): v for v in valid}, n=1, cutoff=0.5)
    if not matches:
        return None
    return next(v for v in valid if v.lower() == matches[0])
