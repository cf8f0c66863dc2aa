"""experiments/nspl/source_weights.py: one-sided laws, dead filters, and the report from json."""

import importlib.util
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT, TIMEOUT
from scipy import stats

from initjax import weights
from initjax.fit.histograms import histogram

FOLDER = ROOT / "experiments" / "nspl"


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script():
    return load("source_weights")


@pytest.fixture(scope="module")
def report():
    return load("source_weights_report")


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.7, 1.5])
def test_one_side_recovers_a_truncated_power_law(script, alpha):
    """The other side is of another law, and must not matter."""
    rng = np.random.default_rng(0)
    shape = (1, 40, 25, 9)
    size = stats.truncpareto(alpha - 1, 100).rvs(shape, rng) if alpha > 1 else None
    if size is None:  # ln x is an exponential law, cut off: the quantile in closed form
        size = (1 + rng.uniform(size=shape) * (100 ** (1 - alpha) - 1)) ** (1 / (1 - alpha))
    w = np.where(rng.uniform(size=shape) < 0.5, size, -np.abs(rng.normal(size=shape)))
    side = script.measure_side(w.astype(np.float32), 20, 0)
    fit = side["laws"]["truncated_power_law"]
    error = fit["standard_errors"]["alpha"]
    assert side["best"] == "truncated_power_law" and fit["aic_over_best"] == 0
    assert abs(fit["parameters"]["alpha"] - alpha) < 4 * error
    assert fit["ks"] < 1.63 / math.sqrt(side["size"])
    # Filters are independent here: the two standard errors are one, to the accuracy of 20 samples.
    assert 0.5 < side["filters_errors"]["truncated_power_law"] / error < 1.7
    for row in filter(None, side["from_quantiles"]):  # wherever one cuts
        assert abs(row["alpha"] - alpha) < 4 * row["standard_error"]
        assert row["ks"] < 1.63 / math.sqrt(row["size"])
    negative = script.measure_laws(histogram(-w[w < 0]))
    assert negative["best"] != "truncated_power_law"
    assert negative["laws"]["normal"]["aic_over_best"] < 10


def test_one_side_recovers_a_cut_off(script):
    """Of alpha < 1, from 0 on, it is the gamma law of shape 1 - alpha."""
    rng = np.random.default_rng(1)
    w = (rng.gamma(0.4, size=30_000) * rng.choice([-1, 1], 30_000)).astype(np.float32)
    fit = script.measure_laws(histogram(w[w > 0]))["laws"]["cutoff_power_law"]
    assert abs(fit["parameters"]["alpha"] - 0.6) < 4 * fit["standard_errors"]["alpha"]


@pytest.mark.slow
def test_normal_weights_are_their_control(script):
    w = np.random.default_rng(2).standard_normal((1, 64, 16, 9), np.float32)
    side = script.measure_side(w, 5, 0)
    line, control = side["line"], side["gaussian_line"]
    assert abs(line["slope"] - control["slope"]) < 4 * side["gaussian_slope_sd"]
    assert abs(line["r_squared"] - control["r_squared"]) < 0.1
    assert side["laws"]["truncated_power_law"]["nats_over_normal"] < -0.3
    assert sum(side["histogram"]["gaussian"]) == side["size"]
    assert abs(sum(side["histogram"]["counts"]) - side["size"]) < 10  # of finer bins, rounded


def test_dead_filters_and_inputs_are_left_out(script):
    w = np.random.default_rng(3).standard_normal((8, 6, 9))
    w[2] *= 1e-6
    w[:, 4] *= 1e-4
    kept, outputs, inputs = script.live(w)
    assert (outputs, inputs) == (1, 1)
    np.testing.assert_array_equal(kept, np.delete(np.delete(w, 2, 0), 4, 1))
    assert script.live(kept)[1:] == (0, 0)


