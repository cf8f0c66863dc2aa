"""What a run says while it runs, and to whom: nobody, a terminal and its folder, or you."""

import pathlib
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorboardX.summary
import tqdm
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from initjax.support.files import json_row
from initjax.training.objective import METRICS
from initjax.training.pictures import plot_curves
from initjax.training.workdir import keep_rows

_COLUMNS = ("epoch", "images_per_second", "seconds")
_COLUMNS += tuple(f"{split}_{name}" for split in ("train", "eval") for name in METRICS)


class Histogram(NamedTuple):
    """Of an array: how many values lie between edges that follow each other.

    Attributes:
      edges: [bins + 1], rising.
      counts: [bins].
      sum: of the values.
      sum_squares: of the values.
    """

    edges: np.ndarray
    counts: np.ndarray
    sum: float
    sum_squares: float


class Listener(Protocol):
    """Who is told how a run goes on."""

    def say(self, text: str) -> None:
        """A line for a reader."""

    def progress(self, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        """After each step, or several of them: means over the steps since the last evaluation."""

    def evaluation(self, row: dict[str, Any]) -> None:
        """One row of the run."""


class Quiet:
    """A Listener that keeps silent; a base for one that wants to hear of one thing only."""

    def say(self, text: str) -> None:
        """Does nothing."""

    def progress(self, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        """Does nothing."""

    def evaluation(self, row: dict[str, Any]) -> None:
        """Does nothing."""


class Follower(Quiet):
    """The Listener of a process that is not the first of its job: it keeps the rows, and no file.

    Attributes:
      rows: of the evaluations that it has seen.
    """

    def __init__(self):
        self.rows: list[dict[str, Any]] = []

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def resume(self, step: int, expected: Sequence[int] = ()) -> None:
        """Does nothing: the rows before are in a folder that this process does not read."""

    def evaluation(self, row: dict[str, Any]) -> None:
        """Keeps a row."""
        self.rows.append(row)

    def histograms(self, step: int, found: Mapping[str, Histogram]) -> None:
        """Does nothing."""

    def draw(self, title: str) -> None:
        """Does nothing."""


class Numbers(Quiet):
    """A Listener that hands on the numbers of each evaluation, and says nothing.

    train(..., reporter=Numbers(lambda step, numbers: wandb.log(numbers, step=step)))
    train(..., reporter=Numbers(clu.metric_writers.create_default_writer(folder).write_scalars))

    Args:
      write: (step, {name: number}) keeps or sends them.
    """

    def __init__(self, write: Callable[[int, dict[str, float]], Any]):
        self._write = write

    def evaluation(self, row: dict[str, Any]) -> None:
        """Hands on all that is a number."""
        numbers = {name: x for name, x in row.items() if isinstance(x, int | float)}
        self._write(numbers.pop("step"), numbers)


class Reporter:
    """The Listener of a run in a folder: a bar on a terminal, lines elsewhere, and its metrics.

    Writes metrics.jsonl and TensorBoard events under `folder`, and shows the progress.

    A context manager: leaving it closes the files.

    Args:
      folder: of the run.
      total_steps: of the run.
      steps_per_epoch: of the run.
      check: called before a row is written; raises where the folder is another's.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        total_steps: int,
        steps_per_epoch: int,
        check: Callable[[], None] = lambda: None,
    ):
        self._path = folder / "metrics.jsonl"
        self._curves = folder / "curves.png"
        self._steps_per_epoch = steps_per_epoch
        self._total_steps = total_steps
        self._check = check
        self._events: _Events | None = None
        # (clock, step) after compiling, or after the last evaluation; and of the last step.
        self._since: tuple[float, int] | None = None
        self._now: tuple[float, int] | None = None
        size = shutil.get_terminal_size()  # 80 by 24 where tqdm would take it for 0, and be silent
        self._bar = tqdm.tqdm(
            total=total_steps,
            disable=not sys.stderr.isatty(),
            unit="step",
            # With the postfix of `progress`, this fits in 80 columns.
            bar_format="{l_bar}{bar}|{remaining} left{postfix}",
            ncols=size.columns,
            nrows=size.lines,
        )
        self.rows: list[dict[str, Any]] = []

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()
        if self._events:
            self._events.close()

    def say(self, text: str) -> None:
        """Prints a line, above the bar where there is one."""
        self._bar.write(text, file=sys.stdout)
        sys.stdout.flush()

    def resume(self, step: int, expected: Sequence[int] = ()) -> None:
        """Reads the rows up to `step` and drops later ones, which will be computed again.

        Call it once, before the first `progress` or `evaluation`. Of `expected` steps, those that
        have no row are told.
        """
        self.rows += keep_rows(self._path, step, expected, _COLUMNS, self.say)
        if step < self._total_steps:
            self._events = _Events(self._path.parent / "tensorboard", step)
        self._bar.initial = self._bar.n = step  # for the time left: these steps took none now

    def progress(self, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        """Moves the bar."""
        self._now = (time.perf_counter(), step)
        if self._since is None:
            self._since = self._now
        if self._bar.disable:
            return
        self._bar.set_description(f"epoch {step / self._steps_per_epoch:.1f}", refresh=False)
        self._bar.set_postfix_str(
            f"loss {loss:.3f}, accuracy {accuracy:.3f}, {images_per_second:.0f} images/s",
            refresh=False,
        )
        self._bar.update(step - self._bar.n)

    def evaluation(self, row: dict[str, Any]) -> None:
        """Records one evaluation, as a row of metrics.jsonl and as TensorBoard scalars."""
        self._check()
        self.rows.append(row)
        with self._path.open("a") as file:
            file.write(json_row(row))
        shown = {k: v for k, v in row.items() if k not in ("step", "epoch", "seconds")}
        scalars = (tensorboardX.summary.scalar(name, value) for name, value in shown.items())
        self._events.add(row["step"], scalars)
        left = (self._total_steps - row["step"]) * self._pace(row)
        splits = (
            f"{shown} " + "  ".join(f"{name} {row[f'{split}_{name}']:.4f}" for name in METRICS)
            for split, shown in (("train", "train"), ("eval", "test"))
        )
        self.say(
            f"epoch {row['epoch']:.1f}  {'  '.join(splits)}"
            f"  {row['images_per_second']:.0f} images/s  {left:.0f} s left"
        )
        self._since = (time.perf_counter(), row["step"])

    def histograms(self, step: int, found: Mapping[str, Histogram]) -> None:
        """Records histograms by their names, for TensorBoard."""
        self._events.add(step, (_summary(name, of) for name, of in found.items()))

    def _pace(self, row):
        """Seconds a step, without what was compiled."""
        if self._since and self._now and self._now[1] > self._since[1]:
            return (self._now[0] - self._since[0]) / (self._now[1] - self._since[1])
        return row["seconds"] / row["step"]

    def draw(self, title: str) -> None:
        """Draws curves.png."""
        if self.rows:
            plot_curves(self.rows, self._curves, title)


class _Events:
    """A file of TensorBoard events, written at once.

    Not tensorboardX.SummaryWriter, which writes in a thread: where the disk is full it ends with a
    traceback, and ten events later the run waits for it for ever.
    """

    def __init__(self, folder: pathlib.Path, step: int):
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{step}"
        folder.mkdir(exist_ok=True)
        self._file = RecordWriter(str(folder / name))
        self._write(Event(file_version="brain.Event:2"))
        # TensorBoard forgets the events that this run will write again.
        self._write(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def add(self, step: int, summaries: Iterable[Summary]) -> None:
        for summary in summaries:
            self._write(Event(step=step, summary=summary))
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write(self, event):
        event.wall_time = time.time()
        self._file.write(event.SerializeToString())


def _summary(name: str, of: Histogram) -> Summary:
    # TensorBoard knows the upper ends of bins alone: an empty one says where the first begins.
    return tensorboardX.summary.histogram_raw(
        name,
        min=float(of.edges[0]),
        max=float(of.edges[-1]),
        num=int(of.counts.sum()),
        sum=float(of.sum),
        sum_squares=float(of.sum_squares),
        bucket_limits=of.edges.tolist(),
        bucket_counts=[0, *of.counts.tolist()],
    )


def folder_contents(folder: pathlib.Path) -> Sequence[str]:
    """Names of what a run left, folders with a slash."""
    return [path.name + "/" * path.is_dir() for path in sorted(folder.iterdir())]
