import numpy as np
import pytest

from simtrain.reliability.philox import key_of, philox, seed_word, uniform_pair, uniforms

# Random123, examples/kat_vectors: philox4x32 10 rounds
KNOWN = [
    ((0, 0), (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 4, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0xA4093822, 0x299F31D0),
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize("form", ["plain", "compiled"])
@pytest.mark.parametrize(("key", "counter", "words"), KNOWN)
def test_published_vectors(form, key, counter, words):
    assert tuple(getattr(philox, form)(*key, *counter)) == words


def test_uniform_numbers_are_the_same_one_by_one_and_in_a_block():
    block = uniforms(7, key_of("gpu"), 3, 0, 5, 2, 10, 500)
    one = [uniform_pair.plain(7, key_of("gpu"), 3, 0, 5 + i, 10 + j) for i in range(2) for j in range(500)]
    assert np.array_equal(block, np.array(one))
    assert ((block >= 0) & (block < 1)).all()
    assert abs(block.mean() - 0.5) < 0.03


def test_large_seeds_become_one_word():
    assert seed_word(2**32 - 1) == 2**32 - 1
    assert 0 <= seed_word(2**70) < 2**32
