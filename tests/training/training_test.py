import dataclasses
import functools
import json
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import draw_dataset, read_rows, without_times

from initjax import data
from initjax.models import create_model
from initjax.support.errors import Interrupted, UserError
from initjax.training import Config, Trainer, feed as feeds, train_and_evaluate, workdir
from initjax.training.objective import loss_and_metrics
from initjax.training.step import TrainState, train_step
from initjax.training.workdir import alone_in

pytestmark = pytest.mark.slow

SMALL = Config(
    model="mlp(width=16)", batch_size=16, steps=10, eval_every=0.75, warmup_steps=0, augment="crop"
)


@pytest.fixture
def noise(monkeypatch):
    """Noise instead of any data set: 64 and 21 images of 8x8."""
    dataset = draw_dataset()
    monkeypatch.setattr(data, "load", lambda *args: dataset)
    return dataset


def assert_trees_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def train(trainer, num_steps, at_once=1):
    """(state, totals) after the first steps of an epoch."""
    state, totals, order = trainer.create_state(), trainer.zero_metrics(), trainer.order(0)
    for _ in range(num_steps // at_once):
        state, totals = trainer.run(state, totals, order, at_once)
    return jax.device_get((state, totals))


def test_the_tests_have_eight_devices():
    assert jax.local_device_count() == 8


@pytest.mark.parametrize("model", ["mlp", "lenet", "convnet", "resnet20(depth=8)"])
def test_one_step_changes_every_parameter(model):
    config = dataclasses.replace(SMALL, model=model)
    trainer = Trainer(config, draw_dataset())
    before = jax.device_get(trainer.create_state())
    after, totals = train(trainer, 1)
    assert after.step == 1
    assert totals["count"] == 16
    assert 0 < totals["loss"] < np.inf
    for x, y in zip(jax.tree.leaves(before.params), jax.tree.leaves(after.params), strict=True):
        assert np.isfinite(y).all()
        assert not np.array_equal(x, y)
    assert bool(after.batch_stats) == model.startswith("resnet")


@pytest.mark.parametrize("model_name", ["mlp", "resnet20(depth=8)"])
def test_a_step_on_eight_devices_is_the_step_on_one(model_name):
    model = create_model(model_name, num_classes=10, kernel_init="he_normal", axis_name="batch")
    dataset = draw_dataset(16)
    batch = {
        "image": data.normalize(jnp.asarray(dataset.train_images), 0.5, 0.5),
        "label": jnp.asarray(dataset.train_labels),
    }
    variables = jax.jit(model.init)(jax.random.key(0), batch["image"][:1])
    optimizer = optax.sgd(1.0)
    state = jax.device_get(
        TrainState(
            step=jnp.int32(0),
            params=variables["params"],
            batch_stats=variables.get("batch_stats", {}),
            opt_state=optimizer.init(variables["params"]),
        )
    )
    results = []
    for n in (1, 8):
        step = jax.pmap(
            functools.partial(train_step, model=model, optimizer=optimizer),
            axis_name="batch",
            in_axes=(None, 0, None),
            out_axes=None,
            devices=jax.devices()[:n],
        )
        shares = jax.device_get(jax.tree.map(lambda x, n=n: x.reshape(n, -1, *x.shape[1:]), batch))
        results.append(jax.device_get(step(state, shares, np.uint32([0, 1]))))
    (one, metrics_one), (eight, metrics_eight) = results
    assert metrics_one["count"] == metrics_eight["count"] == 16
    assert metrics_one["correct"] == metrics_eight["correct"]
    np.testing.assert_allclose(metrics_one["loss"], metrics_eight["loss"], rtol=1e-6)
    # With learning rate 1 the change is the gradient.
    for a, b, start in zip(*map(jax.tree.leaves, (one, eight, state)), strict=True):
        scale = np.abs(a - start).max()
        np.testing.assert_allclose(b, a, atol=1e-5 * max(scale, 1e-3))
    assert bool(jax.tree.leaves(one.batch_stats)) == model_name.startswith("resnet")


def test_loss_is_the_smoothed_cross_entropy_of_what_is_in_the_mask():
    logits = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    labels = np.array([0, 1, 2, 3, 4, 0])
    mask = np.array([1, 1, 1, 0, 1, 0], bool)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    targets = 0.9 * np.eye(5)[labels] + 0.1 / 5
    metrics = loss_and_metrics(logits, labels, mask, 0.1)
    np.testing.assert_allclose(metrics["loss"], -(targets * log_p).sum(1)[mask].sum(), rtol=1e-5)
    assert metrics["correct"] == (logits.argmax(1) == labels)[mask].sum()
    assert metrics["count"] == 4


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("eval_batch", [8, 512])
def test_evaluation_counts_every_image_once(monkeypatch, eval_batch, on_device):
    monkeypatch.setattr(feeds, "EVAL_BATCH", eval_batch)
    dataset = draw_dataset(num_test=21)
    trainer = Trainer(SMALL, dataset)
    trainer.loops_on_device = on_device
    state = trainer.create_state()
    images = data.normalize(jnp.asarray(dataset.test_images), dataset.mean, dataset.std)
    logits = np.asarray(trainer.model.apply({"params": jax.device_get(state.params)}, images))
    labels = dataset.test_labels
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(21), labels]
    loss, accuracy = trainer.evaluate(state)
    np.testing.assert_allclose(loss, losses.mean(), rtol=1e-5)
    assert accuracy == (logits.argmax(1) == labels).sum() / 21


