"""The spectral condition: ||W|| = sqrt(out / in)."""

import jax
import numpy as np
import pytest

import initjax


def power_iteration(w, steps=3000):
    """The spectral norm, by an oracle of its own."""
    gram = np.float64(w).T @ np.float64(w)
    v = np.random.default_rng(0).standard_normal(len(gram))
    for _ in range(steps):
        v = gram @ v
        v /= np.linalg.norm(v)
    return np.linalg.norm(np.float64(w) @ v)


@pytest.mark.parametrize("shape", [(64, 16), (16, 64), (32, 32), (3, 3, 4, 8)])
def test_the_norm_is_exact(shape):
    w = np.asarray(initjax.spectral(2.0)(jax.random.key(0), shape)).reshape(-1, shape[-1])
    expected = 2 * np.sqrt(w.shape[1] / w.shape[0])
    assert power_iteration(w) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "sd", "norm"),
    [((1024, 256), 0.015625, 0.75), ((256, 1024), 0.0625, 3.0), ((512, 512), 512**-0.5, 2.0)],
)
def test_independent_weights(shape, sd, norm):
    """The source's sd; the norm tends to sd (sqrt in + sqrt out), below by about n^(-2/3)."""
    w = np.asarray(initjax.spectral_normal()(jax.random.key(1), shape))
    assert w.std() == pytest.approx(sd, rel=4 / np.sqrt(2 * w.size))
    assert np.linalg.norm(w, 2) == pytest.approx(norm, rel=0.03)


def test_texts():
    for text in ("spectral(scale=2.0)", "spectral_normal()", "spectral_normal(scale=0.5)"):
        assert repr(initjax.get(text)) == text
