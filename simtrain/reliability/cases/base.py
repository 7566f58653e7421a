"""What every kind of case offers: its parameters, its closed form, and the Job that the engines run for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

from simtrain.errors import UnsupportedError

if TYPE_CHECKING:
    from simtrain.reliability.cases.params import Params
    from simtrain.reliability.intervals import Estimate
    from simtrain.reliability.job import Job, RunResult

__all__ = ["Answer", "Case"]

Answer = dict[str, Any]
"""Figures by name: numbers, None where there is none, or a mapping of numbers."""


class Case(ABC):
    """Parameters of one case; subclasses are frozen dataclasses, one to a module, offered there as ``CASE``.

    Attributes:
        kind: name in case files.
        exact: nothing is random: one run answers it, without a standard error.
        counted: an exact formula counts the answer, so that no engine is needed unless one is asked for.
    """

    kind: ClassVar[str]
    exact: ClassVar[bool] = False
    counted: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def read(cls, params: Params) -> Self:
        """Check and take the parameters of a case file.

        Raises:
            InputError: a key is missing or its value is not allowed.
        """

    def formulas(self) -> Answer:
        """The part of the answer that is a formula whatever the engine."""
        return {}

    def closed_form(self) -> Answer:
        """The whole answer by formula.

        Raises:
            UnsupportedError: there is none for these parameters.
        """
        raise self.no_closed_form("it replays recorded events")

    def jobs(self) -> tuple[Job, ...]:
        """What an engine has to run, all with the same seed and number of runs.

        Raises:
            UnsupportedError: no engine simulates this.
        """
        raise UnsupportedError(f"kind {self.kind} is not simulated; allowed: --engine closed_form or auto")

    def sampled(self, *results: RunResult) -> dict[str, Estimate]:
        """The random part of the answer, from what :meth:`jobs` yielded.

        Raises:
            UnsupportedError: nothing is random here.
        """
        raise UnsupportedError(f"kind {self.kind} replays recorded events, so that nothing is sampled")

    def replayed(self, result: RunResult) -> Answer:
        """The answer of an exact case, from one run.

        Raises:
            UnsupportedError: the answer is random.
        """
        raise UnsupportedError(f"kind {self.kind} is random: one run is no answer")

    def no_closed_form(self, why: str) -> UnsupportedError:
        """The error for parameters without a formula."""
        return UnsupportedError(
            f"kind {self.kind} has no closed form where {why}; allowed: --engine des, compiled or auto"
        )
