"""What is kept of data: damaged or another set's, it is made anew, and that is said."""

import random
import shutil

import numpy as np
import pytest

from initjax import data
from initjax.data.caches import read_arrays, write_arrays
from initjax.support.fetch import cache_folder

pytestmark = pytest.mark.usefixtures("streamed_here")

ARRAYS = {"a": np.arange(100, dtype=np.float32), "b": np.zeros((3, 4), np.uint8)}


def test_no_flipped_bit_is_used(tmp_path):
    file = tmp_path / "set.npz"
    assert read_arrays(file, tuple(ARRAYS)) is None
    write_arrays(file, ARRAYS)
    whole, draw, told = file.read_bytes(), random.Random(0), 0
    for _ in range(200):
        flipped = bytearray(whole)
        flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        file.write_bytes(flipped)
        found = read_arrays(file, tuple(ARRAYS))
        told += found is None
        for name, array in (found or {}).items():
            np.testing.assert_array_equal(array, ARRAYS[name])
            assert array.dtype == ARRAYS[name].dtype
    assert told > 100  # the others are in dates and the like


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "emptied", "another's", "no archive"])
@pytest.mark.parametrize("streams", [False, True])
def test_damage_is_said_and_made_good(insects_dir, caplog, damage, streams):
    def load(size=8):
        found = data.load("tiny_insects", insects_dir, size, stream=streams)
        return found.mean, found.train_labels[:]

    wanted, other = load(), load(9)
    file, another = sorted(cache_folder().glob("*.npz"))
    assert "-8px-" in file.name and "-9px-" in another.name and not caplog.records
    if damage == "another's":
        shutil.copy(another, file)
    else:
        text = {"cut": file.read_bytes()[:-100], "emptied": b"", "no archive": b"\x93NUMPY"}
        file.write_bytes(text[damage])
    for number in (1, 1):  # made good by the first
        found = load()
        assert sum("is made anew" in r.message for r in caplog.records) == number
        for x, y in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(x, y)
    assert (other[0] != wanted[0]).any()
