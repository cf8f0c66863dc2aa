"""The runs that `faults.py` disturbs, and what is done to them.

A process imports everything once and forks for each run: JAX must not be started in the parent, so
that a child can start it. What children compile they share through JAX's cache.
"""

import dataclasses
import functools
import hashlib
import http.server
import json
import os
import pathlib
import random
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))

import jax
import jax.numpy as jnp
import numpy as np
import prepared
import tensorflow_datasets as tfds
from launches import call_and_exit

from initjax import data, refine
from initjax.comparison import population
from initjax.comparison.population import Job, run_jobs
from initjax.data import stream
from initjax.data.digits import load_digits
from initjax.models import create_model
from initjax.support import command
from initjax.training import Config, train_and_evaluate
from initjax.training.checkpoints import Checkpoints, digest_leaves
from initjax.training.replicas import Replicas
from initjax.training.trainer import Trainer
from initjax.weights import hub

_COMPILED = tempfile.TemporaryDirectory(prefix="initjax-faults-")
jax.config.update("jax_compilation_cache_dir", _COMPILED.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

STEPS = 40
_PATIENCE = 120  # seconds of a child
_PREEMPTED = {signal.SIGKILL: {-9}, signal.SIGTERM: {143, -15}}  # -15: before anything was to save


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
            call_and_exit(functools.partial(_answered, function))
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


def _answered(function):
    with command.answers(resumes=True):
        function()


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
stream.count_workers = lambda: 0  # in this process
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
    return [{k: v for k, v in row.items() if k not in (*times, "sha256")} for row in rows]


def run_single(folder, **changes):
    train_and_evaluate(dataclasses.replace(_SMALL, workdir=str(folder), **changes))


def _single_result(folder):
    """Of the last state, bit for bit, and of the rows without their times."""
    saved = json.loads((folder / "checkpoints" / str(STEPS) / "digests" / "metadata").read_text())
    rows = _rows(folder / "metrics.jsonl", "images_per_second", "seconds")
    return _digest(saved["leaves"], rows)


def _run_population(folder, method="vmap"):
    population.SAVE_SECONDS = 0.0  # at every evaluation
    jobs = [
        Job(dataclasses.replace(_SMALL, init=init, seed=seed, eval_every=0.5))
        for init in ("he_normal", "nspl")
        for seed in (0, 1)
    ]
    run_jobs(jobs, folder=folder, method=method)


def _population_result(folder):
    """Of the rows of these runs, each once, without their times."""
    rows = _rows(folder / "rows.jsonl", "seconds")
    return _digest(sorted({json.dumps(row) for row in rows if row["seed"] in (0, 1)}))


def stop_population(folder):
    steps, taken = Replicas.run, []

    def disturbed(self, *args):
        taken.append(args)
        if len(taken) == STEPS // 2:
            terminate(folder)
        return steps(self, *args)

    Replicas.run = disturbed
    _run_population(folder)


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


def _read_through_cache(folder, stream=False):
    os.environ["INITJAX_CACHE"] = str(folder / "cache")
    if not (folder / "records").exists():
        _write_records(folder)
    ready()
    dataset = data.load("tiny_noise", str(folder / "records"), None, False, stream)
    arrays = [dataset.mean, dataset.std, dataset.label_counts]
    if not stream:
        arrays += [dataset.train_images, dataset.train_labels]
        arrays += [dataset.test_images, dataset.test_labels]
    found = [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays]
    (folder / "found.json").write_text(json.dumps(found))


def _read_found(folder) -> str:
    return (folder / "found.json").read_text()


def _read_target(folder):
    file = folder / "target.json"
    if not file.exists():
        model = create_model("mlp(width=16)", kernel_init="he_normal")
        images = jax.random.normal(jax.random.key(0), (64, 8, 8, 1))
        params = model.init(jax.random.key(1), images)["params"]
        refine.save_statistics(model, params, images, file)
    (folder / "found.json").write_text(_digest(refine.load_statistics(file)["layers"]))


def _compile(folder):
    """A program that JAX keeps, as with --compilation_cache."""
    jax.config.update(
        "jax_persistent_cache_enable_xla_caches", "none"
    )  # else the key names the folder
    jax.config.update("jax_compilation_cache_dir", str(folder / "cache"))
    values = jax.jit(lambda x: jnp.sin(x).cumsum())(np.arange(100, dtype=np.float32))
    (folder / "found.json").write_text(_digest(values.tolist()))


WEIGHTS = random.Random(0).randbytes(10_000)
_NAME = f"x-{hashlib.sha256(WEIGHTS).hexdigest()[:8]}.pth"


def _download(folder):
    """A file of weights from a server, which gives what `served` holds, if there is such a file."""
    os.environ |= {"INITJAX_CACHE": str(folder / "cache"), "no_proxy": "127.0.0.1"}
    served = folder / "served"
    content = served.read_bytes() if served.exists() else WEIGHTS

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(WEIGHTS)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub.TORCHVISION_FILES["x"] = _NAME
        hub._TORCHVISION_URL = f"http://127.0.0.1:{server.server_port}/"
        found = hub.fetch_torchvision("x").read_bytes()
        server.shutdown()
    (folder / "found.json").write_text(_digest(found.hex()))


SCENARIOS = {
    "single run": Scenario(run_single, _single_result),
    "population of 4": Scenario(_run_population, _population_result),
    "refined run": Scenario(
        lambda folder: run_single(folder, refine="lsuv", seed=1), _single_result
    ),
    # In which a run alone has the same bits as among others.
    "runs one by one": Scenario(
        functools.partial(_run_population, method="devices"), _population_result
    ),
    "cache of decoded images": Scenario(_read_through_cache, _read_found),
    "facts of a stream": Scenario(functools.partial(_read_through_cache, stream=True), _read_found),
    "target statistics": Scenario(_read_target, _read_found),
    "compiled program": Scenario(_compile, _read_found),
    "download": Scenario(_download, _read_found),
}
KILLED = ("single run", "population of 4", "refined run", "cache of decoded images")


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


def flip_bits(number: int, seed: int, file: pathlib.Path) -> None:
    """Flips a bit of a checkpoint, and restores; so often.

    `file` gets, as JSON, of each flip "equal" (it changed nothing that counts), "told" (it is told,
    and an older checkpoint restored) or "wrong" (what was restored is not what was saved).
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
    file.write_text(json.dumps(outcomes))


def stop_at(step: int, function: Callable) -> Callable[[pathlib.Path], None]:
    """A run with something that happens when it is about to take a step."""

    def run(folder):
        steps = Trainer.run

        def disturbed(self, state, *args):
            if int(state.step) == step:
                function(folder)
            return steps(self, state, *args)

        Trainer.run = disturbed
        run_single(folder)

    return run


def terminate(folder: pathlib.Path) -> None:
    """What a scheduler does."""
    os.kill(os.getpid(), signal.SIGTERM)
