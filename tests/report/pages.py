"""Reading figures back out of a page, as a browser would."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import numpy as np

TYPES = {"f8": np.float64, "f4": np.float32, "i4": np.int32, "i2": np.int16, "i1": np.int8, "u1": np.uint8}


def figures(page: str) -> list[dict[str, Any]]:
    """The figures of a page, in order."""
    found = re.findall(r'<script type="application/json" class="figure-data"[^>]*>(.*?)</script>', page, re.DOTALL)
    return [json.loads(text) for text in found]


def array(value: Any) -> np.ndarray:
    """A trace attribute as an array: a typed array in base64, or a list."""
    if not isinstance(value, dict):
        return np.asarray(value)
    flat = np.frombuffer(base64.b64decode(value["bdata"]), dtype=TYPES[value["dtype"]])
    return flat.reshape([int(n) for n in str(value["shape"]).split(",")]) if "shape" in value else flat
