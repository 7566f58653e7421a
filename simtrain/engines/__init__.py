"""Engines: a Program goes in, a Timeline comes out."""

from __future__ import annotations

from typing import Literal

from simtrain.errors import UnsupportedError
from simtrain.jit import available
from simtrain.program.program import Program
from simtrain.program.timeline import Timeline

__all__ = ["Engine", "choose", "simulate"]

Engine = Literal["auto", "des", "compiled"]


def choose(engine: Engine = "auto") -> Literal["des", "compiled"]:
    """The engine that runs: the compiled one where numba is installed, unless another is asked for.

    Raises:
        UnsupportedError: the compiled engine is asked for without numba.
    """
    if engine == "auto":
        return "compiled" if available() else "des"
    if engine == "compiled" and not available():
        raise UnsupportedError("engine 'compiled' needs numba; install it, or use engine 'des'")
    return engine


def simulate(program: Program, engine: Engine = "auto") -> Timeline:
    """Run a Program; the Timeline says which engine ran it.

    Raises:
        DeadlockError: operations are left that can never start.
        UnsupportedError: see :func:`choose`.
    """
    if choose(engine) == "compiled":
        from simtrain.engines import compiled

        return compiled.simulate(program)
    from simtrain.engines import des

    return des.simulate(program)
