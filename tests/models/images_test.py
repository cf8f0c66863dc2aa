"""Padding and pooling."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from initjax.models.images import adaptive_mean_pool, max_pool_2x2, pad_to

KEY = jax.random.key(0)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
def test_pooling_is_flax_max_pool(size):
    x = jax.random.normal(KEY, (3, *size, 2))

    def flax_pool(x):
        return nn.max_pool(x, (2, 2), strides=(2, 2))

    np.testing.assert_array_equal(max_pool_2x2(x), flax_pool(x))
    gradients = [jax.grad(lambda x, f=f: (f(x) ** 2).sum())(x) for f in (max_pool_2x2, flax_pool)]
    np.testing.assert_allclose(*gradients, rtol=1e-6)


def test_padding_is_even_and_never_cuts():
    x = np.ones((2, 3, 6, 1))
    padded = np.asarray(pad_to(x, 6))
    assert padded.shape == (2, 6, 6, 1)
    np.testing.assert_array_equal(padded[0, :, 0, 0], [0, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(pad_to(x, 2), x)


@pytest.mark.slow
def test_adaptive_pooling():
    x = np.random.default_rng(0).normal(size=(2, 6, 14, 3)).astype(np.float32)
    pooled = adaptive_mean_pool(x[:, :, :12], 6)  # 6 stay, and 12 are halved
    np.testing.assert_allclose(pooled, nn.avg_pool(x[:, :, :12], (1, 2), (1, 2)), atol=1e-6)
    pooled = adaptive_mean_pool(x[:, :2], 4)  # 2 are repeated, and of 14 windows overlap
    windows = [x[:, :2, low:high].mean(2) for low, high in ((0, 4), (3, 7), (7, 11), (10, 14))]
    np.testing.assert_allclose(pooled, np.repeat(np.stack(windows, 2), 2, axis=1), atol=1e-6)
