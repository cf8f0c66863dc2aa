import json
import math
import os
import re
import subprocess
import sys
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from flax import nnx

import initjax.signal
from initjax.models import create_model
from initjax.signal import links, report, verdict
from initjax.signal.__main__ import draw, main, parse, run
from initjax.signal.verdict import describe_factor
from initjax.support.errors import UserError
from initjax.theory.activations import get_activation
from initjax.theory.fixed_points import correlation_map, predict_residual_variance
from initjax.theory.gaussian import derivative_moments, expectation, product_moment, second_moment
from initjax.theory.moments import moments, pair_moment

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)


class Residual(nn.Module):
    """x + V phi(W x), or x + phi(W x), `depth` times, and a last layer that sees the stream."""

    depth: int = 3
    activation: str = "relu"
    reduced: bool = False

    @nn.compact
    def __call__(self, x):
        phi = {"relu": nn.relu, "tanh": jnp.tanh}[self.activation]
        width = x.shape[-1]
        for _ in range(self.depth):
            z = phi(nn.Dense(width, use_bias=False)(x))
            x = x + (z if self.reduced else nn.Dense(width, use_bias=False)(z))
        return nn.Dense(width, use_bias=False, name="last")(x)


class Convolutions(nn.Module):
    """Padded, strided and grouped convolutions, and a dense layer on what they leave."""

    @nn.compact
    def __call__(self, x):
        for strides, groups in ((1, 1), (2, 1), (1, 4)):
            x = nn.relu(
                nn.Conv(
                    32,
                    (3, 3),
                    strides=strides,
                    feature_group_count=groups,
                    kernel_init=nn.initializers.he_normal(),
                    bias_init=nn.initializers.normal(0.5),
                )(x)
            )
        return nn.Dense(64)(x.reshape(len(x), -1))


def with_mean_square(variables, of):
    """The variables, every kernel W scaled so that fan_in mean(W^2) is exactly `of(path)`."""

    def scale(path, w):
        target = of("/".join(key.key for key in path))
        return w * jnp.sqrt(target / (w.shape[0] * jnp.mean(w**2))) if w.ndim > 1 else w

    return jax.tree_util.tree_map_with_path(scale, variables)


def mlp(depth=3, width=64, activation="tanh", init="he_normal", batch=32, bias_init="zeros"):
    # One model whatever the initializer, so that its program is compiled once.
    model = create_model(f"mlp(depth={depth}, width={width})", activation=activation)
    x = jax.random.normal(KEY, (batch, 4, 4, 2))
    shapes = jax.eval_shape(model.init, KEY, x)
    return model, draw(shapes, initjax.get(init), bias_init, KEY), x


@pytest.mark.parametrize("activation", ["tanh", "relu", "hard_tanh", "gelu"])
@pytest.mark.parametrize("spread", [1.0, 1.2, 30.0])
def test_moments_are_those_of_gains(activation, spread):
    phi = get_activation(activation)
    q = np.geomspace(0.3, 0.3 * spread, 11).reshape(11, 1)
    of = moments(phi, q)
    for i, variance in enumerate(q[:, 0]):
        np.testing.assert_allclose(of.mean[i, 0], expectation(phi, variance), atol=1e-5)
        np.testing.assert_allclose(of.second[i, 0], second_moment(phi, variance), rtol=1e-5)
        slope, growth = derivative_moments(phi, variance)
        np.testing.assert_allclose([of.slope[i, 0], of.growth[i, 0]], [slope, growth], rtol=1e-4)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_pair_moments_are_those_of_gains(activation):
    phi = get_activation(activation)
    of = moments(phi, np.array([0.7]))
    for correlation in (-0.9, 0.99):
        found = pair_moment(of.series, of.series, np.array([[correlation]]))[0, 0]
        exact = product_moment(phi, 0.7, correlation)
        np.testing.assert_allclose(found, exact, atol=2e-4 * of.second[0])


def test_correlation_map_of_relu():
    """The arc-cosine kernel: C(0) = .318309886, C(.5) = .608997781."""
    of = moments(jax.nn.relu, np.array([1.0]))
    for correlation, expected in ((0.0, 0.318309886), (0.5, 0.608997781), (1.0, 1.0)):
        found = pair_moment(of.series, of.series, np.array([[correlation]]))[0, 0] / of.second[0]
        np.testing.assert_allclose(found, expected, atol=1e-6 if correlation != 1 else 1e-9)


