"""Training speed: python benchmarks/training.py [--before=CHECKOUT] [--first_command=3]

Images a second of whole training steps (forward, backward, update; ours gathers and normalizes its
images too) at batch 128 in float32, as the launcher runs a single run: on all cores or devices.
Each contender is a process of its own, and their turns alternate, so that what else the machine
does falls on all alike: medians of the ratios count, not the speeds.

    ours             this checkout
    before           an earlier one, such as `git worktree add CHECKOUT 537845a` makes
    population       of 8 replicas, as a comparison trains them; images/s in all
    torch            PyTorch in channels_last with as many threads as cores (extra `benchmark`)
    torch_processes  as many such processes of one thread as there are cores; images/s in all

Single runs are compared with ours, torch_processes with population.

`--first_command=N` times `python launch.py --init=nspl --model=resnet32 --epochs=2`, in wall and
CPU seconds: before, ours with an empty cache of compiled programs, and ours again.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import common
from training_worker import BATCH, SHAPES

HERE = pathlib.Path(__file__).resolve()
OURS = {"torch_processes": "population"}  # that a contender is compared with
FIRST = ("--init=nspl", "--model=resnet32", "--epochs=2")


def environment(checkout):
    """What a contender's process sees: only its checkout."""
    return os.environ | {"PYTHONPATH": str(checkout)}


def start(contender, model, checkout):
    """The process of a contender, which compiles before it says "ready"."""
    command = [sys.executable, str(HERE.with_name("training_worker.py")), contender, model]
    return subprocess.Popen(
        command,
        env=environment(checkout),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def take_turns(model, checkouts, turns, seconds):
    """Rows of one model: a contender's [seconds, CPU seconds] a step, turn by turn."""
    with contextlib.ExitStack() as stack:
        processes = {}
        for name, checkout in checkouts.items():
            processes[name] = stack.enter_context(start(name, model, checkout))
            assert processes[name].stdout.readline() == "ready\n", name

        def turn(name, steps):
            process = processes[name]
            print(steps, file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        steps = {name: max(round(seconds / turn(name, 8)[0]), 1) for name in processes}
        answers = {name: [] for name in processes}
        for i in range(turns):
            for name in list(processes)[:: -1 if i % 2 else 1]:
                answers[name].append(turn(name, steps[name]))
        for process in processes.values():
            process.stdin.close()
    return [
        {
            "model": model,
            "contender": name,
            "steps_a_turn": steps[name],
            "seconds_a_step": [wall for wall, _, _ in found],
            "cpu_seconds_a_step": [cpu for _, cpu, _ in found],
            "peak_megabytes": found[-1][2],
        }
        for name, found in answers.items()
    ]


def time_command(checkout, cache):
    """(wall, CPU) seconds of the first command of a checkout."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "launch.py", *FIRST, f"--workdir={folder}/run"]
        began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            command,
            cwd=checkout,
            env=environment(checkout) | {"INITJAX_CACHE": str(cache)},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime


def first_commands(checkouts, turns):
    """Rows of the first command, in turns: before, ours with an empty cache, ours again."""
    found = {"before": [], "ours": [], "ours again": []}
    for _ in range(turns):
        with tempfile.TemporaryDirectory() as cache:
            for name in found:
                checkout = checkouts.get(name.partition(" ")[0])
                if checkout:
                    found[name].append(time_command(checkout, cache))
    return [
        {"contender": name, "seconds": [s for s, _ in times], "cpu_seconds": [s for _, s in times]}
        for name, times in found.items()
        if times
    ]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(SHAPES))
    parser.add_argument("--before", type=pathlib.Path, help="a checkout of an earlier commit")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn")
    parser.add_argument("--first_command", type=int, default=0, metavar="N")
    args = parser.parse_args()
    checkouts = dict.fromkeys(("ours", "population"), HERE.parents[1])
    if args.before:
        checkouts["before"] = args.before.resolve()
    if importlib.util.find_spec("torch"):
        checkouts |= dict.fromkeys(("torch", "torch_processes"), HERE.parents[1])
    models = [name for name in args.models.split(",") if name]
    rows = [r for name in models for r in take_turns(name, checkouts, args.turns, args.seconds)]
    first = first_commands(checkouts, args.first_command)
    save(rows, first)


def save(rows, first):
    """The results, with the table of ratios."""
    import jax

    versions = {"torch": None}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        versions["torch"] = importlib.metadata.version("torch")
    lines = [
        f"PyTorch {versions['torch']}; load {os.getloadavg()[1]:.1f}. Ratios: ours over theirs in"
        " images/s, median of the turns and its 95 % interval; above 1: ours is faster.",
        "",
        "| model | contender | images/s | CPU ms a step | peak MB | ours over theirs |",
        "|---|---|---|---|---|---|",
    ]
    seconds = {(row["model"], row["contender"]): row["seconds_a_step"] for row in rows}
    for row in rows:
        median = statistics.median(row["seconds_a_step"])
        cpu = 1000 * statistics.median(row["cpu_seconds_a_step"])
        ratio = ""
        if row["contender"] not in ("ours", "population"):
            mine = seconds[row["model"], OURS.get(row["contender"], "ours")]
            row["ratio"] = common.ratio_interval(row["seconds_a_step"], mine)
            ratio = "{:.2f} ({:.2f} - {:.2f})".format(*row["ratio"])
        lines.append(
            f"| {row['model']} | {row['contender']} | {BATCH / median:.0f} | {cpu:.1f} |"
            f" {row['peak_megabytes']} | {ratio} |"
        )
    if first:
        lines += ["", "| first command | wall s | CPU s | of before: wall | CPU |"]
        lines += ["|---|---|---|---|---|"]
    for row in first:
        medians = [statistics.median(row[key]) for key in ("seconds", "cpu_seconds")]
        ratios = ["", ""]
        if first[0]["contender"] == "before":
            ratios = [
                f"{common.ratio_interval(row[key], first[0][key])[0]:.2f}"
                for key in ("seconds", "cpu_seconds")
            ]
        shown = " | ".join([*(f"{m:.1f}" for m in medians), *ratios])
        lines.append(f"| {row['contender']} | {shown} |")
    name = f"training-{jax.default_backend()}-jax{jax.__version__}"
    result = {"versions": versions, "load": os.getloadavg(), "rows": rows, "first_command": first}
    common.save(name, result, "\n".join(lines))


if __name__ == "__main__":
    main()
