"""The hash by which a switch picks one of several equal ways for a flow (ECMP)."""

from __future__ import annotations

from typing import Any

__all__ = ["flow_hash"]

_MASK = 0xFFFF_FFFF


def flow_hash(source: Any, target: Any, key: int) -> Any:
    """A number in 0 to 2**32 - 1 that looks random; the same for numbers and for arrays of them.

    Args:
        source: NIC port that sends, below 2**32.
        target: NIC port that receives, below 2**32.
        key: distinguishes seeds and tiers, below 2**32.
    """
    return _mixed(_mixed(_mixed(key) ^ source) ^ target)


def _mixed(x: Any) -> Any:
    """A bijection of 32-bit numbers in which every bit of the argument stirs every bit of the result.

    Two rounds of multiply and xor-shift, constants 0x21f0aaad and 0x735a2d97 of C. Wellons' hash-prospector (2018);
    both are below 2**31, so that products stay within a signed 64-bit integer.
    """
    x = (x ^ x >> 16) * 0x21F0AAAD & _MASK
    x = (x ^ x >> 15) * 0x735A2D97 & _MASK
    return x ^ x >> 15