def test_statistics_are_their_definitions():
    model, variables, x = mlp()
    signal = initjax.signal.measure(model, variables, x)
    params = variables["params"]
    h, zs = x.reshape(len(x), -1), []
    for i in range(4):
        zs.append(h @ params[f"Dense_{i}"]["kernel"] + params[f"Dense_{i}"]["bias"])
        h = jnp.tanh(zs[-1])
    for i, (layer, z) in enumerate(zip(signal.layers, zs, strict=True)):
        z = np.asarray(z, np.float64)
        assert (layer.path, layer.number, layer.units) == (f"Dense_{i}", 0, z.shape[1])
        np.testing.assert_allclose(layer.mean, z.mean(), atol=1e-5)
        np.testing.assert_allclose([layer.variance, layer.sd], [z.var(), z.std()], rtol=1e-4)
        centred = z - z.mean()
        np.testing.assert_allclose(layer.kurtosis, (centred**4).mean() / z.var() ** 2, rtol=1e-4)
        norms = np.linalg.norm(z, axis=1)
        cosines = (z @ z.T) / np.outer(norms, norms)
        pairs = cosines[~np.eye(len(z), dtype=bool)]
        np.testing.assert_allclose(layer.correlation, pairs.mean(), atol=1e-5)
        size = math.sqrt((z**2).mean())
        counts, _ = np.histogram(np.clip(z / size, -3.9999, 3.9999), 80, (-4, 4))
        assert np.abs(np.array(layer.histogram) - counts).max() <= 2  # rounding at bins' ends
        if i < 3:
            flat = 1 - np.tanh(z) ** 2 < 0.05
            np.testing.assert_allclose(layer.saturated, flat.mean(), atol=1e-5)
            np.testing.assert_allclose(layer.dead, flat.all(0).mean(), atol=1e-6)
        else:
            assert layer.dead is None and layer.saturated is None  # no activation follows


def test_gradient_variance_is_that_of_the_loss():
    model, variables, x = mlp(depth=2)
    signal = initjax.signal.measure(model, variables, x, loss=lambda y: (y**2).sum() / 3)
    params = variables["params"]

    def tail(z):
        return jnp.tanh(z) @ params["Dense_2"]["kernel"] + params["Dense_2"]["bias"]

    h = jnp.tanh(x.reshape(len(x), -1) @ params["Dense_0"]["kernel"])
    z = h @ params["Dense_1"]["kernel"]
    gradient = jax.grad(lambda z: (tail(z) ** 2).sum() / 3)(z)
    outward = 2 / 3 * tail(z)
    layer = signal.layers[1]
    expected = float((gradient**2).mean() / (outward**2).mean())
    np.testing.assert_allclose(layer.gradient_variance, expected, rtol=1e-4)
    norm = float(jnp.linalg.norm(gradient) / jnp.linalg.norm(outward))
    np.testing.assert_allclose(layer.gradient_norm, norm, rtol=1e-4)
    np.testing.assert_allclose(signal.layers[-1].gradient_variance, 1, rtol=1e-5)


