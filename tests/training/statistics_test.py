"""statistics.jsonl: what layers put out and how far their weights move."""

import dataclasses
import json
import signal

import jax
import numpy as np
import pytest
from helpers import draw_dataset, read_events

from initjax import data
from initjax.support.errors import Interrupted
from initjax.training import Config, Trainer, train_and_evaluate
from initjax.training.checkpoints import Checkpoints, read_latest
from initjax.training.randomness import refinement_key, run_key
from initjax.training.start import calibration_batch
from initjax.training.statistics import LayerStatistics

pytestmark = pytest.mark.slow

SMALL = Config(
    model="mlp(width=16)", batch_size=16, steps=10, eval_every=0.75, warmup_steps=0,
    augment="crop", record_statistics=True,
)  # fmt: skip


@pytest.fixture(autouse=True)
def noise(monkeypatch):
    monkeypatch.setattr(data, "load", lambda *args: draw_dataset())


def run(folder, **changes):
    train_and_evaluate(dataclasses.replace(SMALL, workdir=str(folder), **changes))
    return (folder / "statistics.jsonl").read_text()


def rms(x):
    return np.sqrt(np.mean(np.float64(x) ** 2))


def test_lines_are_those_of_the_definitions(tmp_path):
    """At the start and at the end of a run; by hand for the first layer, a sample of 16 images."""
    rows = [json.loads(line) for line in run(tmp_path, steps=4, eval_every=1.0).splitlines()]
    assert [(row["step"], row["epoch"]) for row in rows] == [(0, 0.0), (4, 1.0)]
    first = jax.device_get(Trainer(SMALL, draw_dataset()).create_state().params)
    last = read_latest(tmp_path / "checkpoints")["state"]["params"]
    key = jax.random.split(refinement_key(run_key(0)))[1]
    images = np.asarray(calibration_batch(draw_dataset(), key)[0])
    assert images.shape == (64, 8, 8, 1)
    x = np.float64(images[-16:].reshape(16, -1))
    for row, params in zip(rows, (first, last), strict=True):
        assert list(row["layers"]) == ["Dense_0", "Dense_1", "Dense_2"]
        z = x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
        found = row["layers"]["Dense_0"]
        expected = {"mean": z.mean(), "variance": z.var(), "total_variance": z.var(0).sum()}
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-6)
    assert "update" not in rows[0]["layers"]["Dense_0"]
    for path, layer in rows[1]["layers"].items():
        now, before = (params[path]["kernel"] for params in (last, first))
        assert layer["update"] == pytest.approx(rms(now - before), rel=1e-4)
        assert layer["relative_update"] == pytest.approx(rms(now - before) / rms(now), rel=1e-4)
    kernels = {(s, f"weights/{p}/kernel"): tree[p]["kernel"] for s, tree in ((0, first), (4, last))
               for p in tree}  # fmt: skip
    z = {
        (step, "pre_activations/Dense_0"): x @ tree["Dense_0"]["kernel"] + tree["Dense_0"]["bias"]
        for step, tree in ((0, first), (4, last))
    }
    check_histograms(tmp_path, kernels | z)


def check_histograms(folder, expected):
    """That TensorBoard's file has these, among others."""
    found = {
        (event.step, value.tag): value.histo
        for event in read_events(folder)
        for value in event.summary.value
        if value.HasField("histo")
    }
    assert {tag.partition("/")[0] for _, tag in found} == {"weights", "pre_activations"}
    for key, values in expected.items():
        values, histogram = np.ravel(values), found[key]
        assert histogram.num == values.size == sum(histogram.bucket)
        assert histogram.min == pytest.approx(values.min(), rel=1e-4)
        assert histogram.max == pytest.approx(values.max(), rel=1e-4)
        assert histogram.sum == pytest.approx(values.sum(), rel=1e-3, abs=1e-3)
        assert histogram.sum_squares == pytest.approx(np.square(values).sum(), rel=1e-3)
        below = np.searchsorted(np.sort(values), histogram.bucket_limit)  # at the bins' upper ends
        assert abs(np.cumsum(histogram.bucket) - below).max() <= 2  # but for rounding at an edge


def test_weights_that_are_zero():
    trainer = Trainer(SMALL, draw_dataset())
    params = jax.device_get(trainer.create_state().params)
    zeros = jax.tree.map(np.zeros_like, params)
    assert trainer.statistics.measure(params, zeros)["Dense_0"]["relative_update"] == 1.0
    still = LayerStatistics(trainer.model, draw_dataset(), jax.random.key(0)).measure(zeros, zeros)
    assert still["Dense_0"]["update"] == 0.0 and np.isnan(still["Dense_0"]["relative_update"])


def test_resuming_doubles_and_loses_nothing(tmp_path, monkeypatch):
    """Stopped within an epoch, and killed after a line whose checkpoint was not written."""
    whole = run(tmp_path / "whole")
    assert [json.loads(line)["step"] for line in whole.splitlines()] == [0, 3, 6, 9, 10]
    step, save = Trainer.run, Checkpoints.save

    def interrupt(self, state, *args):
        if int(state.step) == 4:
            signal.raise_signal(signal.SIGINT)
        return step(self, state, *args)

    def die(self, step, tree):
        if step == 9:
            raise KeyboardInterrupt
        save(self, step, tree)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", interrupt)
        with pytest.raises(Interrupted, match="stopped at step 5 of 10"):
            run(tmp_path / "stopped")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", die)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped")
    lines = (tmp_path / "stopped" / "statistics.jsonl").read_text().splitlines()
    assert lines == whole.splitlines()[:4]  # up to step 9, of which no checkpoint was kept
    assert run(tmp_path / "stopped") == whole
    assert run(tmp_path / "stopped") == whole  # a finished run is left as it is
