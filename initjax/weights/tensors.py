"""What a checkpoint holds: tensors that are read when they are asked for."""

import dataclasses
import math
import os
import re
from collections.abc import Callable, Iterable

import ml_dtypes
import numpy as np

from initjax.support.errors import UserError
from initjax.support.text import printable

MAX_RANK = 64  # NumPy's limit
# Deflate and Zstandard shrink trained weights by less than 2, and zeros by 1,000 and more.
_MAX_INFLATION = 100
_FREE_BYTES = 1 << 30
_MAX_NAME = 500  # characters of one name
_MAX_CHARACTERS = 1 << 24  # of all paths of a file
_ENDING = re.compile(r"(?:^|[/.])(\w+)$")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of a checkpoint.

    Attributes:
      path: the name in the file, "layer1.0.conv1.weight" or "Block_0/Conv_0/kernel". Names of a
        container inside the file stand before it: "state_dict/layer1.0.conv1.weight".
      shape: its shape.
      dtype: NumPy's or ml_dtypes' name of its numbers: "float32", "bfloat16", "float8_e4m3fn".
      layout: "flax" where kernels are (..., in, out), "torch" where they are (out, in, ...).
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    _load: Callable[[], np.ndarray] = dataclasses.field(repr=False, compare=False)

    def load(self) -> np.ndarray:
        """Reads the values: an array of `shape` and `dtype` in the byte order of the machine.

        It may be a transposed view of what was read, and is not kept.

        Raises:
          UserError (a ValueError): the file is damaged, or has changed since it was opened.
        """
        try:
            array = self._load()
        except (OSError, MemoryError) as error:
            raise UserError(f"{self.path} cannot be read: {error or 'out of memory'}.") from error
        if array.shape != self.shape or array.dtype.name != self.dtype:
            raise UserError(f"{self.path} is not the {self.dtype}{list(self.shape)} announced.")
        return array


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What `read` found.

    Attributes:
      source: the path or the name that was read.
      format: "safetensors", "npz", "npy", "msgpack", "orbax", "torch", "torch (legacy)" or
        "workdir".
      tensors: in the order of the file.
      skipped: (path, reason) of entries that are not arrays of numbers, or that cannot be read.
    """

    source: str
    format: str
    tensors: tuple[Tensor, ...]
    skipped: tuple[tuple[str, str], ...] = ()


class Paths:
    """Makes the paths of one file's entries, and refuses more than the memory should hold.

    A name may be long, and be part of the path of any number of entries.
    """

    def __init__(self, source: str | os.PathLike[str]):
        self._source = source
        self._rest = _MAX_CHARACTERS

    def join(self, prefix: str, name: str, separator: str) -> str:
        """The prefix of what is inside of `name`."""
        shown = name if len(name) <= _MAX_NAME else name[:_MAX_NAME] + "..."
        self._rest -= len(prefix) + len(shown)
        if self._rest < 0:
            raise UserError(f"{self._source}: the paths in it are too long or too many.")
        return f"{prefix}{shown}{separator}"


def create_checkpoint(
    source: str,
    format_name: str,
    tensors: Iterable[Tensor],
    skipped: Iterable[tuple[str, str]],
) -> Checkpoint:
    """A `Checkpoint` without the tensors that have no elements, which it lists as skipped.

    Characters of paths that a terminal would obey or cannot show are escaped.
    """
    kept, skipped = [], [(printable(path), printable(reason)) for path, reason in skipped]
    for tensor in tensors:
        path = printable(tensor.path)
        if 0 in tensor.shape:
            skipped.append((path, f"it is empty, shape {tensor.shape}"))
        else:
            kept.append(tensor if path == tensor.path else dataclasses.replace(tensor, path=path))
    return Checkpoint(source, format_name, tuple(kept), tuple(skipped))


def check_inflation(source: str | os.PathLike[str], claimed: int, stored: int) -> None:
    """Refuses compressed tensors of `claimed` bytes in all that cannot come from `stored` bytes."""
    if claimed > _FREE_BYTES + _MAX_INFLATION * stored:
        raise UserError(
            f"{source} would inflate from {stored:,} to {claimed:,} bytes; that is not credible."
        )


def find_dtype(name: str) -> np.dtype | None:
    """The dtype called `name`, of NumPy's numbers or of ml_dtypes; None if there is no such."""
    if re.fullmatch(r"bool|u?int(8|16|32|64)|float(16|32|64)|complex(64|128)", name):
        return np.dtype(name)
    if re.fullmatch(r"bfloat16|float8_\w+", name) and hasattr(ml_dtypes, name):
        return np.dtype(getattr(ml_dtypes, name))
    return None


def is_shape(shape) -> bool:
    """Whether `shape` is a sequence of sizes of axes that an array can have."""
    return (
        isinstance(shape, (list, tuple))
        and len(shape) <= MAX_RANK
        and all(type(size) is int and 0 <= size < 2**63 for size in shape)
    )


def guess_layout(paths: Iterable[str]) -> str:
    """The layout of formats that do not say it: Flax calls weights kernels, PyTorch weights."""
    endings = {match[1] for path in paths if (match := _ENDING.search(path))}
    return "torch" if "weight" in endings and "kernel" not in endings else "flax"


def read_array(
    file: str | os.PathLike[str],
    offset: int,
    dtype: np.dtype,
    shape: tuple[int, ...],
    strides: tuple[int, ...] | None = None,
    big_endian: bool = False,
) -> np.ndarray:
    """An array stored at `offset` bytes of `file`.

    Args:
      file: an uncompressed file.
      offset: where the first element is.
      dtype: of the elements, in the byte order of the machine.
      shape: of the array.
      strides: in elements; None is row-major.
      big_endian: whether the most significant byte comes first.

    Returns:
      The array: without `strides` a new one, else a view of the part of the file that it spans, or
      a copy if it is less than half of that.
    """
    size = math.prod(shape)
    if strides is None:
        span = size
    else:
        span = size and 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if span > 2 * size:  # Mapped, so that what lies between is not read.
        values = np.memmap(file, np.uint8, "r", offset, (span * dtype.itemsize,))
    else:
        values = np.fromfile(file, np.uint8, span * dtype.itemsize, offset=offset)
    if values.size != span * dtype.itemsize:
        raise UserError(f"{file} ends in the middle of a tensor; it is not complete.")
    if dtype.kind == "b":
        values = values != 0  # Other bytes than 0 and 1 are no bools.
    values = values.view(dtype)
    if strides is not None:
        byte_strides = [stride * dtype.itemsize for stride in strides]
        values = np.lib.stride_tricks.as_strided(values, shape, byte_strides)
        if span > 2 * size:
            values = np.array(values)
    values = values.reshape(shape)
    return _swapped(values) if big_endian else values


def _swapped(values: np.ndarray) -> np.ndarray:
    """`values`, which are its own array, with the bytes of each number reversed in place."""
    if values.dtype.kind == "c":
        parts = values.real.dtype
        values.real.view(f"u{parts.itemsize}").byteswap(inplace=True)
        values.imag.view(f"u{parts.itemsize}").byteswap(inplace=True)
    elif values.dtype.itemsize > 1:
        values.view(f"u{values.dtype.itemsize}").byteswap(inplace=True)
    return values