def test_dead_units_of_relu_are_those_never_positive():
    model, variables, x = mlp(activation="relu")
    bias = jnp.where(jnp.arange(64) < 48, -100.0, 0.0)
    variables["params"]["Dense_1"]["bias"] = bias
    signal = initjax.signal.measure(model, variables, x)
    assert signal.layers[1].dead >= 0.75
    assert "dead units" in signal.layers[1].verdict
    assert "dead units" not in signal.layers[0].verdict
    assert "dead units in 1 of 4 layers" in signal.verdict


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_prediction_is_the_mean_field_recursion(activation):
    """Variances, correlations, chi and gradients of a chain, from the functions of theory."""
    weight, bias, width = 1.7, 0.09, 128
    model, variables, x = mlp(3, width, activation, batch=2, bias_init="normal(stddev=0.3)")
    variables = with_mean_square(variables, lambda path: weight)
    for layer in variables["params"].values():
        layer["bias"] = layer["bias"] * 0 + math.sqrt(bias)
    x = x.reshape(2, -1)
    # Both inputs of mean square 1, and their correlation 0.3.
    a = x[0] / jnp.sqrt((x[0] ** 2).mean())
    b = x[1] - (x[1] * a).mean() * a
    b = b / jnp.sqrt((b**2).mean())
    x = jnp.stack([a, 0.3 * a + math.sqrt(1 - 0.09) * b]).reshape(2, 4, 4, 2)
    predicted = initjax.signal.predict(model, variables, x)
    q, k = weight + bias, weight * 0.3 + bias
    slopes, growths = [], []
    for i, layer in enumerate(predicted):
        units = width if i < 3 else 10
        np.testing.assert_allclose(layer.correlation, k / q, atol=3e-4)
        np.testing.assert_allclose(layer.variance, q - (2 * q + 2 * k) / 4 / units, rtol=1e-4)
        assert layer.low < layer.variance < layer.high
        if slopes:
            expected = [weight * slopes[-1], weight * growths[-1]]
            np.testing.assert_allclose([layer.chi_1, layer.chi_q], expected, rtol=1e-4)
        slope, growth = derivative_moments(activation, q)
        slopes.append(slope)
        growths.append(growth)
        c = correlation_map(activation, k / q, q, weight_variance=weight, bias_variance=bias)
        q = weight * second_moment(activation, q) + bias
        k = c * q
    gradient = 1.0
    for i in reversed(range(4)):
        np.testing.assert_allclose(predicted[i].gradient_variance, gradient, rtol=1e-4)
        fan_out = 10 if i == 3 else width
        gradient *= weight / width * fan_out * slopes[i - 1]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_prediction_of_residual_networks_is_that_of_theory(activation):
    model = Residual(4, activation)
    x = jax.random.normal(KEY, (8, 64))
    x = x / jnp.sqrt((x**2).mean(1, keepdims=True))
    variables = with_mean_square(model.init(KEY, x), lambda path: 0.7 if "last" in path else 1.3)
    predicted = initjax.signal.predict(model, variables, x, activation=activation)
    p = predict_residual_variance(4, activation, weight_variance=1.3, output_variance=1.3)
    first = np.array([layer.variance for layer in predicted[0:8:2]])
    # Less the variance of the mean over 64 units, which is below a 64th.
    np.testing.assert_allclose(first, 1.3 * p[:-1], rtol=1 / 60)
    assert (first < 1.3 * p[:-1]).all()
    np.testing.assert_allclose(predicted[-1].variance, 0.7 * p[-1], rtol=1 / 60)
    # Gradients: the stream's of every branch is 1 + sv^2 sw^2 E[phi'^2] times the next one's.
    if activation == "relu":
        growth = predicted[1].gradient_variance / predicted[3].gradient_variance
        np.testing.assert_allclose(growth, 1 + 1.3 * 1.3 / 2, rtol=1e-5)


