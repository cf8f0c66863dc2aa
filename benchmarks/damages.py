"""What is done to the files that runs leave, and to those of a run that goes on."""

import contextlib
import ctypes
import functools
import json
import os
import pathlib
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from injections import (
    SCENARIOS,
    STEPS,
    WEIGHTS,
    in_child,
    run_single,
    stop_at,
    stop_population,
    terminate,
)

from initjax.data import caches
from initjax.support.files import json_row

_NEW_NAMESPACE, _PRIVATE = 0x20000, 0x44000  # CLONE_NEWNS; MS_REC | MS_PRIVATE


def _newest(folder):
    steps = [path for path in (folder / "checkpoints").iterdir() if path.name.isdecimal()]
    return max(steps, key=lambda path: int(path.name))


def _files(folder, change: Callable[[bytes], bytes]):
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(change(path.read_bytes()))


def _lines(change: Callable[[list[bytes]], list[bytes]], name: str = "metrics.jsonl") -> Callable:
    def damage(folder):
        path = folder / name
        path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))

    return damage


_rows_of_runs = functools.partial(_lines, name="rows.jsonl")


def _changed(line: bytes, **values) -> bytes:
    """Another run's row, or another of this run."""
    row = {k: v for k, v in json.loads(line).items() if k != "sha256"} | values
    return json_row(row).encode()


def _flipped(content: bytes, where: bytes = b"") -> bytes:
    """A bit of the byte behind `where` is another one; of the middle byte without it."""
    position = content.index(where) + len(where) if where else len(content) // 2
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


def _file(pattern: str, change: Callable[[bytes], bytes]) -> Callable:
    def damage(folder):
        (path,) = folder.glob(pattern)
        path.write_bytes(change(path.read_bytes()))

    return damage


def _another_cache(folder):
    """A whole cache of another set, of the same shapes, under the name of this one."""
    (path,) = (folder / "cache").glob("*.npz")
    with np.load(path) as found:
        arrays = {name: found[name][::-1] for name in found.files}
    caches.write_arrays(path.with_name("another.npz"), arrays)
    path.with_name("another.npz").replace(path)


