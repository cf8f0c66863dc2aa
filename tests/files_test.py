"""Files that others read: whole, and strict json."""

import json
import math

import pytest

from initjax.files import strict_json, write_whole


def test_write_whole_replaces_or_leaves(tmp_path):
    path = tmp_path / "file"
    write_whole(path, "first")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "second \udcff")
    assert path.read_text() == "first"
    write_whole(path, "third")
    assert path.read_text() == "third"


def test_strict_json():
    value = {"a": [1.5, math.nan, (math.inf, -math.inf)], "b": None, "c": "NaN"}
    text = strict_json(value)
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": [1.5, None, [None, None]], "b": None, "c": "NaN",
    }  # fmt: skip
