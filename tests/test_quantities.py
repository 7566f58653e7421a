"""Units: bits and bytes, decimal and binary, and the way back from a number to text."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from simtrain.errors import QuantityError
from simtrain.quantities import DIMENSIONS, Bytes, Seconds, format_quantity, parse_quantity
from simtrain.quantities import _exact as exact

VALUES = st.floats(min_value=0, max_value=1e30, allow_subnormal=False)
NAMES = st.sampled_from(sorted(DIMENSIONS))


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("24 GB", "bytes", 24e9),
        ("24 GiB", "bytes", 24 * 2**30),
        ("24GiB", "bytes", 24 * 2**30),
        ("1 Gbit", "bytes", 1.25e8),
        ("400 Gbps", "bandwidth", 50e9),
        ("400 Gb/s", "bandwidth", 50e9),
        ("400 Gbit/s", "bandwidth", 50e9),
        ("400 GB/s", "bandwidth", 400e9),
        ("400 GBps", "bandwidth", 400e9),
        ("1 GiB/s", "bandwidth", 2**30),
        ("6.2 us", "time", 6.2e-6),
        ("6.2 µs", "time", 6.2e-6),
        ("10 min", "time", 600),
        ("3 h", "time", 10800),
        ("3 years", "time", 3 * 365 * 86400),
        ("989.4 TFLOPS", "FLOP rate", 989.4e12),
        ("1.98 PFLOP/s", "FLOP rate", 1.98e15),
        ("10.2 kW", "power", 10200),
        ("1600 USD", "money", 1600),
        ("40 kUSD", "money", 40e3),
        ("12.8 M$", "money", 12.8e6),
        ("2.50 USD/h", "price per hour", 2.5),
        ("0.10 USD/kWh", "electricity price", 0.1),
        ("2T", "count", 2e12),
        ("14.8 T tokens", "count", 14.8e12),
        ("1_000", "count", 1000),
        (1024, "count", 1024),
        (0, "time", 0),
        ("0", "bytes", 0),
    ],
)
def test_reading(text, dimension, value):
    assert parse_quantity(text, dimension) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "dimension", "expected"),
    [
        (80, "bytes", "has no unit"),
        ("80", "bytes", "has no unit"),
        ("24 Gb", "bytes", "are bits"),
        ("400 GB", "bandwidth", "is a size in bytes, not a bandwidth"),
        ("400 Gbps", "bytes", "is a bandwidth, not a size in bytes"),
        ("5 gb", "bytes", "did you mean 'GB'?"),
        ("10 minuts", "time", "did you mean 'minutes'?"),
        ("1 TFLOP", "FLOP rate", "did you mean 'TFLOPS'?"),
        ("-1 s", "time", "not negative"),
        ("1e999 s", "time", "finite"),
        (math.inf, "count", "finite"),
        (math.nan, "count", "finite"),
        (True, "count", "is not a count"),
        (None, "time", "is not a time"),
        ("fast", "bandwidth", '"400 Gbps"'),
        ("", "time", "is not a time"),
        ("1,000 USD", "money", "no unit of money"),
        ("1.2.3 GB", "bytes", "no unit of bytes"),
    ],
)
def test_refusing(text, dimension, expected):
    with pytest.raises(QuantityError) as caught:
        parse_quantity(text, dimension)
    assert expected in str(caught.value)
    assert repr(text) in str(caught.value)


@given(VALUES, NAMES)
def test_exact_text_reads_back_to_the_same_float(value, name):
    assert parse_quantity(exact(value, DIMENSIONS[name]), name) == value


@given(st.floats(min_value=1e-9, max_value=1e20), NAMES)
def test_printed_text_reads_back_to_the_digits_printed(value, name):
    text = format_quantity(value, name, digits=6)
    assert parse_quantity(text, name) == pytest.approx(value, rel=1e-5)


@given(st.floats(min_value=0, max_value=1e6), st.sampled_from(["k", "M", "G", "T", "P"]))
def test_a_byte_is_eight_bits(number, prefix):
    in_bytes = parse_quantity(f"{number!r} {prefix}B/s", "bandwidth")
    in_bits = parse_quantity(f"{number!r} {prefix}b/s", "bandwidth")
    assert in_bytes == pytest.approx(8 * in_bits, rel=1e-15)


@pytest.mark.parametrize(
    ("decimal", "binary", "power"), [("kB", "KiB", 1), ("MB", "MiB", 2), ("GB", "GiB", 3), ("TB", "TiB", 4)]
)
def test_decimal_and_binary_prefixes_differ(decimal, binary, power):
    assert parse_quantity(f"1 {decimal}", "bytes") == 1000.0**power
    assert parse_quantity(f"1 {binary}", "bytes") == 1024.0**power


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [(50e9, "bandwidth", "50 GB/s"), (80 * 2**30, "bytes", "80 GiB"), (600, "time", "10 min"), (0.0, "time", "0 s")],
)
def test_printing(value, dimension, text):
    assert format_quantity(value, dimension) == text


def test_fields_read_units_and_dump_the_shortest_exact_text():
    class Part(BaseModel):
        memory: Bytes
        time: Seconds

    part = Part(memory="24 GB", time="90 s")
    assert (part.memory, part.time) == (24e9, 90.0)
    assert part.model_dump(mode="json") == {"memory": "24 GB", "time": "90 s"}
