"""Initializers that depend on the position in the kernel."""

import math

import jax
import numpy as np
import pytest

from initjax.distributions import SymmetricPowerLaw
from initjax.initializers import nspl, pli, scale_mixture
from initjax.initializers.pli import relative_radius
from initjax.support.errors import UserError

KEY = jax.random.key(6)
SHAPE = (5, 5, 128, 128)
FAN = 25 * 128


def draw(init, shape=SHAPE, key=KEY):
    return np.asarray(init(key, shape), np.float64)


def test_relative_radius():
    radius = relative_radius((5, 5))
    assert radius[2, 2] == 0 and radius[0, 0] == radius[4, 4] == 1
    assert radius[2, 0] == pytest.approx(1 / math.sqrt(2), rel=1e-9)
    assert relative_radius((1, 1)) == 0 and relative_radius(()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("normalize", ["kernel", "position"])
def test_pli_variance(normalize):
    init = pli(0.5, 1.5, radial=1.0, depth=0.5, ratio=30.0, normalize=normalize)
    w = draw(init)
    alphas = 1.0 + relative_radius((5, 5))
    laws = [SymmetricPowerLaw(alpha, 30.0) for alpha in alphas.ravel()]
    expected = np.array([law.std**2 for law in laws]).reshape(5, 5)
    expected = expected / expected.mean() if normalize == "kernel" else np.ones((5, 5))
    relative_error = math.sqrt((max(law.kurtosis for law in laws) - 1) / (128 * 128))
    measured = np.mean(w**2, axis=(2, 3)) * FAN / 2
    assert np.abs(measured / expected - 1).max() < 4.5 * relative_error
    if normalize == "kernel":  # one pair of cut-offs; energy concentrates at the centre
        assert np.abs(w[0, 0]).max() == pytest.approx(np.abs(w[2, 2]).max(), rel=0.01)
        assert measured[2, 2] > 1.5 * measured[0, 0]


@pytest.mark.slow
def test_pli_exponents_by_position():
    """The maximum-likelihood exponent at each radius is what was asked for."""
    w = np.abs(draw(pli(0.8, 0.8, radial=1.2, power=2.0, ratio=20.0)))
    for position, alpha in (((2, 2), 0.8), ((0, 0), 2.0), ((2, 0), 0.8 + 1.2 * 0.5)):
        sizes = w[position].ravel()
        mean_log = np.mean(np.log(sizes / sizes.max())) / math.log(20)
        law = np.asarray(SymmetricPowerLaw(alpha, 20.0).sample(jax.random.key(0), (200_000,)))
        logs = np.log(np.abs(law.astype(np.float64))) / math.log(20)
        error = logs.std() * math.sqrt(1 / sizes.size + 1 / logs.size)
        assert abs(mean_log - logs.mean()) < 4 * error + 1e-3


@pytest.mark.slow
def test_pli_of_a_dense_layer_is_the_plain_law():
    w = draw(pli(1.5, 1.5, ratio=30.0), (512, 256))
    plain = draw(nspl(1.5, 30.0), (512, 256), jax.random.key(1))
    for q in (0.6, 0.9, 0.99):
        assert np.quantile(w, q) == pytest.approx(np.quantile(plain, q), rel=0.03)


def test_pli_depth():
    assert pli(1.0, 2.0, depth=1.0)._law(0.0).alpha == 2.0
    assert pli(1.0, 2.0, depth=0.25)._law(1.0).alpha == 1.75


@pytest.mark.slow
@pytest.mark.parametrize("spreads", [(0.0, 0.0), (0.5, 0.5), (1.0, 0.3)])
def test_scale_mixture_variance_is_exact_in_expectation(spreads):
    init = scale_mixture(*spreads)
    w = draw(init)
    power = np.mean(w**2) * FAN / 2
    # Given the scales, whose mean squares are 1, the variance of w^2 is 2 s^4.
    by_cell = np.mean(w**2, axis=2)
    relative_error = math.sqrt(2 * np.mean(by_cell**2) / np.mean(by_cell) ** 2 / w.size)
    assert abs(power - 1) < 4 * relative_error
    kurtosis = np.mean(w**4) / np.mean(w**2) ** 2
    assert (kurtosis > 3.5) == (spreads != (0.0, 0.0))
    # Dividing out the scales leaves a normal law.
    residual = w / np.sqrt(by_cell)[:, :, None, :]
    assert np.mean(residual**4) == pytest.approx(3 * 128 / 130, rel=0.02)


@pytest.mark.slow
def test_scale_mixture_radial():
    w = draw(scale_mixture(0.0, 0.0, radial=1.0))
    std = w.std(axis=(2, 3))
    assert std[2, 2] / std[0, 0] == pytest.approx(math.e, rel=0.03)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: pli(depth=2), "depth=2"),
        (lambda: pli(power=0), "power=0"),
        (lambda: pli(ratio=1), "ratio=1"),
        (lambda: pli(normalize="both"), "normalize='both'"),
        (lambda: pli(mode="in"), "mode='in'"),
        (lambda: scale_mixture(-1), "position_spread=-1"),
        (lambda: scale_mixture(scale=0), "scale=0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(UserError, match=message):
        make()