@pytest.mark.slow
def test_divisions_tell_a_mixture_of_scales_from_a_law(script):
    rng = np.random.default_rng(4)
    shape = (2, 24, 16, 9)
    scales = np.exp(0.7 * rng.standard_normal((2, 1, 16, 1)))  # of inputs, in each group others
    mixture = script.measure_divisions(rng.standard_normal(shape) * scales, rng)
    assert mixture["input"]["kurtosis"] < 3.2 and mixture["input"]["explained"] > 0.9
    assert mixture["output"]["kurtosis"] > 4 and mixture["output"]["explained"] < 0.3
    law = script.measure_divisions(rng.standard_t(5, shape), rng)
    for row in law.values():
        assert abs(row["explained"]) < 0.15 and row["kurtosis"] > row["normal"]


def test_kernels_are_read_as_out_in(script, tmp_path):
    """The layout is not guessed from names: Caffe's have none."""
    kernel = np.random.default_rng(5).standard_normal((10, 4, 3, 3)).astype(np.float32)
    kernel[:, 2] *= 10
    np.savez(tmp_path / "net.npz", conv1_0=kernel, bias=np.ones(10, np.float32))
    (found,) = script.kernels(str(tmp_path / "net.npz"))
    np.testing.assert_array_equal(found.weights, kernel.reshape(1, 10, 4, 9))
    assert weights.read(tmp_path / "net.npz").tensors[0].layout == "flax"


def test_folded_filters_are_standardized(script, tmp_path):
    kernel = np.random.default_rng(6).standard_normal((10, 4, 3, 3)).astype(np.float32)
    scaled = kernel * np.geomspace(0.1, 10, 10, dtype=np.float32)[:, None, None, None]
    for name, w in (("a", kernel), ("b", scaled)):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "resnet18_bn_folded.npz", **{"conv1.weight": w})
    one, two = (
        next(script.kernels(str(tmp_path / name / "resnet18_bn_folded.npz"))) for name in "ab"
    )
    assert one.standardized
    np.testing.assert_allclose(one.weights, two.weights, rtol=1e-5)


@pytest.mark.slow
def test_from_files_to_tables(script, report, tmp_path, monkeypatch):
    rng = np.random.default_rng(7)
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("first", "second"):
        arrays = {"conv1.weight": (32, 8, 3, 3), "fc.weight": (40, 32)}
        arrays = {path: rng.standard_t(4, shape) for path, shape in arrays.items()}
        np.savez(folder / f"{name}.npz", **arrays)
    out = tmp_path / "out"
    done = subprocess.run(
        [
            sys.executable,
            str(FOLDER / "source_weights.py"),
            f"--weights={folder}",
            f"--out={out}",
            "--bootstraps=2",
            "--resamples=2",
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((out / "first.json").read_text())
    assert [layer["size"] for layer in found["layers"]] == [2304, 1280]
    assert set(found["layers"][1]["divisions"]) == {"input", "output", "input, output"}
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    monkeypatch.setattr(report, "HERE", tmp_path)
    monkeypatch.setattr(report, "RESULTS", out)
    report.main()
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| first | 2, 3,584 |" in text and "| second |" in text
    assert (out / "layers.md").read_text().count("| w > 0 |") == 4
    pictures = {file.name for file in out.glob("*.png")}
    assert pictures == {"first-sides.png", "second-sides.png", "slopes.png", "kurtosis.png"}


def test_committed_results_give_the_tables(report):
    files = sorted(report.RESULTS.glob("*.json"))
    assert {file.stem for file in files} == set(report.TITLES)
    networks = [json.loads((report.RESULTS / f"{name}.json").read_text()) for name in report.TITLES]
    assert report.section(networks) in (FOLDER / "README.md").read_text()
    assert report.layers_page(networks) == (report.RESULTS / "layers.md").read_text()


def test_says_what_is_missing(script, tmp_path, monkeypatch):
    np.savez(tmp_path / "biases.npz", bias=np.ones(3, np.float32))
    monkeypatch.setattr(sys, "argv", ["x", f"--weights={tmp_path}", f"--out={tmp_path}"])
    with pytest.raises(script.UserError, match=r"biases\.npz holds no kernels"):
        script.main()
