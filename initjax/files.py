"""Files that are whole whenever a process may be killed."""

import os
import pathlib


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a file at once or not at all, whenever the process may be killed."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
