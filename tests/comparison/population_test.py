"""Many runs as one job."""

import dataclasses
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import flax.linen as nn
import jax
import numpy as np
import pytest
from helpers import ROOT, TIMEOUT, draw_dataset, quick

from initjax import training
from initjax.comparison import population
from initjax.comparison.population import Job, prior_loss, run_jobs
from initjax.comparison.progress import Quiet, Terminal, Work, table_of_means
from initjax.comparison.rows import Run
from initjax.data import Dataset
from initjax.models import create_model
from initjax.support.errors import Interrupted, UserError
from initjax.training import Config, Devices
from initjax.training.replicas import Replicas

pytestmark = pytest.mark.slow

SMALL = Config(
    model="mlp(width=16)",
    init="he_normal",
    batch_size=16,
    steps=10,
    eval_every=0.75,
    warmup_steps=0,
    augment="crop",
)


@pytest.fixture
def steps(monkeypatch):
    """How many steps have been taken, at each call."""
    taken = []
    run = Replicas.run

    def counting(self, *args):
        taken.append(args[-1])
        return run(self, *args)

    monkeypatch.setattr(Replicas, "run", counting)
    return taken


def job(phase="test", **changes):
    return Job(dataclasses.replace(SMALL, **changes), phase=phase)


def jobs(starts=("he_normal", "nspl"), seeds=(0, 1)):
    return [job(init=start, seed=seed) for start in starts for seed in seeds]


def lines(runs):
    """Rows as text, without times."""
    return [dataclasses.replace(run, seconds=None).to_json() for run in runs]


