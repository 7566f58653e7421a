"""Counter-based random numbers: Philox 4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011).

A number depends on nothing but its key and counter, so every draw of every part of every replicate has its own,
whatever was drawn before it: another class, engine or worker changes no other number.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from simtrain.jit import jit, jit_in_place

__all__ = ["key_of", "philox", "seed_word", "uniform_pair", "uniforms"]

_MASK = 0xFFFFFFFF
_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85


def key_of(name: str) -> int:
    """Second word of the key: the name of a class or other source of randomness."""
    return crc32(name.encode())


def seed_word(seed: int) -> int:
    """First word of the key: seeds below 2**32 are their own."""
    return seed if seed <= _MASK else crc32(str(seed).encode())


@jit_in_place
def philox(k0: int, k1: int, c0: int, c1: int, c2: int, c3: int) -> tuple[int, int, int, int]:
    """Four words of 32 bits from a key of two and a counter of four."""
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = ((p1 >> 32) & _MASK) ^ c1 ^ k0, p1 & _MASK, ((p0 >> 32) & _MASK) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return c0, c1, c2, c3


@jit_in_place
def uniform_pair(seed: int, key: int, replicate: int, purpose: int, part: int, draw: int) -> tuple[float, float]:
    """Two numbers of 53 bits in [0, 1)."""
    a, b, c, d = philox(seed, key, draw, part, purpose, replicate)
    return ((a >> 5) * 67108864.0 + (b >> 6)) / 9007199254740992.0, (
        (c >> 5) * 67108864.0 + (d >> 6)
    ) / 9007199254740992.0


@jit
def uniforms(
    seed: int, key: int, replicate: int, purpose: int, part: int, parts: int, draw: int, draws: int
) -> NDArray[np.float64]:
    """(parts * draws, 2): :func:`uniform_pair` of consecutive parts, and of consecutive draws of each."""
    found = np.empty((parts * draws, 2))
    for i in range(parts):
        for j in range(draws):
            u, v = uniform_pair(seed, key, replicate, purpose, part + i, draw + j)
            found[i * draws + j, 0] = u
            found[i * draws + j, 1] = v
    return found
