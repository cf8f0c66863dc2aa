"""Gains and Gaussian expectations against the reference's table, closed forms and sampling."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import erf

from initjax.support.errors import UserError
from initjax.theory.activations import activation_names
from initjax.theory.gains import gain
from initjax.theory.gaussian import derivative_moments, expectation, second_moment

PI = math.pi

# activation: (E[phi], E[phi^2], gain, backward gain), to 8 decimals
TABLE = {
    "linear": (0, 1, 1, 1),
    "relu": (0.39894228, 0.5, 1.41421356, 1.41421356),
    "tanh": (0, 0.39429449, 1.59253742, 1.46741359),
    "sigmoid": (0.5, 0.29337904, 1.84622855, 4.72264609),
    "selu": (0, 1, 1, 0.96602578),
    "elu": (0.16052057, 0.64494542, 1.24519830, 1.22342856),
    "gelu": (0.28209479, 0.42522148, 1.53353044, 1.48111441),
    "silu": (0.20662096, 0.35577552, 1.67653247, 1.62332026),
    "softplus": (0.80605918, 0.92124591, 1.04186684, 1.84622855),
}

# function, variance, mean, expectation
CLOSED_FORMS = {
    "identity": (lambda x: x, 4.0, 3.0, 3.0),
    "square": (jnp.square, 4.0, 3.0, 13.0),
    "fourth": (lambda x: x**4, 2.0, 0.0, 12.0),
    "exp": (jnp.exp, 1.0, 0.5, math.exp(1.0)),
    "exp, wide": (jnp.exp, 9.0, 0.0, math.exp(4.5)),
    "cos": (lambda x: jnp.cos(3 * x), 1.0, 0.0, math.exp(-4.5)),
    "abs": (jnp.abs, 9.0, 0.0, 3 * math.sqrt(2 / PI)),
    "relu, tiny": (jax.nn.relu, 1e-12, 0.0, 1e-6 / math.sqrt(2 * PI)),
    "relu, huge": (jax.nn.relu, 1e12, 0.0, 1e6 / math.sqrt(2 * PI)),
    "sign": (jnp.sign, 1.0, 0.5, math.erf(0.5 / math.sqrt(2))),
    "step off the grid": (lambda x: x > 0.3, 1.0, 0.0, 0.5 * math.erfc(0.3 / math.sqrt(2))),
    "kink off the grid": (
        lambda x: jnp.maximum(x - math.sqrt(2), 0),
        1.0,
        0.0,
        math.exp(-1) / math.sqrt(2 * PI) - math.sqrt(2) * 0.5 * math.erfc(1),
    ),
    "steep": (lambda x: jnp.tanh(1e3 * x) ** 2, 1e-6, 0.0, 0.394294490398),
    "no variance": (jnp.exp, 0.0, 2.0, math.exp(2)),
    "by name": ("relu", 1.0, 0.0, 1 / math.sqrt(2 * PI)),
}


@pytest.mark.parametrize("name", TABLE)
def test_table(name):
    mean, moment, forward, backward = TABLE[name]
    assert expectation(name) == pytest.approx(mean, abs=1e-8)
    assert second_moment(name) == pytest.approx(moment, abs=1e-8)
    assert gain(name) == pytest.approx(forward, abs=1e-8)
    assert gain(name, "backward") == pytest.approx(backward, abs=1e-8)


@pytest.mark.parametrize("slope", [0.01, 0.2, -0.5])
def test_leaky_relu(slope):
    def phi(x):
        return jax.nn.leaky_relu(x, slope)

    assert expectation(phi) == pytest.approx((1 - slope) / math.sqrt(2 * PI), abs=1e-12)
    for kind in ("forward", "backward"):
        assert gain(phi, kind) == pytest.approx(math.sqrt(2 / (1 + slope**2)), abs=1e-12)


def test_hard_tanh():
    # Kinks at -1 and 1, whose second derivatives count in the growth of the variance.
    inside = math.erf(1 / math.sqrt(2))
    density = math.exp(-0.5) / math.sqrt(2 * PI)
    moment = inside - 2 * density + (1 - inside)
    assert gain("hard_tanh") == pytest.approx(1 / math.sqrt(moment), abs=1e-12)
    assert gain("hard_tanh", "backward") == pytest.approx(1 / math.sqrt(inside), abs=1e-12)
    assert derivative_moments("hard_tanh")[1] == pytest.approx(inside - 2 * density, abs=1e-12)


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_expectation(name):
    function, variance, mean, expected = CLOSED_FORMS[name]
    assert expectation(function, variance, mean) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("variance", [0.3, 2.0])
def test_erf(variance):
    expected = 2 / PI * math.asin(2 * variance / (1 + 2 * variance))
    assert second_moment(erf, variance) == pytest.approx(expected, rel=1e-12)
    slope, growth = derivative_moments(erf, variance)
    assert slope == pytest.approx(4 / PI / math.sqrt(1 + 4 * variance), rel=1e-12)
    assert growth == pytest.approx(
        4 / PI / ((1 + 2 * variance) * math.sqrt(1 + 4 * variance)), rel=1e-12
    )


@pytest.mark.parametrize("name", activation_names())
def test_growth_is_the_slope_of_the_second_moment(name):
    difference = (second_moment(name, 0.7 + 1e-4) - second_moment(name, 0.7 - 1e-4)) / 2e-4
    assert derivative_moments(name, 0.7)[1] == pytest.approx(difference, rel=1e-6, abs=1e-9)


@pytest.mark.slow
def test_weights_with_the_gain_keep_the_variance():
    x = jax.random.normal(jax.random.key(0), (256, 1024))
    for i in range(4):
        w = jax.random.normal(jax.random.key(i + 1), (1024, 1024)) * gain("gelu") / 32
        x = (jax.nn.gelu(x, approximate=False) if i else x / gain("gelu")) @ w
    assert float(jnp.mean(x**2)) == pytest.approx(1, rel=0.1)


def test_inside_jit_with_the_default_precision():
    def slowly(x):  # a function of its own, so that nothing is remembered
        return jnp.tanh(x)

    @jax.jit
    def scale(x):
        return x * gain(slowly, "backward")

    result = scale(jnp.float32(1))
    assert result.dtype == jnp.float32
    assert gain(slowly, "backward") == pytest.approx(1.46741359, abs=1e-8)
    assert float(result) == pytest.approx(1.46741359, rel=1e-6)


def test_remembers():
    calls = []

    def phi(x):
        calls.append(x)
        return jnp.tanh(x)

    assert gain(phi) == gain(phi)
    first = len(calls)
    gain(phi)
    assert len(calls) == first


def test_unhashable_callable():
    class Activation:
        __hash__ = None

        def __call__(self, x):
            return jnp.tanh(x)

    assert gain(Activation()) == pytest.approx(1.59253742, abs=1e-8)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: gain("tanh", "sideways"), "kind='sideways' is not one of forward, backward"),
        (lambda: gain("tanhh"), "Unknown activation 'tanhh'"),
        (lambda: gain(jax.nn.softmax), "softmax is not"),
        (lambda: gain(lambda x: x - jnp.mean(x)), "not elementwise"),
        (lambda: gain(jnp.sum), "not elementwise"),
        (lambda: gain(jnp.zeros_like), "zero everywhere"),
        (lambda: gain(jnp.sign, "backward"), "flat everywhere"),
        (lambda: gain(jnp.log), "NaN or infinite"),
        (lambda: gain(lambda x: jnp.exp(x * x)), "is infinite, or lies beyond 16"),
        (lambda: gain(jnp.sqrt, "backward"), "NaN or infinite"),
        (lambda: gain(math.tanh), "not an elementwise function"),
        (lambda: gain(lambda x: x.nothing), "not an elementwise function"),
        (lambda: expectation(lambda x: 1 / jnp.abs(x)), "does not converge"),
        (lambda: expectation("relu", variance=-1.0), "variance=-1.0"),
        (lambda: expectation("relu", mean=math.inf), "mean=inf"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_host_values():
    assert isinstance(gain("relu"), float)
    assert np.isclose(gain("relu") ** 2, 2, rtol=0, atol=1e-13)


def test_unit_scaling_of_relu():
    """Blake et al. 2023 scale to unit variance, not second moment: sqrt(2 / (1 - 1/pi))."""
    variance = second_moment("relu") - expectation("relu") ** 2
    assert variance**-0.5 == pytest.approx(1.712859, abs=5e-7)
