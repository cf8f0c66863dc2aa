"""Coordinates, upsampling, padded identity, the spectral condition, priors of the last layer."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from initjax.initializers import (
    bilinear,
    class_prior,
    fourier_features,
    icnr,
    ntk,
    padded_identity,
    prior_bias,
    siren,
    spectral_normal,
    spectral_orthogonal,
    zeros,
)
from initjax.support.errors import UserError
from initjax.theory import unit_scaling_gain

KEY = jax.random.key(2)


@pytest.mark.slow
def test_siren():
    """Layers sin(30 W x) keep pre-activations of variance 1; the first has the bound 1 / n."""
    first = np.abs(np.asarray(siren(first=True)(KEY, (3, 1000))))
    assert 0.99 / 3 < first.max() <= 1 / 3
    n = 256
    rng = np.random.default_rng(0)
    x = np.sin(30 * rng.uniform(-1, 1, (1000, 3)) @ np.asarray(siren(first=True)(KEY, (3, n))))
    for w in np.asarray(jax.vmap(lambda key: siren()(key, (n, n)))(jax.random.split(KEY, 3))):
        assert abs(w).max() <= math.sqrt(6 / n) / 30
        z = 30 * x @ w
        x = np.sin(z)
    # One network's n units: a relative standard error of sqrt(2 / n) = .09.
    assert float(z.var()) == pytest.approx(1, abs=4 * math.sqrt(2 / n))


def test_fourier_features_have_their_kernel():
    stddev, m = 0.7, 50_000
    b = np.asarray(fourier_features(stddev)(KEY, (2, m)), np.float64)
    distance = np.array([0.15, -0.1])
    cosines = np.cos(2 * math.pi * distance @ b)
    expected = math.exp(-2 * math.pi**2 * stddev**2 * float(distance @ distance))
    assert abs(cosines.mean() - expected) < 4 * cosines.std() / math.sqrt(m)


def test_bilinear_kernel():
    w = np.asarray(bilinear()(KEY, (4, 4, 3, 3)))
    row = np.array([0.25, 0.75, 0.75, 0.25])
    np.testing.assert_allclose(w[..., 1, 1], np.outer(row, row), atol=1e-7)
    assert not w[..., 0, 1].any()
    depthwise = bilinear()(KEY, (4, 1, 5))
    np.testing.assert_allclose(depthwise, np.tile(row[:, None, None], (1, 1, 5)), atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("stride", [2, 3, 4])
def test_a_constant_image_stays_constant(stride):
    size = 2 * stride - stride % 2
    w = bilinear()(KEY, (size, size, 2, 2))
    image = jnp.full((1, 5, 5, 2), 3.0)
    large = jax.lax.conv_transpose(image, w, (stride, stride), "SAME")
    assert large.shape[1] == 5 * stride
    inner = large[:, stride:-stride, stride:-stride]
    np.testing.assert_allclose(inner, 3.0, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["depth_to_space", "pixel_shuffle"])
def test_icnr_has_no_checkerboard(order):
    s, channels = 2, 3
    w = icnr(s, order=order)(KEY, (3, 3, 4, s * s * channels))
    x = jax.random.normal(KEY, (1, 6, 6, 4))
    y = jax.lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    if order == "depth_to_space":
        y = y.reshape(1, 6, 6, s, s, channels)
    else:
        y = y.reshape(1, 6, 6, channels, s, s).transpose(0, 1, 2, 4, 5, 3)
    image = y.transpose(0, 1, 3, 2, 4, 5).reshape(1, 12, 12, channels)
    for i in range(s):
        for j in range(s):
            np.testing.assert_array_equal(image[:, i::s, j::s], image[:, ::s, ::s])
    assert len(np.unique(np.asarray(w))) == w.size // s**2
    many = np.asarray(icnr(s, order=order)(KEY, (3, 3, 32, 256)), np.float64)
    relative_error = math.sqrt(2 / (many.size / s**2))
    assert many.var() == pytest.approx(2 / 288, rel=4 * relative_error)


def test_padded_identity():
    w = padded_identity()(KEY, (2, 5))
    np.testing.assert_array_equal(w, [[1, 0, 1, 0, 1], [0, 1, 0, 1, 0]])
    np.testing.assert_array_equal(padded_identity(1e-6)(KEY, (2, 5)), w * np.float32(1e-6))
    np.testing.assert_array_equal(padded_identity()(KEY, (5, 2)), np.eye(5, 2))
    # A convolution: output j takes pixel j of the patch, its first input's nine positions first.
    kernel = np.asarray(padded_identity()(KEY, (3, 3, 2, 20)))
    assert (kernel.sum((0, 1, 2)) == 1).all()
    assert kernel[0, 0, 0, 0] == kernel[0, 1, 0, 1] == kernel[2, 2, 0, 8] == kernel[0, 0, 1, 9] == 1
    assert kernel[0, 0, 0, 18] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape, stddev, norm", [((1024, 256), 0.015625, 0.75), ((256, 1024), 0.0625, 3)]
)
def test_spectral_condition(shape, stddev, norm):
    w = np.asarray(spectral_normal()(KEY, shape), np.float64)
    assert w.std() == pytest.approx(stddev, rel=4 / math.sqrt(2 * w.size))
    # Its edge is sd (sqrt in + sqrt out), which finite matrices miss by some n^(-2/3).
    assert np.linalg.norm(w, 2) == pytest.approx(norm, rel=0.02)
    small = (shape[0] // 8, shape[1] // 8)
    exact = spectral_orthogonal()(KEY, small)
    singular = np.linalg.svd(np.asarray(exact, np.float64))[1]
    np.testing.assert_allclose(singular, math.sqrt(shape[1] / shape[0]), rtol=1e-5)


def test_spectral_condition_of_a_square_layer():
    w = np.asarray(spectral_normal()(KEY, (512, 512)), np.float64)
    assert np.linalg.norm(w, 2) == pytest.approx(2, rel=0.02)


def test_unit_scaling():
    assert unit_scaling_gain("relu") == pytest.approx(1.712859, abs=1e-6)
    assert unit_scaling_gain("tanh") == pytest.approx(1.59253742, rel=1e-7)  # odd: as initjax.gain
    with pytest.raises(UserError, match="constant"):
        unit_scaling_gain(jnp.ones_like)
    w = np.asarray(ntk()(KEY, (300, 300)), np.float64)
    assert w.std() == pytest.approx(1, rel=4 / math.sqrt(2 * w.size))


def test_priors():
    assert prior_bias(0.01).value == pytest.approx(-4.595120, abs=1e-6)
    assert float(jax.nn.sigmoid(prior_bias(0.2)(KEY, ()))) == pytest.approx(0.2, rel=1e-6)
    np.testing.assert_allclose(class_prior()(KEY, (1000,)), -6.907755, rtol=1e-6)
    b = class_prior((6, 3, 1))(KEY, (3,))
    np.testing.assert_allclose(jax.nn.softmax(b), [0.6, 0.3, 0.1], rtol=1e-6)


@pytest.mark.slow
def test_loss_of_the_first_step():
    """ln K with a head of zeros, ln K + s^2 / 2 nearly with logits N(0, s^2)."""

    def loss(logits):
        return -jax.nn.log_softmax(logits)[:, 0].mean()

    for k, expected in ((10, 2.302585), (1000, 6.907755)):
        found = loss(jnp.ones((1, 4)) @ zeros(KEY, (4, k)) + zeros(KEY, (k,)))
        assert float(found) == pytest.approx(math.log(k), rel=5e-7)
        assert math.log(k) == pytest.approx(expected, abs=5e-7)
    for s, expected in ((1, 2.730), (3, 5.096)):
        found = float(loss(s * jax.random.normal(KEY, (200_000, 10))))
        assert found == pytest.approx(expected, abs=4 * 1.1 * s / math.sqrt(200_000))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: siren(frequency=0), "frequency=0"),
        (lambda: fourier_features(0.0), "scale=0"),
        (lambda: icnr(0), "upscale=0"),
        (lambda: icnr(order="rows"), "order='rows'"),
        (lambda: icnr(2)(KEY, (3, 3, 4, 6)), "upscale=2 needs 4 n outputs"),
        (lambda: padded_identity(0.0), "scale=0"),
        (lambda: spectral_normal(-1.0), "scale=-1"),
        (lambda: prior_bias(1.0), "probability=1.0"),
        (lambda: class_prior((0.5, 0.0)), "probabilities=0"),
        (lambda: class_prior(3), "probabilities=3"),
        (lambda: class_prior((1, 2))(KEY, (3,)), "2 probabilities do not fit"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(UserError, match=message):
        call()
