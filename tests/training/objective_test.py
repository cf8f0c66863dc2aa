"""The table of metrics: what a metric is registered for, rows, events and lines have."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import draw_dataset, read_rows

from initjax import data
from initjax.training import METRICS, Config, metric, train_and_evaluate
from initjax.training.objective import loss_and_metrics, means, zero_metrics


@pytest.fixture
def squared(monkeypatch):
    """A throw-away metric: the root of the mean squared logit."""
    monkeypatch.setattr("initjax.training.objective.METRICS", METRICS)
    before = dict(METRICS)

    @metric("rms_logit", mean=lambda sums: (sums["squares"] / max(sums["count"], 1)) ** 0.5)
    def squares(logits, labels, mask, label_smoothing):
        return {"squares": (jnp.square(logits).mean(-1) * mask).sum()}

    yield
    METRICS.clear()
    METRICS.update(before)


def test_sums_begin_at_zero_with_the_same_types():
    sums = loss_and_metrics(jnp.ones((4, 3)), jnp.zeros(4, jnp.int32), jnp.ones(4, bool))
    zeros = zero_metrics(3)
    assert {k: (v.shape, v.dtype) for k, v in zeros.items()} == {
        k: (v.shape, v.dtype) for k, v in sums.items()
    }
    assert list(METRICS) == ["loss", "accuracy"] and set(sums) == {"loss", "correct", "count"}
    assert means(zeros) == (0.0, 0.0)
    assert means({"loss": 3.0, "correct": 1, "count": 4}) == (0.75, 0.25)


@pytest.mark.slow
def test_one_decorator_adds_a_throw_away_metric(squared, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(data, "load", lambda *args: draw_dataset())
    config = Config(model="mlp(width=16)", batch_size=16, steps=4, workdir=str(tmp_path))
    train_and_evaluate(config)
    (row,) = read_rows(tmp_path)
    assert list(row) == [
        "step", "epoch", "train_loss", "train_accuracy", "train_rms_logit", "eval_loss",
        "eval_accuracy", "eval_rms_logit", "images_per_second", "seconds",
    ]  # fmt: skip
    assert row["eval_rms_logit"] > 0
    out = capsys.readouterr().out
    for split in ("train", "eval"):
        assert f"rms_logit {row[f'{split}_rms_logit']:.4f}" in out
    events = next((tmp_path / "tensorboard").iterdir()).read_bytes()
    assert b"eval_rms_logit" in events


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="'loss' is registered twice"):
        metric("loss", mean=np.mean)(lambda *args: {})
