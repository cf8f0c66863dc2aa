"""Save, restore and resume a run with Orbax."""

import contextlib
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from initjax.support.errors import UserError


class Checkpoints:
    """The checkpoints of a run, under one folder; the newest two are kept.

    A context manager: leaving it waits until what was saved is on the disk.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder.absolute()
        self._manager = self._open()

    def _open(self):
        return ocp.CheckpointManager(
            self._folder, options=ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
        )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        with self._writing():
            self._manager.close()

    def save(self, step: int, tree: Any) -> None:
        """Saves in the background a copy of `tree`, which may be donated at once.

        Host arrays are saved, so that a run can go on with another number of devices.
        """
        if self._manager.latest_step() != step:
            tree = jax.tree.map(np.asarray, jax.device_get(tree))
            with self._writing():
                self._manager.save(step, args=ocp.args.StandardSave(tree))

    @contextlib.contextmanager
    def _writing(self):
        """Explains in two lines a failed write, of this checkpoint or of the one before it."""
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(
                f"No checkpoint can be written in {self._folder}: {str(error).splitlines()[0]}\n"
                "What was saved before is kept; the same command goes on from it."
            ) from error

    def restore_latest(self, like: Any, say: Callable[[str], None] = print) -> Any | None:
        """The newest checkpoint that can be read, shaped as `like`; None where there is none.

        One that cannot be read is renamed, and `say` is told.
        """
        abstract = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
            except Exception:  # Damage raises any of a dozen errors.
                aside = self._folder / f"unreadable-{step}-{time.time_ns()}"
                (self._folder / str(step)).rename(aside)
                # A manager judges all checkpoints by the newest that it found when it was made.
                self._manager.close()
                self._manager = self._open()
                say(f"the checkpoint of step {step} cannot be read; it is now {aside.name}")
        return None


def read_latest(folder: pathlib.Path) -> Any:
    """The newest tree that can be read under `folder`, as dictionaries of arrays; changes nothing.

    Raises:
      UserError: there is none.
    """
    steps = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
    why = "there is none"
    for step in sorted(steps, reverse=True):
        try:
            with ocp.PyTreeCheckpointer() as reader:
                return reader.restore(folder.absolute() / str(step) / "default")
        except Exception as error:  # Damage raises any of a dozen errors.
            why = str(error).splitlines()[0]
    raise UserError(f"{folder} holds no checkpoint that can be read: {why}.")
