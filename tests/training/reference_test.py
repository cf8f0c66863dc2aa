"""Statistics of a reference network on one data set as the target of a run on another."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from helpers import draw_dataset

from initjax import data, load_run, refine
from initjax.models import create_model
from initjax.refine import Network, Saved
from initjax.support.errors import UserError
from initjax.training import Config, Trainer, train_and_evaluate
from initjax.training.reference import measure, parse, save_reference, untrained

pytestmark = pytest.mark.slow

KEY = jax.random.key(3)


@pytest.fixture
def other(monkeypatch):
    """Larger images of three channels and another number of classes, by any name but digits."""
    drawn = draw_dataset(shape=(12, 12, 3))
    other = dataclasses.replace(
        drawn,
        train_labels=drawn.train_labels % 4,
        test_labels=drawn.test_labels % 4,
        num_classes=4,
        label_names=tuple("0123"),
    )
    load = data.load
    monkeypatch.setattr(
        data, "load", lambda name="digits", *args: load() if name == "digits" else other
    )
    return other


def flags(out, *more):
    return parse([f"--out={out}", *more])


def test_a_random_reference_on_other_images(other, tmp_path, capsys):
    """12x12x3 images of 4 classes; the digits have 8x8x1 and 10."""
    file = tmp_path / "target.json"
    measure(flags(file, "--model=convnet", "--init=he_normal", "--dataset=other", "--images=50"))
    assert "convnet from he_normal, 50 training images of" in capsys.readouterr().out
    about = json.loads(file.read_text())["about"]
    assert (about["images"], about["image_shape"]) == (50, "12x12x3")
    assert "commit" in about["environment"] and "--model=convnet" in about["config"]
    # What it says is what the network does: layer by layer over all values.
    config = Config(model="convnet", init="he_normal", dataset="other", batch_size=64)
    run = untrained(config, other)
    trainer = Trainer(config, other)
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.device_get(run.variables["params"]),
        jax.device_get(trainer.create_state().params),
    )
    order = np.random.default_rng(0).permutation(64)[:50]
    x = run.normalization(other.train_images[np.sort(order)])
    found = Network(run.model, KEY).statistics(run.variables["params"], x)
    laws = refine.load_statistics(file)["layers"]
    for layer in laws:
        mean, var = np.array(layer["mean"]), np.array(layer["var"])
        assert mean.mean() == pytest.approx(found[layer["path"]].mean, abs=1e-5)
        assert var.mean() + mean.var() == pytest.approx(found[layer["path"]].variance, rel=1e-4)

    # Another network's layers follow it, on the digits.
    digits = data.load()
    model = create_model("convnet", kernel_init="normal")
    x = data.Normalization(digits.mean, digits.std)(digits.train_images[:256])
    params = model.init(KEY, x)["params"]
    with pytest.raises(UserError, match=r"4 channels in Dense_0; .* has 10\.\npooled=True"):
        refine.consistency(model, params, x, KEY, target=Saved(file))
    name = f"consistency(target=saved({str(file)!r}, pooled=True))"
    params, _ = refine.refine(name, model, params, x, KEY, held_out=x)
    after = Network(model, KEY).statistics(params, x)
    for path, layer in found.items():
        assert after[path].mean == pytest.approx(layer.mean, abs=1e-4)
        assert after[path].variance == pytest.approx(layer.variance, rel=1e-3)
    deeper = create_model("convnet(depth=6)", kernel_init="normal")
    with pytest.raises(
        UserError, match="has no layer Conv_3; it has Conv_0, Conv_1, Conv_2, Dense"
    ):
        refine.refine(name, deeper, deeper.init(KEY, x)["params"], x, KEY)


def test_a_trained_reference(other, tmp_path):
    """With its own data set or another one; images that it does not take are told."""
    folder, file = tmp_path / "run", tmp_path / "target.json"
    config = Config(model="mlp(depth=1, width=8)", steps=3, batch_size=64, workdir=str(folder))
    train_and_evaluate(config)
    measure(flags(file, f"--run={folder}", "--images=9999"))
    run, digits = load_run(folder), data.load()
    assert len(refine.load_statistics(file)["layers"][0]["mean"]) == 8
    x = run.normalization(digits.train_images)
    _, report = refine.consistency(
        run.model, run.variables["params"], x, KEY, target=Saved(file), held_out=x
    )
    assert report.before < 1e-9 and report.after < 1e-9
    with pytest.raises(UserError, match=r"does not take images of 12x12x3: .*\n.*--image_size"):
        save_reference(run, other, file)
    with pytest.raises(UserError, match="--init=zeros: the network of --run has its own"):
        measure(flags(file, f"--run={folder}", "--init=zeros"))
    with pytest.raises(UserError, match="cannot be written: No such file"):
        save_reference(run, digits, tmp_path / "no" / "folder.json")
