"""Runs in memory, as in a notebook; a trained model read back."""

import dataclasses
import json
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import draw_dataset, read_rows, without_times

import initjax
from initjax import data
from initjax.models import create_model
from initjax.support.errors import UserError
from initjax.training import Config, Devices, Quiet, train, train_and_evaluate
from initjax.training.optimizers import create_optimizer

pytestmark = pytest.mark.slow

SMALL = {"batch_size": 16, "steps": 8, "warmup_steps": 0, "augment": "crop"}


class Norm(nn.Module):
    """A network of the user's own: no field but its width, and no argument `train`."""

    width: int = 8

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(self.width)(x.reshape(len(x), -1)))
        return nn.Dense(10)(x)


class BatchNorm(Norm):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train)(x.reshape(len(x), -1))
        return nn.Dense(10)(x)


class Recorder(Quiet):
    def __init__(self):
        self.rows, self.steps = [], []

    def progress(self, step, loss, accuracy, images_per_second):
        self.steps.append((step, loss))

    def evaluation(self, row):
        self.rows.append(row)


def test_rows_are_those_of_the_run_in_a_folder(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(data, "load", lambda *args: draw_dataset())
    train_and_evaluate(Config(model="mlp(width=16)", workdir=str(tmp_path), **SMALL))
    capsys.readouterr()
    model = create_model("mlp(width=16)", kernel_init=initjax.nspl())
    recorder = Recorder()
    for given in ("mlp(width=16)", model):
        rows, state = train(given, draw_dataset(), reporter=recorder, **SMALL)
        assert without_times(rows) == without_times(read_rows(tmp_path))
    assert capsys.readouterr() == ("", "")  # quiet
    assert recorder.rows[2:] == rows and [step for step, _ in recorder.steps[8:]] == [*range(1, 9)]
    dataset = draw_dataset()
    logits = model.apply(
        {"params": state.params}, data.normalize(dataset.test_images, dataset.mean, dataset.std)
    )
    accuracy = (logits.argmax(-1) == dataset.test_labels).mean()
    assert rows[-1]["eval_accuracy"] == pytest.approx(float(accuracy))


def test_a_module_and_arrays_of_the_users_own():
    dataset = draw_dataset()
    arrays = (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels)
    rows, state = train(Norm(), arrays, **SMALL)
    assert [row["step"] for row in rows] == [4, 8]
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    assert state.params["Dense_0"]["kernel"].shape == (64, 8)
    with pytest.raises(UserError, match="BatchNorm has batch statistics, which 8 devices"):
        train(BatchNorm(), arrays, **SMALL)
    _, state = train(BatchNorm(), arrays, devices=Devices(jax.devices()[3:4]), **SMALL)
    assert np.abs(state.batch_stats["BatchNorm_0"]["mean"]).max() > 0


def test_start_order_and_records_can_be_given():
    dataset = draw_dataset()
    variables = jax.tree.map(
        jnp.zeros_like, Norm().init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    )
    settings = SMALL | {"augment": "none", "eval_every": 0.25}

    def run(order):
        return train(
            Norm(), dataset, variables=variables, order=order, evaluate=False,
            record=lambda step, state: {"at": int(state.step) * 10}, **settings,
        )  # fmt: skip

    rows, state = run(lambda epoch: np.arange(64))
    assert [row["at"] for row in rows] == [10 * step for step in range(1, 9)]
    assert rows[0]["train_loss"] == pytest.approx(np.log(10))  # from zeros
    assert ["eval_loss" in row for row in rows] == [False] * 7 + [True]
    # Zeros learn the bias alone, of the labels: those of the first batch first.
    assert rows[0]["train_accuracy"] == (dataset.train_labels[:16] == 0).mean()
    _, other = run(lambda epoch: np.arange(64)[::-1])
    first = [np.asarray(s.params["Dense_1"]["bias"]) for s in (state, other)]
    assert not np.array_equal(*first)


def test_a_loss_that_is_no_number_may_be_a_result():
    settings = SMALL | {"learning_rate": 1e30, "weight_decay": 0.0}
    with pytest.raises(UserError, match="loss is"):
        train("mlp(width=16)", draw_dataset(), **settings)
    rows, _ = train("mlp(width=16)", draw_dataset(), stop_at_nan=False, **settings)
    assert not np.isfinite(rows[-1]["train_loss"])


def test_refinement_is_told():
    class Told(Quiet):
        said = ""

        def say(self, text):
            self.said += text

    told = Told()
    train("mlp(width=16)", draw_dataset(), refine="lsuv", reporter=told, **SMALL)
    assert "lsuv" in told.said


@pytest.mark.parametrize(
    ("init", "line"),
    [
        ("zeros", "loss at step 0: 2.3026; a head of zeros has 2.3026, ln 10\n"),
        ("normal(1.0)", "; a head of zeros has 2.3026, ln 10: a smaller last layer would begin"),
    ],
)
def test_the_loss_of_the_initial_weights_is_told(init, line):
    class Told(Quiet):
        said = ""

        def say(self, text):
            self.said += text + "\n"

    told = Told()
    train("mlp(width=16)", draw_dataset(), dense_init=init, reporter=told, **SMALL)
    assert line in told.said and told.said.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init": "zeros"}, "init='zeros': the model given has its own"),
        ({"workdir": "x"}, "workdir='x': train keeps no folder"),
        ({"record_statistics": True}, "record_statistics=True: train keeps no folder"),
        ({"steps": 0}, "--steps=0 must be 1 or more"),
    ],
)
def test_settings_that_would_be_lost_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        train(Norm(), draw_dataset(), **(SMALL | settings))


