"""Files that others read: whole, and strict json."""

import json
import math
import os
import pathlib

import numpy as np
import pytest

from initjax.data.tfds import _write_cache
from initjax.support.files import strict_json, user_path, whole_file, write_whole


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
        _write_cache(tmp_path / "cache.npz", {"train_images": np.zeros(2)})
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
