"""A comparison from its grid of runs to its verdict."""

import dataclasses
import functools
import pathlib
import shlex
import time
from collections.abc import Callable, Sequence

from initjax.comparison import grid as grids, report, sequential, tuning
from initjax.comparison.decisions import count
from initjax.comparison.grid import Grid, job_at
from initjax.comparison.population import Job, run_jobs
from initjax.comparison.progress import Terminal
from initjax.comparison.results import Verdict
from initjax.comparison.rows import Run
from initjax.comparison.tables import table
from initjax.comparison.verdict import judge
from initjax.support.errors import UserError
from initjax.support.files import user_path
from initjax.training.devices import all_devices, is_first, text_of_first


@dataclasses.dataclass(frozen=True)
class Study:
    """How a grid is run and judged.

    Attributes:
      grid: the runs; with `tune`, its rates are those to choose from, several of them.
      baseline: a start that the others are compared with; empty: all pairs.
      margin: accuracy difference without practical interest; None: see `judge`.
      tune: whether each start's learning rate is chosen first.
      until_decided: the most seeds up to which they are added until all is decided; 0: none are.
    """

    grid: Grid
    baseline: str = ""
    margin: float | None = None
    tune: bool = False
    until_decided: int = 0

    @classmethod
    def create(cls, grid: Grid, *, baseline="", margin=None, tune=False, until_decided=0):
        """The study with what follows from its settings, checked before anything runs.

        Raises:
          UserError (a ValueError): a baseline that is no start, a margin or number out of range.
        """
        baseline = grids.find_baseline(baseline, grid.starts)
        if margin is not None and not 0 < margin < 1:
            raise UserError(f"--margin={margin:g} is not in (0, 1); 0.005 is half a point.")
        if until_decided:
            if len(grid.starts) < 2:
                raise UserError("--until_decided needs two starts or more, such as --init=a,b.")
            if until_decided < max(len(grid.seeds), sequential.LEAST_SEEDS):
                least = max(len(grid.seeds), sequential.LEAST_SEEDS)
                raise UserError(f"--until_decided={until_decided} must be {least} seeds or more.")
        if tune and len(grid.rates) == 1:
            grid = dataclasses.replace(grid, rates=tuning.rates_around(grid.rates[0]))
        return cls(grid, baseline, margin, tune, until_decided)

    def plan(self, folder: pathlib.Path | None = None) -> list[str]:
        """Lines to print before anything runs."""
        tuning_runs = len(self.grid.cells) * len(self.grid.rates) * tuning.NUM_SEEDS * self.tune
        return grids.describe_plan(
            self.grid,
            grids.read_done(folder),
            baseline=self.baseline,
            tuning=tuning_runs,
            most_seeds=self.until_decided,
        )

    def run(self, run_jobs: Callable[[Sequence[Job]], list[Run]]) -> tuple[list[Run], Verdict]:
        """Runs what is missing, and judges.

        Args:
          run_jobs: jobs -> their rows, such as `population.run_jobs` with a folder and a listener.
        """
        run = _Once(run_jobs)
        verdict = functools.partial(judge, baseline=self.baseline, margin=self.margin)
        runs: list[Run] = []
        notes: list[str] = []
        tested = [(cell, rate) for rate in self.grid.rates for cell in self.grid.cells]
        if self.tune:
            seeds = tuning.tuning_seeds(self.grid.seeds)
            tuned = tuning.tune(self.grid.cells, self.grid.rates, seeds, run)
            runs, tested, notes = [*tuned.runs], [*tuned.jobs], [*tuned.notes]
        if self.until_decided:
            found, stops = sequential.run_until_decided(
                tested,
                self.grid.seeds,
                self.until_decided,
                len(all_devices()),
                run,
                lambda test: verdict([*runs, *test], anytime=True),
            )
            runs, notes = [*runs, *found], [*notes, *stops]
        else:
            runs += run([job_at(c, rate, seed) for seed in self.grid.seeds for c, rate in tested])
        return runs, verdict(runs, anytime=bool(self.until_decided), notes=notes)


def run_in_folder(study: Study, workdir: str = "", method: str = "auto") -> Verdict:
    """Runs a study, tells its plan and its verdict, and leaves all of it in a folder.

    Args:
      study: what to compare.
      workdir: the folder; empty: runs/comparison-<digest of what is shared>. What it holds already
        is not run again.
      method: how replicas are run; see `run_jobs`.

    Raises:
      UserError: the folder cannot be written or holds something else.
    """

    def run(jobs):
        with Terminal() as listener:
            return run_jobs(jobs, folder=folder, method=method, listener=listener)

    folder = pathlib.Path(text_of_first(lambda: str(_open_folder(workdir, study.grid))))
    before = grids.read_done(folder)
    print("\n".join([*study.plan(folder), f"Folder: {folder}"]), flush=True)
    began = time.perf_counter()
    runs, verdict = study.run(run)
    new = len({run.key for run in runs} - before.keys())
    seconds = grids.show_seconds(time.perf_counter() - began)
    print(f"{count(new, 'run')} done in {seconds}.\n\n{table(verdict)}", flush=True)
    about = {"runs": f"{len(runs)}, of which {new} in this call, in {seconds}"}
    if not is_first():
        return verdict
    files = [*report.save(verdict, runs, folder, about), "rows.jsonl"]
    if others := grids.read_done(folder).keys() - {run.key for run in runs}:
        print(
            f"{folder} has {count(len(others), 'run')} more, of other starts, rates or seeds:"
            f" python -m initjax.comparison {shlex.quote(str(folder))} judges all."
        )
    print(f"In {folder}: {', '.join(files)}", flush=True)
    return verdict


def _open_folder(workdir: str, grid: Grid) -> pathlib.Path:
    folder = user_path(workdir or pathlib.Path("runs") / grid.folder_name())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--workdir: {folder} cannot be made: {error.strerror}.\nPass another --workdir."
        ) from None
    if (folder / "config.json").exists():
        raise UserError(f"{folder} holds a single run, not a comparison.\nPass another --workdir.")
    return folder


class _Once:
    """Runs jobs, none of them twice."""

    def __init__(self, run_jobs: Callable[[Sequence[Job]], list[Run]]):
        self._run_jobs = run_jobs
        self._done: dict[tuple, Run] = {}

    def __call__(self, jobs: Sequence[Job]) -> list[Run]:
        keys = [job.key for job in jobs]
        missing = [job for job, key in zip(jobs, keys, strict=True) if key not in self._done]
        if missing:
            self._done |= {run.key: run for run in self._run_jobs(missing)}
        return [self._done[key] for key in keys]
