"""Unit scaling: variance 1 forward and backward."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import initjax
from initjax.support.errors import UserError


@pytest.mark.slow
def test_outputs_and_both_gradients_have_variance_one():
    """In Flax's own layer; in the plain product they are 96, 160 and 384."""
    layer = nn.Dense(
        160,
        use_bias=False,
        kernel_init=initjax.unit_scaling(),
        dot_general=initjax.unit_scaled_dot_general,
    )
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (24, 16, 96))
    params = layer.init(keys[1], x)
    y, backward = jax.vjp(layer.apply, params, x)
    dy = jax.random.normal(keys[2], y.shape)
    gradient, dx = backward(dy)
    w, dw = params["params"]["kernel"], gradient["params"]["kernel"]
    # The mean square of a product (m, k) (k, n) of normal matrices varies by about this.
    error = (2 / (384 * 96) + 2 / (96 * 160) + 2 / (384 * 160)) ** 0.5
    for z in (y, dx, dw):
        assert float(jnp.mean(z**2)) == pytest.approx(1, rel=4 * error)
    np.testing.assert_allclose(y, x @ w / 96**0.5, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx, dy @ w.T / 160**0.5, rtol=1e-5, atol=1e-5)
    flat = x.reshape(-1, 96).T @ dy.reshape(-1, 160)
    np.testing.assert_allclose(dw, flat / 384**0.5, rtol=1e-4, atol=1e-5)


def test_batch_axes_are_refused():
    x = jnp.ones((2, 3, 4))
    with pytest.raises(UserError, match="takes no batch axes"):
        initjax.unit_scaled_dot_general(x, x, (((2,), (2,)), ((0,), (0,))))
