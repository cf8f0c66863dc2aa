"""On what a result was measured: hardware, versions, date and command."""

import datetime
import os
import pathlib
import platform
import sys

import jax
import jaxlib


def describe_environment() -> dict[str, str]:
    """Hardware, versions, date and command of this process, as a result carries them."""
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "device": f"{len(jax.devices())} x {device.device_kind}",
        "host": f"{cores} cores of {_cpu_name()}",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python", *_program(), *sys.argv[1:]]),
    }


def _program() -> list[str]:
    """How this process was started: a module, or a file as seen from the working folder."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None:
        return ["-m", spec.name.removesuffix(".__main__")]
    path = pathlib.Path(sys.argv[0]).absolute()
    here = pathlib.Path.cwd()
    return [str(path.relative_to(here)) if path.is_relative_to(here) else path.name]


def _cpu_name() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
