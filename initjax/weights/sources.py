"""Finds out what a source of weights is, and has it read."""

import dataclasses
import difflib
import json
import os
import pathlib
import re
import zipfile
from collections.abc import Callable

from initjax.support.errors import UserError
from initjax.support.files import user_path
from initjax.weights import hub
from initjax.weights.formats import (
    all_formats,
    endings,
    find_archive_format,
    find_file_format,
    readable,
)
from initjax.weights.hub import TORCHVISION_FILES, WEIGHT_FILES
from initjax.weights.orbax_files import find_orbax, read_orbax
from initjax.weights.tensors import Checkpoint, Tensor

_MAX_INDEX = 64 << 20  # bytes
_MAX_SHARDS = 10_000
_SHARD = re.compile(r"(.*-)(\d{5})(-of-)(\d{5})(\.\w+)", re.DOTALL)  # as Hugging Face names them
# First bytes of what is taken for weights, and what it is.
_NO_WEIGHTS = (
    (b"GGUF", "a GGUF file, whose blocks are not read: take the weights that it was made from"),
    (b"\x1f\x8b", "compressed by gzip: unpack it"),
    (b"\x08", "an ONNX file, which is not read: take the weights that it was exported from"),
)
_HTML = re.compile(rb"\s*<(!doctype html|html|head|\?xml)", re.IGNORECASE)
_LFS = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\n(?s:.*)size (\d{1,18})")
_PARAMETERS = "state/params/"  # in a checkpoint of the launcher


def read(source: str | os.PathLike[str]) -> Checkpoint:
    """Opens weights of any format; a tensor's numbers are read when it is asked to load.

    Nothing that a file holds is run, imported or unpickled by Python. Formats are told by content,
    not by name.

    Args:
      source: one of
        - a file: safetensors, .npz, .npy, Flax msgpack, a state dict or a whole checkpoint of
          `torch.save` (in the format since PyTorch 1.6 or the one before), a TorchScript archive;
        - a folder: an Orbax checkpoint, or a manager's with its steps; one of Flax's
          checkpoint_STEP files; a run of the launcher (its newest parameters); the shards of one
          checkpoint, with or without their index;
        - the name of a torchvision model, such as "resnet18", which is downloaded once;
        - a Hugging Face repository "org/name", with the extra `hub`.

    Returns:
      The tensors of the source and what was skipped in it.

    Raises:
      UserError (a ValueError): there is no such source, it is of another format, or damaged so that
        nothing in it can be trusted.

    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/w.npz", **{"Dense_0/kernel": np.eye(2, dtype=np.float32)})
    ...     (tensor,) = read(f"{folder}/w.npz").tensors
    ...     tensor.load().sum()
    np.float32(2.0)
    >>> tensor
    Tensor(path='Dense_0/kernel', shape=(2, 2), dtype='float32', layout='flax')
    """
    source = os.fspath(source)
    path = user_path(source)
    try:
        if path.is_dir():
            checkpoint = _read_folder(path)
        elif path.exists():
            checkpoint = _read_file(path)
            others = [(name, "it is another shard, not read") for name in _missing_shards([path])]
            checkpoint = dataclasses.replace(checkpoint, skipped=(*checkpoint.skipped, *others))
        else:
            checkpoint = _read_name(source)
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror or error}.") from error
    return dataclasses.replace(checkpoint, source=source)


def _read_file(file: pathlib.Path) -> Checkpoint:
    """Reads a file in the format that its first bytes tell."""
    if not file.is_file():
        raise UserError(f"{file} is no regular file.")
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(512)
    if not head:
        raise UserError(f"{file} is empty.")
    if head[:4] == b"PK\x03\x04":
        return _read_zip(file)
    if head[:4] == b"\x89HDF":  # msgpack may begin so
        raise UserError(f"{file} is an HDF5 file, which is not supported.\nReadable: {readable()}.")
    if form := find_file_format(head[:16], size):
        return form.read(file)
    if match := _LFS.match(head):
        raise UserError(
            f"{file} is Git LFS's pointer to a file of {int(match[1]):,} bytes, and not the file."
            "\n`git lfs pull` fetches it."
        )
    if _HTML.match(head.removeprefix(b"\xef\xbb\xbf")):
        raise UserError(
            f"{file} is a web page or an answer of a server, not weights: the download failed."
        )
    if head.lstrip()[:1] == b"{":
        return _read_index(file, lambda name: file.parent / name)
    for first, what in _NO_WEIGHTS:
        if head.startswith(first):
            raise UserError(f"{file} is {what}.\nReadable: {readable()}.")
    raise UserError(f"{file} is of no known format, or damaged.\nReadable: {readable()}.")


def _read_zip(file: pathlib.Path) -> Checkpoint:
    try:
        with zipfile.ZipFile(file) as archive:
            if form := find_archive_format(archive.namelist()):
                return form.read(file, archive)
    except UserError:
        raise
    # Beside BadZipFile, a damaged directory raises what its parts do.
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise UserError(f"{file} is a damaged or incomplete ZIP archive: {error}.") from error
    raise UserError(f"{file} is a ZIP archive without arrays of NumPy or PyTorch.")