def _caches(name: str) -> dict[str, Callable[[pathlib.Path], object]]:
    return {
        f"{name}: cut to half": _file("cache/*.npz", lambda content: content[: len(content) // 2]),
        f"{name}: emptied": _file("cache/*.npz", lambda content: b""),
        f"{name}: a flipped bit": _file("cache/*.npz", _flipped),
        f"{name}: another set's": _another_cache,
    }


def _another_run(folder):
    with tempfile.TemporaryDirectory() as place:
        assert in_child(lambda: run_single(pathlib.Path(place), seed=5)).code == 0
        shutil.copytree(_newest(pathlib.Path(place)), folder / "checkpoints" / str(STEPS))


def _link(folder):
    apart = folder / "apart"
    _newest(folder).rename(apart)
    (folder / "checkpoints" / "30").symlink_to(apart)


def _config(content: bytes) -> Callable:
    return lambda folder: (folder / "config.json").write_bytes(content)


_OF_A_STOPPED_RUN: dict[str, Callable[[pathlib.Path], object]] = {
    "checkpoint: files emptied": lambda f: _files(_newest(f), lambda content: b""),
    "checkpoint: files cut to half": lambda f: _files(_newest(f), lambda c: c[: len(c) // 2]),
    "checkpoint: digests no JSON": lambda f: _files(_newest(f) / "digests", lambda c: b"[" * 10**5),
    "checkpoint: arrays missing": lambda f: shutil.rmtree(_newest(f) / "default"),
    "checkpoint: an empty folder": lambda f: (f / "checkpoints" / "30").mkdir(),
    "checkpoint: renamed to another step": lambda f: _newest(f).rename(f / "checkpoints" / "30"),
    "checkpoint: of another run": _another_run,
    "checkpoint: a link to one of another step": _link,
    "checkpoint: all gone": lambda f: shutil.rmtree(f / "checkpoints"),
    "rows: one lost": _lines(lambda lines: lines[:3] + lines[4:]),
    "rows: all lost": _lines(lambda lines: []),
    "rows: one doubled": _lines(lambda lines: lines[:3] + lines[2:]),
    "rows: one is no object": _lines(lambda lines: [*lines[:3], b"[]\n", *lines[3:]]),
    "rows: one is no UTF-8": _lines(lambda lines: [*lines[:3], b"\xff\n", *lines[3:]]),
    "rows: a flipped bit": _lines(
        lambda lines: [*lines[:3], _flipped(lines[3], b'"train_accuracy": 0.'), *lines[4:]]
    ),
    "rows: last one cut": _lines(lambda lines: [*lines, lines[-1][:9]]),
    "settings: empty": _config(b""),
    "settings: 10^5 brackets": _config(b"[" * 10**5),
    "settings: no UTF-8": _config(b"\xff"),
    "settings: another run's": _config(b'{"init": "zeros"}'),
}

_OF_A_COMPARISON: dict[str, Callable[[pathlib.Path], object]] = {
    "rows of a comparison: one lost": _rows_of_runs(lambda rows: rows[:1] + rows[2:]),
    "rows of a comparison: all lost": _rows_of_runs(lambda rows: []),
    "rows of a comparison: one doubled": _rows_of_runs(lambda rows: rows[:2] + rows[1:]),
    "rows of a comparison: two of one run": _rows_of_runs(
        lambda rows: [*rows, _changed(rows[0], accuracy=0.5)]
    ),
    "rows of a comparison: one is no object": _rows_of_runs(lambda rows: [*rows, b"[]\n"]),
    "rows of a comparison: one is no UTF-8": _rows_of_runs(lambda rows: [*rows, b"\xff\n"]),
    "rows of a comparison: 10^5 brackets": _rows_of_runs(lambda rows: [b"[" * 10**5 + b"\n"]),
    "rows of a comparison: a flipped bit": _rows_of_runs(
        lambda rows: [_flipped(rows[0], b'"accuracy": 0.'), *rows[1:]]
    ),
    "rows of a comparison: one of another": _rows_of_runs(
        lambda rows: [*rows, _changed(rows[0], seed=7)]
    ),
    "rows of a comparison: last one cut": _rows_of_runs(lambda rows: [*rows[:3], rows[3][:20]]),
}

_OF_A_STOPPED_COMPARISON: dict[str, Callable[[pathlib.Path], object]] = {
    "comparison under way: its list emptied": _file("checkpoints/*/jobs.json", lambda c: b""),
    "comparison under way: its list flipped": _file(
        "checkpoints/*/jobs.json", lambda c: _flipped(c, b'"seed": ')
    ),
    "comparison under way: its state cut to half": lambda f: _files(
        f / "checkpoints", lambda c: c[: len(c) // 2]
    ),
}

_OF_A_TARGET: dict[str, Callable[[pathlib.Path], object]] = {
    "target statistics: cut to half": _file("target.json", lambda c: c[: len(c) // 2]),
    "target statistics: a flipped bit": _file("target.json", lambda c: _flipped(c, b'"mean": [0.')),
    "target statistics: 10^5 brackets": _file("target.json", lambda c: b"[" * 10**5),
}

_OF_A_PROGRAM: dict[str, Callable[[pathlib.Path], object]] = {
    "compiled program: cut to half": _file("cache/jit__lambda*-cache", lambda c: c[: len(c) // 2]),
    "compiled program: emptied": _file("cache/jit__lambda*-cache", lambda c: b""),
    "compiled program: a flipped bit": _file("cache/jit__lambda*-cache", _flipped),
}

_OF_A_DOWNLOAD: dict[str, Callable[[pathlib.Path], object]] = {
    f"download: {what} {how}": change
    for how, content in (
        ("cut to half", WEIGHTS[:5000]),
        ("with a flipped bit", _flipped(WEIGHTS)),
        ("another file", WEIGHTS[::-1]),
    )
    for what, change in (
        ("kept", _file("cache/weights/*", lambda c, content=content: content)),
        ("served", lambda f, content=content: _serve(f, content)),
    )
}


def _serve(folder, content):
    (folder / "served").write_bytes(content)
    shutil.rmtree(folder / "cache")


class Damaged(NamedTuple):
    """What is damaged, and how.

    Attributes:
      scenario: name of what then goes on.
      begin: leaves in a folder what is damaged.
      damages: name -> what is done to the folder.
    """

    scenario: str
    begin: Callable[[pathlib.Path], None]
    damages: dict[str, Callable[[pathlib.Path], object]]


DAMAGED = (
    Damaged("single run", stop_at(STEPS // 2, terminate), _OF_A_STOPPED_RUN),
    Damaged("runs one by one", SCENARIOS["runs one by one"].run, _OF_A_COMPARISON),
    Damaged("population of 4", stop_population, _OF_A_STOPPED_COMPARISON),
    Damaged(
        "cache of decoded images",
        SCENARIOS["cache of decoded images"].run,
        _caches("decoded images"),
    ),
    Damaged("facts of a stream", SCENARIOS["facts of a stream"].run, _caches("facts of a stream")),
    Damaged("target statistics", SCENARIOS["target statistics"].run, _OF_A_TARGET),
    Damaged("compiled program", SCENARIOS["compiled program"].run, _OF_A_PROGRAM),
    Damaged("download", SCENARIOS["download"].run, _OF_A_DOWNLOAD),
)


def _remove(folder):
    folder.rename(folder.with_name("moved"))  # at once, while a checkpoint may be written there


def _replace(folder):
    _remove(folder)
    folder.mkdir()
    (folder / "config.json").write_text("{}")


# What happens while a run goes on, before its step 21.
MEANWHILE: dict[str, Callable[[pathlib.Path], object]] = {
    "folder removed while the run goes on": _remove,
    "folder replaced while the run goes on": _replace,
}


def on_full_disk(folder: pathlib.Path) -> None:
    """A run whose disk is full before its step 21, and which is then copied to `folder`.

    The disk is a tmpfs in a mount namespace of this process, which takes root; elsewhere no file
    may have more than 100 bytes.
    """
    small = folder.with_name("small")
    small.mkdir()
    libc = ctypes.CDLL(None)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    is_disk = not (
        libc.unshare(_NEW_NAMESPACE)
        or libc.mount(None, b"/", None, _PRIVATE, None)
        or libc.mount(b"tmpfs", os.fsencode(small), b"tmpfs", 0, b"size=8m")
    )

    def fill(_):
        if not is_disk:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
            return
        with contextlib.suppress(OSError), (small / "filler").open("wb", 0) as file:
            while True:
                file.write(bytes(4096))

    try:
        stop_at(STEPS // 2, fill)(small / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        shutil.copytree(small / "run", folder)


def judge_damage(damaged: Damaged, name: str, whole: str, begun: pathlib.Path, place) -> dict:
    """What came of one damage.

    Args:
      damaged: what is.
      name: of one of its damages.
      whole: the result of the scenario that nobody disturbed.
      begun: what `damaged.begin` has left.
      place: an empty folder.

    Returns:
      {"outcome": ..., "said": ...}: "equal", the result is that of a run that nobody disturbed;
      "told", the run says in two lines or fewer what is wrong; "lost", it ends otherwise; "wrong",
      another result and no word.
    """
    folder = place / "run"
    shutil.copytree(begun, folder, symlinks=True)
    damaged.damages[name](folder)
    scenario = SCENARIOS[damaged.scenario]
    found = in_child(lambda: scenario.run(folder))
    if found.is_told:
        return {"outcome": "told", "said": found.err}
    if found.code or "Traceback" in found.err or len(found.err.splitlines()) > 2:
        return {"outcome": "lost", "said": found.err}
    said = "\n".join(filter(None, (_told(found.out), found.err.strip())))
    if scenario.result(folder) == whole:
        return {"outcome": "equal", "said": said}
    return {"outcome": "told" if said else "wrong", "said": said}


def judge_meanwhile(name: str, whole: str, place: pathlib.Path) -> dict:
    """What came of something of `MEANWHILE`, or of "disk full", in a single run; see above."""
    folder, scenario = place / "run", SCENARIOS["single run"]
    run = on_full_disk if name == "disk full" else stop_at(STEPS // 2, MEANWHILE[name])
    found = in_child(lambda: run(folder))
    again = folder if name == "disk full" else place / "again"
    kept = not in_child(lambda: scenario.run(again)).code and scenario.result(again) == whole
    return {"outcome": "told" if found.is_told and kept else "lost", "said": found.err}


def _told(out: str) -> str:
    """The lines of what a run says that are about damage."""
    words = ("the checkpoint of step", " has no row", " has a row", "is lost", "as it was is now")
    return "\n".join(line for line in out.splitlines() if any(word in line for word in words))


def all_damages() -> Iterator[str]:
    """The names of all of them."""
    for damaged in DAMAGED:
        yield from damaged.damages
    yield from (*MEANWHILE, "disk full")