def test_steps_looped_on_the_device_are_the_same_steps():
    state, totals = train(Trainer(SMALL, draw_dataset()), 4)
    looped, looped_totals = train(Trainer(SMALL, draw_dataset()), 4, at_once=4)
    assert looped.step == state.step == 4
    for a, b in zip(*map(jax.tree.leaves, ((state, totals), (looped, looped_totals))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own():
    trainer = Trainer(SMALL, draw_dataset())
    orders = [np.asarray(trainer.order(epoch)) for epoch in (0, 1, 0)]
    np.testing.assert_array_equal(np.sort(orders[0]), np.arange(64))
    np.testing.assert_array_equal(orders[0], orders[2])
    assert not np.array_equal(orders[0], orders[1])
    other = Trainer(dataclasses.replace(SMALL, seed=1), draw_dataset())
    assert not np.array_equal(other.order(0), orders[0])


@pytest.mark.parametrize("setting", [{"seed": 1}, {"augment": "none"}, {"augment": "crop_flip"}])
def test_seed_and_augmentation_change_a_run(setting):
    base, _ = train(Trainer(SMALL, draw_dataset()), 2)
    other, _ = train(Trainer(dataclasses.replace(SMALL, **setting), draw_dataset()), 2)
    assert not np.array_equal(base.params["Dense_0"]["kernel"], other.params["Dense_0"]["kernel"])


def test_bfloat16_computes_near_float32_and_keeps_float32_parameters():
    _, totals = train(Trainer(SMALL, draw_dataset()), 1)
    half, half_totals = train(
        Trainer(dataclasses.replace(SMALL, precision="bfloat16"), draw_dataset()), 1
    )
    assert {x.dtype for x in jax.tree.leaves(half.params)} == {np.dtype("float32")}
    np.testing.assert_allclose(half_totals["loss"], totals["loss"], rtol=0.02)
    assert half_totals["loss"] != totals["loss"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"batch_size": 12}, "--batch_size=12 .*8 devices.*\n.*16"),
        ({"batch_size": 128}, "--batch_size=128 .*64 training images"),
    ],
)
def test_batch_size_is_checked(setting, message):
    with pytest.raises(UserError, match=message):
        Trainer(dataclasses.replace(SMALL, **setting), draw_dataset())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The rows of a run of SMALL that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load", lambda *args: draw_dataset())
        train_and_evaluate(dataclasses.replace(SMALL, workdir=str(folder)))
    return read_rows(folder)


