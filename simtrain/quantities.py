"""Quantities: what users write (``"400 Gbps"``, ``"80 GiB"``, ``"10 min"``) and SI floats inside.

Bits and bytes are never confused: a lower-case ``b`` is a bit, an upper-case ``B`` a byte, ``GB`` is 1e9
and ``GiB`` 2**30.  A number without a unit is refused for every dimension that has one, except 0, which is
the same in every unit.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from simtrain.errors import QuantityError, nearest

__all__ = [
    "DIMENSIONS",
    "Bytes",
    "BytesPerSecond",
    "Count",
    "Dimension",
    "FlopsPerSecond",
    "Seconds",
    "Usd",
    "UsdPerHour",
    "UsdPerKwh",
    "Watts",
    "format_quantity",
    "parse_quantity",
]

_SI = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_IEC = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
_NUMBER = re.compile(r"\s*([+-]?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Dimension:
    """A kind of quantity: what messages call it, its SI unit, the units it is read in, the steps it is printed in."""

    name: str
    noun: str
    unit: str
    units: dict[str, float]
    ladder: tuple[tuple[float, str], ...]
    examples: tuple[str, ...]
    bare_number: bool = False
    also: tuple[tuple[float, str], ...] = ()
    """Further steps that exact texts may use."""


def _prefixed(stems: dict[str, float], *, iec: bool = False) -> dict[str, float]:
    prefixes = _SI | _IEC if iec else _SI
    return {p + stem: factor * scale for stem, scale in stems.items() for p, factor in prefixes.items()}


def _per_second(stems: dict[str, float]) -> dict[str, float]:
    return {unit + "/s": factor for unit, factor in _prefixed(stems, iec=True).items()}


_BYTES = Dimension(
    "bytes",
    "a size in bytes",
    "B",
    _prefixed({"B": 1.0, "bit": 0.125}, iec=True),
    ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B")),
    ("80 GiB", "64 MiB", "24 GB"),
    also=((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")),
)
_BANDWIDTH = Dimension(
    "bandwidth",
    "a bandwidth",
    "B/s",
    _per_second({"B": 1.0, "b": 0.125, "bit": 0.125}) | _prefixed({"bps": 0.125, "Bps": 1.0}),
    ((1e12, "TB/s"), (1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s")),
    ("400 Gbps", "900 GB/s", "3.35 TB/s"),
)
_SECONDS = Dimension(
    "time",
    "a time",
    "s",
    {
        "ns": 1e-9,
        "us": 1e-6,
        "µs": 1e-6,
        "ms": 1e-3,
        "s": 1.0,
        "sec": 1.0,
        "seconds": 1.0,
        "second": 1.0,
        "min": 60.0,
        "minutes": 60.0,
        "minute": 60.0,
        "h": 3600.0,
        "hour": 3600.0,
        "hours": 3600.0,
        "d": 86400.0,
        "day": 86400.0,
        "days": 86400.0,
        "week": 604800.0,
        "weeks": 604800.0,
        "year": 31536000.0,
        "years": 31536000.0,
    },
    ((86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")),
    ("6.2 us", "10 min", "3 years"),
)
_FLOPS = Dimension(
    "FLOP rate",
    "a FLOP rate",
    "FLOP/s",
    _prefixed({"FLOPS": 1.0, "FLOP/s": 1.0, "flops": 1.0}),
    ((1e18, "EFLOPS"), (1e15, "PFLOPS"), (1e12, "TFLOPS"), (1e9, "GFLOPS"), (1.0, "FLOPS")),
    ("989.4 TFLOPS", "1.98 PFLOPS"),
)
_WATTS = Dimension(
    "power",
    "a power",
    "W",
    _prefixed({"W": 1.0}),
    ((1e6, "MW"), (1e3, "kW"), (1.0, "W")),
    ("700 W", "10.2 kW"),
)
_MONEY = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9}
_USD = Dimension(
    "money",
    "an amount of money",
    "USD",
    {f"{prefix}{sep}{unit}": f for prefix, f in _MONEY.items() for sep in ("", " ") for unit in ("USD", "$")},
    ((1e9, "B USD"), (1e6, "M USD"), (1.0, "USD")),
    ("1600 USD", "40 kUSD", "12.8 MUSD"),
)
_USD_PER_HOUR = Dimension(
    "price per hour",
    "a price per hour",
    "USD/h",
    {"USD/h": 1.0, "$/h": 1.0, "USD/hour": 1.0},
    ((1.0, "USD/h"),),
    ("2.50 USD/h",),
)
_USD_PER_KWH = Dimension(
    "electricity price",
    "an electricity price",
    "USD/kWh",
    {"USD/kWh": 1.0, "$/kWh": 1.0},
    ((1.0, "USD/kWh"),),
    ("0.10 USD/kWh",),
)
_COUNT = Dimension(
    "count",
    "a count",
    "",
    {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
    | {f"{p} tokens": f for p, f in (("k", 1e3), ("M", 1e6), ("B", 1e9), ("T", 1e12))}
    | {"tokens": 1.0, "sequences": 1.0},
    ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"), (1.0, "")),
    ("2T", "300B", "14.8 T tokens", "1024"),
    bare_number=True,
)
DIMENSIONS = {
    d.name: d for d in (_BYTES, _BANDWIDTH, _SECONDS, _FLOPS, _WATTS, _USD, _USD_PER_HOUR, _USD_PER_KWH, _COUNT)
}


def parse_quantity(value: str | float, dimension: str) -> float:
    """Read ``value`` as a quantity of ``dimension`` and return it in the dimension's SI unit.

    Args:
        value: text such as ``"400 Gbps"``; a bare number is accepted only for counts, and 0 for all.
        dimension: a key of :data:`DIMENSIONS`.

    Raises:
        QuantityError: no number, no unit, a unit of another dimension, or not finite and non-negative.
    """
    dim = DIMENSIONS[dimension]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise QuantityError(f"{value!r} is not {dim.noun}; write for example {_or(dim.examples)}")
    if isinstance(value, str):
        number, unit = _split(value, dim)
    else:
        number, unit = float(value), ""
    if unit == "" and number == 0:
        return 0.0
    if unit not in dim.units:
        raise QuantityError(_unit_message(value, unit, dim))
    result = number * dim.units[unit]
    if not math.isfinite(result) or result < 0:
        raise QuantityError(f"{value!r} is not {dim.noun}: it must be finite and not negative")
    return result


def _split(text: str, dim: Dimension) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise QuantityError(f"{text!r} is not {dim.noun}; write for example {_or(dim.examples)}")
    return float(match[1].replace("_", "")), match[2]


def _unit_message(value: object, unit: str, dim: Dimension) -> str:
    if unit == "":
        return f"{value!r} has no unit; {dim.noun} is written like {_or(dim.examples)}"
    for other in DIMENSIONS.values():
        if other is not dim and unit in other.units and unit:
            return f"{value!r} is {other.noun}, not {dim.noun}; write for example {_or(dim.examples)}"
    if dim is _BYTES and unit.endswith("b") and unit[:-1] + "B" in dim.units:
        bits, size = f"{unit}it", unit[:-1] + "B"
        return f"{value!r}: {unit!r} are bits; {dim.noun} is written in {size!r} (bytes) or {bits!r}"
    close = nearest(unit, dim.units)
    hint = f"did you mean {close!r}? " if close else ""
    return f"{value!r}: {unit!r} is no unit of {dim.name}; {hint}write for example {_or(dim.examples)}"


def _or(examples: tuple[str, ...]) -> str:
    return " or ".join(f'"{e}"' for e in examples)


def format_quantity(value: float, dimension: str, digits: int = 4) -> str:
    """Print an SI value with the largest unit that keeps it at 1 or above, e.g. ``"50 GB/s"``."""
    dim = DIMENSIONS[dimension]
    for step, unit in dim.ladder:
        if abs(value) >= step * (1 - 1e-12):
            return f"{value / step:.{digits}g} {unit}".rstrip()
    return f"{value:.{digits}g} {dim.unit}".rstrip()


def _exact(value: float, dim: Dimension) -> str:
    """Shortest text that :func:`parse_quantity` reads back to the very same float."""
    texts = [f"{value!r} {dim.unit}".rstrip()]
    for step, unit in dim.ladder + dim.also:
        number = f"{value / step:.10g}"
        if value >= step and float(number) * dim.units[unit] == value:
            texts.append(f"{number} {unit}".rstrip())
    return min(texts, key=len)


def _quantity_type(dimension: str) -> Any:
    dim = DIMENSIONS[dimension]

    def read(value: Any) -> float:
        try:
            return parse_quantity(value, dimension)
        except QuantityError as error:
            raise PydanticCustomError("quantity", "{message}", {"message": str(error)}) from None

    schema: dict[str, Any] = {
        "type": "string",
        "description": f"{dim.noun} with its unit",
        "examples": list(dim.examples),
    }
    if dim.bare_number:
        schema["type"] = ["string", "number"]
    return Annotated[
        float,
        BeforeValidator(read),
        PlainSerializer(lambda v: _exact(v, dim), return_type=str, when_used="json"),
        WithJsonSchema(schema),
        Field(allow_inf_nan=False),
    ]


Bytes = _quantity_type("bytes")
BytesPerSecond = _quantity_type("bandwidth")
Seconds = _quantity_type("time")
FlopsPerSecond = _quantity_type("FLOP rate")
Watts = _quantity_type("power")
Usd = _quantity_type("money")
UsdPerHour = _quantity_type("price per hour")
UsdPerKwh = _quantity_type("electricity price")
Count = _quantity_type("count")
