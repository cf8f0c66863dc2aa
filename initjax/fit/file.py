"""fit.json: the findings of a fit (see `initjax.fit.findings`) as a json object in a file."""

import functools
import json
import pathlib

from initjax.fit.findings import VERSION, Findings, from_json, to_json
from initjax.support.errors import UserError
from initjax.support.files import strict_json, write_whole


def save(found: Findings, path: pathlib.Path) -> None:
    """Writes a fit file, whole or not at all."""
    write_whole(path, strict_json(to_json(found)) + "\n")


def load(path) -> Findings:
    """The content of a fit file.

    Raises:
      UserError (a ValueError): where there is none, or one that this version does not read.
    """
    path = pathlib.Path(path)
    path = path / "fit.json" if path.is_dir() else path
    try:
        status = path.stat()
        return _load(str(path), (status.st_ino, status.st_size, status.st_mtime_ns))
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}. `python -m initjax.fit WEIGHTS --out=DIR` makes a fit file."
        ) from None


@functools.lru_cache(maxsize=8)
def _load(path, stamp):
    try:
        found = json.loads(pathlib.Path(path).read_text("utf-8"))
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not a fit file of `python -m initjax.fit`.") from None
    version = found.get("version", VERSION) if isinstance(found, dict) else VERSION
    if version != VERSION:
        raise UserError(
            f"{path} has version {version!r:.40}; this initjax reads version {VERSION}."
        )
    try:
        return from_json(found)
    except UserError as error:
        raise UserError(f"{path} is not a fit file of `python -m initjax.fit`:\n{error}.") from None
