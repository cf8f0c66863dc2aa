"""The table of metrics: what a metric is registered for, rows, events and lines have."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from helpers import draw_dataset, read_rows

from initjax import data
from initjax.training import METRICS, Config, metric, train_and_evaluate
from initjax.training.objective import (
    LOSSES,
    loss_and_metrics,
    loss_of_frequencies,
    loss_of_zeros,
    means,
    zero_metrics,
)


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


@pytest.mark.parametrize(
    ("loss", "expected"),
    [("softmax_cross_entropy", np.log(10)), ("sigmoid_cross_entropy", 10 * np.log(2)),
     ("squared_error", 1.0)],
)  # fmt: skip
def test_loss_of_zeros(loss, expected):
    assert loss_of_zeros(10, loss=loss) == pytest.approx(expected, rel=1e-6)
    if loss != "squared_error":
        assert loss_of_zeros(10, 0.1, loss) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
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


# Of each loss: its own formula, and the logits at which its mean is a given target.
FORMULAS = {
    "softmax_cross_entropy": (
        lambda z, t: -(t * (z - scipy.special.logsumexp(z, -1, keepdims=True))).sum(-1),
        np.log,
    ),
    "sigmoid_cross_entropy": (
        lambda z, t: (np.log1p(np.exp(z)) - t * z).sum(-1),
        scipy.special.logit,
    ),
    "squared_error": (lambda z, t: ((z - t) ** 2).sum(-1), lambda q: q),
}


def test_every_loss_is_tested():
    assert FORMULAS.keys() == LOSSES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("loss", FORMULAS)
def test_losses(loss):
    logits = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    labels, mask = np.array([0, 1, 2, 3, 4, 0]), np.array([1, 1, 1, 0, 1, 0], bool)
    found = loss_and_metrics(logits, labels, mask, 0.1, loss)
    targets = 0.9 * np.eye(5)[labels] + 0.1 / 5
    expected = FORMULAS[loss][0](logits.astype(np.float64), targets)[mask].sum()
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-5)
    assert found["correct"] == (logits.argmax(1) == labels)[mask].sum() and found["count"] == 4


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("loss", FORMULAS)
def test_frequencies_are_the_best_prediction_that_is_the_same_for_all_images(loss, smoothing):
    labels = np.array([0, 0, 0, 1, 2, 2, 2, 2])
    frequencies = np.bincount(labels) / 8
    formula, logits_of = FORMULAS[loss]
    targets = (1 - smoothing) * np.eye(3)[labels] + smoothing / 3
    best = logits_of(targets.mean(0))
    found = loss_of_frequencies(frequencies, smoothing, loss)
    assert found == pytest.approx(formula(best, targets).mean())
    for change in 0.1 * np.concatenate([np.eye(3), -np.eye(3)]):
        assert formula(best + change, targets).mean() > found
    absent = loss_of_frequencies([*frequencies, 0.0], 0.0, loss)
    assert absent == pytest.approx(loss_of_frequencies(frequencies, 0.0, loss))


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="'loss' is registered twice"):
        metric("loss", mean=np.mean)(lambda *args: {})
