"""A format is one file: it registers itself, and is read by its first bytes and its ending."""

import importlib
import sys

import numpy as np
import pytest

from initjax import weights
from initjax.support.errors import UserError
from initjax.weights import formats

READER = '''
"""Raw float32 after four bytes."""

import numpy as np

from initjax.weights import tensors
from initjax.weights.formats import register, starts_with


@register("raw", title="raw", recognizes=starts_with(b"\\x80RAW"), endings=(".raw",))
def read_raw(file):
    values = np.fromfile(file, np.float32, offset=4)
    tensor = tensors.Tensor(file.stem, values.shape, "float32", "flax", lambda: values)
    return tensors.create_checkpoint(str(file), "raw", [tensor], [])
'''


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """The format above, from a module of its own, for one test."""
    monkeypatch.setattr(formats.FORMATS, "_table", {n: formats.FORMATS[n] for n in formats.FORMATS})
    (tmp_path / "raw_files.py").write_text(READER)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield importlib.import_module("raw_files")
    del sys.modules["raw_files"]


def write(file):
    file.write_bytes(b"\x80RAW" + np.arange(6, dtype=np.float32).tobytes())
    return file


def test_one_decorator_adds_a_throw_away_format(tmp_path, raw):
    # By more bytes than PyTorch's old files, which begin with the first of them.
    checkpoint = weights.read(write(tmp_path / "first.of_any_name"))
    assert checkpoint.format == "raw"
    np.testing.assert_array_equal(checkpoint.tensors[0].load(), np.arange(6))
    shards = tmp_path / "shards"
    shards.mkdir()
    write(shards / "a.raw")
    write(shards / "b.raw")
    assert [tensor.path for tensor in weights.read(shards).tensors] == ["a", "b"]
    (tmp_path / "other").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"\.pth, \.pt and \.bin, and raw\."):
        weights.read(tmp_path / "other")


def test_without_it_the_file_is_of_another_format(tmp_path):
    with pytest.raises(UserError, match="raw"):
        weights.read(write(tmp_path / "first.raw"))
    assert ".raw" not in formats.endings()


def test_a_name_is_taken_once(raw):
    with pytest.raises(ValueError, match="'raw' is registered twice"):
        importlib.reload(raw)


def test_messages_name_all_formats_in_the_order_of_the_face():
    assert formats.readable() == (
        "safetensors, .npz, .npy, Flax msgpack, Orbax, and PyTorch's .pth, .pt and .bin"
    )


@pytest.mark.parametrize("length", [0x80, 0x280, 0x81, 0x93])
def test_most_bytes_decide(length):
    """The length of a header of safetensors may look like a pickle's or a map's first byte."""
    head = length.to_bytes(8, "little") + b'{"a":{}'
    assert formats.find_file_format(head, 10_000) is formats.FORMATS["safetensors"]
    assert formats.find_file_format(head, 20) is not formats.FORMATS["safetensors"]
