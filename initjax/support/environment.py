"""By what a result was made: hardware, versions, commit, date and command."""

import datetime
import functools
import importlib.metadata
import os
import pathlib
import platform
import shlex
import subprocess
import sys

import jax

from initjax.support.command import program
from initjax.support.version import __version__

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy")


def describe_environment() -> dict[str, str | bool | None]:
    """Hardware, versions, commit, date and command of this process, as a result carries them.

    None stands for a package that is not installed, and for the commit, and whether its Python
    files were changed since, of an initjax that runs from no git checkout.
    """
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "device": f"{len(jax.devices())} x {device.device_kind}",
        "host": f"{cores} cores of {_cpu_name()}",
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "initjax": __version__,
        **dict(zip(("commit", "dirty"), _commit(), strict=True)),
        "date": datetime.date.today().isoformat(),
        "command": _command(),
    }


def _command() -> str:
    """What was typed; of a file elsewhere only the name, because results travel."""
    words = [pathlib.Path(w).name if pathlib.Path(w).is_absolute() else w for w in program()]
    return shlex.join([*words, *sys.argv[1:]])


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)  # without importing it
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _commit(
    folder: pathlib.Path = pathlib.Path(__file__).parents[2],
) -> tuple[str | None, bool | None]:
    """(commit, whether a tracked Python file differs from it) of the checkout in `folder`."""
    if not (folder / ".git").exists():  # installed; a repository around it would be another one
        return None, None
    command = ["git", "status", "--porcelain=v2", "--branch", "--untracked-files=no", "--", "*.py"]
    # Hooks of git set variables that point elsewhere. Without locks: it writes nothing.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment | {"GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        lines = [line.split() for line in done.stdout.splitlines()]
        (commit,) = (words[2] for words in lines if words[1] == "branch.oid")
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return None, None
    if commit == "(initial)":
        return None, None
    return commit, any(words[0] != "#" for words in lines)


def _cpu_name() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
