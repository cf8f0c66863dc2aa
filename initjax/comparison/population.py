"""Stand-in: one run after the other."""

import dataclasses
import pathlib
import time
from typing import Any

import numpy as np

from initjax import data
from initjax.comparison import rows
from initjax.support.errors import UserError
from initjax.training.config import Config
from initjax.training.loop import train


@dataclasses.dataclass(frozen=True)
class Job:
    config: Config
    phase: str = "test"
    start: str = ""
    model: Any = None
    program: Any = None
    variables: Any = None


def run_jobs(jobs, dataset=None, *, folder=None, method="auto", listener=None):
    path = None if folder is None else pathlib.Path(folder) / "rows.jsonl"
    done = {}
    if path and path.exists():
        good = []
        for line in path.read_text().splitlines():
            try:
                run = rows.Run.from_json(line)
            except UserError:
                continue
            done[run.key] = run
            good.append(line + "\n")
        path.write_text("".join(good))
    found = []
    for job in jobs:
        c = job.config
        blank = rows.Run(
            job.start or rows.start_of(vars(c)),
            c.seed,
            rows.setting_of(vars(c)),
            c.learning_rate,
            job.phase,
            failure="?",
            moves=rows.MOVES,
        )
        if blank.key not in done:
            done[blank.key] = _run(job, blank, dataset)
            if path:
                with path.open("a") as file:
                    file.write(done[blank.key].to_json() + "\n")
            if listener:
                listener.say(f"{done[blank.key]}: {done[blank.key].accuracy}")
        found.append(done[blank.key])
    return found


def _run(job, blank, dataset):
    c = job.config
    if dataset is None:
        dataset = data.load(c.dataset, c.data_dir or None, c.image_size or None, c.download)
    if job.phase == "tuning":
        n = len(dataset.train_labels)
        order = np.random.default_rng(0).permutation(n)
        held, kept = np.sort(order[: n // 10]), np.sort(order[n // 10 :])
        dataset = dataclasses.replace(
            dataset,
            train_images=dataset.train_images[kept],
            train_labels=dataset.train_labels[kept],
            test_images=dataset.train_images[held],
            test_labels=dataset.train_labels[held],
        )
    names = [f.name for f in dataclasses.fields(c)]
    own = ("init", "dense_init", "bias_init", "activation", "precision", "model")
    skip = (
        "epochs" if c.steps else "steps",
        "workdir",
        "dataset",
        "preset",
        *(own if job.model is not None else ()),
    )
    settings = {n: getattr(c, n) for n in names if n not in skip and n != "model"}
    began = time.monotonic()
    model = c.model if job.model is None else job.model
    try:
        found, _ = train(str(model) if job.model is None else model, dataset, **settings)
    except UserError as error:
        if "loss is" not in str(error):
            raise
        return dataclasses.replace(blank, failure=str(error).splitlines()[0])
    last = found[-1]
    return dataclasses.replace(
        blank,
        failure="",
        accuracy=last["eval_accuracy"],
        loss=last["eval_loss"],
        seconds=time.monotonic() - began,
        test_images=len(dataset.test_labels),
        step=tuple(r["step"] for r in found),
        **{n: tuple(r[n] for r in found) for n in rows.CURVES},
    )