def test_a_subset_of_the_devices():
    """A run on two of eight is the run on one, but for rounding; its state lies on them."""
    runs = [
        train("mlp(width=16)", draw_dataset(), devices=Devices(jax.devices()[start:stop]), **SMALL)
        for start, stop in ((0, 1), (5, 7))
    ]
    for a, b in zip(*(rows for rows, _ in runs), strict=True):
        np.testing.assert_allclose(a["train_loss"], b["train_loss"], rtol=1e-5)
    placed = Devices(jax.devices()[5:7]).place({"x": np.arange(3)})["x"]
    assert placed.devices() == set(jax.devices()[5:7])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_numbers_of_an_optimizer_may_be_traced(optimizer):
    """As a population traces them: `create_optimizer` only reads them."""
    base = Config(optimizer=optimizer, learning_rate=0.5, warmup_steps=0, model="mlp")

    class Traced:
        def __init__(self, **values):
            self.__dict__ |= {**vars(base), **values}

    def update(rate, momentum, decay):
        optimizer = create_optimizer(
            Traced(learning_rate=rate, momentum=momentum, weight_decay=decay), 10
        )
        params = jnp.float32(2.0)
        return optimizer.update(jnp.float32(1.0), optimizer.init(params), params)[0]

    numbers = np.float32([[0.5, 0.1], [0.9, 0.5], [0.0, 0.25]])
    together = jax.vmap(update)(*numbers)
    alone = [update(*map(float, numbers[:, i])) for i in (0, 1)]
    np.testing.assert_allclose(together, alone, rtol=1e-6)
    assert together[0] != together[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of a network with batch statistics, on digits."""
    folder = tmp_path_factory.mktemp("run")
    model = "convnet(depth=3, use_batch_norm=True)"
    config = Config(model=model, steps=12, batch_size=64, warmup_steps=0, workdir=str(folder))
    train_and_evaluate(config)
    return folder


@pytest.mark.parametrize("old", [False, True])
def test_a_run_is_read_back(folder, tmp_path, old):
    """It gives the run's test accuracy; without data.json too, as of earlier runs."""
    copied = tmp_path / "run"
    shutil.copytree(folder, copied)
    if old:
        (copied / "data.json").unlink()
    before = sorted(copied.rglob("*"))
    model, variables, normalization, config = initjax.load_run(copied)
    assert sorted(copied.rglob("*")) == before  # it only reads
    digits = data.load("digits")
    logits = model.apply(variables, normalization(digits.test_images))
    correct = int((logits.argmax(-1) == digits.test_labels).sum())
    assert correct / 360 == read_rows(folder)[-1]["eval_accuracy"]
    assert config == Config(**json.loads((folder / "config.json").read_text()))
    np.testing.assert_array_equal(normalization.mean, digits.mean)
    np.testing.assert_array_equal(normalization.std, digits.std)


def test_what_is_no_run_is_told(folder, tmp_path):
    with pytest.raises(UserError, match=r"is not the folder of a run: it has no config\.json"):
        initjax.load_run(tmp_path)
    config = dataclasses.replace(Config(model="mlp"), seed=3)
    (tmp_path / "config.json").write_text(config.to_json())
    shutil.copy(folder / "data.json", tmp_path)
    with pytest.raises(UserError, match="holds no checkpoint that can be read: there is none"):
        initjax.load_run(tmp_path)
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no checkpoint that can be read"):
        initjax.load_run(tmp_path)
    (tmp_path / "data.json").write_text("{")
    with pytest.raises(UserError, match=r"data\.json cannot be read"):
        initjax.load_run(tmp_path)
    (tmp_path / "config.json").write_text('{"init": "foo"}')
    with pytest.raises(UserError, match=r"config\.json is not a configuration: .*foo"):
        initjax.load_run(tmp_path)
