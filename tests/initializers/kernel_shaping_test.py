"""TAT and DKS: their conditions by another quadrature, and what they do to a deep network."""

import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from initjax.initializers import dks, tat
from initjax.support.errors import UserError
from initjax.theory.kernel_shaping import leaky_relu_cosine, tailored_slope

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


@pytest.mark.parametrize(
    "depth, slope, tolerance",
    # With 30 digits .57043953106 at depth 100; the reference has .5704394311.
    [(50, 0.4305229485, 1e-9), (100, 0.5704395311, 1e-9), (100, 0.5704394311, 2e-7), (10, 0, 0)],
)
def test_tat(depth, slope, tolerance):
    assert tat(depth=depth).activation.slope == pytest.approx(slope, abs=tolerance)


def test_relu_at_depth_10_needs_no_tat():
    cosine = 0.0
    for _ in range(10):
        cosine = leaky_relu_cosine(cosine, 0.0)
    assert cosine == pytest.approx(0.8715360, abs=1e-6)
    assert cosine == pytest.approx(0.871535516, abs=1e-9)


def test_cosine_map_of_leaky_relu():
    """By quadrature in two dimensions."""
    phi, c = tat(depth=50).activation, 0.3
    u, v = np.meshgrid(NODES, NODES)
    with jax.enable_x64(True):
        left, right = np.asarray(phi(u)), np.asarray(phi(c * u + math.sqrt(1 - c * c) * v))
    found = np.sum(np.outer(WEIGHTS, WEIGHTS) * left * right)
    assert found == pytest.approx(leaky_relu_cosine(c, phi.slope), abs=3e-3)  # it has a kink
    assert leaky_relu_cosine(1.0, phi.slope) == 1


def test_shortcuts_need_less():
    """A block maps c to w^2 c + (1 - w^2) C(c)."""
    weight = 0.8
    slope = tailored_slope(50, 0.9, weight)
    assert slope < tailored_slope(50)
    cosine = 0.0
    for _ in range(50):
        cosine = weight**2 * cosine + (1 - weight**2) * leaky_relu_cosine(cosine, slope)
    assert cosine == pytest.approx(0.9, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "activation, depth, zeta",
    [
        ("tanh", 50, 1.5),
        ("softplus", 100, 1.5),
        pytest.param("silu", 10, 2.0, marks=pytest.mark.slow),
    ],
)
def test_the_four_conditions(activation, depth, zeta):
    phi = dks(activation, depth=depth, zeta=zeta).activation
    assert pickle.loads(pickle.dumps(phi)) == phi
    with jax.enable_x64(True):

        def q(variance):
            return (phi(jnp.sqrt(variance) * NODES) ** 2) @ WEIGHTS

        slope = jax.vmap(jax.grad(phi))(jnp.asarray(NODES))
        assert float(q(1.0)) == pytest.approx(1, abs=1e-9)
        assert float(jax.grad(q)(1.0)) == pytest.approx(1, abs=1e-8)
        assert float(phi(NODES) @ WEIGHTS) == pytest.approx(0, abs=1e-9)  # C(0) is its square
        assert float(slope**2 @ WEIGHTS) ** depth == pytest.approx(zeta, abs=1e-6)


@pytest.mark.slow
def test_a_deep_network_keeps_its_signals():
    """Fifty layers of width 64: plain tanh shrinks the signal, as q_l ~ 1 / (2 l), DKS does not."""
    shaped, width = dks("tanh", depth=50), 64
    keys = jax.random.split(jax.random.key(0), 50)
    layers = jax.vmap(lambda key: shaped.kernel_init(key, (width, width)))(keys)
    x = jax.random.normal(keys[0], (8, width))

    def last_size(activation):
        y, _ = jax.lax.scan(lambda x, w: (activation(x @ w), None), x, layers)
        return float((y**2).mean())

    assert 0.5 < last_size(shaped.activation) < 2
    assert last_size(jnp.tanh) < 0.05
    assert not shaped.bias_init(keys[0], (3,)).any()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: tat(depth=0), "depth=0"),
        (lambda: tat(depth=5, eta=1.0), "eta=1.0"),
        (lambda: tat(depth=5, shortcut_weight=1.0), "shortcut_weight=1.0"),
        (lambda: dks("tanh", depth=5, zeta=1.0), "zeta=1.0"),
        pytest.param(lambda: dks("linear", depth=5), "linear.*no scales", marks=pytest.mark.slow),
    ],
)
def test_refuses(call, message):
    with pytest.raises(UserError, match=message):
        call()
