"""The formats of weights: what each is told by, and its reader, which registers itself."""

import dataclasses
import pathlib
from collections.abc import Callable

from initjax.support.naming import Registry
from initjax.weights.tensors import Checkpoint


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of files, or of folders.

    Attributes:
      title: how a list of all formats names it.
      read: (path) -> `Checkpoint`; (path, open ZIP archive) of a format that has a `member`.
      recognizes: (first 16 bytes, size of the file) -> how many of the bytes are this format's own,
        0 of another format's file. The format that knows most of them reads.
      member: a ZIP archive is of this format if the "/" and path of a member end so. The longest
        that is there counts.
      find: (folder) -> the folder to read, None of another format's folder.
      endings: of names of files that may be shards in a folder.
    """

    title: str
    read: Callable[..., Checkpoint]
    recognizes: Callable[[bytes, int], int] | None = None
    member: str | None = None
    find: Callable[[pathlib.Path], pathlib.Path | None] | None = None
    endings: tuple[str, ...] = ()


FORMATS = Registry("format of weights")


def register(name: str, title: str, **told_by):
    """A decorator of a reader, which enters it under the name that its checkpoints have.

    Args:
      name: of the format.
      title: see `Format`, as the rest.
      **told_by: `recognizes`, `member` or `find`, and `endings`.
    """

    def enter(read: Callable[..., Checkpoint]) -> Callable[..., Checkpoint]:
        FORMATS.add(name, Format(title, read, **told_by))
        return read

    return enter


def starts_with(*starts: bytes) -> Callable[[bytes, int], int]:
    """What recognizes files that begin with one of `starts`."""
    return lambda head, size: max(len(start) * head.startswith(start) for start in starts)


def all_formats() -> list[Format]:
    """In the order in which they were registered."""
    return [FORMATS[name] for name in FORMATS]


def find_file_format(head: bytes, size: int) -> Format | None:
    """The format of a file of `size` bytes that begins with `head`."""
    known = [(form.recognizes(head, size), form) for form in all_formats() if form.recognizes]
    most, form = max(known, key=lambda pair: pair[0])
    return form if most else None


def find_archive_format(names: list[str]) -> Format | None:
    """The format of a ZIP archive with members of these names."""
    forms = [form for form in all_formats() if form.member]
    for form in sorted(forms, key=lambda form: -len(form.member)):
        if any(f"/{name}".endswith(form.member) for name in names):
            return form
    return None


def endings() -> tuple[str, ...]:
    """Those of the names of all formats' files."""
    return tuple(ending for form in all_formats() for ending in form.endings)


def readable() -> str:
    """What can be read, in words."""
    *titles, last = dict.fromkeys(form.title for form in all_formats())
    return f"{', '.join(titles)}, and {last}"
