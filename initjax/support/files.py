"""Files that others read: whole whenever a process may be killed, and strict json."""

import contextlib
import hashlib
import json
import math
import os
import pathlib
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO


@contextlib.contextmanager
def whole_file(path: pathlib.Path) -> Iterator[BinaryIO]:
    """A file for bytes, which takes the place of `path` when the block ends without error.

    Until then, and after an error, `path` is as it was. Beside it lies a part with a name of its
    own, so that two processes do not write into each other's.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        # Not tempfile, whose files only their owner may read: here the umask decides.
        with part.open("x+b") as file:
            yield file
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a file at once or not at all, whenever the process may be killed."""
    with whole_file(path) as file:
        file.write(text.encode())


def strict_json(value: Any, indent: int | None = None) -> str:
    """json without NaN and infinities, which it does not have: they become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def json_row(row: Mapping[str, Any], indent: int | None = None) -> str:
    """A row as a line of JSON, or several, whose last value is 16 digits of its SHA-256."""
    return strict_json({**row, "sha256": _digest(row)}, indent) + "\n"


def intact(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `json_row` made a line of, read by JSON; None where it is not that any more.

    A row without a digest is taken as it is.
    """
    rest = {name: value for name, value in row.items() if name != "sha256"}
    return rest if row.keys() == rest.keys() or row["sha256"] == _digest(rest) else None


def _digest(row) -> str:
    return hashlib.sha256(strict_json(row).encode()).hexdigest()[:16]


def user_path(path: str | os.PathLike[str]) -> pathlib.Path:
    """A path that a user gave. A shell expands ~ in `--out ~/x`, but not in `--out=~/x`."""
    return pathlib.Path(os.path.expanduser(path))


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