def test_prediction_of_reduced_residual_networks_counts_the_mean_of_relu():
    """With phi(z) added to the stream, its mean adds up: E[x phi] is not 0."""
    model = Residual(3, "relu", reduced=True)
    x = jax.random.normal(KEY, (8, 512))
    keys = jax.random.split(KEY, 24)
    found = []
    for key in keys:
        variables = model.init(key, x)
        found.append([z.variance for z in initjax.signal.measure(model, variables, x).layers])
    predicted = initjax.signal.predict(model, variables, x)
    error = np.std(found, 0, ddof=1) / math.sqrt(len(keys))
    expected = np.array([layer.variance for layer in predicted])
    np.testing.assert_array_less(np.abs(np.mean(found, 0) - expected), 4 * error + 0.01 * expected)
    tanh = predict_residual_variance(3, "relu", weight_variance=1.0)
    assert expected[-1] > 1.2 * tanh[-1]  # the law without the mean is far off


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (create_model("mlp(depth=4, width=64)", activation="relu"), (16, 4, 4, 2)),
        (create_model("mlp(depth=4, width=64)", activation="tanh"), (16, 4, 4, 2)),
        (Residual(2, "relu"), (16, 64)),
    ],
)
def test_the_band_is_that_of_chance(model, shape):
    """The logs of measured / predicted spread as the band says, and 95 % of them lie in it.

    Over 60 seeds a standard deviation is known to 9 %, and a share of 95 % to 2.8 points; layers
    of one network are not independent.
    """
    x = jax.random.normal(KEY, shape)
    init = jax.jit(model.init)
    logs, inside, widths = [], [], []
    for key in jax.random.split(jax.random.key(1), 60):
        layers = initjax.signal.measure(model, init(key, x), x).layers
        logs.append([math.log(layer.variance / layer.predicted.variance) for layer in layers])
        inside.append(
            [layer.predicted.low <= layer.variance <= layer.predicted.high for layer in layers]
        )
        widths.append([math.log(z.predicted.high / z.predicted.low) / 3.92 for z in layers])
    ratio = np.std(logs, 0, ddof=1) / np.mean(widths, 0)
    assert ((0.7 < ratio) & (ratio < 1.35)).all(), ratio
    assert 0.90 <= np.mean(inside) <= 0.99, np.mean(inside, 0)


def test_convolutions_are_followed_position_by_position():
    """Padding, strides and groups: the mean over 20 seeds within 4 standard errors."""
    model = Convolutions()
    x = jax.random.normal(KEY, (16, 6, 6, 3))
    init = jax.jit(model.init)
    pairs = []
    for key in jax.random.split(jax.random.key(2), 20):
        layers = initjax.signal.measure(model, init(key, x), x).layers
        pairs.append([math.log(z.variance / z.predicted.variance) for z in layers])
        assert all(z.predicted.low < z.variance < z.predicted.high for z in layers[:1])
    mean, error = np.mean(pairs, 0), np.std(pairs, 0, ddof=1) / math.sqrt(20)
    # Predicted is the mean square: of few units the variance is a little less.
    np.testing.assert_array_less(np.abs(mean), 4 * error + 1.5 / 32)
    naive = 2 * float((x**2).mean())  # as if nothing were padded
    assert layers[0].predicted.variance < 0.9 * (naive + 0.25)


def sample(model, variables, x):
    _, calls = initjax.network.taps.record_calls(model, variables, x)
    return links.Sample(
        np.asarray(x),
        [np.asarray(call.inputs) for call in calls],
        [np.asarray(call.output) for call in calls],
        None,
        1e-4,
    )


def test_links():
    x = jax.random.normal(KEY, (2, 16))
    full = Residual(2)
    found = links.find_links(sample(full, full.init(KEY, x), x), jax.nn.relu)
    assert found == [
        links.Link(),
        links.Link(0, activated=True),
        links.Link(1, stream=0),
        links.Link(2, activated=True),
        links.Link(3, stream=2),
    ]
    reduced = Residual(2, reduced=True)
    found = links.find_links(sample(reduced, reduced.init(KEY, x), x), jax.nn.relu)
    assert found == [
        links.Link(),
        links.Link(0, activated=True, stream=0),
        links.Link(1, activated=True, stream=1),
    ]
    images = jax.random.normal(KEY, (2, 8, 8, 3))
    pooled = create_model("convnet")
    found = sample(pooled, pooled.init(KEY, images), images)
    assert links.find_links(found, jax.nn.relu) == [links.Link(), None, None, None]
    followed = links.find_activated(found, jax.nn.relu, links.find_links(found, jax.nn.relu))
    assert followed == [True, True, True, False]


@pytest.mark.parametrize(("name", "phi"), [("relu", nn.relu), ("tanh", nn.tanh), ("gelu", nn.gelu)])
def test_the_activation_of_a_network_that_does_not_say_it(name, phi):
    model = nn.Sequential([nn.Dense(16), phi, nn.Dense(16), phi, nn.Dense(2)])
    x = jax.random.normal(KEY, (8, 4))
    signal = initjax.signal.measure(model, model.init(KEY, x), x)
    assert signal.activation == name
    assert all(layer.predicted.variance for layer in signal.layers)


