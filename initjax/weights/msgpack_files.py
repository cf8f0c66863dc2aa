"""Reads Flax's msgpack files without reading the whole.

`flax.serialization` and the msgpack package decode a file at once, with all its arrays. Here the
headers are walked through and the bytes of the arrays skipped, until one is asked for. Arrays are
extensions of type 1, scalars of NumPy of type 3; both hold a msgpack list (shape, name of the
dtype, bytes). An array above 1 GiB is a map with its shape and its chunks.
"""

import dataclasses
import io
import math
import os
import pathlib
import struct
from typing import Any

import numpy as np

from initjax.support.errors import UserError
from initjax.weights.formats import register, starts_with
from initjax.weights.tensors import (
    Checkpoint,
    Paths,
    Tensor,
    create_checkpoint,
    find_dtype,
    guess_layout,
    is_shape,
    read_array,
)

_MAX_VALUES = 1_000_000
_MAX_DEPTH = 64
_MAX_STRING = 1000  # bytes that are read
_CHUNKED = "__msgpack_chunked_array__"

# First byte -> (kind, struct format of the number that follows, or of the length).
_NUMBERS = {
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
_LENGTHS = {
    0xC4: ("bytes", ">B"),
    0xC5: ("bytes", ">H"),
    0xC6: ("bytes", ">I"),
    0xC7: ("extension", ">B"),
    0xC8: ("extension", ">H"),
    0xC9: ("extension", ">I"),
    0xD9: ("str", ">B"),
    0xDA: ("str", ">H"),
    0xDB: ("str", ">I"),
    0xDC: ("list", ">H"),
    0xDD: ("list", ">I"),
    0xDE: ("map", ">H"),
    0xDF: ("map", ">I"),
}


@dataclasses.dataclass(frozen=True)
class _Bytes:
    """Bytes in the file, not read; `code` is the type of an extension."""

    offset: int
    size: int
    code: int | None = None


@dataclasses.dataclass(frozen=True)
class _Array:
    """An array in the file: its chunks are its rows in order."""

    shape: tuple[int, ...]
    dtype: np.dtype
    offsets: tuple[tuple[int, int], ...]  # (offset, number of elements) of the chunks


# A map that is not empty, as Flax's files are.
_is_map = starts_with(*(bytes([first]) for first in (*range(0x81, 0x90), 0xDE, 0xDF)))


@register("msgpack", title="Flax msgpack", recognizes=_is_map, endings=(".msgpack",))
def read_msgpack(file: pathlib.Path) -> Checkpoint:
    """The arrays of a file of `flax.serialization.to_bytes`."""
    with file.open("rb") as stream:
        reader = _Reader(stream, os.path.getsize(file))
        try:
            tree = reader.read_value()
            if stream.read(1):
                raise ValueError("it goes on after its end")
            arrays, skipped = [], []
            _collect(reader, tree, "", Paths(file), arrays, skipped)
        except UserError:
            raise
        except (ValueError, struct.error) as error:
            raise UserError(f"{file} is a damaged msgpack file: {error}.") from None
    layout = guess_layout(path for path, _ in arrays)
    tensors = [_tensor(file, path, layout, array) for path, array in arrays]
    return create_checkpoint(str(file), "msgpack", tensors, skipped)


def _tensor(file, path, layout, array: _Array) -> Tensor:
    def load() -> np.ndarray:
        if len(array.offsets) == 1:
            return read_array(file, array.offsets[0][0], array.dtype, array.shape)
        values = np.empty(math.prod(array.shape), array.dtype)
        start = 0
        for offset, size in array.offsets:
            values[start : start + size] = read_array(file, offset, array.dtype, (size,))
            start += size
        return values.reshape(array.shape)

    return Tensor(path, array.shape, array.dtype.name, layout, load)


class _Reader:
    """Reads values from a stream; of bytes only where they are."""

    def __init__(self, stream: io.BufferedReader, size: int):
        self._stream = stream
        self._size = size
        self._rest = _MAX_VALUES

    def read_value(self, depth: int = 0) -> Any:
        """A number, None, a str, a list, a list of pairs for a map, or `_Bytes`."""
        self._rest -= 1
        if self._rest < 0:
            raise ValueError(f"it has more than {_MAX_VALUES} values")
        if depth > _MAX_DEPTH:
            raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")
        kind, value = self._read_head()
        if kind == "list":
            return [self.read_value(depth + 1) for _ in range(value)]
        if kind == "map":
            pairs = [(self.read_value(depth + 1), self.read_value(depth + 1)) for _ in range(value)]
            return _Map(pairs)
        if kind == "str":
            return self._read_string(value)
        if kind == "bytes":
            return self._skip(value)
        if kind == "extension":
            (code,) = struct.unpack("b", self._read(1))
            return self._skip(value, code)
        return value

    def read_array(self, found: _Bytes) -> _Array | None:
        """The array that an extension holds; None if its dtype is not one of numbers."""
        self._stream.seek(found.offset)
        match self.read_value():
            case [list(shape), (str() | _Bytes()) as name, _Bytes() as values]:
                pass
            case _:
                raise ValueError("an array is not made of shape, dtype and bytes")
        if isinstance(name, _Bytes):
            if name.size > _MAX_STRING:
                raise ValueError("the name of a dtype is too long")
            self._stream.seek(name.offset)
            name = self._read(name.size).decode()
        if not is_shape(shape) or values.offset + values.size > found.offset + found.size:
            raise ValueError("an array does not fit its place")
        dtype = find_dtype(name)
        if dtype is None:
            return None
        size = math.prod(shape)
        if size * dtype.itemsize != values.size:
            raise ValueError(f"{values.size} bytes do not fit {dtype}{shape}")
        return _Array(tuple(shape), dtype, ((values.offset, size),))

    def _read_head(self) -> tuple[str, Any]:
        """(kind, number of items or bytes; or the value itself)."""
        (first,) = self._read(1)
        if first < 0x80:
            return "int", first
        if first < 0x90:
            return "map", first & 0x0F
        if first < 0xA0:
            return "list", first & 0x0F
        if first < 0xC0:
            return "str", first & 0x1F
        if first >= 0xE0:
            return "int", first - 0x100
        if first in (0xC0, 0xC2, 0xC3):
            return "constant", {0xC0: None, 0xC2: False, 0xC3: True}[first]
        if 0xD4 <= first <= 0xD8:
            return "extension", 1 << (first - 0xD4)
        if first in _NUMBERS:
            return "number", self._unpack(_NUMBERS[first])
        if first in _LENGTHS:
            kind, layout = _LENGTHS[first]
            return kind, self._unpack(layout)
        raise ValueError(f"byte {first:#x} begins no value")

    def _unpack(self, layout: str):
        return struct.unpack(layout, self._read(struct.calcsize(layout)))[0]

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise ValueError("it ends too early")
        return data

    def _read_string(self, size: int) -> str:
        if size <= _MAX_STRING:
            return self._read(size).decode("utf-8", "replace")
        text = self._read(_MAX_STRING).decode("utf-8", "replace") + "..."
        self._skip(size - _MAX_STRING)
        return text

    def _skip(self, size: int, code: int | None = None) -> _Bytes:
        offset = self._stream.tell()
        if offset + size > self._size:
            raise ValueError("it ends too early")
        self._stream.seek(size, os.SEEK_CUR)
        return _Bytes(offset, size, code)


class _Map(list):
    """A map as its pairs."""


def _collect(reader: _Reader, value, prefix: str, paths: Paths, arrays: list, skipped: list):
    """Appends the arrays in `value`, and the rest to `skipped`; the values are a tree."""
    path = prefix[:-1]
    if isinstance(value, _Bytes) and value.code in (1, 3):
        array = reader.read_array(value)
        if array is None:
            skipped.append((path, "its dtype is not one of numbers"))
        else:
            arrays.append((path, array))
    elif isinstance(value, _Map) and any(key == _CHUNKED for key, _ in value):
        arrays.append((path, _join(reader, value)))
    elif isinstance(value, _Map) or (isinstance(value, list) and any(map(_is_node, value))):
        pairs = value if isinstance(value, _Map) else enumerate(value)
        for key, child in pairs:
            name = str(key) if isinstance(key, (str, int)) else "?"
            _collect(reader, child, paths.join(prefix, name, "/"), paths, arrays, skipped)
    elif isinstance(value, list):
        if value:
            skipped.append((path, f"it is a list of {len(value)} values"))
    elif isinstance(value, _Bytes):
        skipped.append((path, "it is bytes, not an array"))
    else:
        skipped.append((path, f"it is {value if value is None else type(value).__name__}"))


def _is_node(value) -> bool:
    return isinstance(value, (_Bytes, _Map, list))


def _join(reader: _Reader, pairs: _Map) -> _Array:
    """The array whose chunks a map holds."""
    parts = {key: value for key, value in pairs if isinstance(key, str)}
    shape, chunks = parts.get("shape"), parts.get("chunks")
    if not isinstance(shape, _Map) or not isinstance(chunks, _Map):
        raise ValueError("an array in chunks has no shape or no chunks")
    if not all(isinstance(chunk, _Bytes) for _, chunk in chunks):
        raise ValueError("a chunk is not an array")
    shape = tuple(size for _, size in shape)
    arrays = [reader.read_array(chunk) for _, chunk in chunks]
    dtypes = {array and array.dtype for array in arrays}
    if len(dtypes) != 1 or None in dtypes or not is_shape(shape):
        raise ValueError("the chunks of an array do not fit each other")
    offsets = tuple(offset for array in arrays for offset in array.offsets)
    if sum(size for _, size in offsets) != math.prod(shape):
        raise ValueError("the chunks of an array do not fit its shape")
    return _Array(shape, dtypes.pop(), offsets)
