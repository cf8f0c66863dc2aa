"""Save, restore and resume a run with Orbax.

The checkpoint of step 20 is `20/default`, what Orbax writes of the tree, and `20/digests`, JSON:
the step, the SHA-256 of the run's settings, and that of the dtype, shape and values of every leaf.
One that is damaged, of another run or another step is never used, and never deleted.
"""

import concurrent.futures
import contextlib
import functools
import hashlib
import json
import logging
import os
import pathlib
import re
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from initjax.support.errors import UserError
from initjax.training.devices import is_first, text_of_first, tree_of_first

_KEPT = 2


class Checkpoints:
    """The checkpoints of a run, under one folder; the newest two are kept.

    A context manager: leaving it waits until what was saved is on the disk.

    Of a job's processes the first writes and reads. The others call the same methods, and get what
    it has read.

    Args:
      folder: of the checkpoints.
      settings: text that tells the run from others; what was saved with another is not restored.
    """

    def __init__(self, folder: pathlib.Path, settings: str = ""):
        _quieten()
        self._folder, self._settings = folder.absolute(), settings
        self._writer = None
        if not is_first():
            return
        with self._writing():
            self._folder.mkdir(parents=True, exist_ok=True)
            if not self._folder.is_symlink():  # where another run might be saving
                for part in self._folder.glob("*.orbax-checkpoint-tmp"):  # of a save that was cut
                    shutil.rmtree(part)
        handler = ocp.CompositeCheckpointHandler(
            default=ocp.StandardCheckpointHandler(**_alone()),
            digests=ocp.JsonCheckpointHandler(**_alone()),
            composite_options=ocp.CompositeOptions(**_alone()),
        )
        self._writer = ocp.AsyncCheckpointer(handler, **_alone())

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if self._writer is None:
            return
        try:
            with self._writing():
                self._writer.close()
                self._prune()
        except UserError:
            if not isinstance(error, UserError):  # which says more of what happened
                raise

    def save(self, step: int, tree: Any) -> None:
        """Saves in the background a copy of `tree`, which may be donated at once.

        Host arrays are saved, so that a run can go on with another number of devices.

        Raises:
          UserError: it cannot be written, or the one before it could not.
        """
        if self._writer is None:
            return
        place = self._folder / str(step)
        with self._writing():
            self._writer.wait_until_finished()
            self._prune()
        if place.exists():
            return
        tree = jax.tree.map(np.asarray, jax.device_get(tree))
        args = ocp.args.Composite(
            default=ocp.args.StandardSave(tree),
            digests=ocp.args.JsonSave(self._digests(step, tree)),
        )
        with self._writing():
            self._writer.save(place, args=args)

    def _digests(self, step, tree):
        return {"step": step, "settings": _sha256(self._settings), "leaves": digest_leaves(tree)}

    def _prune(self):
        """Deletes what is older than the newest two, and certainly of this run."""
        for step in _steps(self._folder)[_KEPT:]:
            place = self._folder / str(step)
            with contextlib.suppress(_Unusable):
                if _check_origin(place, step, self._settings):
                    place.unlink() if place.is_symlink() else shutil.rmtree(place)

    @contextlib.contextmanager
    def _writing(self):
        """Explains in two lines a failed write, of this checkpoint or of the one before it."""
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            # TensorStore's messages repeat every path on their way up.
            number = re.search(r"os_error_code='(\d+)'", str(error))
            why = os.strerror(int(number[1])) if number else str(error).splitlines()[0]
            raise UserError(
                f"No checkpoint can be written in {self._folder}: {why}\n"
                "What was saved before is kept; the same command goes on from it."
            ) from error

    def restore_latest(self, like: Any, say: Callable[[str], None] = print) -> Any | None:
        """The newest checkpoint that is whole and of this run, as `like`; None where there is none.

        Those that are newer and are not are renamed, and `say` is told.
        """
        restored = None

        def restore():
            nonlocal restored
            restored = self._restore(like, say)
            return "" if restored is None else "restored"

        if not text_of_first(restore):
            return None
        return tree_of_first(like if restored is None else restored)

    def _restore(self, like, say):
        abstract = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
        for step in _steps(self._folder):
            try:
                return _read(self._folder / str(step), step, self._settings, say, abstract)
            except _Unusable as why:
                if self._folder.is_symlink():
                    raise UserError(
                        f"{self._folder} is a link, and there the checkpoint of step {step} {why}."
                        "\nRemove the link, or pass another --workdir."
                    ) from None
                aside = self._folder / f"unreadable-{step}-{time.time_ns()}"
                (self._folder / str(step)).rename(aside)
                say(f"the checkpoint of step {step} {why}; it is now {aside.name}")
        return None


