"""Durations of pipeline slots: one number for all stages, or one per stage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simtrain.errors import ScheduleError

__all__ = ["SlotCosts"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SlotCosts:
    """What one chunk slot takes; any unit, the same for all.

    Attributes:
        f, i, w: forward, backward for inputs, backward for weights: a number, or one per stage.
        b: full backward; absent: i + w.
        x: a forward overlapped with a full backward: a number, one per forward stage, or a (stages, stages) table by
            forward and backward stage; absent: f + b of the two stages.
        comm: latency between stages on different ranks; delays what depends on it, occupies nothing.
    """

    f: ArrayLike = 1.0
    i: ArrayLike = 1.0
    w: ArrayLike = 1.0
    b: ArrayLike | None = None
    x: ArrayLike | None = None
    comm: float = 0.0

    def table(self, stages: int) -> Floats:
        """Durations of F, I, W and B, shape (4, stages).

        Raises:
            ScheduleError: a length is not 1 or ``stages``, or a duration is negative or not finite.
        """
        f, i, w = (self._per_stage(name, getattr(self, name), stages) for name in ("f", "i", "w"))
        b = i + w if self.b is None else self._per_stage("b", self.b, stages)
        if not (np.isfinite(self.comm) and self.comm >= 0.0):
            raise ScheduleError(f"comm = {self.comm} must be finite and not negative")
        return np.stack((f, i, w, b))

    def overlapped(self, stages: int) -> Floats:
        """Durations of X by forward stage and backward stage, shape (stages, stages)."""
        if self.x is None:
            table = self.table(stages)
            return np.asarray(table[0][:, None] + table[3][None, :])
        given = np.asarray(self.x, dtype=np.float64)
        if given.ndim == 2:
            if given.shape != (stages, stages):
                raise ScheduleError(f"x is a table of {given.shape}, but there are {stages} stages")
            self._check("x", given)
            return given
        return np.repeat(self._per_stage("x", self.x, stages)[:, None], stages, axis=1)

    def _per_stage(self, name: str, value: ArrayLike, stages: int) -> Floats:
        given = np.asarray(value, dtype=np.float64).ravel()
        if given.size not in (1, stages):
            raise ScheduleError(f"{name} has {given.size} values; give one, or one for each of the {stages} stages")
        self._check(name, given)
        return np.broadcast_to(given, (stages,)).copy()

    @staticmethod
    def _check(name: str, values: Floats) -> None:
        if not (np.isfinite(values).all() and values.min() >= 0.0):
            raise ScheduleError(f"{name} must be finite and not negative")
