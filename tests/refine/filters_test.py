"""Filters from patches, and Admin's shortcuts: against their formulas in NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from initjax import refine
from initjax.support.errors import UserError

pytestmark = pytest.mark.slow

KEY = jax.random.key(7)
X = jax.random.normal(jax.random.key(1), (64, 6, 6, 2)) * jnp.array([1.0, 3.0]) + 0.5


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3), strides=2, padding="VALID", name="conv")(x))
        return nn.Dense(4, use_bias=False, name="dense")(x.reshape(len(x), -1))


def patches(x):
    """[rows, 3 * 3 * 2] of windows 3x3 with stride 2."""
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(x, np.float64), (3, 3), (1, 2))
    return windows[:, ::2, ::2].transpose(0, 1, 2, 4, 5, 3).reshape(-1, 18)


def test_principal_components():
    params = Net().init(KEY, X)["params"]
    refined, report = refine.pca_filters(Net(), {"params": params}, X, KEY, held_out=X)
    refined = refined["params"]
    kernel = np.asarray(refined["conv"]["kernel"], np.float64).reshape(18, 8)
    seen = patches(X)
    covariance = np.cov(seen.T, bias=True)
    s = np.linalg.eigvalsh(covariance)
    # Each is an eigenvector of the covariance, the largest first, and puts out variance 1.
    np.testing.assert_allclose(covariance @ kernel, kernel * s[::-1][:8], atol=1e-4)
    z = seen @ kernel + np.asarray(refined["conv"]["bias"])
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(np.cov(z.T, bias=True), np.eye(8), atol=1e-4)
    assert not report.worse
    assert report.layers[0].objective_after < 1e-3  # the other has no bias: its means stay


class Wide(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(40, name="wide")(x)


def test_more_filters_than_directions():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((400, 3)) @ rng.standard_normal((3, 6)), jnp.float32)
    params = Wide().init(KEY, x)["params"]
    for method in (refine.pca_filters, refine.kmeans_filters):
        refined, report = method(Wide(), params, x, KEY, held_out=x)
        z = np.asarray(x @ refined["wide"]["kernel"] + refined["wide"]["bias"])
        np.testing.assert_allclose(z.var(0), 1, rtol=1e-2)
        assert report.after < 1e-2
        assert len(np.unique(np.round(z[0], 4))) == 40


def test_centres_of_clusters():
    """Four clusters on the axes: k-means of their whitened patches finds their directions."""
    rng = np.random.default_rng(0)
    corners = np.array([[4.0, 0], [-4, 0], [0, 4], [0, -4]])
    x = jnp.asarray(corners.repeat(100, 0) + 0.1 * rng.standard_normal((400, 2)), jnp.float32)
    model = nn.Dense(12)
    params = {"kernel": jnp.zeros((2, 12)), "bias": jnp.zeros(12)}
    refined, _ = refine.kmeans_filters(model, params, x, KEY, held_out=x)
    kernel = np.asarray(refined["kernel"])
    share = (kernel**2).max(0) / (kernel**2).sum(0)
    np.testing.assert_array_less(0.97, share)
    assert set(np.abs(kernel).argmax(0)) == {0, 1}
    with pytest.raises(UserError, match="iterations=0"):
        refine.kmeans_filters(model, params, x, KEY, iterations=0)


class PostNorm(nn.Module):
    """x_i = LN(omega_i x + f_i(x)), f_i a perceptron with larger weights the deeper it is."""

    depth: int = 12

    @nn.compact
    def __call__(self, x):
        for i in range(self.depth):
            omega = self.param(f"omega_{i}", nn.initializers.ones, ())
            init = nn.initializers.variance_scaling(1 + i / 4, "fan_in", "normal")
            f = nn.Dense(32, kernel_init=init, name=f"f_{i}")(x)
            x = nn.LayerNorm()(omega * x + f)
        return x


def test_admin():
    x = jax.random.normal(KEY, (64, 32))
    model = PostNorm()
    params = model.init(jax.random.key(2), x)["params"]
    refined, report = refine.admin(model, params, x, KEY, branch=r"^f_\d+$", held_out=x)
    total, given = 0.0, x
    for i in range(12):  # by hand, with omega = 1
        omega = float(refined[f"omega_{i}"])
        np.testing.assert_allclose(omega, np.sqrt(total) if i else 1, rtol=1e-4)
        f = given @ params[f"f_{i}"]["kernel"]
        total += float(f.var())
        given = given + f
        given = given - given.mean(-1, keepdims=True)
        given = given / given.std(-1, keepdims=True)
        np.testing.assert_array_equal(refined[f"f_{i}"]["kernel"], params[f"f_{i}"]["kernel"])
    assert report.before > 8
    assert report.after < 4
    with pytest.raises(UserError, match=r"finds 12 parameters .* 0 layers \(none\)"):
        refine.admin(model, params, x, KEY)