def read_latest(
    folder: pathlib.Path,
    settings: str | None = None,
    say: Callable[[str], None] = warnings.warn,
) -> Any:
    """The newest tree that is whole, as dictionaries of arrays; changes nothing.

    Args:
      folder: of the checkpoints.
      settings: of the run, as in `Checkpoints`; None: whatever they are.
      say: told which are newer and why they are not used.

    Raises:
      UserError: there is none.
    """
    _quieten()
    unused = []
    for step in _steps(folder):
        try:
            tree = _read(folder.absolute() / str(step), step, settings, say)
        except _Unusable as why:
            unused.append(f"that of step {step} {why}")
            continue
        if unused:
            say(f"{folder}: the checkpoint of step {step} is used: {', '.join(unused)}")
        return tree
    why = ", ".join(unused) or "there is none"
    raise UserError(f"{folder} holds no checkpoint that can be read: {why}.")


def digest_leaves(tree: Any) -> dict[str, str]:
    """{path: SHA-256 of dtype, shape and values} of the arrays of a tree on the host.

    The path is the same where tuples have become lists and dataclasses dictionaries.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    # hashlib lets the other threads run, and while a checkpoint is saved the cores are free.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(_digest, (leaf for _, leaf in leaves)), strict=True))


def _alone() -> dict[str, Any]:
    """What tells Orbax that no other process of the job calls it; it would wait for all."""
    here = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"process-{here}"
    )
    return {"multiprocessing_options": options}


def _digest(leaf) -> str:
    leaf = np.asarray(leaf)
    digest = hashlib.sha256(f"{leaf.dtype.name}{leaf.shape}".encode())
    digest.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8))
    return digest.hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class _Unusable(Exception):
    """Why a checkpoint is not used, as what follows "the checkpoint of step 3"."""


def _steps(folder: pathlib.Path) -> list[int]:
    """The steps of which there are checkpoints, the newest first."""
    names = (path.name for path in folder.glob("*"))
    return sorted((int(n) for n in names if re.fullmatch(r"0|[1-9][0-9]*", n)), reverse=True)


def _check_origin(place: pathlib.Path, step: int, settings: str | None) -> dict[str, str]:
    """The digests of the leaves of a checkpoint of this step and run; none if it is without."""
    if not (place / "digests").exists():  # of a version before there were digests
        return {}
    try:
        saved = json.loads((place / "digests" / "metadata").read_text())
        number, run, leaves = saved["step"], saved["settings"], dict(saved["leaves"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise _Unusable("cannot be read: its digests are damaged") from None
    if settings is not None and run != _sha256(settings):
        raise _Unusable("is of a run with other settings")
    if number != step:
        raise _Unusable(f"was saved as that of step {number}")
    return leaves


def _read(place, step, settings, say, abstract=None) -> Any:
    """The tree of a checkpoint, once it is known to be what was saved; raises `_Unusable`."""
    expected = _check_origin(place, step, settings)
    try:
        if abstract is None:
            handler = ocp.PyTreeCheckpointHandler(**_alone())
            with ocp.Checkpointer(handler, **_alone()) as reader:
                tree = reader.restore(place / "default")
        else:
            with ocp.StandardCheckpointer(**_alone()) as reader:
                tree = reader.restore(place / "default", abstract)
    except Exception:  # Damage raises any of a dozen errors.
        raise _Unusable("cannot be read") from None
    if not expected:
        say(f"the checkpoint of step {step} is from a version without digests: not verified")
        return tree
    found = digest_leaves(tree)
    for name in expected | found:
        if expected.get(name) != found.get(name):
            raise _Unusable(f"is damaged: {name} is not what was saved")
    return tree


@functools.cache
def _quieten() -> None:
    """Keeps from the reader's eyes, in this process, what Orbax shows of errors that are told here.

    Its threads log the traceback of each failed write, which the next save or the end raises too.
    A failed read or write ends its event loop while TensorStore still answers others; each of those
    answers is shown as an exception in nowhere, or as one of a task that nobody asked.
    """

    def show(unraisable, before=sys.unraisablehook):
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = show
    logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
    logging.getLogger("asyncio").addFilter(lambda record: "tensorstore" not in record.getMessage())