def test_bfloat16():
    model = create_model("mlp(depth=3, width=64)", activation="tanh", dtype=jnp.bfloat16)
    x = jax.random.normal(KEY, (32, 4, 4, 2))
    variables = model.init(KEY, x)
    half = initjax.signal.measure(model, variables, x).layers
    full = initjax.signal.measure(model.clone(dtype=jnp.float32), variables, x).layers
    for a, b in zip(half, full, strict=True):
        assert a.variance == pytest.approx(b.variance, rel=0.02)
        assert a.predicted.variance == pytest.approx(b.predicted.variance, rel=1e-3)
        assert a.gradient_norm == pytest.approx(b.gradient_norm, rel=0.05)


def test_nnx():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
            self.dense = nnx.Linear(8 * 16, 5, rngs=rngs)

        def __call__(self, x):
            return self.dense(nnx.relu(self.conv(x)).reshape(len(x), -1))

    model = Net(nnx.Rngs(0))
    x = jax.random.normal(KEY, (16, 4, 4, 3))
    signal = initjax.signal.measure(model, None, x)
    assert [layer.path for layer in signal.layers] == ["conv", "dense"]
    z = np.asarray(model.conv(x))
    np.testing.assert_allclose(signal.layers[0].variance, z.var(), rtol=1e-4)
    assert signal.activation == "relu"
    for layer in signal.layers:
        assert layer.predicted.low < layer.variance < layer.predicted.high


def test_layers_in_a_scan_are_measured_without_gradients():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.tanh(nn.Dense(16)(x)), None

    class Scanned(nn.Module):
        @nn.compact
        def __call__(self, x):
            stack = nn.scan(
                Block,
                variable_axes={"params": 0, "intermediates": 0},
                split_rngs={"params": True},
                length=3,
            )
            return stack()(x, None)[0]

    model, x = Scanned(), jax.random.normal(KEY, (8, 16))
    signal = initjax.signal.measure(model, model.init(KEY, x), x)
    assert [layer.number for layer in signal.layers] == [0, 1, 2]
    assert all(layer.gradient_variance is None for layer in signal.layers)
    assert signal.activation == "tanh"


