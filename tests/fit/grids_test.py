"""Weights on grids: recognized, and fitted as what they were before they were rounded."""

import ml_dtypes
import numpy as np
import pytest

from initjax.fit import likelihood
from initjax.fit.analysis import analyze
from initjax.fit.grids import channel_grid
from initjax.fit.histograms import histogram

W = np.random.default_rng(0).normal(0, 0.02, (256, 256)).astype(np.float32)
POWER_LAWS = {"power_law", "truncated_power_law", "cutoff_power_law"}


def quantized(w, bits, axis=None):
    """Integers of so many bits times a scale, of all weights or of each channel."""
    scale = np.abs(w).max(axis=axis, keepdims=axis is not None) / (2 ** (bits - 1) - 1)
    return (np.round(w / scale) * scale).astype(np.float32)


GRIDS = {
    "int8": (quantized(W, 8), "step"),
    "int4": (quantized(W, 4), "step"),
    "int4 in bfloat16": (quantized(W, 4).astype(ml_dtypes.bfloat16), "step"),
    "int8 in float16": (quantized(W, 8).astype(np.float16), "sizes"),
    "three decimals": (np.round(W, 3), "step"),
    "steps of .005": (np.round(W * 200) / 200, "step"),
    "fp8": (W.astype(ml_dtypes.float8_e4m3fn), "float8_e4m3fn"),
    "fp8 in float32": (W.astype(ml_dtypes.float8_e4m3fn).astype(np.float32), "float8_e4m3fn"),
    "fp8 e5m2": (W.astype(ml_dtypes.float8_e5m2), "float8_e5m2"),
    "fp8 times a scale": (
        (W * 3000).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * np.float32(1 / 3000),
        "sizes",
    ),
    "bfloat16 in float32": (W.astype(ml_dtypes.bfloat16).astype(np.float32), "bfloat16"),
    "half steps, without a 0": (((np.floor(W / 0.01) + 0.5) * 0.01).astype(np.float32), "step"),
    "pruned by size": (np.where(np.abs(W) > 0.0329, W, 0), "pruned"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GRIDS)
def test_rounded_gaussians_are_gaussian(name):
    """int8 was "cutoff_power_law, alpha -.39, in most layers"."""
    weights, kind = GRIDS[name]
    counted = histogram(weights)
    assert counted.grid.kind == kind
    assert counted.zeros == (weights == 0).sum()
    fits = likelihood.compare(counted)
    assert fits[0].law not in POWER_LAWS
    normal = next(fit for fit in fits if fit.law == "normal")
    assert normal.aic - fits[0].aic < 4
    scale, error = normal.parameters["scale"], normal.standard_errors["scale"]
    assert abs(scale - 0.02) < 4 * error
    assert normal.ks < 0.012 and normal.goodness.p > 1e-3


def test_steps_are_found():
    assert histogram(np.round(W, 3)).grid.step == pytest.approx(1e-3, rel=1e-6)
    grid = histogram(quantized(W, 4)).grid
    assert grid.sizes == 7 and grid.step == pytest.approx(np.abs(W).max() / 7, rel=1e-6)
    assert grid.least == pytest.approx(grid.step / 2)


def test_other_weights_are_on_no_grid():
    rng = np.random.default_rng(1)
    for weights in (W, rng.lognormal(0, 0.3, 50_000), rng.normal(1, 0.1, 50_000), W * (W > 0.03)):
        grid = histogram(weights.astype(np.float32)).grid
        assert grid is None or grid.kind == "pruned"
        assert channel_grid(weights.ravel()[:40_000].reshape(200, 200)) is None
    assert histogram(W).grid is None and histogram(W[:2]).grid is None


def test_gaps():
    weights = np.random.default_rng(2).uniform(0.002, 0.012, (8, 1024)).astype(np.float32)
    grid = histogram(weights).grid
    assert (grid.kind, grid.least) == ("gap", 0)


@pytest.mark.slow
def test_channels_of_their_own_steps():
    for axis in (0, 1):
        found = analyze(histogram(quantized(W, 8, axis)), quantized(W, 8, axis), bootstraps=0)
        assert found.grid.kind == "channels"
    groups = quantized(W.reshape(-1, 64), 4, 1).reshape(W.shape)
    assert channel_grid(groups).kind == channel_grid(groups.T).kind == "channels"


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, "int8"])
def test_rounded_uniform_weights_are_uniform(dtype):
    """Their end lies inside the bin of the largest: float16 had "generalized normal, 3.6e4"."""
    weights = np.random.default_rng(3).uniform(-0.0625, 0.0625, (256, 256))
    rounded = quantized(weights, 8) if dtype == "int8" else weights.astype(dtype)
    assert likelihood.fit(np.linspace(0.01, 1, 999), "uniform").converged  # a last bin of width 0
    uniform = likelihood.compare(rounded, ("uniform", "generalized_normal"))[0]
    assert uniform.law == "uniform"
    assert uniform.support[1] == pytest.approx(0.0625, abs=6e-5)
    assert uniform.ks < 1.63 / 256  # Kolmogorov's 1 % point


def test_grids_of_layers_merge():
    one, two = histogram(np.round(W, 3)), histogram(np.round(2 * W, 3))
    both = one + two
    assert both.grid.kind == "step" and both.grid.step == pytest.approx(1e-3, rel=1e-6)
    assert both.magnitudes.counts.sum() + both.zeros == 2 * W.size
    assert (one + histogram(W)).grid is None
    assert (one + histogram(np.zeros(5, np.float32))).grid.step == pytest.approx(1e-3, rel=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.013])
def test_float32_files_that_hold_bfloat16(scale):
    """Bins were half a bin off: sd +.28 %."""
    rounded = (W * np.float32(scale)).astype(ml_dtypes.bfloat16).astype(np.float32)
    counted = histogram(rounded)
    exact = rounded.astype(np.float64).std()
    assert counted.moments[1] ** 0.5 == pytest.approx(exact, rel=1e-4)
    merged = counted + counted
    assert merged.moments[1] ** 0.5 == pytest.approx(exact, rel=1e-4)
