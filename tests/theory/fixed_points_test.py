"""Mean-field theory: the reference's oracles, and wide networks against it."""

import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from initjax.distributions import Normal
from initjax.initializers import (
    VarianceScaling,
    edge_of_chaos,
    edge_of_chaos_bias,
    edge_of_chaos_kernel,
    mean_field_residual,
    zeros,
)
from initjax.support.errors import UserError
from initjax.theory.fixed_points import (
    correlation_map,
    depth_scales,
    predict_residual_variance,
    stable_q,
)

KEY = jax.random.key(3)

# activation, how it is fixed, q*, sw^2, sb^2
EDGES = [
    ("relu", {}, 1.0, 2.0, 0.0),
    ("relu", {"q": 0.3}, 0.3, 2.0, 0.0),
    ("relu", {"q": 50.0}, 50.0, 2.0, 0.0),
    ("relu", {"bias_variance": 0.0}, 1.0, 2.0, 0.0),
    ("linear", {"q": 0.7}, 0.7, 1.0, 0.0),
    ("tanh", {"q": 0.5}, 0.5, 1.68797512, 0.03804120),
    ("tanh", {"q": 1.0}, 1.0, 2.15330265, 0.15096463),
    ("tanh", {"bias_variance": 0.05}, 0.57004788, 1.76095464, 0.05),
    ("tanh", {"bias_variance": 0.09}, 0.76347477, 1.94765463, 0.09),
    ("tanh", {"bias_variance": 0.0}, 0.0, 1.0, 0.0),
    ("erf", {"q": 1.0}, 1.0, 1.75620368, 0.18413968),
    # What is stable at larger q* only.
    ("gelu", {"q": 5.0}, 5.0, 1.96627484, 0.21444471),
    ("gelu", {"q": 10.0}, 10.0, 1.95581512, 0.32345881),
    ("silu", {"q": 20.0}, 20.0, 1.97546664, 0.67891049),
    ("sigmoid", {"q": 100.0}, 100.0, 151.36274520, 30.26106219),
]


@pytest.mark.parametrize(
    "activation, q, chi_q",
    [
        ("gelu", 5.0, 0.99046912),
        ("gelu", 10.0, 0.98182215),
        ("silu", 20.0, 0.99316779),
        ("sigmoid", 100.0, 0.0287826),
        ("sigmoid", 45.6243, 0.0602504),  # where sb^2 begins to be 0 or more
    ],
)
def test_how_stable_the_points_at_large_q_are(activation, q, chi_q):
    assert edge_of_chaos(activation, q).chi_q == pytest.approx(chi_q, rel=2e-6)


@pytest.mark.parametrize("activation, arguments, q, weight_variance, bias_variance", EDGES)
def test_edge_of_chaos(activation, arguments, q, weight_variance, bias_variance):
    point = edge_of_chaos(activation, **arguments)
    assert point.q == pytest.approx(q, abs=1e-8)
    assert point.weight_variance == pytest.approx(weight_variance, abs=1e-8)
    assert point.bias_variance == pytest.approx(bias_variance, abs=1e-8)
    assert point.chi_1 == pytest.approx(1, abs=1e-10)
    assert point.chi_q <= 1 + 1e-9
    assert point.kernel_init == VarianceScaling(point.weight_variance, "fan_in", Normal())
    if bias_variance:
        assert point.bias_init.scale == pytest.approx(math.sqrt(bias_variance), abs=1e-8)
    else:
        assert point.bias_init == zeros
    assert point == edge_of_chaos(activation, **arguments)
    assert pickle.loads(pickle.dumps(point)) == point
    assert edge_of_chaos_kernel(activation, **arguments) == point.kernel_init
    assert edge_of_chaos_bias(activation, **arguments) == point.bias_init