def _read_folder(folder: pathlib.Path) -> Checkpoint:
    if (folder / "config.json").is_file() and (folder / "checkpoints").is_dir():
        return _read_workdir(folder)
    for filename in WEIGHT_FILES:
        if (folder / filename).is_file():
            return _read_shards(filename, lambda name: folder / name)
    for form in all_formats():
        if form.find and (found := form.find(folder)):
            return form.read(found)
    steps = [file for file in folder.glob("checkpoint_*") if file.name[11:].isdecimal()]
    if steps:  # of flax.training.checkpoints
        return _read_file(max(steps, key=lambda file: int(file.name[11:])))
    known = endings()
    files = sorted(file for file in folder.iterdir() if file.suffix in known)
    suffixes = sorted({file.suffix for file in files})
    if len(suffixes) > 1:
        raise UserError(
            f"{folder} has weights of several formats: {', '.join(suffixes)}. Name one file."
        )
    if not files:
        raise UserError(
            f"{folder} holds no weights.\nReadable: {readable()}, and folders of the launcher."
        )
    if missing := _missing_shards(files):
        raise UserError(
            f"{folder} has {len(files)} shards of a checkpoint, and {missing[0]} is missing.\n"
            "Name a file to read it alone."
        )
    return _join([_read_file(file) for file in files[:_MAX_SHARDS]])


def _read_workdir(folder: pathlib.Path) -> Checkpoint:
    """The newest parameters of a run of the launcher, with the paths that its model has."""
    found = find_orbax(folder / "checkpoints")
    if not found:
        raise UserError(f"{folder} is a run without a checkpoint.")
    checkpoint = read_orbax(found)
    tensors, skipped = [], list(checkpoint.skipped)
    for tensor in checkpoint.tensors:
        if tensor.path.startswith(_PARAMETERS):
            name = tensor.path.removeprefix(_PARAMETERS)
            tensors.append(dataclasses.replace(tensor, path=name))
        else:
            skipped.append((tensor.path, "it is a state of the training, not a parameter"))
    return dataclasses.replace(
        checkpoint, format="workdir", tensors=tuple(tensors), skipped=tuple(skipped)
    )


def _read_name(source: str) -> Checkpoint:
    """Downloads what has a name."""
    if source in TORCHVISION_FILES:
        return _read_file(hub.fetch_torchvision(source))
    folder = os.path.dirname(source)
    if hub.is_repository(source) and not os.path.isdir(folder):
        return _read_shards(*hub.fetch_repository(source))
    close = difflib.get_close_matches(source, TORCHVISION_FILES, n=3)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"Readable: {readable()}."
    if not close and re.fullmatch(r"[\w.-]+", source) and not os.path.splitext(source)[1]:
        hint = f"A Hugging Face repository is named with its owner: OWNER/{source}.\n{hint}"
    raise UserError(f"{source} does not exist.\n{hint}")


def _read_shards(filename: str, find: Callable[[str], pathlib.Path | None]) -> Checkpoint:
    """Reads a file, or all that it names if it is an index; `find` gives their paths."""
    file = find(filename)
    return _read_index(file, find) if filename.endswith(".index.json") else _read_file(file)


def _read_index(file: pathlib.Path, find: Callable[[str], pathlib.Path | None]) -> Checkpoint:
    """Reads the shards that an index names, beside it."""
    if file.stat().st_size > _MAX_INDEX:
        raise UserError(f"{file} is too large: {file.stat().st_size:,} bytes.")
    try:
        weight_map = json.loads(file.read_bytes())["weight_map"]
        shards = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{file} is json, but no index of shards: {error!r:.200}.") from None
    # Only names beside the index: one with a folder could be any file of the machine.
    beside = all(isinstance(name, str) and os.path.basename(name) == name for name in shards)
    if len(shards) > _MAX_SHARDS or not beside:
        raise UserError(f"{file} does not name the files beside it.")
    paths = {name: find(name) for name in shards}
    missing = [name for name, path in paths.items() if path is None or not path.is_file()]
    if missing:
        raise UserError(
            f"{file} names {missing[0]}, which is missing"
            + (f", as {len(missing) - 1} more are." if missing[1:] else ".")
        )
    found = _join([_read_file(path) for path in paths.values()])
    held = {tensor.path for tensor in found.tensors} | {path for path, _ in found.skipped}
    lost = [(path, "its shard does not hold it") for path in weight_map if path not in held]
    return dataclasses.replace(found, skipped=(*found.skipped, *lost))


def _missing_shards(files: list[pathlib.Path]) -> list[str]:
    """The names of the shards that belong to those of `files` whose names count them."""
    names = {file.name for file in files}
    missing = []
    for match in filter(None, map(_SHARD.fullmatch, sorted(names))):
        numbers = range(1, min(int(match[4]), _MAX_SHARDS) + 1)
        all_names = (f"{match[1]}{i:05}{match[3]}{match[4]}{match[5]}" for i in numbers)
        missing += [name for name in all_names if name not in names and name not in missing]
    return missing


def _join(shards: list[Checkpoint]) -> Checkpoint:
    """One checkpoint of shards, which may not name a tensor twice."""
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        for tensor in shard.tensors:
            if tensor.path in tensors:
                raise UserError(f"{tensor.path} is in {shard.source} and in another shard.")
            tensors[tensor.path] = tensor
    skipped = tuple(entry for shard in shards for entry in shard.skipped)
    return dataclasses.replace(shards[0], tensors=tuple(tensors.values()), skipped=skipped)