def test_evaluations_come_every_fraction_of_an_epoch_and_at_the_end(whole):
    # Four steps an epoch, an evaluation every three.
    assert [row["step"] for row in whole] == [3, 6, 9, 10]
    assert [row["epoch"] for row in whole] == [0.75, 1.5, 2.25, 2.5]


@pytest.mark.parametrize(
    ("number", "stop_at"),
    # Within the first epoch, within the second, and at a row.
    [(signal.SIGINT, 2), (signal.SIGTERM, 5), (signal.SIGHUP, 6)],
)
def test_resume_is_exact(monkeypatch, noise, capfd, tmp_path, whole, number, stop_at):
    config = dataclasses.replace(SMALL, workdir=str(tmp_path / "run"))
    run = Trainer.run

    def interrupt(self, state, *args):
        if int(state.step) == stop_at - 1:
            signal.raise_signal(number)
        return run(self, state, *args)

    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", interrupt)
        with pytest.raises(
            Interrupted, match=f"{number.name}: stopped at step {stop_at} of 10"
        ) as stop:
            train_and_evaluate(config)
    assert stop.value.number == number
    after = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert after == handlers
    assert "once more to stop at once" in capfd.readouterr().err
    before = read_rows(tmp_path / "run")
    assert [row["step"] for row in before] == [s for s in (3, 6) if s <= stop_at]
    train_and_evaluate(config)
    assert f"resumed at step {stop_at}" in capfd.readouterr().out
    assert without_times(read_rows(tmp_path / "run")) == without_times(whole)


def test_a_second_signal_stops_at_once(monkeypatch, noise, tmp_path):
    run = Trainer.run

    def interrupt(self, state, *args):
        if int(state.step) == 4:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return run(self, state, *args)

    monkeypatch.setattr(Trainer, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(dataclasses.replace(SMALL, workdir=str(tmp_path)))
    assert [row["step"] for row in read_rows(tmp_path)] == [3]


def test_a_signal_before_the_first_step_stops_at_once(monkeypatch, noise, tmp_path):
    monkeypatch.setattr(Trainer, "run", lambda *args: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(dataclasses.replace(SMALL, workdir=str(tmp_path)))
    assert read_rows(tmp_path) == []


@pytest.mark.parametrize("where", ["run", "evaluate"])
def test_a_loss_that_is_no_number_loses_nothing(monkeypatch, noise, tmp_path, where, whole):
    config = dataclasses.replace(SMALL, workdir=str(tmp_path / "run"))
    run, evaluate = Trainer.run, Trainer.evaluate

    def bad_run(self, state, totals, *args):
        step = int(state.step)
        state, totals = run(self, state, totals, *args)
        if step == 5:
            totals["loss"] = totals["loss"] * jnp.nan
        return state, totals

    def bad_evaluate(self, state):
        loss, accuracy = evaluate(self, state)
        return (loss if int(state.step) < 6 else np.inf), accuracy

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, where, {"run": bad_run, "evaluate": bad_evaluate}[where])
        with pytest.raises(
            UserError, match=r"loss is (nan|inf) at step 6 of 10.*\n.*learning_rate"
        ):
            train_and_evaluate(config)
    assert [row["step"] for row in read_rows(tmp_path / "run")] == [3]
    train_and_evaluate(config)
    assert without_times(read_rows(tmp_path / "run")) == without_times(whole)


@pytest.mark.parametrize("at", [6, 8])
def test_parameters_that_are_not_finite_are_not_saved(monkeypatch, noise, tmp_path, at, whole):
    """Where the loss still is, at an evaluation or where a signal stops the run."""
    config = dataclasses.replace(SMALL, workdir=str(tmp_path))
    run = Trainer.run

    def bad_run(self, state, *args):
        state, totals = run(self, state, *args)
        if int(state.step) == at:
            bad = jax.tree.map(lambda x: (x + np.nan).astype(x.dtype), state.opt_state)
            state = state.replace(opt_state=bad)
            if at == 8:
                signal.raise_signal(signal.SIGTERM)
        return state, totals

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", bad_run)
        with pytest.raises(UserError, match=rf"At step {at} of 10 .* not finite.*\n.*_rate"):
            train_and_evaluate(config)
    train_and_evaluate(config)
    assert without_times(read_rows(tmp_path)) == without_times(whole)


def test_damaged_checkpoints_and_rows_are_recomputed(noise, tmp_path, capsys):
    config = dataclasses.replace(SMALL, workdir=str(tmp_path))
    train_and_evaluate(config)
    rows = read_rows(tmp_path)
    for file in (tmp_path / "checkpoints" / "10").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    (tmp_path / "checkpoints" / "11").mkdir()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1')
    capsys.readouterr()
    train_and_evaluate(config)
    out = capsys.readouterr().out
    for step in (10, 11):
        assert f"the checkpoint of step {step} cannot be read" in out
    assert "resumed at step 9" in out
    assert without_times(read_rows(tmp_path)) == without_times(rows)


def test_a_finished_run_that_lost_its_rows_says_so(noise, tmp_path):
    config = dataclasses.replace(SMALL, workdir=str(tmp_path))
    train_and_evaluate(config)
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match=r"metrics.jsonl has lost its rows"):
        train_and_evaluate(config)


