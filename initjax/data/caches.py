"""Arrays that were made once from files, kept under the cache folder until those files change."""

import pathlib
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np
from absl import logging

from initjax.support.files import whole_file


def read_arrays(file: pathlib.Path, names: Sequence[str]) -> dict[str, np.ndarray] | None:
    """What `write_arrays` kept; None where there is nothing, or it is damaged or another file's."""
    try:
        with file.open("rb") as stream, np.load(stream) as arrays:
            if arrays.zip.comment.decode() not in ("", file.name):
                raise ValueError
            return {name: arrays[name] for name in names}
    except OSError:
        return None
    except Exception:  # any of a dozen: all mean "make it again"
        logging.warning("%s is made anew: it is damaged, or was made of other data.", file)
        return None


def write_arrays(file: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Keeps arrays at once or not at all; without a writable place, only warns.

    The file is an .npz, in which each array has a CRC-32, with its own name as comment: one that is
    renamed holds another set's.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as part:
            np.savez(part, **arrays)
            with zipfile.ZipFile(part, "a") as archive:
                archive.comment = file.name.encode()
    except OSError as error:
        logging.warning("%s is not cached (set INITJAX_CACHE=DIR): %s", file, error)
