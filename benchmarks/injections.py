"""The runs that `faults.py` disturbs, and what is done to them.

A process imports everything once and forks for each run: JAX must not be started in the parent, so
that a child can start it. What children compile they share through JAX's cache.
"""

import contextlib
import ctypes
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))

import jax
import jax.numpy as jnp
import numpy as np
import prepared
import tensorflow_datasets as tfds

from initjax import data
from initjax.comparison import population
from initjax.comparison.population import Job, run_jobs
from initjax.data.digits import load_digits
from initjax.support import command
from initjax.training import Config, train_and_evaluate
from initjax.training.checkpoints import Checkpoints, digest_leaves
from initjax.training.trainer import Trainer

_COMPILED = tempfile.TemporaryDirectory(prefix="initjax-faults-")
jax.config.update("jax_compilation_cache_dir", _COMPILED.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

STEPS = 40
_PATIENCE = 120  # seconds of a child
_PREEMPTED = {signal.SIGKILL: {-9}, signal.SIGTERM: {143, -15}}  # -15: before anything was to save
_NEW_NAMESPACE, _PRIVATE = 0x20000, 0x44000  # CLONE_NEWNS; MS_REC | MS_PRIVATE


class Outcome(NamedTuple):
    """How a child has ended: its code as a shell would see it, and what it said."""

    code: int
    out: str
    err: str
    seconds: float  # from where it could be killed

    @property
    def is_told(self) -> bool:
        """Whether it ended with an error in two lines."""
        return self.code == 1 and 1 <= len(self.err.strip().splitlines()) <= 2


def in_child(
    function: Callable[[], None],
    kill: tuple[int, float] | None = None,
    place: str = "restore_latest",
) -> Outcome:
    """Calls a function in a forked process, as a command would.

    Args:
      function: raises what a command may raise.
      kill: (signal, seconds): sent so long after the child is ready.
      place: where it is; see `ready`.
    """
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            os.environ |= {"READY": str(writing), "READY_AT": place}
            _run_and_exit(function)
        os.close(writing)
        select.select([reading], [], [], _PATIENCE)
        began = time.perf_counter()
        if kill:
            time.sleep(kill[1])
            os.kill(child, kill[0])  # no other has its number: nobody has waited for it yet
        deadline = time.perf_counter() + _PATIENCE
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if time.perf_counter() > deadline:
                os.kill(child, signal.SIGKILL)
                ended = os.waitpid(child, 0)
                break
            time.sleep(0.002)
        seconds = time.perf_counter() - began
        os.close(reading)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return Outcome(os.waitstatus_to_exitcode(ended[1]), *texts, seconds)


def _run_and_exit(function):
    code = 1
    try:
        with command.answers(resumes=True):
            function()
        code = 0
    except SystemExit as stop:  # as Python ends with it
        code = stop.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ready(place: str | None = None) -> None:
    """Tells the parent, in a child, that from here on it may be killed.

    Args:
      place: where it is, "restore_latest" or "save"; one that is not to be killed from there goes
        on. None is everywhere.
    """
    writing, at = os.environ.get("READY"), os.environ.get("READY_AT")
    if writing is not None and place in (None, at):
        del os.environ["READY"]
        os.close(int(writing))


def _ready_at(place):
    method = getattr(Checkpoints, place)

    @functools.wraps(method)
    def wrapper(self, *args):
        ready(place)
        return method(self, *args)

    setattr(Checkpoints, place, wrapper)


_PLACES = ("restore_latest", "save")
for _place in _PLACES:
    _ready_at(_place)
_DIGITS = load_digits(None)
_load = data.load
data.load = lambda name, *args: _DIGITS if name == "digits" else _load(name, *args)

_SMALL = Config(
    model="mlp(width=16)",
    init="he_normal",
    steps=STEPS,
    batch_size=64,
    eval_every=0.1,  # every two steps, so that most of a run is writing
    warmup_steps=0,
)


class Scenario(NamedTuple):
    """Something to kill.

    Attributes:
      run: does it in a folder, or goes on with it.
      result: digest of what it has left.
    """

    run: Callable[[pathlib.Path], None]
    result: Callable[[pathlib.Path], str]


def _digest(*values) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _rows(path, *times):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in times} for row in rows]


