"""Reads Orbax checkpoints leaf by leaf.

Orbax keeps every leaf as a Zarr array, all of them in one key-value store (OCDBT) or each in a
folder, and the tree in the JSON file `_METADATA`. TensorStore, with which Orbax writes them, reads
one array at a time and needs no target tree. An array takes its own memory and that of the chunks
that are being decoded; where Orbax wrote it as one chunk, twice its size.
"""

import json
import math
import os
import pathlib
import re

import numpy as np

from initjax.support.errors import UserError
from initjax.weights.formats import register
from initjax.weights.tensors import (
    Checkpoint,
    Tensor,
    check_inflation,
    create_checkpoint,
    find_dtype,
    guess_layout,
)

_METADATA = "_METADATA"
_MAX_METADATA = 64 << 20  # bytes
_MAX_DEPTH = 64  # of folders in folders
_MAX_ENTRIES = 1_000_000  # files and folders of a checkpoint
_MAX_CHUNKS = 100_000  # of all arrays; reading one that is missing takes 20 us
# What a chunk may have beyond its array's bytes. Chunks are read whole, however small the array.
_FREE_CHUNK = 1 << 20
# Kinds of leaves that Orbax stores outside of arrays, or not at all.
_NOT_STORED = ("string", "None", "Dict", "List", "Tuple", "NamedTuple")


def find_orbax(folder: pathlib.Path, levels: int = 2) -> pathlib.Path | None:
    """The folder with the arrays of an Orbax checkpoint; None if `folder` has none.

    `folder` may be it, or hold it as its only item, or be a manager's with a folder for each step,
    of which the last counts; steps are not looked for below `levels` of them.
    """
    if (folder / _METADATA).is_file() or (folder / "manifest.ocdbt").is_file():
        return folder
    children = [child for child in sorted(folder.iterdir()) if child.is_dir()]
    items = [child for child in children if (child / _METADATA).is_file()]
    if any((child / ".zarray").is_file() for child in children):
        return folder
    if len(items) == 1:
        return items[0]
    if items:
        names = ", ".join(item.name for item in items)
        raise UserError(f"{folder} holds several checkpoints: {names}. Name one of them.")
    steps = [(int(match[1]), child) for child in children if (match := _step(child.name))]
    for _, child in sorted(steps, reverse=True) if levels else ():
        if found := find_orbax(child, levels - 1):
            return found
    return None


def _step(name: str):
    return re.fullmatch(r"(?:[A-Za-z]+_)?(\d+)", name)  # "60", "step_60"


@register("orbax", title="Orbax", find=find_orbax)
def read_orbax(folder: pathlib.Path) -> Checkpoint:
    """The arrays of the Orbax checkpoint in `folder`, which `find_orbax` found."""
    stored = _stored_bytes(folder)
    import tensorstore

    base = {"driver": "file", "path": f"{folder.absolute()}/"}
    if (folder / "manifest.ocdbt").is_file():
        base = {"driver": "ocdbt", "base": base}
    metadata = _read_metadata(folder)
    leaves, skipped = [], []
    for keys, kind in metadata["leaves"] or _list_leaves(folder, base):
        if kind in _NOT_STORED:
            skipped.append(("/".join(keys), f"it is {kind}, not an array"))
        else:
            leaves.append((keys, _spec(base, keys, metadata)))
    futures = [tensorstore.open(spec, open=True, read=True) for _, spec in leaves]
    layout = guess_layout("/".join(keys) for keys, _ in leaves)
    tensors, chunks = [], 0
    for (keys, spec), future in zip(leaves, futures, strict=True):
        path = "/".join(keys)
        try:
            array = future.result()
        except ValueError as error:
            skipped.append((path, f"it cannot be opened: {_first_line(error)}"))
            continue
        dtype = find_dtype(array.dtype.name)
        if dtype is None:
            skipped.append((path, f"its dtype {array.dtype.name} is not supported"))
            continue
        number, size = _chunks(array)
        chunks += number
        if size * dtype.itemsize > math.prod(array.shape) * dtype.itemsize + _FREE_CHUNK:
            skipped.append((path, f"its chunks of {size:,} numbers are larger than the array"))
        elif "'blosc'" in str(array.codec.to_json()):
            # It alone inflates what a chunk says, up to 2 GiB, before the size is compared.
            skipped.append((path, "it is compressed by blosc, which Orbax does not do"))
        elif chunks > _MAX_CHUNKS:
            raise UserError(f"{folder} has more than {_MAX_CHUNKS:,} chunks.")
        else:
            tensors.append(_tensor(path, tuple(array.shape), dtype, layout, spec))
    claimed = sum(math.prod(tensor.shape) * find_dtype(tensor.dtype).itemsize for tensor in tensors)
    check_inflation(folder, claimed, stored)
    return create_checkpoint(str(folder), "orbax", tensors, skipped)


