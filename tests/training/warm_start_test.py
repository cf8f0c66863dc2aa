"""--init_from: a run that starts from another's layers, alone and in a comparison."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from helpers import draw_dataset

from initjax import data, load_run
from initjax.comparison.grid import create_grid
from initjax.comparison.population import run_jobs
from initjax.support.errors import UserError
from initjax.training import Config, Trainer, train, train_and_evaluate
from initjax.training.replicas import Member, Replicas

pytestmark = pytest.mark.slow

SMALL = {"batch_size": 16, "steps": 2, "warmup_steps": 0, "augment": "none"}
DEEP = "mlp(depth=3, width=16)"


@pytest.fixture(scope="module")
def noise():
    with pytest.MonkeyPatch.context() as patch:
        dataset = draw_dataset()
        patch.setattr(data, "load", lambda *args: dataset)
        yield dataset


@pytest.fixture(scope="module")
def shallow(noise, tmp_path_factory):
    """The folder of a trained mlp of one hidden layer, and its parameters."""
    folder = tmp_path_factory.mktemp("runs") / "shallow"
    config = Config(model="mlp(depth=1, width=16)", workdir=str(folder), **SMALL)
    train_and_evaluate(config)
    return folder, load_run(folder).variables["params"]


def test_the_first_and_the_last_layer_are_the_other_runs(noise, shallow):
    """The others are what --init gives, and a replica is the run alone."""
    folder, old = shallow
    config = Config(model=DEEP, init="he_normal", init_from=str(folder), **SMALL)
    trainer = Trainer(config, noise)
    plain = trainer.create_state()
    started, report = trainer.warm_start(plain)
    assert {k: v for k, v in report["origins"].items() if v} == {
        f"{to}/{leaf}": f"{of}/{leaf}"
        for to, of in (("Dense_0", "Dense_0"), ("Dense_3", "Dense_1"))
        for leaf in ("bias", "kernel")
    }
    expected = jax.device_get(plain.params)
    expected |= {"Dense_0": old["Dense_0"], "Dense_3": old["Dense_1"]}
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(started.params), expected)
    replica = Replicas(config, noise, 1).create_states([Member(config)])["state"]
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[0], y), replica.params, expected)


def test_a_run_says_where_its_weights_came_from(noise, shallow, tmp_path, capsys):
    source = tmp_path / "source"
    shutil.copytree(shallow[0], source)
    text = f"depth_warm_start({str(source)!r}, layers='Dense_0')"
    settings = {"model": DEEP, "init_from": text, **SMALL}
    config = Config(workdir=str(tmp_path / "run"), **settings)
    last = train_and_evaluate(config)
    assert f"2 of 8 arrays from {text}" in capsys.readouterr().out
    told = json.loads((tmp_path / "run" / "init_from.json").read_text())
    assert told["init_from"] == text and told["origins"]["Dense_0/bias"] == "Dense_0/bias"
    assert told["origins"]["Dense_3/bias"] is None and "commit" in told["environment"]
    rows, _ = train(DEEP, noise, **{k: v for k, v in settings.items() if k != "model"})
    assert rows[-1]["eval_loss"] == last["eval_loss"]
    without, _ = train(DEEP, noise, **SMALL)
    assert without[-1]["eval_loss"] != last["eval_loss"]
    shutil.rmtree(source)  # which nobody needs any more
    assert train_and_evaluate(config) == last
    assert load_run(tmp_path / "run").config == config
    with pytest.raises(UserError, match=f"--init_from: {source} does not exist"):
        train_and_evaluate(dataclasses.replace(config, workdir=str(tmp_path / "other")))


def test_a_comparison_of_starts(noise, shallow):
    """--init_from takes several values, none of them among them; each is a start by its name."""
    folder = str(shallow[0])
    grid = create_grid(
        {"model": DEEP, "init": "he_normal", "init_from": f",{folder}"}
        | {name: value if name == "augment" else str(value) for name, value in SMALL.items()},
        seeds=(0, 1),
    )
    assert grid.starts == ("he_normal", f"he_normal, from {folder}")
    assert len({cell.group for cell in grid.cells}) == 1  # they share their program
    assert create_grid({"init_from": folder}).folder_name() == create_grid({}).folder_name()
    runs = run_jobs(grid.jobs(), noise)
    assert {run.start for run in runs} == set(grid.starts)
    losses = {(run.start, run.seed): run.train_loss[-1] for run in runs}
    assert len(set(losses.values())) == 4


def test_two_texts_of_one_start_are_told():
    with pytest.raises(UserError, match="are the same start under two names"):
        create_grid({"init_from": "runs/a,depth_warm_start('runs/a')", "model": "mlp"})
