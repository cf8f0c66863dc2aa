"""Many runs as one job: what shares a program trains together, and what is finished stays finished.

In a folder, `rows.jsonl` has one line a finished run. Runs that train together are a chunk; while
they do, `checkpoints/<digest>/` holds their stacked state and what was measured, and `jobs.json`
beside it says which they are. Killed at any moment, the same call goes on from there.
"""

import contextlib
import dataclasses
import functools
import gc
import hashlib
import json
import math
import os
import pathlib
import shutil
import time
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from initjax import data
from initjax.comparison.progress import Listener, Quiet, Work
from initjax.comparison.rows import CURVES, Run, setting_of, start_of
from initjax.data.stream import StreamedDataset
from initjax.support.compiling import forget_programs
from initjax.support.errors import Interrupted, UserError
from initjax.support.files import json_row, strict_json, write_whole
from initjax.support.memory import TooLarge
from initjax.training.checkpoints import Checkpoints
from initjax.training.config import NUMBERS, Config
from initjax.training.devices import (
    all_devices,
    check_same,
    is_first,
    load_in_all,
    reason_of_any,
    text_of_first,
)
from initjax.training.objective import DEFAULT_LOSS, METRICS, loss_of_frequencies
from initjax.training.replicas import Member, Replicas, at_once, method_here
from initjax.training.stopping import stop_signals
from initjax.training.workdir import alone_in

# A kill loses at most about so many seconds; a checkpoint costs some tenths of one.
SAVE_SECONDS = 10.0

# More steps than these are not in flight on CPU devices: each holds its state.
_STEPS_IN_FLIGHT = 8

_NOT_RUN = "not run"
_WEIGHTS = "initial weights"

# Of a Config: what the start is, not the program.
_START = ("init", "dense_init", "bias_init", "init_from", "refine")
_NO_PROGRAM = (*_START, *NUMBERS, "seed", "preset", "download", "workdir")
_DATA = ("dataset", "data_dir", "image_size", "stream")


@dataclasses.dataclass(frozen=True)
class Job:
    """One run to do.

    Attributes:
      config: its settings: one start, one learning rate, one seed.
      phase: "test"; or "tuning": trained on a part of the training set and evaluated on the rest.
      start: the name of what its weights begin from; empty: as `config` says.
      model: a Flax Linen module of your own in place of `config.model`.
      program: models of your own with equal tokens differ in nothing but the weights that they
        begin from, and share a program; None: equal modules do. A text names the model in the rows.
      variables: {"params": ...} to start from, or a function of a key that makes them; None:
        `model.init` does.
    """

    config: Config
    phase: str = "test"
    start: str = ""
    model: Any = None
    program: Hashable = None
    variables: Any = None

    def row(self, **values) -> Run:
        """The row of this run, with what came of it."""
        config = json.loads(self.config.to_json())
        setting = setting_of(config)
        if self.model is not None:
            own = type(self.model).__name__
            setting["model"] = self.program if isinstance(self.program, str) else own
            for name in ("activation", "precision"):
                del setting[name]  # the module has its own
        return Run(
            start=self.start or start_of(config),
            seed=self.config.seed,
            setting=setting,
            learning_rate=self.config.learning_rate,
            phase=self.phase,
            **values,
        )

    @functools.cached_property
    def key(self) -> tuple:
        """`Run.key` of its row."""
        return self.row(failure=_NOT_RUN).key

    def __str__(self):
        return str(self.row(failure=_NOT_RUN))

    @property
    def group(self) -> tuple:
        """Equal for jobs that share a program."""
        token = self.program
        if token is None and self.model is not None:
            token = _hashable(self.model)
        fields = {k: v for k, v in vars(self.config).items() if k not in _NO_PROGRAM}
        if self.model is not None:
            del fields["model"]
        return self.phase, token, *sorted(fields.items())


