"""What a model may ask of a training step: side heads, dropout."""

import dataclasses
import signal

import flax.linen as nn
import jax
import numpy as np
import pytest
from helpers import draw_dataset, read_rows, without_times

from initjax import data
from initjax.models.base import MODELS, ImageClassifier, register
from initjax.support.errors import Interrupted
from initjax.training import Config, Devices, Trainer, train, train_and_evaluate
from initjax.training.objective import LOSSES
from initjax.training.replicas import Member, Replicas

pytestmark = pytest.mark.slow


class Sided(ImageClassifier):
    """Two equal heads, both from zeros."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = x.reshape(len(x), -1)
        main, side = (nn.Dense(10, kernel_init=nn.initializers.zeros, name=n) for n in "ms")
        if train or self.is_initializing():
            self.sow("auxiliary_logits", "logits", side(x))
        return main(x)


class Dropped(ImageClassifier):
    """Half of the pixels, the same ones of all images of a batch."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Dropout(0.5, broadcast_dims=(0,))(x.reshape(len(x), -1), deterministic=not train)
        return self.logits(x)


SMALL = Config.create(batch_size=16, steps=6, eval_every=0.75, warmup_steps=0, augment="none")


@pytest.fixture(autouse=True)
def dropped():
    with MODELS.restored():
        register("dropped")(Dropped)
        yield dataclasses.replace(SMALL, model="dropped", weight_decay=0.0)


@pytest.mark.parametrize("loss", LOSSES)
def test_side_heads_learn_at_three_tenths_and_metrics_are_the_main_heads(loss):
    rows, state = train(
        Sided(), draw_dataset(), loss=loss, steps=1, batch_size=16, warmup_steps=0,
        augment="none", weight_decay=0.0, devices=Devices(jax.devices()[:1]),
    )  # fmt: skip
    main, side = (state.params[name]["kernel"] for name in "ms")
    assert np.abs(main).max() > 0
    np.testing.assert_allclose(side, 0.3 * main, rtol=1e-5, atol=1e-8)
    at_zero = {"softmax": np.log(10), "sigmoid": 10 * np.log(2), "squared": 1.0}
    assert rows[0]["train_loss"] == pytest.approx(at_zero[loss.split("_")[0]], rel=1e-5)


def test_replicas_of_one_seed_drop_the_same(dropped):
    """The pixels that the first step's weights tell of."""
    members = [
        Member(dataclasses.replace(dropped, **changes))
        for changes in ({}, {"init": "zeros", "learning_rate": 0.01}, {"seed": 1})
    ]
    programs = Replicas(dropped, draw_dataset(), 3, method="devices")
    programs.take(members)
    before = programs.create_states(members)
    placed = programs.place(before)
    state, _ = programs.run(placed["state"], placed["totals"], programs.order(0), 1)
    old, new = (s.params["Dense_0"]["kernel"] for s in (before["state"], programs.fetch(state, 3)))
    kept = (old != new).any(axis=2)
    assert 16 < kept[0].sum() < 48
    np.testing.assert_array_equal(kept[0], kept[1])
    assert (kept[0] != kept[2]).any()


def test_a_run_with_dropout_resumes_bit_for_bit(dropped, monkeypatch, tmp_path):
    monkeypatch.setattr(data, "load", lambda *args: draw_dataset())
    whole, stopped = (
        dataclasses.replace(dropped, workdir=str(tmp_path / name)) for name in ("whole", "stopped")
    )
    run = Trainer.run

    def interrupt(self, state, *args):
        if int(state.step) == 3:
            signal.raise_signal(signal.SIGINT)
        return run(self, state, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", interrupt)
        with pytest.raises(Interrupted, match="stopped at step 4 of 6"):
            train_and_evaluate(stopped)
    train_and_evaluate(stopped)
    train_and_evaluate(whole)
    rows = [without_times(read_rows(tmp_path / name)) for name in ("whole", "stopped")]
    assert rows[0] == rows[1] and len(rows[0]) == 2