@pytest.mark.parametrize("another", [False, True])
def test_a_folder_that_is_removed_ends_the_run(monkeypatch, noise, tmp_path, whole, another):
    """At step 5, after a row and its checkpoint; one of another run is there then, or none."""
    folder, before = tmp_path / "run", tmp_path / "before"
    config = dataclasses.replace(SMALL, workdir=str(folder))
    run = Trainer.run

    def remove(self, state, *args):
        if int(state.step) == 4:
            while not (folder / "checkpoints" / "3").exists():  # written in the background
                time.sleep(0.01)
            folder.rename(before)
            if another:
                folder.mkdir()
                (folder / "config.json").write_text("{}")
        return run(self, state, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", remove)
        with pytest.raises(UserError, match=r"was removed or replaced .*\n.*") as error:
            train_and_evaluate(config)
    assert len(str(error.value).splitlines()) == 2
    assert [path.name for path in tmp_path.glob("run/*")] == ["config.json"] * another
    train_and_evaluate(dataclasses.replace(config, workdir=str(before)))
    assert without_times(read_rows(before)) == without_times(whole)


def test_a_folder_takes_one_run_at_a_time(noise, tmp_path):
    config = dataclasses.replace(SMALL, workdir=str(tmp_path))
    train_and_evaluate(config)
    with alone_in(tmp_path):
        with pytest.raises(UserError, match="Another process is training"):
            train_and_evaluate(config)
    train_and_evaluate(config)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "\udcff", "[" * 10**5])
def test_a_corrupt_config_is_told(noise, tmp_path, content):
    (tmp_path / "config.json").write_text(content, errors="surrogateescape")
    with pytest.raises(UserError, match=r"config.json is not a configuration"):
        train_and_evaluate(dataclasses.replace(SMALL, workdir=str(tmp_path)))


def test_a_folder_of_another_run_is_left_alone(noise, tmp_path, monkeypatch):
    """It is found by ~ too, which no shell expands in --workdir=~/run."""
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    saved = dataclasses.replace(SMALL, seed=5).to_json()
    (tmp_path / "config.json").write_text(saved)
    with pytest.raises(UserError, match="seed: 5 there, 0 now"):
        train_and_evaluate(dataclasses.replace(SMALL, workdir=f"~/{tmp_path.name}"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "metrics.jsonl"]
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 5


def test_a_read_only_folder_is_told(monkeypatch, noise, tmp_path):
    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(workdir, "write_whole", refuse)  # root may write anywhere
    with pytest.raises(UserError, match=r"cannot be written: Permission denied.\nPass another"):
        train_and_evaluate(dataclasses.replace(SMALL, workdir=str(tmp_path)))
