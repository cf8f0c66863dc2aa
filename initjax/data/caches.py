"""Arrays that were made once from files, kept under the cache folder until those files change."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from absl import logging

from initjax.support.files import whole_file

_NAME = "made_as"  # of the array that says what the file was called: a renamed one is another set's


def read_arrays(file: pathlib.Path, names: Sequence[str]) -> dict[str, np.ndarray] | None:
    """What `write_arrays` kept; None where there is nothing, or it is damaged or another file's."""
    try:
        with file.open("rb") as stream, np.load(stream) as arrays:
            if str(arrays[_NAME]) == file.name:
                return {name: arrays[name] for name in names}
    except FileNotFoundError:
        return None
    except Exception:  # of a dozen that damaged archives raise: all mean "make it again"
        pass
    logging.warning("%s is damaged, and is made anew.", file)
    return None


def write_arrays(file: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Keeps arrays at once or not at all; without a writable place, only warns."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as part:
            # An .npz holds .npy arrays, each with a CRC-32: damage does not go unnoticed.
            np.savez(part, **{_NAME: np.array(file.name)}, **arrays)
    except OSError as error:
        logging.warning("%s is not kept (set INITJAX_CACHE=DIR): %s", file, error)