def saved(folder):
    return [Run.from_json(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


class Telling(Quiet):
    """Remembers what it is told."""

    def __init__(self):
        self.works, self.told, self.ended, self.begun, self.said = [], [], [], [], []

    def began(self, runs, step, compiling):
        self.begun.append(runs)

    def say(self, text):
        self.said.append(text)

    def planned(self, work):
        self.works.append(work)

    def progress(self, done, total, images_per_second, left):
        self.told.append((done, total, left))

    def finished(self, run, runs):
        self.ended.append((run, len(runs)))


def test_a_row_is_that_of_the_run_alone(tmp_path):
    mine = jobs()
    listener = Telling()
    rows = run_jobs(mine, draw_dataset(), folder=tmp_path, listener=listener)
    assert [(row.start, row.seed) for row in rows] == [
        ("he_normal", 0),
        ("he_normal", 1),
        ("nspl", 0),
        ("nspl", 1),
    ]
    for one, row in zip(mine, rows, strict=True):
        found, _ = training.train(
            "mlp(width=16)",
            draw_dataset(),
            devices=Devices(jax.devices()[:1]),
            **{n: getattr(one.config, n) for n in ("init", "seed", "batch_size", "steps")},
            **{n: getattr(SMALL, n) for n in ("eval_every", "warmup_steps", "augment")},
        )
        assert row.step == tuple(line["step"] for line in found) == (3, 6, 9, 10)
        for name in ("eval_accuracy", "eval_loss", "train_accuracy", "train_loss"):
            assert getattr(row, name) == tuple(line[name] for line in found)
        assert (row.accuracy, row.loss) == (row.eval_accuracy[-1], row.eval_loss[-1])
        assert row.test_images == 21 and row.seconds > 0
        assert row.moves == "initial weights, order and augmentation of the images"
        assert dict(row.setting)["dataset"] == "noise" and row.learning_rate == 0.1
    assert lines(saved(tmp_path)) == lines(rows)
    assert not list((tmp_path / "checkpoints").iterdir())
    (work,) = listener.works
    assert (work.runs, work.finished, work.programs, work.at_once) == (4, 0, 1, (4,))
    assert listener.told[-1] == (40, 40, 0.0)
    assert listener.ended == [(row, 4) for row in rows]  # they trained together


def test_in_memory_they_are_the_same(tmp_path):
    rows = run_jobs(jobs(), draw_dataset())
    assert lines(rows) == lines(run_jobs(jobs(), draw_dataset(), folder=tmp_path))
    vectorized = run_jobs(jobs(), draw_dataset(), method="vmap")
    for one, other in zip(rows, vectorized, strict=True):
        assert one.key == other.key
        np.testing.assert_allclose(one.eval_loss, other.eval_loss, rtol=1e-4)


def test_what_is_finished_is_never_done_again(tmp_path, steps):
    first = run_jobs(jobs(), draw_dataset(), folder=tmp_path)
    assert sum(steps) == 10
    text = (tmp_path / "rows.jsonl").read_bytes()
    del steps[:]
    assert run_jobs(jobs()[::-1], draw_dataset(), folder=tmp_path) == first[::-1]
    assert not steps and (tmp_path / "rows.jsonl").read_bytes() == text
    listener = Telling()
    more = jobs(("he_normal", "nspl", "orthogonal"), (0, 1, 2))
    rows = run_jobs(more, draw_dataset(), folder=tmp_path, listener=listener)
    assert sum(steps) == 10  # five at once
    assert {(run.start, run.seed) for run, _ in listener.ended} == {
        ("he_normal", 2),
        ("nspl", 2),
        *(("orthogonal", seed) for seed in range(3)),
    }
    assert (tmp_path / "rows.jsonl").read_bytes().startswith(text)
    assert lines(rows) == lines(run_jobs(more, draw_dataset()))


def test_a_line_that_a_kill_has_cut_off_is_computed_again(tmp_path, steps):
    rows = run_jobs(jobs(), draw_dataset(), folder=tmp_path)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    del steps[:]
    assert lines(run_jobs(jobs(), draw_dataset(), folder=tmp_path)) == lines(rows)
    assert sum(steps) == 10 and lines(saved(tmp_path)) == lines(rows)
    path.write_text("{}\n")
    with pytest.raises(UserError, match=r"rows.jsonl, line 1: no start"):
        run_jobs(jobs(), draw_dataset(), folder=tmp_path)


def test_rows_that_are_damaged_are_told_in_two_lines(tmp_path):
    row = job().row(accuracy=0.5).to_json()
    for line, why in (
        (b"{", "not valid JSON"),
        (b"[" * 10**5, "not valid JSON"),
        (b"7", "not a row"),
        (b"\xff", "not valid JSON"),
        (job().row(accuracy=0.6).to_json().encode(), "he_normal, seed 0.* is there twice"),
    ):
        text = row.encode() + b"\n" + line + b"\n"
        (tmp_path / "rows.jsonl").write_bytes(text)
        with pytest.raises(UserError, match=rf"rows.jsonl, line 2: {why}.*\nDelete the line: .*"):
            run_jobs(jobs(), draw_dataset(), folder=tmp_path)
        assert (tmp_path / "rows.jsonl").read_bytes() == text


def test_one_diverging_replica_leaves_the_others_alone():
    wild = [job(seed=0), job(learning_rate=1e30), job(seed=1)]
    rows = run_jobs(wild, draw_dataset())
    assert lines([rows[0], rows[2]]) == lines(run_jobs([wild[0], wild[2]], draw_dataset()))
    assert rows[1].failure == "loss is nan at step 3"
    assert (rows[1].accuracy, rows[1].loss, rows[1].step) == (None, None, ())


def test_replicas_that_have_all_failed_are_not_trained_on(steps):
    listener = Telling()
    run_jobs([job(learning_rate=1e30)], draw_dataset(), listener=listener)
    assert sum(steps) == 3


def test_failed_is_who_is_worse_than_the_classes_frequencies():
    labels = np.array([0, 0, 0, 1], np.int32)
    dataset = dataclasses.replace(draw_dataset(4), train_labels=labels, num_classes=2)
    assert prior_loss(dataset) == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert prior_loss(dataset, 0.2) == pytest.approx(-(0.7 * np.log(0.7) + 0.3 * np.log(0.3)))
    assert prior_loss(dataclasses.replace(dataset, num_classes=3)) == prior_loss(dataset)
    (still,) = run_jobs([job(learning_rate=1e-9, init="normal(stddev=3)")], draw_dataset())
    assert still.failure.startswith("training loss ") and "frequencies" in still.failure
    assert still.accuracy is not None and len(still.step) == 4
    # Squared errors begin at 1 from zeros, which cross-entropy's 2.3 would let pass.
    (zero,) = run_jobs(
        [job(loss="squared_error", init="zeros", learning_rate=1e-9)], draw_dataset()
    )
    prior = prior_loss(draw_dataset(), loss="squared_error")
    assert 0.8 < prior < 0.9 and f"training loss 1 is above {prior:.4g}" in zero.failure


def test_tuning_sees_no_test_image():
    """They are NaN here; a fifth of the 64 training images judges instead."""
    base = draw_dataset()
    dataset = dataclasses.replace(
        base,
        train_images=base.train_images.astype(np.float32),
        test_images=np.full(base.test_images.shape, np.nan, np.float32),
    )
    tuned, tested = run_jobs([job("tuning"), job()], dataset)
    assert (tuned.phase, tuned.test_images, tested.test_images) == ("tuning", 12, 21)
    assert np.isfinite(tuned.eval_loss).all() and tuned.accuracy is not None
    assert tested.failure == "loss is nan at step 3"


def test_jobs_of_one_program_share_it(steps):
    def programs(*some):
        listener = Telling()
        run_jobs(some, draw_dataset(), listener=listener)
        return listener.works[0].programs

    shared = [job(), job(seed=3), job(init="nspl"), job(learning_rate=0.01), job(momentum=0.5)]
    shared += [job(weight_decay=0.0), job(label_smoothing=0.1), job(bias_init="normal")]
    assert programs(*shared) == 1
    assert programs(job(), job(activation="tanh"), job(steps=6), job("tuning")) == 4


class Own(nn.Module):
    """A user's model, which has no field that names its axis."""

    kernel_init: object
    width: int = 8

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(self.width, kernel_init=self.kernel_init)(x.reshape(len(x), -1)))
        return nn.Dense(10)(x)


def test_models_of_your_own_share_a_program_where_their_tokens_agree():
    starts = {"he": nn.initializers.he_normal(), "ones": nn.initializers.normal(1.0)}
    mine = [
        Job(dataclasses.replace(SMALL, seed=seed), start=name, model=Own(init), program="my net")
        for name, init in starts.items()
        for seed in (0, 1)
    ]
    listener = Telling()
    rows = run_jobs(mine, draw_dataset(), listener=listener)
    assert listener.works[0].programs == 1
    assert [row.start for row in rows] == ["he", "he", "ones", "ones"]
    assert dict(rows[0].setting)["model"] == "my net" and "activation" not in dict(rows[0].setting)
    assert len({row.loss for row in rows}) == 4
    found, _ = training.train(
        Own(starts["ones"]),
        draw_dataset(),
        devices=Devices(jax.devices()[:1]),
        seed=1,
        **{n: getattr(SMALL, n) for n in ("batch_size", "steps", "warmup_steps", "augment")},
        eval_every=SMALL.eval_every,
    )
    assert rows[3].eval_loss == tuple(row["eval_loss"] for row in found)


def test_variables_of_your_own():
    model = create_model("mlp(width=16)", num_classes=10, kernel_init="he_normal")
    fixed = model.init(jax.random.key(5), np.zeros((1, 8, 8, 1), np.float32))
    mine = [
        Job(SMALL, start="fixed", variables=fixed),
        Job(SMALL, start="drawn", variables=lambda key: jax.tree.map(lambda x: x * 2, fixed)),
    ]
    rows = run_jobs(mine, draw_dataset())
    assert [row.moves for row in rows] == [
        "order and augmentation of the images",
        "initial weights, order and augmentation of the images",
    ]
    assert rows[0].loss != rows[1].loss


@pytest.mark.parametrize(("number", "stop_at"), [(signal.SIGINT, 2), (signal.SIGTERM, 7)])
def test_resume_is_exact(monkeypatch, tmp_path, steps, number, stop_at):
    run = Replicas.run

    def interrupt(self, *args):
        if len(steps) == stop_at - 1:
            signal.raise_signal(number)
        return run(self, *args)

    monkeypatch.setattr(population, "_STEPS_IN_FLIGHT", 1)
    with monkeypatch.context() as patch:
        patch.setattr(Replicas, "run", interrupt)
        with pytest.raises(Interrupted, match=f"{number.name}: stopped at step {stop_at} of 10"):
            run_jobs(jobs(), draw_dataset(), folder=tmp_path)
    assert (tmp_path / "rows.jsonl").read_text() == ""
    del steps[:]
    # Another job beside: what is under way goes on as it was.
    rows = run_jobs([job(seed=9), *jobs()], draw_dataset(), folder=tmp_path)
    assert sum(steps) == 10 - stop_at + 10
    assert lines(rows[1:]) == lines(run_jobs(jobs(), draw_dataset()))
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_chunk_of_jobs_that_nobody_wants_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(population, "SAVE_SECONDS", 0.0)
    run = Replicas.run

    def fail(self, state, *args):
        if int(self.fetch(state.step, 1)[0]) == 7:
            raise RuntimeError
        return run(self, state, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Replicas, "run", fail)
        with pytest.raises(RuntimeError):
            run_jobs(jobs(), draw_dataset(), folder=tmp_path)
    (place,) = (tmp_path / "checkpoints").iterdir()
    run_jobs(jobs()[:1], draw_dataset(), folder=tmp_path)
    assert list((tmp_path / "checkpoints").iterdir()) == [place]
    rows = run_jobs(jobs(), draw_dataset(), folder=tmp_path)
    assert not list((tmp_path / "checkpoints").iterdir())
    assert lines(rows) == lines(run_jobs(jobs(), draw_dataset()))


_SCRIPT = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from comparison import population_test as tests
from initjax.comparison import population

class Aloud(tests.Quiet):
    def began(self, *_): print("began", flush=True)
    def progress(self, *_): print("step", flush=True)
    def finished(self, *_): print("finished", flush=True)

population.SAVE_SECONDS = 0.0
population.run_jobs(
    tests.long_jobs(),
    tests.draw_dataset(),
    folder=sys.argv[1],
    method=sys.argv[2],
    listener=Aloud(),
)
"""


def long_jobs():
    return [
        Job(dataclasses.replace(one.config, steps=100, eval_every=2.0), one.phase)
        for one in [*jobs(seeds=(0, 1, 2)), job("tuning"), job(learning_rate=1e30)]
    ]


@pytest.mark.parametrize("method", ["devices", "vmap"])
def test_killed_at_any_moment_it_ends_with_the_same_rows(tmp_path, method):
    script = _SCRIPT.format(tests=str(ROOT / "tests"), root=str(ROOT))
    environment = os.environ | {
        "XLA_FLAGS": quick(3),
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def run(folder, num_lines=None):
        """Kills it once it has said so many lines; returns its status."""
        command = [sys.executable, "-c", script, str(folder), method]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
            guard = threading.Timer(TIMEOUT, process.kill)
            guard.start()
            for number, _ in enumerate(process.stdout, 1):
                if number == num_lines:
                    time.sleep(draw.uniform(0, 0.05))
                    process.kill()
            guard.cancel()
        return process.returncode

    draw = random.Random(0)
    assert run(tmp_path / "whole") == 0
    statuses = [run(tmp_path / "killed", draw.randint(1, 20)) for _ in range(2)]
    assert statuses.count(-signal.SIGKILL) >= 1
    assert run(tmp_path / "killed") == 0
    rows = sorted(lines(saved(tmp_path / "killed")))
    assert len(rows) == 8 and rows == sorted(lines(saved(tmp_path / "whole")))
    assert not list((tmp_path / "killed" / "checkpoints").iterdir())


def test_a_folder_takes_one_population_at_a_time(tmp_path):
    class Again(Quiet):
        def planned(self, work):
            run_jobs(jobs(), draw_dataset(), folder=tmp_path)

    with pytest.raises(UserError, match="Another process is training"):
        run_jobs(jobs(), draw_dataset(), folder=tmp_path, listener=Again())


def test_statistics_of_layers_are_of_single_runs(tmp_path):
    with pytest.raises(UserError, match="--record_statistics is of a single run"):
        run_jobs([job(), job(record_statistics=True)], draw_dataset(), folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_lines_and_table():
    stream = io.StringIO()
    with Terminal(stream) as terminal:
        rows = run_jobs(
            [*jobs(), job(learning_rate=1e30)], draw_dataset(), method="vmap", listener=terminal
        )
    text = stream.getvalue()
    assert text.startswith("5 runs: 0 finished, 5 to do, in 1 program, 5 at once, vectorized (8 x")
    assert text.count("accuracy 0.") == 4 and "failed: loss is nan at step 3" in text
    table = table_of_means([dataclasses.replace(row, failure="") for row in rows[:4]])
    assert [line.split()[:2] for line in table] == [["he_normal", "2"], ["nspl", "2"]]
    mean = (rows[0].accuracy + rows[1].accuracy) / 2
    assert f"{mean:.4f}" in table[0]
    assert str(Work(3, 3, 0, (), "", "vmap")) == "3 runs: all are finished"


def test_what_is_too_large_is_trained_by_fewer_at_once(tmp_path, monkeypatch):
    whole = run_jobs(jobs(), draw_dataset())
    # Each of the four devices of a CPU takes a gigabyte, and there are two and a half.
    monkeypatch.setattr("initjax.training.devices.program_memory", lambda compiled: 10**9)
    monkeypatch.setattr("initjax.training.devices.device_memory", lambda device: 2.5e9)
    listener = Telling()
    rows = run_jobs(jobs(), draw_dataset(), folder=tmp_path, listener=listener)
    assert lines(rows) == lines(whole) and sorted(lines(saved(tmp_path))) == sorted(lines(whole))
    assert [len(runs) for runs in listener.begun] == [4, 2, 2]
    (said,) = listener.said
    assert "on 4 x cpu for 4 runs at once would take 3.725 GiB of memory, of which there" in said
    assert said.endswith("are 2.328. Half as many are trained.")
    assert not list((tmp_path / "checkpoints").iterdir())
    monkeypatch.setattr("initjax.training.devices.device_memory", lambda device: 5e8)
    with pytest.raises(
        UserError, match=r"on 1 x cpu would take 0.9313.*\nTake a smaller --batch_size"
    ):
        run_jobs([job(seed=9)], draw_dataset())


def test_equal_jobs_are_done_once(steps):
    rows = run_jobs([job(), job()], draw_dataset())
    assert rows[0] == rows[1] and sum(steps) == 10


def test_the_validation_split():
    images = np.arange(3000, dtype=np.float32).reshape(-1, 1, 1, 1)
    labels = np.arange(3000, dtype=np.int32) % 10
    dataset = Dataset("x", images, labels, images[:5] - 9, labels[:5], 10, tuple("0123456789"))
    split = dataset.validation_split()
    assert len(split.test_labels) == 600  # a fifth, because 1,000 were more
    both = np.concatenate([split.train_images, split.test_images]).ravel()
    np.testing.assert_array_equal(np.sort(both), np.arange(3000))
    np.testing.assert_array_equal(split.test_labels, split.test_images.ravel() % 10)
    np.testing.assert_array_equal(dataset.validation_split().test_images, split.test_images)
    assert split.mean == split.train_images.mean(dtype=np.float64).astype(np.float32)
    many = dataclasses.replace(
        dataset, train_images=np.zeros((20000, 1, 1, 1)), train_labels=np.zeros(20000, np.int32)
    )
    assert len(many.validation_split().test_labels) == 2000
    few = dataclasses.replace(dataset, train_images=images[:4], train_labels=labels[:4])
    with pytest.raises(UserError, match="4 training images of x are too few"):
        few.validation_split()
    assert json.loads(json.dumps(split.name)) == "x"
