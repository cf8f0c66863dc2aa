"""Scales of residual branches: the reference's oracles, and what they do to weights."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from initjax.distributions import Laplace
from initjax.initializers import (
    Constant,
    Scaled,
    VarianceScaling,
    deepnorm,
    fixup,
    fixup_scale,
    gpt2_residual,
    he_normal,
    mean_field_residual,
    normal,
    rescale,
    residual_scale,
    rezero,
    skipinit,
    zeros,
)
from initjax.initializers.rescale import Rescaled
from initjax.support.errors import UserError

KEY = jax.random.key(3)

SCALES = {
    "fixup, m=2": (lambda: fixup_scale(12, 2), 0.288675),
    "fixup, m=3": (lambda: fixup_scale(12, 3), 0.537285),
    "fixup, one branch": (lambda: fixup_scale(1), 1.0),
    "gpt-2": (lambda: residual_scale(12), 1 / math.sqrt(24)),
    "one branch a layer": (lambda: residual_scale(25, 1), 0.2),
    "deepnorm alpha": (lambda: deepnorm(100).alpha, 200**0.25),
    "deepnorm beta": (lambda: deepnorm(100).beta, 800**-0.25),
    "deepnorm weights": (lambda: deepnorm(8).kernel_init.variance((64, 64)), 0.125 / 64),
    "fixup weights": (lambda: fixup(12, 3).variance((64, 32)), 0.537285**2 * 2 / 64),
    "gpt-2 weights": (lambda: gpt2_residual(12).scale, 0.02 / math.sqrt(24)),
    "mean-field weights": (lambda: mean_field_residual(20, 2.0).variance((64, 32)), 0.1 / 64),
}


@pytest.mark.parametrize("name", SCALES)
def test_scales(name):
    value, expected = SCALES[name]
    assert value() == pytest.approx(expected, rel=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("gate", [rezero, skipinit])
def test_gate_makes_the_identity(gate):
    x = jax.random.normal(KEY, (16, 8))
    w = he_normal()(KEY, (8, 8))
    assert (x + gate()(KEY, ()) * jax.nn.relu(x @ w) == x).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "initializer, kind",
    [
        (he_normal(), VarianceScaling),
        (normal(0.3), Scaled),
        (Constant(0.3), Constant),
        (jax.nn.initializers.orthogonal(), Rescaled),
        (VarianceScaling(1.0, "fan_in", Laplace()), VarianceScaling),
    ],
)
@pytest.mark.parametrize("multiplier", [0.25, -0.25])
def test_rescale(initializer, kind, multiplier):
    scaled = rescale(initializer, multiplier)
    if multiplier > 0:
        assert type(scaled) is kind
    shape = (64, 64)
    expected = initializer(KEY, shape, jnp.float32) * multiplier
    np.testing.assert_allclose(scaled(KEY, shape, jnp.float32), expected, rtol=1e-6)
    assert scaled(KEY, shape).dtype == jnp.float32
    assert hash(scaled) == hash(rescale(initializer, multiplier))


@pytest.mark.slow
def test_rescale_to_zero_and_in_low_precision():
    assert rescale(he_normal(), 0) == zeros
    # Orthogonal weights exist in float32 only in JAX; the product is rounded once.
    init = rescale(jax.nn.initializers.orthogonal(), 0.3)
    for dtype in (jnp.bfloat16, jnp.float8_e4m3fn):
        weights = init(KEY, (32, 32), dtype)
        assert weights.dtype == dtype
        assert (weights == init(KEY, (32, 32), jnp.float32).astype(dtype)).all()
    assert init(KEY, (4, 4), jnp.complex64).dtype == jnp.complex64


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: fixup_scale(0), "num_branches=0"),
        (lambda: fixup_scale(4, 1), "layers_per_branch=1 must be at least 2"),
        (lambda: fixup(2.5), "num_branches=2.5"),
        (lambda: residual_scale(0), "num_layers=0"),
        (lambda: residual_scale(2, 0), "branches_per_layer=0"),
        (lambda: deepnorm(0), "num_layers=0"),
        (lambda: gpt2_residual(2, 0.0), "scale=0.0"),
        (lambda: mean_field_residual(2, 0.0), "c=0.0"),
        (lambda: rescale(he_normal(), math.nan), "multiplier=nan"),
        (lambda: rescale("he_normal", 2.0), "initializer='he_normal' is not callable"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(UserError, match=message):
        call()
