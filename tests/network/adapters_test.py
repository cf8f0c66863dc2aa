"""Adapters: how they begin, and that the network begins as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from initjax.network import create_adapters, merge_adapters
from initjax.network.layouts import Layout
from initjax.support.errors import UserError

METHODS = ("lora", "rslora", "pissa", "olora", "lora_ga")
RNG = np.random.default_rng(0)
PARAMS = {
    "Dense_0": {"kernel": jnp.asarray(RNG.standard_normal((24, 16)), jnp.float32)},
    "Conv_0": {"kernel": jnp.asarray(RNG.standard_normal((3, 3, 2, 12)), jnp.float32)},
    "bias": jnp.ones(3),
}
GRADIENTS = jax.tree.map(lambda x: jnp.asarray(RNG.standard_normal(x.shape), jnp.float32), PARAMS)


def create(method, params=PARAMS, **options):
    given = {"gradients": GRADIENTS} if method == "lora_ga" else {}
    return create_adapters(params, method, key=jax.random.key(0), **{"rank": 4} | given | options)


@pytest.mark.parametrize("method", METHODS)
def test_the_network_begins_as_it_was(method):
    """Equal to 1e-6; for LoRA, whose B is 0, to the last bit."""
    frozen, adapters = create(method, alpha=6.0)
    assert set(adapters) == {"Dense_0/kernel", "Conv_0/kernel"}
    assert adapters["Conv_0/kernel"].a.shape == (18, 4)
    merged = merge_adapters(frozen, adapters)
    exact = method in ("lora", "rslora")
    for a, b in zip(jax.tree.leaves(merged), jax.tree.leaves(PARAMS), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=0 if exact else 3e-6)
    assert frozen["bias"] is PARAMS["bias"]
    assert (frozen["Dense_0"]["kernel"] is PARAMS["Dense_0"]["kernel"]) == exact


def test_lora():
    """A uniform on +-1/sqrt(in): mean square 1/(3 in) within 4 standard errors."""
    params = {"kernel": jnp.zeros((400, 64))}
    adapter = create("lora", params, rank=32, alpha=16)[1]["kernel"]
    a, b, s = adapter.a, adapter.b, adapter.scale
    assert len(jax.tree.leaves(adapter)) == 2  # no optimizer moves the scale
    assert not b.any() and s == 0.5
    assert abs(a).max() <= 1 / 20 and abs(a).max() > 0.99 / 20
    error = np.sqrt((9 / 5 - 1) / a.size)
    assert float((a**2).mean()) == pytest.approx(1 / 1200, rel=4 * error)
    assert create("rslora", params, rank=16, alpha=8)[1]["kernel"].scale == 2.0
    assert create("lora", params)[1]["kernel"].scale == 1.0


@pytest.mark.parametrize("alpha", [None, 10.0])
def test_pissa(alpha):
    """The rest's norm is the next singular value; both factors have the same norms."""
    w = np.asarray(PARAMS["Dense_0"]["kernel"], np.float64)
    frozen, adapters = create("pissa", alpha=alpha)
    values = np.linalg.svd(w, compute_uv=False)
    rest = np.linalg.svd(np.asarray(frozen["Dense_0"]["kernel"], np.float64), compute_uv=False)
    np.testing.assert_allclose(rest[:12], values[4:], rtol=2e-6)
    a, b, s = (getattr(adapters["Dense_0/kernel"], name) for name in ("a", "b", "scale"))
    for factor in (np.asarray(a).T @ a, b @ np.asarray(b).T):
        np.testing.assert_allclose(factor, np.diag(values[:4] / s), atol=1e-5)


def test_olora():
    """B is orthonormal, and W0 loses its first r outputs' span."""
    frozen, adapters = create("olora", alpha=8.0)
    a, b, s = (getattr(adapters["Dense_0/kernel"], name) for name in ("a", "b", "scale"))
    np.testing.assert_allclose(b @ b.T, np.eye(4), atol=1e-6)
    w = np.asarray(PARAMS["Dense_0"]["kernel"])
    np.testing.assert_allclose(a, w @ np.asarray(b).T, atol=2e-6)  # R_r^T
    np.testing.assert_allclose(frozen["Dense_0"]["kernel"], w - s * (a @ b), atol=2e-6)


def test_lora_ga():
    """Against the source's formulas, with (out, in) weights."""
    g = np.asarray(GRADIENTS["Dense_0"]["kernel"], np.float64).T
    u, _, vt = np.linalg.svd(g, full_matrices=False)
    _, adapters = create("lora_ga")
    a, b = adapters["Dense_0/kernel"].a, adapters["Dense_0/kernel"].b
    size = 16**0.25 / 16**0.5
    for found, expected in ((b.T, u[:, :4]), (a, vt[4:8].T)):
        signs = np.sign(np.sum(found * expected, 0))
        np.testing.assert_allclose(found, size * expected * signs, atol=1e-4)
    # One step of gradient descent on A and B moves W along the gradient's best rank 2 r part.
    grad_a, grad_b = g.T @ np.asarray(b).T, np.asarray(a).T @ g.T
    step = grad_a @ b + a @ grad_b
    best = (u[:, :8] * np.linalg.svd(g, compute_uv=False)[:8]) @ vt[:8]
    np.testing.assert_allclose(step.T, size**2 * best, atol=1e-4)


def test_axes_of_attention_and_gradients_through_the_sum():
    params = {"query": {"kernel": jnp.asarray(RNG.standard_normal((6, 2, 4)), jnp.float32)}}
    with pytest.raises(UserError, match="which axes are inputs is not known"):
        create("pissa", params)
    layouts = {"query/kernel": Layout.read("ioo")}
    frozen, adapters = create("pissa", params, layouts=layouts)
    assert adapters["query/kernel"].b.shape == (4, 8)

    def loss(adapters):
        return (merge_adapters(frozen, adapters, layouts)["query"]["kernel"] ** 2).sum() / 2

    grads = jax.grad(loss)(adapters)["query/kernel"]
    w = params["query"]["kernel"].reshape(6, 8)
    np.testing.assert_allclose(grads.a, w @ adapters["query/kernel"].b.T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("lorra", {}, "Did you mean 'lora'"),
        ("lora", {"rank": 0}, "rank=0 must be at least 1"),
        ("lora", {"rank": 13}, "Conv_0/kernel: rank=13 is more than (18, 12) has"),
        ("lora", {"pattern": "weight"}, "pattern='weight' matches no leaf"),
        ("lora", {"r": 3}, "It takes: rank=8, alpha=None"),
        ("lora_ga", {"gradients": None}, "needs gradients of a batch"),
        ("lora_ga", {"rank": 7}, "rank=7: lora_ga needs twice"),
        ("pissa", {"alpha": -1}, "alpha=-1.0 must be positive"),
    ],
)
def test_errors(method, options, message):
    with pytest.raises(UserError) as error:
        create(method, **options)
    assert message in str(error.value) and len(str(error.value).splitlines()) <= 2
