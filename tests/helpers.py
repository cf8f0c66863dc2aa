"""What several test modules use: the launcher as a subprocess, and what a run leaves."""

import io
import json
import os
import pathlib
import re
import struct
import subprocess
import sys

import numpy as np
from tensorboardX.proto import event_pb2

from initjax.data import Dataset
from initjax.models import create_model, model_names
from initjax.support.files import intact

ROOT = pathlib.Path(__file__).resolve().parents[1]
TIMEOUT = 240  # seconds, for a loaded machine


def quick(devices) -> str:
    """The XLA_FLAGS of the suite, which compile fast, with as many devices."""
    return re.sub(r"(device_count=)\d+", rf"\g<1>{devices}", os.environ["XLA_FLAGS"])


def start(*flags, devices=None, **kwargs) -> subprocess.Popen:
    """Starts launch.py with as many virtual devices, or as many as it takes by itself."""
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "COLUMNS")}
    if devices:
        environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | kwargs
    return subprocess.Popen(
        [sys.executable, str(ROOT / "launch.py"), *map(str, flags)], env=environment, **streams
    )


def finish(process) -> subprocess.CompletedProcess:
    """Waits for what `start` started."""
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def launch(*flags, devices=None) -> subprocess.CompletedProcess:
    """Runs launch.py to its end."""
    return finish(start(*flags, devices=devices))


def launch_each(cases) -> list[subprocess.CompletedProcess]:
    """`launch` of several lines of flags, [(flags, devices)]; see `launches`."""
    return [answers[0] for answers in launch_together([([case], None) for case in cases])]


def launch_together(jobs) -> list[list[subprocess.CompletedProcess]]:
    """Of each job all processes at once: [([(flags, devices, environment or none)], kill)].

    Args:
      jobs: kill is (signal, index of the process that gets it, a file or folder: as soon as it is
        there, where a copy of the folder is kept), or None.
    """
    count = "--xla_force_host_platform_device_count={}"
    lines = []
    for cases, kill in jobs:
        runs = [
            [
                [*map(str, flags)],
                ({"XLA_FLAGS": count.format(devices)} if devices else {}) | dict(*environment),
            ]
            for flags, devices, *environment in cases
        ]
        lines.append(json.dumps([runs, kill and [*kill[:2], *map(str, kill[2:])]]))
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "COLUMNS")}
    found = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "launches.py")],
        input="".join(line + "\n" for line in lines),
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        timeout=TIMEOUT + 60 * len(lines),
        check=True,
    )
    answers = [json.loads(line) for line in found.stdout.splitlines()]
    together = []
    for (cases, _), job in zip(jobs, answers, strict=True):
        together.append([])
        for (flags, *_), answer in zip(cases, job, strict=True):
            seconds = answer.pop("seconds")
            together[-1].append(subprocess.CompletedProcess(flags, **answer))
            together[-1][-1].seconds = seconds
    return together


def read_rows(folder) -> list[dict]:
    """The rows of a run's metrics.jsonl."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [intact(json.loads(line)) for line in lines]


def without_times(rows) -> list[dict]:
    """What two runs of the same settings share."""
    return [
        {k: v for k, v in row.items() if k not in ("images_per_second", "seconds")} for row in rows
    ]


def models_of_every_class() -> list[str]:
    """One name of every class of models: what has one class is the same code."""
    return list({type(create_model(name)): name for name in model_names()}.values())


def draw_dataset(num_train=64, num_test=21, shape=(8, 8, 1)) -> Dataset:
    """A small data set of noise."""
    rng = np.random.default_rng(0)

    def split(n):
        return rng.integers(0, 256, (n, *shape), np.uint8), rng.integers(0, 10, n, np.int32)

    train, test = split(num_train), split(num_test)
    return Dataset("noise", *train, *test, num_classes=10, label_names=tuple("0123456789"))


def read_events(folder):
    """The events in all files of a folder; a record is length, checksum, event, checksum."""
    events = []
    for path in sorted((folder / "tensorboard").iterdir()):
        stream = io.BytesIO(path.read_bytes())
        while head := stream.read(12):
            events.append(event_pb2.Event.FromString(stream.read(struct.unpack("<Q", head[:8])[0])))
            stream.read(4)
    return events
