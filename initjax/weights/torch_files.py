"""Reads what `torch.save` writes, without PyTorch and without running anything.

Both formats hold one pickle (see `torch_pickle`) that says which part of which storage each tensor
is. Since PyTorch 1.6 the file is a ZIP archive in which every storage is a member, stored and not
compressed. Before, the storages followed the pickle.
"""

import io
import math
import os
import pathlib
import zipfile

import numpy as np

from initjax.support.errors import UserError
from initjax.weights.formats import register, starts_with
from initjax.weights.tensors import (
    Checkpoint,
    Paths,
    Tensor,
    create_checkpoint,
    find_dtype,
    is_shape,
    read_array,
)
from initjax.weights.torch_pickle import Global, Pairs, Storage, StoredTensor, Unknown, interpret

_TITLE = "PyTorch's .pth, .pt and .bin"
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001
_MAX_PICKLE = 32 << 20  # bytes
_MAX_DEPTH = 64  # of dicts in dicts
_MAX_SKIPPED = 100_000  # entries
# How many times the size of the file its tensors may have, which may be views of each other.
_MAX_SHARING = 4

_STORAGE_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}
_QUANTIZED_SIZES = {  # bytes of an element
    "QInt8Storage": 1,
    "QUInt8Storage": 1,
    "QInt32Storage": 4,
    "QUInt4x2Storage": 1,
    "QUInt2x4Storage": 1,
}
# Where PyTorch's name of a dtype is not NumPy's.
_DTYPES = {"float": "float32", "double": "float64", "half": "float16", "long": "int64"}


@register("torch", _TITLE, member="/data.pkl", endings=(".bin", ".pth", ".pt"))
def read_torch_zip(file: pathlib.Path, archive: zipfile.ZipFile) -> Checkpoint:
    """The tensors of a file of `torch.save`, or of a TorchScript archive."""
    members = {}
    for member in archive.infolist():
        if member.filename in members:
            raise UserError(f"{file} holds {member.filename!r:.200} twice.")
        members[member.filename] = member
    pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
    pickle_name = min(pickles, key=lambda name: name.count("/"))
    folder = pickle_name.removesuffix("data.pkl")
    with file.open("rb") as stream:

        def extract(name: str) -> bytes:
            try:
                offset, size = _locate(stream, members[name])
            except UserError as error:
                raise UserError(f"{file}: {name!r:.200} cannot be read: {error}.") from None
            if size > _MAX_PICKLE:
                raise UserError(f"{file}: {name!r:.200} is too large: {size:,} bytes.")
            stream.seek(offset)
            return stream.read(size)

        order = extract(f"{folder}byteorder") if f"{folder}byteorder" in members else b"little"
        root = _interpret(file, io.BytesIO(extract(pickle_name)))

        def find(storage: Storage) -> tuple[int, int]:
            name = f"{folder}data/{storage.key}"
            if name not in members:
                raise UserError("its storage is missing")
            return _locate(stream, members[name])

        return _read_tensors(file, "torch", root, find, big_endian=order == b"big")


@register("torch (legacy)", _TITLE, recognizes=starts_with(b"\x80"))  # any pickle
def read_torch_legacy(file: pathlib.Path) -> Checkpoint:
    """The tensors of a file of `torch.save` in the format before PyTorch 1.6."""
    size = os.path.getsize(file)
    storages: dict[str, Storage] = {}
    with file.open("rb") as stream:
        if _interpret(file, stream) != _MAGIC_NUMBER:
            raise UserError(f"{file} is a pickle that PyTorch did not write; pickles can run code.")
        if _interpret(file, stream) != _PROTOCOL_VERSION:
            raise UserError(f"{file} is of an unknown version of PyTorch's format.")
        # The order of the bytes of the machine, which wrote the storages little-endian anyway.
        _interpret(file, stream)
        root = _interpret(file, stream, storages)
        keys = _interpret(file, stream)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise UserError(f"{file} has no list of its storages.")
        places = {}
        for key in keys:
            if key not in storages or key in places:
                raise UserError(f"{file} has a list of other storages than its tensors.")
            count = int.from_bytes(stream.read(8), "little")
            num_bytes = count * _element_size(file, storages[key].type_name)
            places[key] = stream.tell(), num_bytes
            if stream.tell() + num_bytes > size:
                break  # What is not in the file is reported tensor by tensor.
            stream.seek(num_bytes, os.SEEK_CUR)

    def find(storage: Storage) -> tuple[int, int]:
        offset, num_bytes = places.get(storage.key, (size, 1))
        if offset + num_bytes > size:
            raise UserError("the file ends before its storage does")
        return offset, num_bytes

    return _read_tensors(file, "torch (legacy)", root, find, big_endian=False)


