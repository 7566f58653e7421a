"""Which software profile stands for a stack of some year."""

from __future__ import annotations

import re
from functools import cache

from simtrain.scenario.load import load_software
from simtrain.scenario.software import Software

__all__ = ["profile_of"]

_FAMILIES = {
    "megatron-lm": (("megatron-2021", 2021), ("megatron-2022", 2022), ("megatron-2023", 2023), ("megatron-core", 9999)),
    "megatron-deepspeed": (("megatron-deepspeed", 9999),),
    "deepspeed": (("deepspeed-2021", 2021), ("megatron-deepspeed", 9999)),
    "torch-fsdp": (("torch-fsdp-2023", 2023), ("torch-fsdp", 9999)),
    "nemo-megatron-core": (("nemo-2024", 2024), ("megatron-bridge", 9999)),
    "megatron-core": (("nemo-2024", 2024), ("megatron-lm-2025", 9999)),
    "hai-llm": (("hai-llm", 9999),),
    "llmq": (("llmq", 9999),),
    "nemo-automodel": (("nemo-automodel", 9999),),
}
"""Profiles of a stack by the last year they stand for."""
_GENERIC = (("megatron-2021", 2021), ("megatron-2022", 2022), ("megatron-2023", 2023), ("megatron-core", 9999))
"""For stacks not known, and those of the Megatron-Core family."""


def profile_of(stack: str, year: int | None, version: str = "") -> Software:
    """The profile of a stack; one not met before gets the nearest generic one of its year.

    Megatron-Core of a NeMo container, whose versions are a year and a month, is run by NeMo's recipes.
    """
    name = stack.strip().lower()
    if name == "megatron-core" and re.match(r"2\d\.(0\d|1[012])\b", version.strip()):
        name = "nemo-megatron-core"
    known = _FAMILIES.get(name) or next((f for key, f in _FAMILIES.items() if name and key in name), _GENERIC)
    return _load(next(profile for profile, last in known if (year or 9999) <= last))


@cache
def _load(name: str) -> Software:
    return load_software(name)