def test_edge_of_chaos_of_a_callable():
    by_name = edge_of_chaos("tanh", 0.5)
    point = edge_of_chaos(lambda x: jnp.tanh(x), 0.5)
    assert point.weight_variance == pytest.approx(by_name.weight_variance, abs=1e-10)
    # A steeper tanh is the same network with smaller weights.
    steep = edge_of_chaos(lambda x: jnp.tanh(2 * x), 0.5 / 4)
    assert steep.weight_variance == pytest.approx(by_name.weight_variance / 4, abs=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: edge_of_chaos("gelu"), "no stable edge of chaos at q=1: chi_q = 1.06"),
        (lambda: edge_of_chaos("silu"), "no stable edge of chaos at q=1: chi_q = 1.09"),
        (lambda: edge_of_chaos("gelu", bias_variance=0.1), "no stable edge of chaos"),
        (lambda: edge_of_chaos("sigmoid"), "bias variance would be -5.5"),
        (lambda: edge_of_chaos("softplus"), "bias variance would be -2.1"),
        (lambda: edge_of_chaos("relu", bias_variance=0.1), "lies between 0 and"),
        (lambda: edge_of_chaos("tanh", -1.0), "q=-1.0"),
        (lambda: edge_of_chaos("tanh", bias_variance=-1.0), "bias_variance=-1.0"),
        (lambda: edge_of_chaos("tanhh"), "Unknown activation"),
        (lambda: edge_of_chaos(jnp.sign), "is flat"),
        (lambda: predict_residual_variance(-1), "num_layers=-1"),
        (lambda: predict_residual_variance(2, weight_variance=-1.0), "weight_variance=-1.0"),
        (lambda: predict_residual_variance(2, output_variance=[1.0]), "1 numbers for num_layers=2"),
        (lambda: correlation_map("relu", 1.5), "correlation=1.5"),
        (lambda: correlation_map("relu", 0.5, bias_variance=0.1), "needs weight_variance"),
        (lambda: correlation_map("relu", 0.5, weight_variance=0.0), "every output is 0"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(UserError, match=message):
        call()


@pytest.mark.slow
@pytest.mark.parametrize("c", [-1.0, -0.5, 0.0, 0.5, 0.9, 0.999, 1.0])
def test_correlation_map_of_relu(c):
    expected = (math.sqrt(1 - c * c) + (math.pi - math.acos(c)) * c) / math.pi
    assert correlation_map("relu", c, q=2.0) == pytest.approx(expected, abs=1e-9)


@pytest.mark.slow
def test_correlation_map_oracles():
    assert correlation_map("relu", 0.0) == pytest.approx(0.318309886, abs=1e-9)
    assert correlation_map("relu", 0.5) == pytest.approx(0.608997781, abs=1e-9)
    # The slope at 1 is chi_1 = 1, and the correlation 1 is kept.
    assert correlation_map("tanh", 1.0) == pytest.approx(1, abs=1e-10)
    assert (1 - correlation_map("tanh", 1 - 1e-4)) / 1e-4 == pytest.approx(1, abs=1e-3)
    # erf: E[erf(u) erf(v)] = 2/pi arcsin(2 c q / (1 + 2 q)).
    q, c = 0.8, 0.6
    moments = [2 / math.pi * math.asin(2 * r * q / (1 + 2 * q)) for r in (c, 1.0)]
    expected = (1.5 * moments[0] + 0.1) / (1.5 * moments[1] + 0.1)
    got = correlation_map("erf", c, q, weight_variance=1.5, bias_variance=0.1)
    assert got == pytest.approx(expected, abs=1e-10)


RESIDUAL = {
    "relu": ({}, 20, 2.0**20),
    "relu, c / L": ({"output_variance": 1 / 20}, 20, (1 + 1 / 20) ** 20),
    "relu, sw^2 = 1, O(1)": ({"weight_variance": 1.0}, 20, 1.5**20),
    "relu, sw^2 = 1, 1/L": ({"weight_variance": 1.0, "output_variance": 0.05}, 20, 1.025**20),
    "per layer": ({"output_variance": [1.0, 0.5, 0.0]}, 3, 2 * 1.5),
    "biases": ({"bias_variance": 1.0, "output_bias_variance": 0.5}, 1, 1 + 1.5 + 0.5),
    "larger input": ({"input_variance": 3.0}, 2, 12.0),
    "no layers": ({}, 0, 1.0),
    "tanh, reduced": ({"activation": "tanh", "weight_variance": 1.0}, 1, 1.39429449),
}


@pytest.mark.parametrize("name", RESIDUAL)
def test_predicted_residual_variance(name):
    arguments, num_layers, expected = RESIDUAL[name]
    p = predict_residual_variance(num_layers, **arguments)
    assert p.shape == (num_layers + 1,)
    assert p[-1] == pytest.approx(expected, rel=1e-8)


@pytest.mark.slow
def test_one_over_depth_tends_to_the_exponential():
    p = predict_residual_variance(400, weight_variance=1.0, output_variance=1 / 400)
    assert p[-1] == pytest.approx(math.exp(0.5), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("c", [None, 1.0])
def test_residual_network_as_predicted(c):
    # L = 20, N = 512: x + V relu(W x), W and V with variance O(1), and V with variance c / L.
    num_layers, width, num_keys = 20, 512, 5
    weight_init = VarianceScaling(1.0, "fan_in", Normal())
    output_init = mean_field_residual(num_layers, c) if c else weight_init

    @jax.jit
    def final_variance(key):
        def layer(x, key):
            key_w, key_v = jax.random.split(key)
            hidden = jax.nn.relu(x @ weight_init(key_w, (width, width)))
            return x + hidden @ output_init(key_v, (width, width)), None

        key_x, key_layers = jax.random.split(key)
        x = jax.random.normal(key_x, (width,))
        x = x / jnp.sqrt(jnp.mean(x**2))
        x, _ = jax.lax.scan(layer, x, jax.random.split(key_layers, num_layers))
        return jnp.mean(x**2)

    measured = np.array(
        [final_variance(key) for key in jax.random.split(jax.random.key(0), num_keys)]
    )
    output_variance = output_init.scale
    expected = predict_residual_variance(
        num_layers, weight_variance=1.0, output_variance=output_variance
    )[-1]
    assert expected == pytest.approx(1.6386 if c else 3325, rel=1e-3)
    # One layer multiplies |x|^2 by 1 + s/2 on average, s = N Var(V), with the variance of
    # 2 x.Vh + |Vh|^2, h = relu(Wx): (2 s + 1.75 s^2) / N. (The mean of 40 runs was 3345 +- 66.)
    s = output_variance
    relative_variance = (1 + (2 * s + 1.75 * s**2) / width / (1 + s / 2) ** 2) ** num_layers - 1
    standard_error = expected * math.sqrt(relative_variance / num_keys)
    assert abs(measured.mean() - expected) < 3 * standard_error


@pytest.mark.slow
def test_tanh_network_on_the_edge_of_chaos():
    depth_, width, num_pairs = 50, 512, 16
    point = edge_of_chaos("tanh", 0.5)

    @jax.jit
    def pre_activations(key):
        def layer(h, key):
            key_w, key_b = jax.random.split(key)
            w = point.kernel_init(key_w, (width, width))
            h = jnp.tanh(h) @ w + point.bias_init(key_b, (width,))
            return h, (jnp.mean(h**2), jnp.mean(h[0] * h[1]) / jnp.mean(h**2))

        key_x, key_layers = jax.random.split(key)
        x, y = jax.random.normal(key_x, (2, num_pairs, width))
        y = 0.2 * x + math.sqrt(1 - 0.2**2) * y  # a correlation of 0.2
        h = math.sqrt(point.q) * jnp.stack([x, y])
        _, results = jax.lax.scan(layer, h, jax.random.split(key_layers, depth_))
        return results

    runs = [pre_activations(key) for key in jax.random.split(KEY, 3)]
    variances, correlations = (np.mean([run[i] for run in runs], 0) for i in (0, 1))
    # A layer's mean square has the relative variance 2 / N, of which chi_q^2 is left a layer later;
    # the mean of 3 networks.
    band = math.sqrt(2 / width / 3 / (1 - point.chi_q**2)) + 2 / width
    assert np.abs(variances / point.q - 1).max() < 4 * band
    expected, c = [], 0.2
    for _ in range(3):
        c = correlation_map("tanh", c, point.q)
        expected.append(c)
    np.testing.assert_allclose(correlations[:3], expected, atol=0.02)
    assert correlations[-1] > 0.85 and (np.diff(correlations[::10]) > 0).all()


@pytest.mark.parametrize(
    "activation, q, weight_variance, bias_variance",
    [
        ("gelu", 3.56155, 1.983058, 0.172922),
        ("silu", 14.32017, 1.988005, 0.555143),
        ("sigmoid", 45.62428, 103.0076, 0.0),
    ],
)
def test_the_nearest_stable_point_is_named(activation, q, weight_variance, bias_variance):
    found = stable_q(activation)
    assert found == pytest.approx(q, rel=1e-5) and found >= q - 1e-5
    point = edge_of_chaos(activation, found)  # it works as it is shown
    assert point.weight_variance == pytest.approx(weight_variance, rel=1e-5)
    assert point.bias_variance == pytest.approx(bias_variance, abs=2e-5)
    with pytest.raises(UserError, match=f"nearest stable one is at q={found:.6g}"):
        edge_of_chaos(activation)


def test_an_activation_without_a_stable_point():
    assert stable_q("softplus") is None
    assert stable_q("tanh", 0.3) == 0.3
    with pytest.raises(UserError, match="no stable one between"):
        edge_of_chaos("softplus")


@pytest.mark.slow
def test_depth_scales():
    chaos = depth_scales("tanh", 2.5, 0.05)
    assert chaos.q == pytest.approx(1.06396, abs=1e-5)
    assert chaos.chi_1 == pytest.approx(1.13352, abs=1e-5)
    assert chaos.correlation == pytest.approx(0.44680, abs=1e-5)
    assert chaos.correlation_scale == pytest.approx(11.796, abs=1e-3)
    assert chaos.gradient_scale == pytest.approx(7.979, abs=1e-3)
    c = chaos.correlation  # a fixed point of the map, by the quadrature of it
    mapped = correlation_map("tanh", c, chaos.q, weight_variance=2.5, bias_variance=0.05)
    assert mapped == pytest.approx(c, abs=1e-7)
    critical = depth_scales("tanh", 1.0)
    assert (critical.q, critical.correlation) == (0, 1)
    assert critical.variance_scale == critical.correlation_scale == math.inf
    order = depth_scales("relu", 1.0)
    assert order.correlation_scale == pytest.approx(1 / math.log(2))
    assert order.variance_scale == pytest.approx(1 / math.log(2))
    assert depth_scales("relu", 3.0) is None
