"""Finds out what a source of weights is, and has it read."""

import pathlib
import zipfile

from initjax.errors import UserError
from initjax.weights.msgpack_files import is_msgpack, read_msgpack
from initjax.weights.numpy_files import read_npy, read_npz
from initjax.weights.orbax_files import find_orbax, read_orbax
from initjax.weights.safetensors_files import is_safetensors, read_safetensors
from initjax.weights.tensors import Checkpoint
from initjax.weights.torch_files import read_torch_legacy, read_torch_zip


def read(source: str) -> Checkpoint:
    """Opens weights; numbers are read when a tensor is asked to load."""
    path = pathlib.Path(source)
    try:
        if path.is_file():
            return _read_file(path)
        if path.is_dir():
            return _read_folder(path)
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error}.") from error
    raise UserError(f"{source} does not exist.")


def _read_file(file: pathlib.Path) -> Checkpoint:
    """Reads a file in the format that its first bytes tell; names do not count."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(16)
    if head[:4] == b"PK\x03\x04":
        return _read_zip(file)
    if head[:6] == b"\x93NUMPY":
        return read_npy(file)
    if is_safetensors(head, size):
        return read_safetensors(file)
    if is_msgpack(head):
        return read_msgpack(file)
    if head[:1] == b"\x80":
        return read_torch_legacy(file)
    raise UserError(f"{file} is of no known format.")


def _read_folder(folder: pathlib.Path) -> Checkpoint:
    if found := find_orbax(folder):
        return read_orbax(found)
    raise UserError(f"{folder} holds no checkpoint.")


def _read_zip(file: pathlib.Path) -> Checkpoint:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if any(name.rpartition("/")[2] == "data.pkl" for name in names):
                return read_torch_zip(file, archive)
            if any(name.endswith(".npy") for name in names):
                return read_npz(file, archive)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file} is a damaged ZIP archive: {error}.") from error
    raise UserError(f"{file} is a ZIP archive without tensors of NumPy or PyTorch.")
