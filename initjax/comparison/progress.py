"""What a population says while it runs, and to whom: nobody, a terminal, or you."""

import dataclasses
import math
import shutil
import sys
from collections.abc import Sequence
from typing import Protocol

import tqdm

from initjax.comparison.rows import Run


@dataclasses.dataclass(frozen=True)
class Work:
    """What there is to do.

    Attributes:
      runs: asked for.
      finished: of these, before anything ran.
      programs: to compile.
      at_once: for each program, how many runs train together.
      devices: such as "2 x cpu".
      method: "devices" or "vmap".
    """

    runs: int
    finished: int
    programs: int
    at_once: tuple[int, ...]
    devices: str
    method: str

    def __str__(self):
        if self.finished == self.runs:
            return f"{_count(self.runs, 'run')}: all are finished"
        way = {"devices": "one on each device", "vmap": "vectorized"}[self.method]
        sizes = " and ".join(map(str, sorted(set(self.at_once))))
        return (
            f"{_count(self.runs, 'run')}: {self.finished} finished, {self.runs - self.finished}"
            f" to do, in {_count(self.programs, 'program')}, {sizes} at once, {way}"
            f" ({self.devices})"
        )


class Listener(Protocol):
    """Who is told how a population goes on."""

    def planned(self, work: Work) -> None:
        """Once, before anything runs."""

    def say(self, text: str) -> None:
        """A line for a reader."""

    def began(self, runs: Sequence[str], step: int, compiling: bool) -> None:
        """Some runs train from here on, together; `compiling` where their program is new."""

    def progress(self, done: int, total: int, images_per_second: float, left: float | None) -> None:
        """Steps done, of all that this call has to do, over all runs; seconds left, no compiling.

        `left` is None until something has been measured.
        """

    def finished(self, run: Run, runs: Sequence[Run]) -> None:
        """A run has ended; `runs` are all that are finished, this one too."""


class Quiet:
    """A Listener that keeps silent; a base for one that wants to hear of one thing only."""

    def planned(self, work):
        """Does nothing."""

    def say(self, text):
        """Does nothing."""

    def began(self, runs, step, compiling):
        """Does nothing."""

    def progress(self, done, total, images_per_second, left):
        """Does nothing."""

    def finished(self, run, runs):
        """Does nothing."""


class Terminal:
    """The Listener of a terminal: one bar, and under it a table of running means; lines elsewhere.

    A context manager: leaving it leaves the last table where it is.
    """

    def __init__(self, stream=None):
        self._stream = sys.stdout if stream is None else stream
        self._live = self._stream.isatty()
        size = shutil.get_terminal_size()
        self._size = size
        self._bar: tqdm.tqdm | None = None
        self._drawn = 0  # lines of the table that stand under the bar

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._bar is not None:
            self._bar.close()

    def planned(self, work):
        """Says it, and opens the bar."""
        self.say(str(work))
        if self._live and work.finished < work.runs:
            self._bar = tqdm.tqdm(
                file=self._stream,
                unit="step",
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} steps{postfix}",
                ncols=self._size.columns,
                nrows=self._size.lines,
            )

    def say(self, text):
        """A line, above the bar where there is one."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def began(self, runs, step, compiling):
        """Says that a program is compiled; what runs only where there is no bar."""
        if compiling:
            self.say(f"compiling for {_some(runs)}")
        elif not self._live:
            self.say(f"training {_some(runs)}" + (f" from step {step}" if step else ""))

    def progress(self, done, total, images_per_second, left):
        """Moves the bar."""
        if self._bar is None:
            return
        if self._bar.total != total:
            self._bar.reset(total)
        self._bar.set_postfix_str(
            f"{images_per_second:,.0f} images/s, {_time(left)} left", refresh=False
        )
        self._bar.update(done - self._bar.n)

    def finished(self, run, runs):
        """Draws the table anew; says the run's result where nothing can be drawn over."""
        if self._bar is None:
            self.say(f"{run}: {result(run)}")
            return
        lines = table_of_means(runs)
        for position, line in enumerate(lines, 1):
            self._bar.moveto(position)
            self._stream.write("\r\x1b[K" + line[: self._size.columns - 1])
            self._bar.moveto(-position)
        self._stream.flush()


def result(run: Run) -> str:
    """One run's outcome in a few words."""
    parts = [] if run.accuracy is None else [f"accuracy {run.accuracy:.4f}"]
    if run.loss is not None:
        parts.append(f"loss {run.loss:.4f}")
    return ", ".join(parts + ([f"failed: {run.failure}"] if run.failure else []))


def table_of_means(runs: Sequence[Run]) -> list[str]:
    """A line a start (and learning rate): runs, mean accuracy, its standard deviation, failures."""
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        groups.setdefault((run.phase, run.setting, run.start, run.learning_rate), []).append(run)
    rates = len({rate for *_, rate in groups}) > 1
    lines = []
    for (phase, _, start, rate), members in groups.items():
        values = [run.accuracy for run in members if not run.failure]
        name = start + (f", rate {rate:g}" if rates and rate else "")
        name += f" ({phase})" * (phase != "test")
        mean = sum(values) / len(values) if values else math.nan
        sd = "     -"  # of one run there is none
        if len(values) > 1:
            sd = f"{math.sqrt(sum((x - mean) ** 2 for x in values) / (len(values) - 1)):.4f}"
        failed = len(members) - len(values)
        lines.append(
            f"{name:<40} {len(members):>4}  {mean:.4f}  sd {sd}"
            + (f"  {failed} failed" if failed else "")
        )
    return lines


def _some(names):
    shown = "; ".join(names[:3])
    return shown + (f"; and {len(names) - 3} more" if len(names) > 3 else "")


def _count(number, word):
    return f"{number:,} {word}{'s' * (number != 1)}"


def _time(seconds):
    if seconds is None:
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