def _run_single(folder, **changes):
    train_and_evaluate(dataclasses.replace(_SMALL, workdir=str(folder), **changes))


def _single_result(folder):
    """Of the last state, bit for bit, and of the rows without their times."""
    saved = json.loads((folder / "checkpoints" / str(STEPS) / "digests" / "metadata").read_text())
    rows = _rows(folder / "metrics.jsonl", "images_per_second", "seconds")
    return _digest(saved["leaves"], rows)


def _run_population(folder):
    population.SAVE_SECONDS = 0.0  # at every evaluation
    jobs = [
        Job(dataclasses.replace(_SMALL, init=init, seed=seed, eval_every=0.5))
        for init in ("he_normal", "nspl")
        for seed in (0, 1)
    ]
    run_jobs(jobs, folder=folder, method="vmap")


def _population_result(folder):
    return _digest(sorted(_rows(folder / "rows.jsonl", "seconds"), key=str))


def _write_records(folder):
    draw = np.random.default_rng(0)
    features = {
        "image": tfds.features.Image(shape=(16, 16, 3)),
        "label": tfds.features.ClassLabel(num_classes=10),
    }
    splits = {
        split: prepared.records(
            draw.integers(0, 256, (number, 16, 16, 3), np.uint8), draw.integers(0, 10, number)
        )
        for split, number in (("train", 800), ("test", 200))
    }
    prepared.write_tfds(folder / "records", "tiny_noise", features, splits)


def _read_through_cache(folder):
    os.environ["INITJAX_CACHE"] = str(folder / "cache")
    if not (folder / "records").exists():
        _write_records(folder)
    ready()
    dataset = data.load("tiny_noise", str(folder / "records"))
    arrays = (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels)
    found = [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays]
    (folder / "found.json").write_text(json.dumps(found))


SCENARIOS = {
    "single run": Scenario(_run_single, _single_result),
    "population of 4": Scenario(_run_population, _population_result),
    "refined run": Scenario(
        lambda folder: _run_single(folder, refine="lsuv", seed=1), _single_result
    ),
    "cache of decoded images": Scenario(
        _read_through_cache, lambda folder: (folder / "found.json").read_text()
    ),
}


def kill_until_it_ends(
    scenario: Scenario, expected: str, seconds: float, seed: str, most: int, folder: pathlib.Path
) -> dict:
    """Kills a run again and again, at random moments, and then lets it end.

    Returns:
      {"kills": [[signal, place, seconds, code], ...], "outcome": "equal" if the end is bit for bit
      that of a run that nobody disturbed, else "wrong"; "lost" where it could not go on}.
    """
    draw = random.Random(seed)
    kills = []
    while True:
        place = draw.choice(_PLACES)
        kill = (draw.choice(list(_PREEMPTED)), draw.uniform(0, seconds))
        if place == "save":  # the first, from which on most of the time goes into writing
            kill = (kill[0], kill[1] / 2)
        found = in_child(lambda: scenario.run(folder), kill if len(kills) < most else None, place)
        if found.code == 0:
            break
        name = signal.Signals(kill[0]).name
        kills.append([name, place, round(kill[1], 3), found.code])
        if found.code not in _PREEMPTED[kill[0]] or len(kills) > most or "Trace" in found.err:
            return {"kills": kills, "outcome": "lost", "said": found.err}
    same = scenario.result(folder) == expected
    return {"kills": kills, "outcome": "equal" if same else "wrong"}


