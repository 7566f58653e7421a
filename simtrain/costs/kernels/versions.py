"""Coefficients of fused attention of a given software, on devices that may not have been measured with it.

Where a device lacks them, the ratio of two kernels on a device that has both scales the one that this device has.
"""

from __future__ import annotations

from functools import cache
from typing import get_args

from simtrain.model.operators import KernelClass
from simtrain.scenario.kernels import AttentionEfficiency, AttentionKernel, KernelTable
from simtrain.scenario.load import validate
from simtrain.scenario.resolve import Origin, follow

__all__ = ["DIRECTIONS", "attention_version"]

DIRECTIONS: tuple[KernelClass, ...] = ("attention_forward", "attention_backward")
_LENDER = "a100-80gb-sxm"
"""Device of the library that lends ratios.  What was written for a newer chip is of another ratio on an older one, so
that it is the oldest for which several kernels are known."""


def attention_version(table: KernelTable, kind: KernelClass, wanted: AttentionKernel | None) -> AttentionEfficiency:
    """Coefficients of ``wanted`` (None: whatever the table's own are) in one of the :data:`DIRECTIONS`."""
    default: AttentionEfficiency = getattr(table, kind)
    if wanted is None:
        return default
    own = _known(table, kind)
    if wanted in own:
        return own[wanted]
    lent = _known(_lender(), kind)
    for kernel, coefficients in own.items() if wanted in lent else ():
        if kernel in lent:
            ratio = (lent[wanted].compute or 1.0) / (lent[kernel].compute or 1.0)
            source = f"{kernel} here, times the rate of {wanted} against it on {_LENDER} ({ratio:.3g})"
            compute = min(1.0, (coefficients.compute or 1.0) * ratio)
            return coefficients.model_copy(update={"compute": compute, "measured": False, "source": source})
    source = f"no coefficients of {wanted}; the device's own: {default.source}"
    return default.model_copy(update={"measured": False, "source": source})


def _known(table: KernelTable, kind: KernelClass) -> dict[AttentionKernel, AttentionEfficiency]:
    """Coefficients by software, the table's own first."""
    found: dict[AttentionKernel, AttentionEfficiency] = {}
    if table.attention_kernel:
        found[table.attention_kernel] = getattr(table, kind)
    direction = kind.removeprefix("attention_")
    for name in get_args(AttentionKernel):
        variant = table.attention_variants.get(f"{name}_{direction}")
        if variant is not None:
            found.setdefault(name, variant)
    return found


@cache
def _lender() -> KernelTable:
    return validate(KernelTable, follow("kernels", _LENDER, Origin("")))
