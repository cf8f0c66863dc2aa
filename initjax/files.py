"""Files that others read: whole whenever a process may be killed, and strict json."""

import json
import math
import os
import pathlib
from typing import Any


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a file at once or not at all, whenever the process may be killed."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def strict_json(value: Any, indent: int | None = None) -> str:
    """json without NaN and infinities, which it does not have: they become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
