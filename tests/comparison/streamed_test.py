"""Comparisons whose data are streamed: row by row those of the same data in memory."""

import dataclasses

import pytest

from initjax.comparison import population
from initjax.comparison.population import Job, run_jobs
from initjax.comparison.progress import Quiet
from initjax.training import Config
from initjax.training.replicas import Replicas

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("streamed_here")]


@pytest.fixture
def jobs(insects_dir):
    """jobs(streams): two starts over two seeds."""
    config = Config(
        model="mlp(width=16)",
        dataset="tiny_insects",
        data_dir=str(insects_dir),
        image_size=8,
        batch_size=16,
        steps=7,  # two an epoch
        eval_every=1.5,
        warmup_steps=0,
        augment="crop_flip",
    )
    return lambda stream: [
        Job(dataclasses.replace(config, stream=stream, init=init, seed=seed))
        for init in ("he_normal", "nspl")
        for seed in (0, 1)
    ]


def lines(runs):
    """Rows as text, without times."""
    return [dataclasses.replace(run, seconds=None).to_json() for run in runs]


class Began(Quiet):
    """Remembers which runs trained together, and from which step."""

    def __init__(self):
        self.chunks = []

    def began(self, runs, step, compiling):
        self.chunks.append((len(runs), step))


def test_rows_are_those_of_data_in_memory(jobs):
    listener = Began()
    found = run_jobs(jobs(True), listener=listener)
    assert lines(found) == lines(run_jobs(jobs(False)))
    assert listener.chunks == [(2, 0), (2, 0)]  # the starts of each seed


@pytest.mark.parametrize("begun_with_stream", [True, False])
def test_what_was_begun_is_ended(jobs, tmp_path, monkeypatch, begun_with_stream):
    monkeypatch.setattr(population, "SAVE_SECONDS", 0.0)
    steps, taken = Replicas.run, []

    def fail(self, *args):
        taken.append(1)
        if len(taken) == 6:  # after the first evaluation
            raise RuntimeError
        return steps(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Replicas, "run", fail)
        with pytest.raises(RuntimeError):
            run_jobs(jobs(begun_with_stream), folder=tmp_path)
    listener = Began()
    found = run_jobs(jobs(True), folder=tmp_path, listener=listener)
    # Four that began in memory, of two seeds, do not see one stream.
    assert listener.chunks == [(2, 3 * begun_with_stream), (2, 0)]
    assert lines(found) == lines(run_jobs(jobs(False)))
    assert not list((tmp_path / "checkpoints").iterdir()) or not begun_with_stream