def _stored_bytes(folder: pathlib.Path) -> int:
    """The bytes of all files, none of which is a link to a folder, a pipe or a device.

    TensorStore would follow and open those: links in circles have no end, and pipes no beginning.
    """
    total = entries = 0
    folders = [(folder, 0)]
    while folders:
        inside, depth = folders.pop()
        with os.scandir(inside) as found:
            for entry in found:
                entries += 1
                if entry.is_dir(follow_symlinks=False):
                    folders.append((entry.path, depth + 1))
                elif entry.is_file():
                    total += entry.stat().st_size
                else:
                    raise UserError(f"{folder} holds {entry.name}, which is no regular file.")
                if entries > _MAX_ENTRIES or depth > _MAX_DEPTH:
                    raise UserError(f"{folder} has too many files, or folders too deep in others.")
    return total


def _chunks(array) -> tuple[int, int]:
    """(how many chunks an array has, how many numbers the largest)."""
    layout = array.chunk_layout
    sizes = [chunk.shape or () for chunk in (layout.read_chunk, layout.write_chunk)]
    number = max(
        math.prod(-(-n // max(m, 1)) for n, m in zip(array.shape, size, strict=True))
        for size in sizes
    )
    return number, max(map(math.prod, sizes))


def _tensor(path, shape, dtype, layout, spec) -> Tensor:
    def load() -> np.ndarray:
        import tensorstore

        try:
            array = tensorstore.open(spec, open=True, read=True).result()
            if tuple(array.shape) != shape:
                raise UserError(f"{path} has changed since it was opened.")
            return np.asarray(array.read().result())
        except ValueError as error:
            raise UserError(f"{path} cannot be read: {_first_line(error)}") from error

    return Tensor(path, shape, dtype.name, layout, load)


def _read_metadata(folder: pathlib.Path) -> dict:
    """The leaves (keys, kind) that `_METADATA` lists, None without it, and how they are stored."""
    file = folder / _METADATA
    if not file.is_file():
        return {"leaves": None, "zarr3": False, "complete": False}
    if file.stat().st_size > _MAX_METADATA:
        raise UserError(f"{file} is too large: {file.stat().st_size:,} bytes.")
    try:
        metadata = json.loads(file.read_text())
        leaves = [
            (
                tuple(str(part["key"]) for part in leaf["key_metadata"]),
                str(leaf["value_metadata"]["value_type"]),
            )
            for leaf in metadata["tree_metadata"].values()
        ]
        zarr3 = bool(metadata.get("use_zarr3"))
        complete = bool(metadata.get("store_array_data_equal_to_fill_value"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{file} is damaged: {error!r}.") from None
    return {"leaves": leaves, "zarr3": zarr3, "complete": complete}


def _list_leaves(folder, base) -> list[tuple[tuple[str, ...], str]]:
    """The leaves of a checkpoint without `_METADATA`, by their Zarr headers."""
    import tensorstore

    try:
        store = tensorstore.KvStore.open(base).result()
        names = sorted(key.decode("utf-8", "replace") for key in store.list().result())
    except ValueError as error:
        raise UserError(f"{folder} cannot be read: {_first_line(error)}") from error
    ending = "/.zarray"
    return [
        (tuple(name.removesuffix(ending).split(".")), "array")
        for name in names
        if name.endswith(ending)
    ]


def _spec(base, keys, metadata) -> dict:
    """TensorStore's specification of the array of a leaf."""
    name = ".".join(keys) + "/"
    store = dict(base)
    if store["driver"] == "file":
        store["path"] += name
    else:
        store["path"] = name
    spec = {"driver": "zarr3" if metadata["zarr3"] else "zarr", "kvstore": store}
    if metadata["complete"]:
        spec["fill_missing_data_reads"] = False  # A chunk that is missing is damage, not zeros.
    return spec


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300]
