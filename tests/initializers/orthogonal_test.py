"""Orthogonal, identity-like and sparse weights: what they do to a signal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import initjax
from initjax.initializers import (
    delta_orthogonal,
    identity,
    orthogonal,
    scaled_orthogonal,
    sparse,
    zero,
)
from initjax.support.errors import UserError

KEY = jax.random.key(5)


def convolve(x, kernel, groups=1, circular=False):
    """A convolution that keeps the image's size."""
    if circular:
        before = [(size - 1) // 2 for size in kernel.shape[:2]]
        after = [size - 1 - b for size, b in zip(kernel.shape[:2], before, strict=True)]
        pad = [(0, 0), *zip(before, after, strict=True), (0, 0)]
        x = jnp.pad(x, pad, mode="wrap")
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        "VALID" if circular else "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        precision="highest",
    )


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(64, 64), (64, 32), (32, 64), (3, 3, 16, 32), (3, 3, 2, 200)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_orthogonal(shape, dtype):
    w = np.asarray(orthogonal()(KEY, shape, dtype), np.float64).reshape(-1, shape[-1])
    short = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    tolerance = {"float32": 1e-6, "bfloat16": 1e-2, "float16": 1e-3}[dtype]
    np.testing.assert_allclose(short, np.eye(len(short)), atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(64, 64), (64, 32), (32, 64), (3, 3, 16, 32)])
def test_bit_equal_to_jax(shape):
    theirs = jax.nn.initializers
    np.testing.assert_array_equal(orthogonal(2.0)(KEY, shape), theirs.orthogonal(2.0)(KEY, shape))
    np.testing.assert_array_equal(
        orthogonal(column_axis=0)(KEY, shape), theirs.orthogonal(column_axis=0)(KEY, shape)
    )
    if len(shape) == 4:
        np.testing.assert_array_equal(
            delta_orthogonal()(KEY, shape), theirs.delta_orthogonal()(KEY, shape)
        )


@pytest.mark.slow
def test_orthogonal_is_haar_distributed():
    """The trace of a Haar orthogonal matrix has mean 0 and variance 1."""
    keys = jax.random.split(KEY, 2000)
    traces = np.asarray(jax.vmap(lambda key: jnp.trace(orthogonal()(key, (6, 6))))(keys))
    assert abs(traces.mean()) < 4 / np.sqrt(2000)
    assert abs(traces.var() - 1) < 4 * np.sqrt(2 / 2000)


@pytest.mark.parametrize("shape, expected", [((16, 64), 2.0), ((64, 16), 1.0)])
def test_scaled_orthogonal(shape, expected):
    plain, scaled = orthogonal()(KEY, shape), scaled_orthogonal()(KEY, shape)
    np.testing.assert_allclose(scaled, expected * plain, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("fan_out, values", [(256, 2.0), (32, 1.0)])
def test_scaled_orthogonal_of_a_convolution_has_one_tap(fan_out, values):
    w = np.asarray(scaled_orthogonal()(KEY, (3, 3, 64, fan_out)))
    assert (w != 0).any((2, 3)).sum() == 1
    np.testing.assert_allclose(np.linalg.svd(w[1, 1], compute_uv=False), values, rtol=1e-5)
    plain = np.asarray(delta_orthogonal()(KEY, (3, 3, 64, fan_out)))
    np.testing.assert_allclose(w, values * plain, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_delta_orthogonal_keeps_the_norm(size):
    x = jax.random.normal(KEY, (2, 8, 8, 16))
    y = convolve(x, delta_orthogonal()(KEY, (size, size, 16, 24)), circular=True)
    assert jnp.linalg.norm(y) == pytest.approx(float(jnp.linalg.norm(x)), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_identity_hands_its_input_on(size, groups):
    x = jax.random.normal(KEY, (2, 9, 9, 8))
    kernel = identity(groups)(KEY, (size, size, 8 // groups, 8))
    np.testing.assert_array_equal(convolve(x, kernel, groups), x)


def test_partial_identity():
    np.testing.assert_array_equal(identity(scale=2.0)(KEY, (2, 3)), [[2, 0, 0], [0, 2, 0]])
    np.testing.assert_array_equal(identity()(KEY, (3, 2)), [[1, 0], [0, 1], [0, 0]])


@pytest.mark.parametrize("shape", [(8, 8), (8, 3), (3, 3, 8, 8)])
def test_zero_is_a_partial_identity_where_it_does_not_widen(shape):
    np.testing.assert_array_equal(zero()(KEY, shape), identity()(KEY, shape))


@pytest.mark.slow
def test_zero_widens_by_hadamard():
    w = np.asarray(zero()(KEY, (4, 16)), np.float64)
    np.testing.assert_allclose(w @ w.T, np.eye(4), atol=1e-7)  # keeps the norm
    np.testing.assert_allclose(np.abs(w), 0.25)
    np.testing.assert_array_equal(w, zero()(jax.random.key(9), (4, 16)))  # deterministic
    assert zero()(KEY, (4, 11)).shape == (4, 11)


@pytest.mark.slow
def test_sparse():
    w = np.asarray(sparse(15, stddev=0.5)(KEY, (200, 3000)), np.float64)
    np.testing.assert_array_equal((w != 0).sum(axis=0), 15)
    values = w[w != 0]
    assert abs(values.std() - 0.5) < 4 * 0.5 / np.sqrt(2 * values.size)
    # Every input is as likely as any other.
    counts = (w != 0).sum(axis=1)
    expected = 15 * 3000 / 200
    assert ((counts - expected) ** 2 / expected).sum() < 200 + 5 * np.sqrt(2 * 200)
    assert (np.asarray(sparse(15)(KEY, (3, 3, 1, 4))) != 0).all()  # fewer inputs than connections


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: identity(0), "groups=0"),
        (lambda: identity(3)(KEY, (1, 8)), "groups=3"),
        (lambda: sparse(0), "num_connections=0"),
        (lambda: orthogonal(-1.0), "scale=-1"),
        (lambda: orthogonal(column_axis=4)(KEY, (2, 3)), "column_axis=4"),
        (lambda: orthogonal()(KEY, (5,)), "two axes"),
        (lambda: delta_orthogonal(column_axis=0), "column_axis=0"),
        (lambda: scaled_orthogonal()(KEY, (2, 2, 8, 4)), "odd sizes"),
        (lambda: initjax.get("orthogonal(dtype='int8')")(KEY, (2, 2)), "int8"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(UserError, match=message):
        make()