@dataclasses.dataclass(frozen=True)
class _Chunk:
    """Jobs that train together, `size` replicas at once (the last stands for what is missing)."""

    jobs: tuple[Job, ...]
    size: int

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def parts(self, too_large: "_Chunk") -> list["_Chunk"]:
        """Of half as many runs, where one of the same program and size was too large."""
        if (self.jobs[0].group, self.size) != (too_large.jobs[0].group, too_large.size):
            return [self]
        half = -(-self.size // 2)
        return [
            _Chunk(self.jobs[start : start + half], half)
            for start in range(0, len(self.jobs), half)
        ]

    def to_json(self) -> str:
        """What tells it from others: rows in which nothing has happened yet."""
        rows = [json.loads(job.row(failure=_NOT_RUN).to_json()) for job in self.jobs]
        return strict_json({"size": self.size, "jobs": rows})


def run_jobs(
    jobs: Sequence[Job],
    dataset: data.Dataset | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    method: str = "auto",
    listener: Listener | None = None,
) -> list[Run]:
    """Does all jobs, as few programs, many at once.

    A run that fails ends as a row that says so, and the others go on. Failed is one whose training
    or test loss is no number at an evaluation, or whose last training loss is above that of
    predicting the frequencies of the classes. (The training loss, because the test loss of a
    network that overfits may well be above it.)

    Each process of a job makes this call: the runs are spread over all of its devices, and the
    first process alone writes and reads the folder.

    Args:
      jobs: the runs; those that are equal are done once.
      dataset: of all jobs; None: each config's.
      folder: where rows and checkpoints are kept; runs that have a row there are not done again.
        None: in memory only.
      method: how replicas train at once: "devices", "vmap", or "auto".
      listener: who is told how it goes on.

    Returns:
      The row of each job, in their order.

    Raises:
      UserError (a ValueError): settings, data, or a folder that cannot be used.
      Interrupted: Ctrl-C, SIGTERM or SIGHUP; with a folder, after what is under way has been saved.
    """
    if dataset is not None:
        named = {"dataset": dataset.name}
        jobs = [dataclasses.replace(j, config=dataclasses.replace(j.config, **named)) for j in jobs]
    if any(job.config.record_statistics for job in jobs):
        raise UserError(
            "--record_statistics is of a single run: a comparison keeps no folder for each.\n"
            "Leave it out, or train that start by itself."
        )
    listener = Quiet() if listener is None else listener
    check_same("settings", str([job.key for job in jobs]))
    with _Book(folder) as book:
        population = _Population(jobs, dataset, method_here(method), book, listener)
        population.run()
        return [book.rows[job.key] for job in jobs]


class _Book:
    """The finished rows, in a folder (held while it is open) or in memory."""

    def __init__(self, folder):
        self.folder = None if folder is None else pathlib.Path(folder).expanduser()
        self.rows: dict[tuple, Run] = {}
        self.check = lambda: None  # that the folder is still the one that was opened
        self._held = contextlib.ExitStack()

    def __enter__(self):
        if self.folder is not None:
            path = self.folder / "rows.jsonl"
            self._keep(path, text_of_first(lambda: self._open(path)))
        return self

    def __exit__(self, *exception):
        return self._held.__exit__(*exception)

    def _open(self, path) -> str:
        """Holds the folder; the rows there."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path.open("a").close()
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}.") from None
        self.check = self._held.enter_context(alone_in(self.folder, path.name))
        with path.open("rb+") as file:
            text = file.read()
            whole = text.rfind(b"\n") + 1
            file.truncate(whole)  # a last line that a kill has cut off is computed again
        return text[:whole].decode(errors="backslashreplace")

    def _keep(self, path, text):
        for number, line in enumerate(text.split("\n")[:-1], 1):
            try:
                run = Run.from_json(line)
                if run.to_json() != self.rows.setdefault(run.key, run).to_json():
                    raise UserError(f"{run} is there twice with different values.")
            except UserError as error:
                why = str(error).rstrip(".")
            else:
                continue
            raise UserError(
                f"{path}, line {number}: {why}.\nDelete the line: what is not there is run again."
            )

    def add(self, runs: Sequence[Run]) -> list[Run]:
        """Keeps rows that are not there yet, and returns those."""
        new = [run for run in runs if run.key not in self.rows]
        self.check()
        if self.folder is not None and is_first():
            with (self.folder / "rows.jsonl").open("a") as file:
                file.write("".join(json_row(json.loads(run.to_json())) for run in new))
                file.flush()
                os.fsync(file.fileno())
        self.rows |= {run.key: run for run in new}
        return new

    def place_of(self, chunk: _Chunk) -> pathlib.Path:
        """The folder of a chunk under way."""
        return self.folder / "checkpoints" / chunk.digest

    def forget(self, chunk: _Chunk) -> None:
        """Removes the folder of a chunk whose rows are kept."""
        if self.folder is not None and is_first():
            shutil.rmtree(self.place_of(chunk), ignore_errors=True)

    def under_way(self, wanted: dict[tuple, Job]) -> Iterator[_Chunk]:
        """Chunks that were begun and not ended, of jobs that are all wanted."""
        if self.folder is None:
            return
        for name, text in json.loads(text_of_first(self._begun)).items():
            try:
                saved = json.loads(text)
                keys = [Run.from_json(json.dumps(row)).key for row in saved["jobs"]]
                chunk = _Chunk(tuple(wanted[key] for key in keys), saved["size"])
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # of jobs that nobody wants now
            if chunk.digest != name:
                continue  # damaged; what it was is begun under its own name, and finds its state
            if not all(job.key in self.rows for job in chunk.jobs):
                yield chunk
            elif is_first():  # killed between its rows and this line
                shutil.rmtree(self.folder / "checkpoints" / name)

    def _begun(self) -> str:
        """{name: what jobs.json says} of the folders of chunks."""
        begun = {}
        for place in sorted((self.folder / "checkpoints").glob("*")):
            if not (place / "jobs.json").exists():  # killed while it was made or removed
                shutil.rmtree(place)
                continue
            with contextlib.suppress(OSError, ValueError):
                begun[place.name] = (place / "jobs.json").read_text()
        return json.dumps(begun)


class _Population:
    """Jobs, and how far they are."""

    def __init__(self, jobs, dataset, method, book: _Book, listener: Listener):
        self._jobs = {job.key: job for job in jobs}
        self._given, self._method, self._book, self._listener = dataset, method, book, listener
        self._done = self._total = 0  # steps, over all replicas
        self._timed, self._seconds = 0, 0.0  # steps done here, and what they took
        self._programs: tuple[Any, Replicas] | None = None
        self._load = functools.lru_cache(maxsize=2)(self._load_dataset)

    def run(self):
        """Does what is missing."""
        chunks = list(self._chunks())
        finished = sum(key in self._book.rows for key in self._jobs)
        sizes = {(c.jobs[0].group, c.size) for c in chunks}
        here = all_devices()
        self._listener.planned(
            Work(
                runs=len(self._jobs),
                finished=finished,
                programs=len(sizes),
                at_once=tuple(sorted(size for _, size in sizes)),
                devices=f"{len(here)} x {here[0].device_kind}",
                method=self._method,
            )
        )
        self._total = sum(len(c.jobs) * self._steps(c.jobs[0]) for c in chunks)
        too_large: list[_Chunk] = []
        while chunks:
            chunk = chunks.pop(0)
            forget_programs()  # starts and refinements have theirs
            try:
                rows = self._train(chunk)
            except TooLarge as error:
                if chunk.size == 1:
                    raise
                self._listener.say(f"{str(error).splitlines()[0]} Half as many are trained.")
                too_large.append(chunk)
                chunks = [part for c in (chunk, *chunks) for part in c.parts(chunk)]
                continue
            for run in self._book.add(rows):
                self._listener.finished(run, list(self._book.rows.values()))
            self._book.forget(chunk)
        for chunk in too_large:
            self._book.forget(chunk)

    def _chunks(self):
        """Those under way first; the others by program, in the order of the jobs."""
        missing = {k: job for k, job in self._jobs.items() if k not in self._book.rows}
        for chunk in self._book.under_way(self._jobs):
            if self._fits(chunk) and any(job.key in missing for job in chunk.jobs):
                for job in chunk.jobs:
                    missing.pop(job.key, None)
                yield chunk
        groups: dict[tuple, list[Job]] = {}
        for job in missing.values():
            groups.setdefault((job.group, self._stream_of(job)), []).append(job)
        for jobs in groups.values():
            first = jobs[0]
            size = at_once(
                first.config,
                self._dataset(first),
                len(jobs),
                method=self._method,
                model=first.model,
            )
            for start in range(0, len(jobs), size):
                yield _Chunk(tuple(jobs[start : start + size]), size)

    def _fits(self, chunk):
        if len(set(map(self._stream_of, chunk.jobs))) > 1:  # begun with the data in memory
            return False
        return self._method == "vmap" or chunk.size <= len(all_devices())

    def _stream_of(self, job: Job) -> int | None:
        """Jobs that train together see one stream, by its seed; None: they need none."""
        return job.config.seed if isinstance(self._dataset(job), StreamedDataset) else None

    def _dataset(self, job: Job) -> data.Dataset:
        """What a job trains on and is evaluated on."""
        where = None if self._given else tuple(getattr(job.config, name) for name in _DATA)
        return self._load(where, job.config.download, job.phase == "tuning")

    def _load_dataset(self, where, download, tuning):
        if tuning:
            return self._load(where, download, False).validation_split()
        if where is None:
            return self._given
        name, data_dir, image_size, stream = where
        return load_in_all(
            lambda: data.load(name, data_dir or None, image_size or None, download, stream or None)
        )

    def _steps(self, job):
        config = job.config
        per_epoch = len(self._dataset(job).train_labels) // config.batch_size
        return config.total_steps(per_epoch)

    def _replicas(self, chunk) -> tuple[Replicas, bool]:
        """The programs of a chunk, and whether they are new."""
        job = chunk.jobs[0]
        if self._programs and self._programs[0] == (job.group, chunk.size):
            return self._programs[1], False
        if self._programs:
            self._programs = None
            gc.collect()  # its data leave the devices, and its stream ends, before the next begin
        replicas = Replicas(
            job.config, self._dataset(job), chunk.size, method=self._method, model=job.model
        )
        self._programs = ((job.group, chunk.size), replicas)
        return replicas, True

    def _train(self, chunk: _Chunk) -> list[Run]:
        """Trains a chunk to its end, from where it stands."""
        replicas, new = self._replicas(chunk)
        members = [Member(job.config, job.model, job.variables) for job in chunk.jobs]
        replicas.take(members)
        measured = _Measured(len(members), chunk.jobs[0].config, replicas)
        with contextlib.ExitStack() as stack:
            save = tree = None
            if self._book.folder is not None:
                self._book.check()
                place = self._book.place_of(chunk)
                if is_first():
                    place.mkdir(parents=True, exist_ok=True)
                    write_whole(place / "jobs.json", chunk.to_json() + "\n")
                checkpoints = stack.enter_context(Checkpoints(place / "state", chunk.to_json()))

                def save(step, tree):
                    self._book.check()
                    checkpoints.save(step, tree)

                like = replicas.shapes(len(members)) | measured.arrays
                tree = checkpoints.restore_latest(like, self._listener.say)
            if tree is None:
                tree = replicas.create_states(members) | measured.arrays
                if save and any(job.config.init_from or job.config.refine for job in chunk.jobs):
                    save(0, tree)
            measured.arrays = {name: np.array(tree.pop(name)) for name in measured.arrays}
            self._listener.began(list(map(str, chunk.jobs)), int(tree["state"].step[0]), new)
            self._run_steps(replicas, replicas.place(tree), measured, save)
        return [
            self._row(job, replicas, measured, position) for position, job in enumerate(chunk.jobs)
        ]

    def _run_steps(self, replicas: Replicas, tree, measured: "_Measured", save):
        """The loop of `initjax.training.loop`, for all replicas of a chunk."""
        number, every, batch_size = measured.number, measured.every, measured.batch_size
        per_epoch, last = replicas.steps_per_epoch, replicas.total_steps
        state, totals = tree["state"], tree["totals"]
        step = told = first_step = int(replicas.fetch(state.step, 1)[0])
        self._done += number * step
        images, seconds = 0, 0.0  # since here
        shown = None
        lap = last_save = time.perf_counter()
        compiled = replicas.compile_seconds
        signals = contextlib.nullcontext(lambda: None)
        if save:
            signals = stop_signals(lambda: step > first_step)
        if step < last:
            replicas.compile_evaluation(state)
        with signals as stopped:
            while step < last and not measured.all_failed(step):
                if shown is None or step % per_epoch == 0:
                    shown = replicas.order(step // per_epoch)
                num_steps = 1
                if replicas.loops_on_device:  # up to whatever comes first
                    num_steps = min(per_epoch - step % per_epoch, every - step % every, last - step)
                state, totals = replicas.run(state, totals, shown, num_steps)
                step += num_steps
                evaluates = step % every == 0 or step == last
                if evaluates:
                    trained = replicas.means(totals, number)
                    tested = replicas.means(replicas.evaluate(state), number)
                    measured.add(step, trained, tested)
                    totals = replicas.zero_metrics()
                elif replicas.loops_on_device or step % _STEPS_IN_FLIGHT == 0:
                    jax.block_until_ready(totals)
                else:
                    continue
                took = time.perf_counter() - lap - (replicas.compile_seconds - compiled)
                measured.arrays["seconds"] += took
                seconds, images = seconds + took, images + number * (step - told) * batch_size
                self._tell(number * (step - told), took, images / seconds)
                told = step
                reason = save and reason_of_any(stopped())
                due = save and evaluates and self._is_time(lap - last_save)
                if reason or due:
                    kept = {"state": state, "totals": totals}
                    save(step, replicas.fetch(kept, number) | measured.arrays)
                    last_save = time.perf_counter()
                if reason:
                    raise Interrupted(
                        f"{reason.name}: stopped at step {step} of {last}, which is saved;"
                        f" {len(self._book.rows)} runs are finished.",
                        reason,
                    )
                lap, compiled = time.perf_counter(), replicas.compile_seconds
        self._done += number * (last - step)  # not to be done, where all have failed

    def _is_time(self, seconds):
        """Whether to save now: by the clock of the first process, because all take part."""
        return bool(text_of_first(lambda: "yes" if seconds >= SAVE_SECONDS else ""))

    def _tell(self, steps, seconds, images_per_second):
        """Adds to the progress steps that took so long."""
        self._done += steps
        self._timed += steps
        self._seconds += seconds
        left = (self._total - self._done) * self._seconds / self._timed
        self._listener.progress(self._done, self._total, images_per_second, left)

    def _row(self, job, replicas, measured, position) -> Run:
        """What came of one replica."""
        dataset = self._dataset(job)
        curves, failure = measured.outcome(position)
        last = curves["step"].size - 1
        loss = curves["train_loss"][last] if last >= 0 else math.nan
        prior = prior_loss(dataset, job.config.label_smoothing, job.config.loss)
        if not failure and loss > prior:
            failure = (
                f"training loss {loss:.4g} is above {prior:.4g}, that of predicting the classes'"
                " frequencies"
            )
        moves = [] if job.variables is not None and not callable(job.variables) else [_WEIGHTS]
        moves += ["order"] if replicas.augmentation == "none" else ["order and augmentation"]
        found = not failure.startswith("loss is")
        return job.row(
            accuracy=float(curves["eval_accuracy"][last]) if found else None,
            loss=float(curves["eval_loss"][last]) if found else None,
            failure=failure,
            seconds=float(measured.arrays["seconds"][0]) / measured.number,
            test_images=len(dataset.test_labels),
            moves=", ".join(moves) + " of the images",
            **{name: tuple(values.tolist()) for name, values in curves.items()},
        )


class _Measured:
    """What is measured of the replicas of a chunk, in arrays that its checkpoints hold.

    Attributes:
      number: of replicas.
      every: steps between evaluations.
      batch_size: images a step of one replica.
      arrays: "curves" float64 [E, R, 4], as `CURVES`, NaN where nothing is measured yet; "seconds"
        [1] of training them all.
    """

    def __init__(self, number: int, config: Config, replicas: Replicas):
        self.number, self.batch_size = number, config.batch_size
        self.every = config.evaluation_interval(replicas.steps_per_epoch)
        last = replicas.total_steps
        self._steps = np.array([*range(self.every, last, self.every), last])
        curves = np.full((len(self._steps), number, len(CURVES)), np.nan)
        self.arrays = {"curves": curves, "seconds": np.zeros(1)}

    def add(self, step: int, trained, tested) -> None:
        """One evaluation: of each replica the metrics' means."""
        row = int(np.searchsorted(self._steps, step))
        for replica, values in enumerate(zip(trained, tested, strict=True)):
            train, test = (dict(zip(METRICS, split, strict=True)) for split in values)
            found = {f"train_{k}": v for k, v in train.items()}
            found |= {f"eval_{k}": v for k, v in test.items()}
            self.arrays["curves"][row, replica] = [found[name] for name in CURVES]

    def _losses(self):
        """[E, R, 2]: the test, then the training loss."""
        return self.arrays["curves"][:, :, [CURVES.index(n) for n in ("eval_loss", "train_loss")]]

    def all_failed(self, step: int) -> bool:
        """Whether by this step every replica has had a loss that is no number."""
        losses = self._losses()[: np.searchsorted(self._steps, step, side="right")]
        return bool((~np.isfinite(losses)).any(axis=(0, 2)).all())

    def outcome(self, replica: int) -> tuple[dict[str, np.ndarray], str]:
        """(its step and curves up to where it failed, why it failed or nothing)."""
        losses = self._losses()[:, replica]
        bad = ~np.isfinite(losses).all(axis=1)
        end = int(bad.argmax()) if bad.any() else len(bad)
        curves = dict(zip(CURVES, self.arrays["curves"][:end, replica].T, strict=True))
        failure = ""
        if bad.any():
            value = losses[end][~np.isfinite(losses[end])][-1]  # of training, if both are
            failure = f"loss is {value} at step {self._steps[end]}"
        return {"step": self._steps[:end], **curves}, failure


def prior_loss(
    dataset: data.Dataset, label_smoothing: float = 0.0, loss: str = DEFAULT_LOSS
) -> float:
    """The training loss of predicting the classes' frequencies, whatever the image."""
    counts = dataset.label_counts
    return loss_of_frequencies(counts / counts.sum(), label_smoothing, loss)


def _hashable(value):
    """`value`, or where it has no hash, what tells it from others while it lives."""
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value
