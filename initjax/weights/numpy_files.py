"""Reads .npy and .npz, never unpickling."""

import ast
import math
import os
import pathlib
import warnings
import zipfile
import zlib

import numpy as np

from initjax.support.errors import UserError
from initjax.weights.formats import register, starts_with
from initjax.weights.tensors import (
    Checkpoint,
    Tensor,
    check_inflation,
    create_checkpoint,
    find_dtype,
    guess_layout,
    is_shape,
)

_BLOCK = 1 << 18
_MAGIC = b"\x93NUMPY"


@register("npz", title=".npz", member=".npy", endings=(".npz",))
def read_npz(file: pathlib.Path, archive: zipfile.ZipFile) -> Checkpoint:
    """The arrays of an .npz file."""
    members = archive.infolist()
    check_inflation(file, sum(member.file_size for member in members), os.path.getsize(file))
    tensors, skipped, seen = [], [], set()
    layout = guess_layout(member.filename.removesuffix(".npy") for member in members)
    for member in members:
        path = member.filename.removesuffix(".npy")
        if not member.filename.endswith(".npy"):
            skipped.append((path, "it is no .npy array"))
        elif path in seen:
            raise UserError(f"{file} holds {path!r} twice.")
        elif member.flag_bits & 1:
            skipped.append((path, "it is encrypted"))
        else:
            seen.add(path)
            try:
                with archive.open(member) as stream:
                    opener = _member_opener(file, member)
                    _add(stream, path, member.file_size, opener, tensors, skipped, layout)
            except (*_ARCHIVE_ERRORS, UserError) as error:
                skipped.append((path, f"it is damaged: {error}"))
    return create_checkpoint(str(file), "npz", tensors, skipped)


@register("npy", title=".npy", recognizes=starts_with(_MAGIC), endings=(".npy",))
def read_npy(file: pathlib.Path) -> Checkpoint:
    """The array of an .npy file."""
    tensors, skipped = [], []
    with file.open("rb") as stream:
        _add(stream, file.stem, os.path.getsize(file), lambda: file.open("rb"), tensors, skipped)
    return create_checkpoint(str(file), "npy", tensors, skipped)


_ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,  # a method of compression that Python lacks
    RuntimeError,  # an encrypted member
    ValueError,
)


def _member_opener(file, member):
    def open_member():
        archive = zipfile.ZipFile(file)
        stream = archive.open(member)
        archive.close()  # The archive's file stays open until the member is closed.
        return stream

    return open_member


def _add(stream, path, size, opener, tensors, skipped, layout="flax") -> None:
    """Reads the header of an .npy `stream` of `size` bytes, and adds a tensor or the reason."""
    shape, fortran_order, dtype, header_size = _read_header(stream, path)
    native = find_dtype(dtype.name)
    if dtype.hasobject:
        skipped.append((path, "it holds pickled Python objects, which are not read"))
    elif native is None:
        skipped.append((path, f"its dtype {dtype} is not one of numbers"))
    elif math.prod(shape) * dtype.itemsize != size - header_size:
        skipped.append((path, f"its {size} bytes do not fit {dtype}{list(shape)}"))
    else:

        def load() -> np.ndarray:
            return _read_values(opener, path, shape, fortran_order, dtype, header_size)

        tensors.append(Tensor(path, shape, native.name, layout, load))


def _read_header(stream, path):
    """(shape, whether column-major, dtype, bytes of the header)."""
    try:
        magic = stream.read(8)
        if len(magic) < 8 or magic[:6] != _MAGIC or magic[6] not in (1, 2, 3):
            raise ValueError("it has no .npy header")
        prefix = 2 if magic[6] == 1 else 4
        length = int.from_bytes(stream.read(prefix), "little")
        if length > 10_000:
            raise ValueError(f"its header has {length} bytes")
        text = stream.read(length).decode("utf8" if magic[6] == 3 else "latin1")
        header = ast.literal_eval(text.strip())
        shape, fortran_order, name = header["shape"], header["fortran_order"], header["descr"]
        if not is_shape(shape):
            raise ValueError(f"its shape is {shape!r:.100}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that NumPy is about to give up
            # Lists describe records, which hold no weights.
            dtype = np.dtype(name if isinstance(name, str) else np.void)
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise UserError(f"{path} is no valid .npy array: {error!s:.300}.") from None
    return tuple(shape), bool(fortran_order), dtype, 8 + prefix + length


def _read_values(opener, path, shape, fortran_order, dtype, header_size) -> np.ndarray:
    try:
        with opener() as stream:
            stream.read(header_size)
            values = np.empty(math.prod(shape), dtype)
            rest = memoryview(values.view(np.uint8))
            while len(rest):
                # In blocks: a stream that inflates would double all that it is asked for.
                count = stream.readinto(rest[:_BLOCK])
                if not count:
                    raise EOFError("it ends too early")
                rest = rest[count:]
            stream.read(1)  # the end, where the checksum is compared
    except _ARCHIVE_ERRORS as error:
        raise UserError(f"{path} is damaged: {error}.") from error
    if not dtype.isnative:
        values = values.byteswap(inplace=True).view(dtype.newbyteorder("="))
    if fortran_order:
        return values.reshape(shape[::-1]).T
    return values.reshape(shape)
