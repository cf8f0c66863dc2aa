"""What the benchmarks share: alternating timings, and on what they were taken."""

import datetime
import json
import os
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable

import jax
import jaxlib
import numpy as np

RESULTS = pathlib.Path(__file__).parent / "results"


def time_alternating(functions: dict[str, Callable], repeats: int) -> dict[str, list[float]]:
    """Seconds of `repeats` calls of every function, in turns, after one call to compile it.

    Turns, so that what else the machine does falls on all alike.
    """
    for function in functions.values():
        jax.block_until_ready(function())
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function())
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio_interval(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """Median of ours / theirs, turn by turn, and its 95 % bootstrap interval."""
    ratios = np.asarray(ours) / np.asarray(theirs)
    draws = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
    return statistics.median(ratios), float(low), float(high)


def cpu_name() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def environment() -> dict:
    """Hardware, versions, date and command of this run."""
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "device": f"{len(jax.devices())} x {device.device_kind}",
        "host": f"{cores} cores of {cpu_name()}",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python", *sys.argv]),
    }


def save(name: str, result: dict, text: str) -> None:
    """Writes NAME.json and NAME.md under results/, and prints the latter."""
    RESULTS.mkdir(exist_ok=True)
    header = "\n".join(f"- {key}: {value}" for key, value in result["environment"].items())
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(f"{header}\n\n{text}\n")
    print(f"{header}\n\n{text}")
