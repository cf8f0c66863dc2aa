"""The functions of experiments/signal_propagation, at small sizes, against theory."""

import importlib.util
import sys

import numpy as np
import PIL.Image
import pytest
from helpers import ROOT

pytestmark = pytest.mark.slow

FOLDER = ROOT / "experiments" / "signal_propagation"


def load(name, alias):
    """A script of the experiment, under a name that no other experiment's has."""
    spec = importlib.util.spec_from_file_location(alias, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[alias] = module
    spec.loader.exec_module(module)
    return module


networks = load("networks", "networks")  # as run.py imports it
run = load("run", "signal_propagation_run")
Plain, Residual = networks.Plain, networks.Residual


@pytest.mark.parametrize("weights", ["N(0, 1)", "N(0, 0.01^2)", "LeCun", "Xavier", "He"])
@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_plain_networks_agree_with_theory(weights, activation):
    """The mean over seeds is exact for any width; 16 seeds, so 4.5 standard errors of Student."""
    network = Plain(weights, activation, (64, 64, 64, 32))
    values = networks.measure_plain(network, 16, 64)
    theory = networks.predict_plain(network)
    rows = networks.summarize(values[..., 0], theory[:, 0])
    assert all(abs(row["z"]) < 4.5 for row in rows)
    assert all(row["low"] < row["mean"] < row["high"] and row["n"] == 16 for row in rows)


def test_theory_of_plain_networks():
    def variance(*network):
        return networks.predict_plain(Plain(*network))[:, 0]

    np.testing.assert_allclose(variance("N(0, 1)", "linear", (512,) * 4), 512.0 ** np.arange(1, 4))
    np.testing.assert_allclose(variance("LeCun", "linear", (512,) * 4), 1)
    np.testing.assert_allclose(variance("Xavier", "relu", (512,) * 4), [1, 0.5, 0.25])
    np.testing.assert_allclose(variance("He", "relu", (512,) * 4), 2)
    np.testing.assert_allclose(
        variance("Xavier", "linear", (512, 512, 256, 256)), [1, 4 / 3, 4 / 3]
    )
    np.testing.assert_allclose(variance("Xavier", "tanh", (64,) * 3)[1], 0.39429449)
    mean = networks.predict_plain(Plain("He", "relu", (512,) * 51))[:, 1]
    np.testing.assert_allclose(mean[0], np.sqrt(1 / np.pi) * (1 - 1 / 2048), rtol=1e-6)
    # sqrt(q) of 49 factors of variance 5 / 512: 1 - 5 / (8 n) each, and in the second order
    np.testing.assert_allclose(mean[-1], np.sqrt(1 / np.pi) * np.exp(-49 * 5 / 4096), rtol=2e-3)


def test_the_mean_of_narrow_relu_layers_is_that_of_their_width():
    network = Plain("He", "relu", (16,) * 9)
    values = networks.measure_plain(network, 400, 16)
    theory = networks.predict_plain(network)
    rows = networks.summarize(values[..., 1], theory[:, 1])
    assert all(abs(row["z"]) < 4 for row in rows)
    assert theory[-1, 1] < 0.8 * np.sqrt(1 / np.pi)


def test_equal_widths_by_scan_are_those_of_the_loop():
    """Widths that differ are unrolled; what explodes is carried as a logarithm in both."""
    scanned = networks.measure_plain(Plain("He", "relu", (32,) * 4), 4, 16)
    unrolled = networks.measure_plain(Plain("He", "relu", (32, 32, 32, 32, 16)), 4, 16)
    np.testing.assert_allclose(scanned.mean((0, 1)), unrolled[:, :3].mean((0, 1)), rtol=0.5)
    huge = networks.measure_plain(Plain("N(0, 1)", "linear", (32,) * 41), 2, 4)
    assert np.isfinite(huge).all() and huge[:, -1, 0].min() > 1e50


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("output_variance", [1.0, 0.2, None])
def test_residual_networks_agree_with_theory(activation, output_variance):
    if activation == "relu" and output_variance is None:
        pytest.skip("the law of the reduced network is for odd activations")
    network = Residual("", activation, 1.0, output_variance)
    (values,) = networks.measure_residual([network], 5, 256, 16, 16)
    rows = networks.summarize(values, networks.predict_residual(network, 5))
    # 4.5 standard errors, and what a width of 256 leaves for tanh.
    assert all(abs(row["z"]) < 4.5 or abs(row["mean"] / row["theory"] - 1) < 0.01 for row in rows)


def test_theory_of_residual_networks():
    xavier, he, by_depth, *_ = run.residual_networks(20)
    assert networks.predict_residual(xavier, 20)[-1] == pytest.approx(3325.26, abs=0.01)
    assert networks.predict_residual(he, 20)[-1] == pytest.approx(3**20)
    assert networks.predict_residual(by_depth, 20)[-1] == pytest.approx(1.6386, abs=5e-5)


def test_results_to_readme_and_pictures(tmp_path, monkeypatch):
    plain = run.run_plain(width=16, num_seeds=3, num_inputs=8)
    residual = run.run_residual(num_layers=20, width=16, num_seeds=3, num_inputs=4)
    times = {"seconds": 2.0, "processor_seconds": 3.0}
    results = {"plain": plain, "residual": residual, "environment": {"host": "here"}} | times
    text = run.readme(results)
    assert "- host: here\n- time: 2 s, of the processor 3 s" in text
    assert "| He, relu, 50 layers | 50 |" in text
    assert "n: 3 seeds (plain), 3 seeds (residual)" in text
    monkeypatch.setattr(run, "HERE", tmp_path)
    run.draw(results)
    for name in ("propagation", "residual"):
        with PIL.Image.open(tmp_path / f"{name}.png") as image:
            assert np.asarray(image.convert("L")).std() > 5  # not blank
