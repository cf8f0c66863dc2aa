"""Refinements by name, and in the launcher."""

import json

import jax
import numpy as np
import pytest
from helpers import draw_dataset, launch, read_rows, without_times

from initjax import data, refine, training
from initjax.models import create_model
from initjax.support.errors import UserError
from initjax.training import Config

pytestmark = pytest.mark.slow

SMALL = {"model": "mlp(width=16)", "batch_size": 16, "steps": 10, "warmup_steps": 0}


def test_names():
    data, gradients = "consistency kmeans_filters krahenbuhl lsuv pca_filters", "gradinit metainit"
    assert refine.names() == sorted(f"admin autoinit {data} {gradients}".split())


@pytest.mark.parametrize(
    "name",
    [
        "lsuv",
        "lsuv(tolerance=0.01)",
        "consistency(target=mean_field(activation='tanh'))",
        "consistency(target=gaussian(0.0, 2.0), divergence='w2')",
        "consistency(mode='joint', optimizer=sgd(0.5), divergence='w2')",
    ],
)
def test_names_with_arguments(name):
    model = create_model("mlp(depth=1, width=8)", kernel_init="normal")
    x = jax.random.normal(jax.random.key(0), (64, 4, 4, 1))
    params = model.init(jax.random.key(1), x)["params"]
    refine.check(name)
    _, report = refine.refine(name, model, params, x, jax.random.key(2))
    assert report.after < report.before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lsvu", "Unknown refinement 'lsvu'. Did you mean 'lsuv'"),
        ("lsuv(tol=1)", "It takes: tolerance=0.1, max_iterations=10"),
        ("lsuv(model=1)", "unexpected keyword argument 'model'"),
        ("consistency(target=reference)", "'reference' in"),
        ("consistency(target=gaussian(variance=-1))", "variance=-1.0 must be positive"),
        ("__import__('os')", "Unknown refinement"),
    ],
)
def test_errors_of_names(name, message):
    for call in (refine.check, lambda name: Config(refine=name)):
        with pytest.raises(UserError) as error:
            call(name)
        assert message in str(error.value)


@pytest.fixture
def noise(monkeypatch):
    dataset = draw_dataset()
    monkeypatch.setattr(data, "load", lambda *args: dataset)
    return dataset


@pytest.mark.parametrize("name", ["consistency", "gradinit(steps=2, batch_size=8)"])
def test_training_from_refined_weights(noise, tmp_path, name, capsys):
    config = Config(refine=name, workdir=str(tmp_path / "run"), init="normal", **SMALL)
    training.train_and_evaluate(config)
    report = json.loads((tmp_path / "run" / "refine.json").read_text())
    assert report["environment"].keys() >= {"commit", "dirty", "jax", "command"}
    assert report["num_calibration"] == 48 and report["num_held_out"] == 16
    assert capsys.readouterr().out.count("held-out samples") == 1
    rows = read_rows(tmp_path / "run")
    recorded = [key for key in rows[-1] if key.endswith("/total_variance")]
    assert len(recorded) == (3 if name == "consistency" else 0)
    if name != "consistency":
        return
    again = Config(refine=name, workdir=str(tmp_path / "again"), init="normal", **SMALL)
    training.train_and_evaluate(again)
    assert without_times(read_rows(tmp_path / "again")) == without_times(rows)


def test_resuming_does_not_refine_again(noise, tmp_path, capsys, monkeypatch):
    settings = {"refine": "consistency", "init": "normal"} | SMALL
    whole = Config(workdir=str(tmp_path / "whole"), **settings)
    training.train_and_evaluate(whole)
    stopped = Config(workdir=str(tmp_path / "stopped"), **settings)
    with monkeypatch.context() as context:

        def interrupt(self, *args):
            raise KeyboardInterrupt

        # After the checkpoint of the first evaluation, at step 4.
        context.setattr(training.Trainer, "order", _calls_before(interrupt, 1))
        with pytest.raises(KeyboardInterrupt):
            training.train_and_evaluate(stopped)
    saved = (tmp_path / "stopped" / "refine.json").read_text()
    capsys.readouterr()
    monkeypatch.setattr(training.Trainer, "refine", None)  # cannot be called
    training.train_and_evaluate(stopped)
    out = capsys.readouterr().out
    assert "resumed at step" in out and "held-out samples" not in out
    assert (tmp_path / "stopped" / "refine.json").read_text() == saved
    rows = [without_times(read_rows(tmp_path / name)) for name in ("whole", "stopped")]
    assert rows[0] == rows[1]


def _calls_before(interrupt, number):
    """`Trainer.order` that is interrupted at its call of this number."""
    original, calls = training.Trainer.order, []

    def order(self, epoch):
        calls.append(epoch)
        return interrupt(self) if len(calls) > number else original(self, epoch)

    return order


def test_the_trainers_model_keeps_its_layers(noise):
    """Batch normalization over mapped devices is refined on one, with the same parameters."""
    config = Config(refine="lsuv", **(SMALL | {"model": "convnet(use_batch_norm=True)"}))
    trainer = training.Trainer(config, noise)
    state = trainer.create_state()
    refined, report = trainer.refine(state)
    assert [layer.path for layer in report.layers][-1] == "Dense_0"
    assert jax.tree.structure(refined) == jax.tree.structure(state)
    for a, b in zip(*map(jax.tree.leaves, (state.opt_state, refined.opt_state)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert refined.params["Conv_0"]["kernel"].sharding == state.params["Conv_0"]["kernel"].sharding


def test_launcher(tmp_path):
    folder = tmp_path / "run"
    flags = ("--init=normal", "--model=mlp(width=16)", "--steps=5", f"--workdir={folder}")
    run = launch("--refine=consistency(divergence='w2')", *flags)
    assert (run.returncode, run.stderr) == (0, "")
    assert "consistency (sequential, w2): mean divergence of 3 layers" in run.stdout
    assert "refine.json" in run.stdout.splitlines()[-1]
    run = launch("--refine=consistency(mode='x')", *flags[:-1], f"--workdir={tmp_path / 'other'}")
    assert run.returncode == 1 and run.stderr.startswith("error: --refine: mode='x' is not one of")
    assert run.stderr.count("\n") <= 2


@pytest.mark.parametrize(
    ("model", "size", "where"),
    [("convnet", 4, "ConvNet"), ("start_test_own:Halving", 2, "Halving")],
)
def test_a_network_that_shrinks_to_nothing_is_told_before_it_trains(own_module, model, size, where):
    """Without parameters of size 0 too, where the mean over no pixels would be NaN."""
    own_module(
        "start_test_own",
        "import flax.linen as nn\n"
        "class Halving(nn.Module):\n"
        "    num_classes: int\n"
        "    kernel_init: object\n"
        "    @nn.compact\n"
        "    def __call__(self, x):\n"
        "        x = nn.avg_pool(nn.Conv(3, (3, 3), padding='VALID')(x), (2, 2))\n"
        "        return nn.Dense(self.num_classes, kernel_init=self.kernel_init)(x.mean((1, 2)))\n",
    )
    settings = {"batch_size": 16, "steps": 2, "warmup_steps": 0}
    message = rf"images of {size}x{size}x1 to nothing: {where}.* computes an array of \(1, 0"
    with pytest.raises(UserError, match=message):
        training.train(model, draw_dataset(shape=(size, size, 1)), **settings)