def flip_bits(number: int, seed: int) -> list[str]:
    """Flips a bit of a checkpoint, and restores; so often.

    Returns:
      Of each flip "equal" (the flip changed nothing that counts), "told" (one is told, and an
      older one restored) or "wrong" (what was restored is not what was saved).
    """
    draw = random.Random(seed)
    key = jax.random.key(0)

    def tree(step):
        kernel = jax.random.normal(jax.random.fold_in(key, step), (96, 64))
        return {"params": {"kernel": kernel, "bias": jnp.zeros(64)}, "step": jnp.int32(step)}

    trees = {step: digest_leaves(jax.device_get(tree(step))) for step in (1, 2)}
    outcomes = []
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place) / "checkpoints"
        with Checkpoints(folder, "a run") as checkpoints:
            for step in trees:
                checkpoints.save(step, tree(step))
        newest = folder / "2"
        files = [path for path in sorted(newest.rglob("*")) if path.is_file()]
        whole = {path: path.read_bytes() for path in files}
        for _ in range(number):
            (path,) = draw.choices(files, [len(content) for content in whole.values()])
            flipped = bytearray(whole[path])
            flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
            path.write_bytes(flipped)
            said = []
            with Checkpoints(folder, "a run") as checkpoints:
                restored = checkpoints.restore_latest(tree(0), said.append)
            found = digest_leaves(jax.device_get(restored))
            if said:
                outcomes.append("told" if found == trees[1] else "wrong")
            else:
                outcomes.append("equal" if found == trees[2] else "wrong")
            for aside in folder.glob("unreadable-*"):
                aside.rename(newest)
            path.write_bytes(whole[path])
    return outcomes


def stop_at(step: int, function: Callable) -> Callable[[pathlib.Path], None]:
    """A run with something that happens when it is about to take a step."""

    def run(folder):
        steps = Trainer.run

        def disturbed(self, state, *args):
            if int(state.step) == step:
                function(folder)
            return steps(self, state, *args)

        Trainer.run = disturbed
        _run_single(folder)

    return run


def terminate(folder: pathlib.Path) -> None:
    """What a scheduler does."""
    os.kill(os.getpid(), signal.SIGTERM)


def _newest(folder):
    steps = [path for path in (folder / "checkpoints").iterdir() if path.name.isdecimal()]
    return max(steps, key=lambda path: int(path.name))


def _files(folder, change: Callable[[bytes], bytes]):
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(change(path.read_bytes()))


def _lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable:
    def damage(folder):
        path = folder / "metrics.jsonl"
        path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))

    return damage


def _another_run(folder):
    with tempfile.TemporaryDirectory() as place:
        assert in_child(lambda: _run_single(pathlib.Path(place), seed=5)).code == 0
        shutil.copytree(_newest(pathlib.Path(place)), folder / "checkpoints" / str(STEPS))


def _link(folder):
    apart = folder / "apart"
    _newest(folder).rename(apart)
    (folder / "checkpoints" / "30").symlink_to(apart)


def _config(content: bytes) -> Callable:
    return lambda folder: (folder / "config.json").write_bytes(content)


