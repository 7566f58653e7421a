"""Compiled loops: numba where it is installed, the same Python function where it is not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from types import FunctionType
from typing import Any, Generic, ParamSpec, TypeVar, cast
from zlib import crc32

__all__ = ["Jitted", "available", "jit", "jit_in_place"]

_UNCOUNTED = {"_nrt": False}
"""numba's option (of its own, hence the underscore) to compile without its runtime; left out where it is not known."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Jitted(Generic[Parameters, Result]):
    """A function that is compiled (or loaded from the cache on disk) at its first call.

    It may call other jitted functions by their global names.  numba renews its cache on disk when the file of the
    calling function changes; so that a change elsewhere counts too, the cached name holds a digest of all called code
    and of the constants it uses.  Arguments and results are what numba's nopython mode knows; results of both forms
    are equal.
    """

    def __init__(self, function: Callable[Parameters, Result], *, in_place: bool = False) -> None:
        self._function = function
        self._in_place = in_place
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        """Run the compiled form."""
        return self.compiled(*args, **kwargs)

    @cached_property
    def plain(self) -> Callable[Parameters, Result]:
        """The function in Python alone, and those that it calls."""
        return self._with_callees("plain")

    @cached_property
    def compiled(self) -> Callable[Parameters, Result]:
        """The function as numba compiles it; without numba, :attr:`plain`."""
        return self._compile("compiled")

    @cached_property
    def inner(self) -> Callable[Parameters, Result]:
        """The function as other compiled code calls it: without a way in from Python, which takes long to compile."""
        return self._compile("inner", no_cpython_wrapper=True)

    def _compile(self, form: str, **options: bool) -> Callable[Parameters, Result]:
        try:
            numba: Any = import_module("numba")
        except ImportError:
            return self.plain
        _announce_compiling()
        function = self._with_callees(form)
        options["no_cfunc_wrapper"] = True
        if self._in_place and hasattr(numba.core.options.DefaultOptions, *_UNCOUNTED):
            options |= _UNCOUNTED
        try:
            compiled = numba.njit(cache=True, **options)(function)
        except RuntimeError:  # neither the package nor the user's cache folder can be written
            compiled = numba.njit(**options)(function)
        return cast("Callable[Parameters, Result]", compiled)

    def _with_callees(self, form: str) -> Callable[Parameters, Result]:
        source: Any = self._function
        called = "plain" if form == "plain" else "inner"
        bound = source.__globals__ | {name: getattr(callee, called) for name, callee in self._callees.items()}
        copy: Any = FunctionType(source.__code__, bound, source.__name__, source.__defaults__, source.__closure__)
        copy.__kwdefaults__ = source.__kwdefaults__
        copy.__qualname__ = f"{source.__qualname__}_{form}_{crc32(self._code):x}"
        return cast("Callable[Parameters, Result]", copy)

    @property
    def _callees(self) -> dict[str, Jitted[Any, Any]]:
        source: Any = self._function
        names = source.__globals__
        return {name: names[name] for name in source.__code__.co_names if isinstance(names.get(name), Jitted)}

    @cached_property
    def _code(self) -> bytes:
        """What the function and those it calls do."""
        source: Any = self._function
        code, names = source.__code__, source.__globals__
        constants = [(name, names[name]) for name in code.co_names if isinstance(names.get(name), int | float)]
        called = (callee._code for callee in self._callees.values())
        return b"".join((code.co_code, repr((code.co_consts, code.co_names, constants)).encode(), *called))


def jit(function: Callable[Parameters, Result]) -> Jitted[Parameters, Result]:
    """Compile ``function`` when it is first called; numba is imported no earlier."""
    return Jitted(function)


def jit_in_place(function: Callable[Parameters, Result]) -> Jitted[Parameters, Result]:
    """As :func:`jit`, for functions that create no array: they work in the arrays they are given.

    numba counts references to every array that is read out of a tuple, in atomic operations; six sevenths of the time
    of the event loop went there.  Without its runtime it counts none, and refuses to compile what creates an array.
    """
    return Jitted(function, in_place=True)


def available() -> bool:
    """Whether numba can be imported: it is installed, and fits the installed numpy."""
    try:
        import_module("numba")
    except ImportError:
        return False
    return True


_announced: list[object] = []


def _announce_compiling() -> None:
    """Say once per process, on stderr, that code is compiled; loading it from the cache stays silent."""
    if _announced:
        return
    event: Any = import_module("numba.core.event")

    class Announcer(event.Listener):  # type: ignore[misc]
        def on_start(self, event: Any) -> None:
            module = event.data["dispatcher"].py_func.__module__
            if module.partition(".")[0] == __name__.partition(".")[0] and _announced != [None]:
                _announced[:] = [None]
                print("simtrain: compiling its fast loops, once for this installation ...", file=sys.stderr)

        def on_end(self, event: Any) -> None: ...

    _announced.append(Announcer())
    event.register("numba:compile", _announced[0])
