"""Reads safetensors: a JSON header, then the bytes of the tensors.

The `safetensors` package cannot give 8-bit floats to NumPy, and maps the whole file; the format is
simple enough to be read here.
"""

import itertools
import json
import math
import os
import pathlib

import numpy as np

from initjax.support.errors import UserError
from initjax.weights.formats import register
from initjax.weights.tensors import (
    Checkpoint,
    Tensor,
    create_checkpoint,
    find_dtype,
    guess_layout,
    is_shape,
    read_array,
)

_MAX_HEADER = 16 << 20  # bytes; 100,000 tensors take 10 MiB

_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
}


def _recognizes(head: bytes, size: int) -> int:
    """All 9 bytes of the length of the header and of its brace, if they fit the file."""
    fits = head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8
    return 9 if fits else 0


@register("safetensors", title="safetensors", recognizes=_recognizes, endings=(".safetensors",))
def read_safetensors(file: pathlib.Path) -> Checkpoint:
    """The tensors of a safetensors file."""
    size = os.path.getsize(file)
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > _MAX_HEADER:
            raise UserError(f"{file} has a header of {length:,} bytes; {_MAX_HEADER:,} are read.")
        text = stream.read(length)
    try:
        header = json.loads(text.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} has no valid safetensors header: {error}.") from None
    if not isinstance(header, dict):
        raise UserError(f"{file} has no valid safetensors header: it is no JSON object.")
    metadata = header.pop("__metadata__", None)
    origin = metadata.get("format") if isinstance(metadata, dict) else None
    layout = {"pt": "torch", "flax": "flax"}.get(origin if isinstance(origin, str) else None)
    layout = layout or guess_layout(header)
    data_start = 8 + length
    tensors, skipped, ranges = [], [], []
    for path, entry in header.items():
        try:
            shape, (begin, end), dtype_name = entry["shape"], entry["data_offsets"], entry["dtype"]
            valid = is_shape(shape) and type(begin) is type(end) is int
            valid = valid and 0 <= begin <= end <= size - data_start and isinstance(dtype_name, str)
        except (KeyError, TypeError, ValueError):
            valid = False
        if not valid:
            raise UserError(f"{file}: the header's entry of {path!r} does not fit the file.")
        ranges.append((begin, end, path))
        if dtype_name not in _DTYPES:
            skipped.append((path, f"its dtype {dtype_name} is not supported"))
            continue
        dtype = find_dtype(_DTYPES[dtype_name])
        if math.prod(shape) * dtype.itemsize != end - begin:
            raise UserError(
                f"{file}: {path!r} has {end - begin} bytes, which do not fit {dtype}{shape}."
            )
        tensors.append(_tensor(path, shape, dtype, layout, file, data_start + begin))
    ranges.sort()
    for (_, end, path), (begin, _, next_path) in itertools.pairwise(ranges):
        if begin < end:
            raise UserError(f"{file}: {path!r} and {next_path!r} overlap.")
    return create_checkpoint(str(file), "safetensors", tensors, skipped)


def _tensor(path, shape, dtype: np.dtype, layout, file, offset) -> Tensor:
    shape = tuple(shape)
    return Tensor(path, shape, dtype.name, layout, lambda: read_array(file, offset, dtype, shape))


def _unique(pairs):
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a name occurs twice")
    return entries
