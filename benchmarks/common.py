"""What the benchmarks share: alternating timings, and on what they were taken."""

import argparse
import json
import pathlib
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

from initjax.support.environment import describe_environment
from initjax.support.files import strict_json, write_whole

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


def update_document(document: str, name: str, text: str) -> None:
    """Puts a table between <!-- NAME --> and <!-- /NAME --> of docs/DOCUMENT."""
    path = RESULTS.parents[1] / "docs" / document
    before, rest = path.read_text().split(f"<!-- {name} -->\n")
    _, after = rest.split(f"<!-- /{name} -->\n")
    write_whole(path, f"{before}<!-- {name} -->\n{text}\n<!-- /{name} -->\n{after}")


def layer_arguments(description: str, name: str, table: Callable[[list], str]):
    """The arguments --weights, and --table, which writes docs/fit.md's of NAME.json and ends."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--weights", type=pathlib.Path, help="folder of npz files")
    parser.add_argument("--table", action="store_true", help="write the table from the json")
    args = parser.parse_args()
    if args.table:
        result = json.loads((RESULTS / f"{name}.json").read_text())
        update_document("fit.md", name, table(result["rows"]))
        raise SystemExit
    return args


def earlier_rows(name: str) -> list[dict]:
    """The rows of NAME.json, if it was measured with this hardware and these versions."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return []
    earlier, now = json.loads(path.read_text()), describe_environment()
    same = ("device", "host", "python", "jax", "jaxlib")
    if any(earlier["environment"][key] != now[key] for key in same):
        return []
    return earlier["rows"]


def save(name: str, result: dict, text: str) -> None:
    """Writes NAME.json and NAME.md under results/, and prints the latter."""
    print(write(name, result, text))


def write(name: str, result: dict, text: str) -> str:
    """Writes NAME.json and NAME.md under results/, and returns the latter."""
    RESULTS.mkdir(exist_ok=True)
    environment = describe_environment()
    header = "\n".join(f"- {key}: {value}" for key, value in environment.items())
    result = {"environment": environment, **result}
    write_whole(RESULTS / f"{name}.json", strict_json(result, indent=1) + "\n")
    write_whole(RESULTS / f"{name}.md", f"{header}\n\n{text}\n")
    return f"{header}\n\n{text}"
