"""Predictions through normalization, pooling and attention, against networks that are run."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import initjax
from initjax.signal.operations import Window

X = jax.random.normal(jax.random.key(0), (16, 12, 12, 8))


class Convolutions(nn.Module):
    """Batch normalization, both poolings, layer normalization before the activation."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.BatchNorm(use_running_average=False)(nn.Conv(64, (3, 3), name="a")(x)))
        x = nn.Conv(64, (3, 3), name="b")(nn.max_pool(x, (2, 2), (2, 2)))
        x = nn.Conv(64, (3, 3), name="c")(nn.avg_pool(nn.relu(x), (2, 2), (2, 2)))
        x = nn.Dense(256, name="d")(nn.relu(x).mean((1, 2)))
        return nn.Dense(256, name="e")(nn.relu(nn.LayerNorm()(x)))


class Attention(nn.Module):
    """Causal: every row has another number of keys."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(64, name="embed")(x)
        mask = nn.make_causal_mask(x[..., 0])
        x = x + nn.MultiHeadDotProductAttention(num_heads=4, name="attention")(
            nn.LayerNorm()(x), mask=mask
        )
        return nn.Dense(64, name="mlp")(nn.LayerNorm()(x))


def ratios(model, x, seeds, scale=2.0, **kwargs):
    """log(measured / predicted) of variances and gradients of every layer, a row a seed."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    rng = np.random.default_rng(3)

    def drawn(path, leaf):
        name = path[-1].key
        if name != "kernel":
            return jnp.full(leaf.shape, 1.0 if name == "scale" else 0.0)
        fan = math.prod(leaf.shape[:-1]) if leaf.shape[-2] != 16 else 64  # heads of 16
        return jnp.asarray(rng.normal(0, math.sqrt(scale / fan), leaf.shape), jnp.float32)

    rows = []
    for _ in range(seeds):
        variables = jax.tree_util.tree_map_with_path(drawn, shapes)
        layers = initjax.signal.measure(model, variables, x, **kwargs).layers
        rows.append(
            [
                [
                    math.log(a / b) if b is not None else math.nan
                    for a, b in (
                        (layer.variance, layer.predicted.variance),
                        (layer.gradient_variance, layer.predicted.gradient_variance),
                    )
                ]
                for layer in layers
            ]
        )
    return [layer.path for layer in layers], np.array(rows)


@pytest.mark.slow
def test_normalization_and_pooling():
    names, rows = ratios(Convolutions(), X, 8, activation="relu", mutable=["batch_stats"])
    assert names == ["a", "b", "c", "d", "e"]
    mean, error = rows.mean(0), rows.std(0, ddof=1) / math.sqrt(8)
    assert np.isfinite(mean).all()
    # Of 64 channels, whose variances batch normalization divides by one at a time.
    np.testing.assert_array_less(np.abs(mean), 4 * error + 2 / 64)


@pytest.mark.slow
def test_attention():
    x = jax.random.normal(jax.random.key(0), (8, 12, 32))
    names, rows = ratios(Attention(), x, 8, scale=1.0, activation="gelu")
    variances = rows[..., 0]
    out = names.index("attention/out")
    mean, error = variances.mean(0), variances.std(0, ddof=1) / math.sqrt(8)
    np.testing.assert_array_less(np.abs(mean), 4 * error + 1 / 64)
    assert np.isnan(rows[0, out - 1, 1])  # no gradient is predicted through attention


@pytest.mark.slow
def test_windows_are_those_of_flax():
    x = np.asarray(X[:2, :7, :7], np.float32)
    for size, stride in ((2, 2), (3, 2), (3, 1)):
        for padding in ("VALID", "SAME"):
            window = Window("max", size, stride, padding == "SAME")
            expected = nn.max_pool(x, (size, size), (stride, stride), padding)
            np.testing.assert_array_equal(window.pool(x), expected)
            assert window.positions((7, 7)) == expected.shape[1:3]
    expected = nn.avg_pool(x, (3, 3), (2, 2))
    np.testing.assert_allclose(Window("average", 3, 2).pool(x), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(Window("max").pool(x), x.max((1, 2)))
    assert Window("max", 3).positions((2, 2)) is None