@pytest.mark.parametrize("name", ["convnet", "lenet", "mlp", "resnet20"])
def test_models_of_the_project(name):
    model = create_model(name)
    x = jax.random.normal(KEY, (4, 8, 8, 1))
    variables = jax.jit(model.init)(KEY, x)
    training = {"train": True, "mutable": ["batch_stats"]} if "batch_stats" in variables else {}
    signal = initjax.signal.measure(model, variables, x, **training)
    assert all(math.isfinite(layer.variance) for layer in signal.layers)
    assert all(layer.gradient_norm > 0 for layer in signal.layers)
    assert signal.layers[-1].gradient_variance == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(
    ("activation", "init", "depth", "words"),
    [
        ("relu", "he_normal", 10, "healthy"),
        ("tanh", "he_normal", 10, "healthy"),
        ("relu", "normal(stddev=0.01)", 10, "vanishing in"),
        ("relu", "lecun_normal", 14, "vanishing gradient"),
        ("relu", "normal(stddev=0.5)", 10, "exploding in"),
        ("tanh", "normal(stddev=1.0)", 10, "saturated in"),
        ("relu", "normal(stddev=100.0)", 14, "overflow"),
        ("relu", "zeros", 10, "dead units"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_verdicts(activation, init, depth, words):
    signal = initjax.signal.measure(*mlp(depth, 64, activation, init))
    assert words in signal.verdict
    assert signal.is_healthy == (words == "healthy")
    report.table(signal)


def test_factors_of_he_and_xavier_on_relu():
    he = initjax.signal.measure(*mlp(10, 64, "relu", "he_normal", 256))
    xavier = initjax.signal.measure(*mlp(10, 64, "relu", "xavier_normal", 256))
    # The slope over 10 layers, whose logs have steps of sd sqrt(5 / 64) at most, has an sd of 0.1.
    assert he.factor == pytest.approx(1, abs=0.25)
    assert xavier.factor == pytest.approx(he.factor / 2, rel=1e-3)  # the same draws, scaled
    assert xavier.chi_1 == pytest.approx(0.5, abs=0.02)
    assert xavier.depth_scale == pytest.approx(-1 / math.log(xavier.factor))
    assert xavier.variance_depth_scale == pytest.approx(1 / math.log(2), rel=0.05)
    text = report.comparison({"he_normal": he, "xavier_normal": xavier}, "relu")
    assert "Start from he_normal" in text and text.startswith("1. he_normal")


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (0.98, "keeps the variance"),
        (0.51, "halves the variance each layer"),
        (2.01, "doubles the variance each layer"),
        (0.3, "shrinks the variance to 0.3 of it each layer"),
        (40.0, "multiplies the variance by 40 each layer"),
        (None, "leaves no variance to measure"),
    ],
)
def test_words_for_a_factor(factor, words):
    assert describe_factor(factor, "variance") == words


def test_fifty_tanh_layers(capsys):
    """Faults D5: a hundredfold loss is not healthy, and what is better is recommended, measured."""
    init = "--init=lecun_normal,normal(stddev=0.2)"
    arguments = ["--model=mlp(depth=50, width=64)", "--activation=tanh", init]
    signals = run(parse([*arguments, "--batch_size=32", "--input_shape=4,4,4"]))
    lecun = signals["lecun_normal"]
    assert re.search(r"variance falls [\d.]+-fold in 50 layers", lecun.verdict)
    assert lecun.change < 1 / 5 and not lecun.is_healthy
    assert lecun.depth_scale is None  # it falls as 1 / depth
    out = capsys.readouterr().out
    assert "Start from edge_of_chaos_kernel(activation='tanh') with --bias_init=" in out
    assert out.startswith("mlp(depth=50, width=64), tanh, from lecun_normal, normal(stddev=0.2)\n")


def test_depth_scales_of_theory_are_of_the_fixed_point():
    model, variables, x = mlp(6, 512, "tanh", "lecun_normal")
    signal = initjax.signal.measure(model, variables, x)
    assert signal.scales.chi_1 == pytest.approx(1, abs=0.02)  # where q is 0, not at the q measured
    assert signal.chi_1 < 0.9


@pytest.mark.parametrize(
    "factor, gradient_factor, words",
    [
        (1.0, 1.0, "healthy"),
        (0.97, 1.0, "healthy"),
        (0.9, 1.0, "variance falls 175-fold in 50 layers"),
        (1.0, 1.05, "squared gradient grows 10.9-fold in 50 layers"),
    ],
)
def test_what_changes_more_than_fivefold_in_all_is_not_healthy(factor, gradient_factor, words):
    layers = [types.SimpleNamespace(verdict="healthy")] * 51
    assert verdict.judge_network(layers, factor, gradient_factor) == words


def test_a_power_of_the_depth_is_not_exponential():
    depth = np.arange(1, 31)
    for number in (10, 30):
        assert not verdict.is_exponential((1 / (1 + 2 * depth[:number])).tolist())
        assert verdict.is_exponential((0.9 ** depth[:number]).tolist())


def test_advice_when_nothing_keeps_the_signal():
    signal = initjax.signal.measure(*mlp(4, 64, "relu", "normal(stddev=0.01)"))
    text = report.comparison({"small": signal}, "relu")
    assert "None of these keeps the signal." in text and "weight variance 2 / fan_in" in text
    assert "q=45.6243" in initjax.signal.advise("sigmoid")
    assert "no stable edge of chaos" in initjax.signal.advise("softplus")


def test_weights_with_a_common_mean_are_not_predicted():
    model, variables, x = mlp(4, 64, "relu", "ones")
    assert all(layer.variance is None for layer in initjax.signal.predict(model, variables, x))


@pytest.mark.parametrize("x", [jnp.ones((1, 4)), jnp.ones(4), jnp.ones((4, 4), jnp.int32), None])
def test_inputs_that_are_no_batch(x):
    with pytest.raises(UserError, match="x "):
        initjax.signal.measure(nn.Dense(2), {"params": {}}, x)


def flags(*extra):
    return ["--model=mlp(depth=3, width=16)", "--batch_size=8", "--input_shape=4,4,1", *extra]


def test_command(tmp_path, capsys):
    init = "--init=he_normal,nspl(alpha=1.5, ratio=30),zeros"
    run(parse(flags(init, f"--out={tmp_path / 'new'}")))
    out = capsys.readouterr().out
    assert "nspl(alpha=1.5, ratio=30): healthy" in out and "zeros: vanishing" in out
    assert "Start from" in out
    saved = json.loads((tmp_path / "new" / "signal.json").read_text())
    assert saved["version"] == 1 and saved["command"]["batch_size"] == 8
    assert list(saved["signals"]) == ["he_normal", "nspl(alpha=1.5, ratio=30)", "zeros"]
    layer = saved["signals"]["he_normal"]["layers"][1]
    assert layer["path"] == "Dense_1" and layer["sd"] == pytest.approx(layer["variance"] ** 0.5)
    assert layer["predicted"]["low"] < layer["predicted"]["variance"] < layer["predicted"]["high"]
    assert len(layer["histogram"]) == saved["histogram"]["bins"]
    assert sum(layer["histogram"]) == 8 * 16
    for name in ("variance", "gradients", "histograms"):
        with PIL.Image.open(tmp_path / "new" / f"{name}.png") as image:
            assert np.asarray(image.convert("L")).std() > 5  # not blank


def test_command_knows_the_leaves_of_a_transformer():
    model, x = create_model("vit_tiny(depth=1, patch_size=4)"), jnp.zeros((2, 8, 8, 1))
    shapes = jax.eval_shape(model.init, KEY, x)
    with jax.disable_jit():
        params = draw(shapes, initjax.get("ones"), initjax.get("zeros"), KEY)["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes["params"])
    assert 0.015 < params["position_embedding"].std() < 0.025 and not params["class_token"].any()


def test_command_on_images_in_training_mode(capsys):
    run(parse(["--model=resnet20(depth=8)", "--dataset=digits", "--init=he_normal"]))
    out = capsys.readouterr().out
    assert "training images of digits" in out and "Conv_6" in out


def test_overflow_is_valid_json_and_a_picture(tmp_path):
    run(
        parse(
            [
                "--model=mlp(depth=12, width=16)",
                "--input_shape=2,2,1",
                "--batch_size=4",
                "--init=normal(stddev=1000.0)",
                f"--out={tmp_path}",
            ]
        )
    )
    saved = json.loads((tmp_path / "signal.json").read_text())
    assert saved["environment"]["initjax"] == saved["initjax"]
    assert "overflow" in saved["signals"]["normal(stddev=1000.0)"]["verdict"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--init=foo"], "--init: Unknown initializer 'foo'"),
        (["--init="], "names no initializer"),
        (["--init=zeros,zeros"], "twice"),
        (["--model=foo"], "Unknown model 'foo'"),
        (["--activation=foo"], "Unknown activation 'foo'"),
        (["--batch_size=1"], "--batch_size=1"),
        (["--input_shape=a"], "--input_shape='a'"),
        (["--input_shape=4,4"], "--input_shape='4,4'"),
        (["--input_shape=0,4,4"], "--input_shape=0"),
        (["--seed=-1"], "--seed=-1"),
        (["--out=/dev/null/x"], "--out=/dev/null/x"),
        (["--bias_init=foo"], "Unknown initializer 'foo'"),
        (["--init=orthogonal(column_axis=9)"], "column_axis"),
        (["--model=convnet"], "nothing is left for the layer Dense_0"),
    ],
)
def test_bad_input_is_one_line(monkeypatch, extra, message):
    monkeypatch.setattr(sys, "argv", ["initjax.signal", *flags(*extra)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert str(stop.value).startswith("error: ") and message in str(stop.value)


def test_module_runs_beside_the_standard_library_s_signal():
    """`python -m initjax.signal` works, and `import signal` still means Python's."""
    code = "import initjax.signal as s, signal; print(signal.SIGINT.name, s.measure.__name__)"
    command = [sys.executable, "-c", code]
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.startswith("SIGINT measure")
    command = [sys.executable, "-m", "initjax.signal", *flags("--init=he_normal,foo(")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1 and done.stderr.startswith("error: --init: ")
    assert "Traceback" not in done.stderr
    assert isinstance(initjax.signal, types.ModuleType)