# Done to a run that SIGTERM has stopped at step 21; then the same command goes on.
DAMAGES: dict[str, Callable[[pathlib.Path], object]] = {
    "checkpoint: files emptied": lambda f: _files(_newest(f), lambda content: b""),
    "checkpoint: files cut to half": lambda f: _files(_newest(f), lambda c: c[: len(c) // 2]),
    "checkpoint: digests no JSON": lambda f: _files(_newest(f) / "digests", lambda c: b"[" * 10**5),
    "checkpoint: arrays missing": lambda f: shutil.rmtree(_newest(f) / "default"),
    "checkpoint: an empty folder": lambda f: (f / "checkpoints" / "30").mkdir(),
    "checkpoint: renamed to another step": lambda f: _newest(f).rename(f / "checkpoints" / "30"),
    "checkpoint: of another run": _another_run,
    "checkpoint: a link to one of another step": _link,
    "checkpoint: all gone": lambda f: shutil.rmtree(f / "checkpoints"),
    "rows: one lost": _lines(lambda lines: lines[:3] + lines[4:]),
    "rows: all lost": _lines(lambda lines: []),
    "rows: one doubled": _lines(lambda lines: lines[:3] + lines[2:]),
    "rows: one is no object": _lines(lambda lines: [*lines[:3], b"[]\n", *lines[3:]]),
    "rows: one is no UTF-8": _lines(lambda lines: [*lines[:3], b"\xff\n", *lines[3:]]),
    "rows: last one cut": _lines(lambda lines: [*lines, lines[-1][:9]]),
    "settings: empty": _config(b""),
    "settings: 10^5 brackets": _config(b"[" * 10**5),
    "settings: no UTF-8": _config(b"\xff"),
    "settings: another run's": _config(b'{"init": "zeros"}'),
}


def _remove(folder):
    folder.rename(folder.with_name("moved"))  # at once, while a checkpoint may be written there


def _replace(folder):
    _remove(folder)
    folder.mkdir()
    (folder / "config.json").write_text("{}")


# What happens while a run goes on, before its step 21.
MEANWHILE: dict[str, Callable[[pathlib.Path], object]] = {
    "folder removed while the run goes on": _remove,
    "folder replaced while the run goes on": _replace,
}


def on_full_disk(folder: pathlib.Path) -> None:
    """A run whose disk is full before its step 21, and which is then copied to `folder`.

    The disk is a tmpfs in a mount namespace of this process, which takes root; elsewhere no file
    may have more than 100 bytes.
    """
    small = folder.with_name("small")
    small.mkdir()
    libc = ctypes.CDLL(None)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    is_disk = not (
        libc.unshare(_NEW_NAMESPACE)
        or libc.mount(None, b"/", None, _PRIVATE, None)
        or libc.mount(b"tmpfs", os.fsencode(small), b"tmpfs", 0, b"size=8m")
    )

    def fill(_):
        if not is_disk:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
            return
        with contextlib.suppress(OSError), (small / "filler").open("wb", 0) as file:
            while True:
                file.write(bytes(4096))

    try:
        stop_at(STEPS // 2, fill)(small / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        shutil.copytree(small / "run", folder)


def judge_damage(name: str, whole: str, stopped: pathlib.Path, place: pathlib.Path) -> dict:
    """What came of one damage.

    Args:
      name: of `DAMAGES`, of `MEANWHILE`, or "disk full".
      whole: the result of a run that nobody disturbed.
      stopped: a run that was stopped.
      place: an empty folder.

    Returns:
      {"outcome": ..., "said": ...}: "equal", the result is that of a run that nobody disturbed;
      "told", the run says in two lines or fewer what is wrong; "lost", it ends otherwise; "wrong",
      another result and no word.
    """
    folder = place / "run"
    scenario = SCENARIOS["single run"]
    if name in DAMAGES:
        shutil.copytree(stopped, folder, symlinks=True)
        DAMAGES[name](folder)
        found = in_child(lambda: scenario.run(folder))
        if found.code == 0 and not found.err and scenario.result(folder) == whole:
            return {"outcome": "equal", "said": _told(found.out)}
    else:
        run = on_full_disk if name == "disk full" else stop_at(STEPS // 2, MEANWHILE[name])
        found = in_child(lambda: run(folder))
        again = folder if name == "disk full" else place / "again"
        if not found.is_told:
            return {"outcome": "lost", "said": found.err}
        if in_child(lambda: scenario.run(again)).code or scenario.result(again) != whole:
            return {"outcome": "lost", "said": found.err}
    if found.is_told:
        return {"outcome": "told", "said": found.err}
    if found.code or found.err:
        return {"outcome": "lost", "said": found.err}
    said = _told(found.out)
    return {"outcome": "told" if said else "wrong", "said": said}


def _told(out: str) -> str:
    """The lines of what a run says that are about damage."""
    words = ("the checkpoint of step", " has no row", " has a row", "is lost", "as it was is now")
    return "\n".join(line for line in out.splitlines() if any(word in line for word in words))


def all_damages() -> Iterator[str]:
    """The names that `judge_damage` takes."""
    yield from (*DAMAGES, *MEANWHILE, "disk full")