def _element_size(file, type_name: str) -> int:
    if type_name in _STORAGE_DTYPES:
        return find_dtype(_STORAGE_DTYPES[type_name]).itemsize
    if type_name in _QUANTIZED_SIZES:
        return _QUANTIZED_SIZES[type_name]
    raise UserError(f"{file} has storages of an unknown type: {type_name!r:.100}.")


def _interpret(file, stream, storages=None):
    try:
        return interpret(stream, storages)
    except UserError as error:
        raise UserError(f"{file} cannot be read: {error}") from None


def _locate(stream, member: zipfile.ZipInfo) -> tuple[int, int]:
    """(offset, size) of the bytes of a member; its local header has a length of its own."""
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        raise UserError("it is stored compressed or encrypted, which PyTorch does not do")
    stream.seek(member.header_offset)
    header = stream.read(30)
    if header[:4] != b"PK\x03\x04" or len(header) < 30:
        raise UserError("it is not stored where the archive says")
    offset = member.header_offset + 30
    offset += int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    if offset + member.file_size > stream.seek(0, os.SEEK_END):
        raise UserError("the file ends before its storage does")
    return offset, member.file_size


def _read_tensors(file, format_name, root, find, big_endian) -> Checkpoint:
    tensors, skipped, seen = [], [], {}
    for path, leaf in _leaves(root, file):
        if len(skipped) >= _MAX_SKIPPED:
            raise UserError(f"{file} has more than {_MAX_SKIPPED:,} entries that are no tensors.")
        if not isinstance(leaf, StoredTensor):
            skipped.append((path, _describe(leaf)))
            continue
        try:
            view = _check_view(leaf, find)
        except UserError as error:
            skipped.append((path, str(error)))
            continue
        if view in seen:
            skipped.append((path, f"it is the same tensor as {seen[view]}"))
            continue
        seen[view] = path
        tensors.append(_tensor(path, file, big_endian, *view))
    total = sum(math.prod(tensor.shape) * find_dtype(tensor.dtype).itemsize for tensor in tensors)
    if total > _MAX_SHARING * os.path.getsize(file):
        raise UserError(f"{file} claims {total:,} bytes of tensors, which it is too small for.")
    return create_checkpoint(str(file), format_name, tensors, skipped)


def _tensor(path, file, big_endian, offset, dtype_name, shape, strides, *bits) -> Tensor:
    dtype = find_dtype(dtype_name)
    conjugated, negated = bits

    def load() -> np.ndarray:
        values = read_array(file, offset, dtype, shape, strides, big_endian)
        values = np.conjugate(values) if conjugated else values
        return np.negative(values) if negated else values

    return Tensor(path, shape, dtype_name, "torch", load)


