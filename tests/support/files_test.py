"""Files that others read: whole, and strict json."""

import json
import math
import os
import pathlib

import numpy as np
import pytest

from initjax.data.caches import write_arrays
from initjax.support.files import (
    intact,
    json_row,
    strict_json,
    user_path,
    whole_file,
    write_whole,
)


def test_write_whole_replaces_or_leaves(tmp_path):
    path = tmp_path / "file"
    write_whole(path, "first")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "second \udcff")
    assert path.read_text() == "first"
    write_whole(path, "third")
    assert path.read_text() == "third"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o007, 0o660)])
def test_the_umask_says_who_may_read(tmp_path, mask, mode):
    """A cache that two users share must not be readable to the one alone who filled it."""
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "text", "text")
        write_arrays(tmp_path / "cache.npz", {"train_images": np.zeros(2)})
    finally:
        os.umask(before)
    for name in ("text", "cache.npz"):
        assert (tmp_path / name).stat().st_mode & 0o777 == mode


def test_two_writers_do_not_mix(tmp_path):
    """Each writes a part of its own; the file is the one or the other."""
    path = tmp_path / "file"
    with whole_file(path) as first, whole_file(path) as second:
        first.write(b"aaaa")
        second.write(b"bb")
        assert not path.exists()
    assert path.read_bytes() == b"aaaa"  # the outer block ends last


def test_user_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/runs") == tmp_path / "runs"
    assert user_path("a/~") == pathlib.Path("a/~")


def test_strict_json():
    value = {"a": [1.5, math.nan, (math.inf, -math.inf)], "b": None, "c": "NaN"}
    text = strict_json(value)
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": [1.5, None, [None, None]], "b": None, "c": "NaN",
    }  # fmt: skip


def test_no_flipped_bit_of_a_row_is_taken():
    row = {"step": 20, "loss": 1.25e-17, "name": "\u00e9", "none": math.nan, "curve": [0.1, 2.0]}
    whole = json_row(row)
    assert intact(json.loads(whole)) == row | {"none": None}
    assert intact(json.loads(json_row(row, indent=2))) == row | {"none": None}
    assert intact(row) == row
    for position in range(len(whole) - 1):
        for bit in range(7):
            flipped = (
                whole[:position] + chr(ord(whole[position]) ^ 1 << bit) + whole[position + 1 :]
            )
            try:
                found = intact(json.loads(flipped, strict=False))
            except ValueError:
                continue
            # Of the name of the digest itself: then it is one more value, and the others are right.
            assert found is None or {k: found.get(k) for k in row} == row | {"none": None}