def _check_view(tensor: StoredTensor, find) -> tuple:
    """(offset in the file, dtype, shape, strides or None if row-major, conjugated, negated).

    Raises:
      UserError: the reason why there is no such tensor.
    """
    storage, shape, strides = tensor.storage, tensor.shape, tensor.strides
    if not isinstance(storage, Storage):
        raise UserError("it has no storage")
    name = tensor.dtype_name or _STORAGE_DTYPES.get(storage.type_name, storage.type_name)
    dtype = find_dtype(_DTYPES.get(name, name))
    if dtype is None:
        raise UserError(f"its dtype {name} is not supported")
    if not is_shape(shape) or not is_shape(strides) or len(shape) != len(strides):
        raise UserError("its shape is not valid")
    # The offset of the tensor, and that of its storage in another one.
    if not is_shape((tensor.offset, storage.offset)):
        raise UserError("its offset is not valid")
    start, num_bytes = find(storage)
    size = math.prod(shape)
    begin = (tensor.offset + storage.offset) * dtype.itemsize
    last = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    # As many bytes as the tensor has, because strides of 0 make tensors of any size.
    needed = max(size * dtype.itemsize, begin + (last + 1) * dtype.itemsize)
    if size and needed > num_bytes:
        raise UserError(f"its shape {shape} does not fit the {num_bytes} bytes of its storage")
    row_major = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    is_row_major = all(n == 1 or s == r for n, s, r in zip(shape, strides, row_major, strict=True))
    bits = tensor.conjugated and dtype.kind == "c", tensor.negated and dtype.kind != "b"
    return start + begin, dtype.name, tuple(shape), None if is_row_major else tuple(strides), *bits


def _leaves(root, file: pathlib.Path):
    """(path, tensor or other leaf) of nested dicts, lists and modules, in their order.

    Dicts are joined by "/". Of a module that was pickled whole the paths are those of its state
    dict. What is reached twice is listed once.
    """
    seen = set()
    paths = Paths(file)
    stack = [(root, "", 0)]
    while stack:
        value, prefix, depth = stack.pop()
        path = prefix[:-1] or file.stem
        if not _is_container(value):
            yield path, value
            continue
        if id(value) in seen:
            continue
        seen.add(id(value))
        children = _children(value)
        if not any(_may_hold_tensors(child) for _, child in children):
            if children:
                yield path, value
        elif depth > _MAX_DEPTH:
            yield path, Unknown(None)
        else:
            is_module = isinstance(value, Unknown) and not value.items
            separator = "." if is_module else "/"
            for key, child in reversed(children):
                child_prefix = paths.join(prefix, _key_name(key), separator)
                stack.append((child, child_prefix, depth + 1))


def _may_hold_tensors(value) -> bool:
    return isinstance(value, StoredTensor) or _is_container(value)


def _is_container(value) -> bool:
    """Whether tensors may be inside."""
    if isinstance(value, Unknown):
        return bool(value.items) or _module_parts(value) is not None
    return isinstance(value, (Pairs, list, tuple))


def _children(value) -> list:
    """The pairs (key, value) of a container."""
    if isinstance(value, Pairs):
        return value
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    return value.items or [pair for part in _module_parts(value) for pair in part]


def _module_parts(value: Unknown) -> list[Pairs] | None:
    """The tables of parameters, buffers and modules of a module; None of anything else."""
    if not isinstance(value.state, Pairs):
        return None
    if value.name.startswith("__torch__."):  # TorchScript's modules have them as attributes
        return [value.state]
    kinds = ("_parameters", "_buffers", "_modules")
    return [x for kind, x in value.state if kind in kinds and isinstance(x, Pairs)] or None


def _key_name(key) -> str:
    if isinstance(key, str):
        return key
    return str(key) if isinstance(key, (bool, int, float)) and abs(key) < 2**63 else "?"


def _describe(leaf) -> str:
    """Why a leaf is skipped."""
    if isinstance(leaf, Unknown):
        return f"it is {leaf.name}, which is not read"
    if isinstance(leaf, (Pairs, list, tuple)):
        kind = "dict" if isinstance(leaf, Pairs) else type(leaf).__name__
        return f"it is a {kind} of {len(leaf)} values, none of which is a tensor"
    if isinstance(leaf, (Global, Storage)):
        return "it is a class or a function" if isinstance(leaf, Global) else "it is a storage"
    return f"it is no tensor but {leaf if leaf is None else type(leaf).__name__}"
