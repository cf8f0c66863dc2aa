"""initjax.fit.factors: scales that multiply are found, and a heavy-tailed law is none of them."""

import numpy as np

from initjax.fit.factors import divide_by_scales, kurtosis

SHAPE = (48, 32, 9)  # output, input, position
FACTORS = [(0,), (1,), (2,)]


def scales(rng, axis):
    shape = [1] * len(SHAPE)
    shape[axis] = SHAPE[axis]
    return np.exp(0.6 * rng.standard_normal(shape))


def test_a_mixture_of_scales_becomes_normal():
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(SHAPE)
    mixture = normal * scales(rng, 0) * scales(rng, 1) * scales(rng, 2)
    assert kurtosis(mixture) > 9
    divided = divide_by_scales(mixture, FACTORS)
    # The scales of the mixture drop out: what is left is that of the normal weights alone.
    np.testing.assert_allclose(divided, divide_by_scales(normal, FACTORS), rtol=0.01)
    assert abs(kurtosis(divided) - 3) < 4 * np.sqrt(24 / normal.size) + 0.02
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        np.testing.assert_allclose(np.square(divided).mean(others), 1, atol=2e-3)
    # One factor is not enough.
    assert kurtosis(divide_by_scales(mixture, [(0,)])) > 5


def test_a_heavy_tailed_law_stays():
    weights = np.random.default_rng(1).laplace(size=SHAPE)
    before = kurtosis(weights)
    assert abs(before - 6) < 0.5
    assert 0.9 * before < kurtosis(divide_by_scales(weights, FACTORS)) < before


def test_one_division_of_normal_weights_by_few():
    """3 m / (m + 2), exactly: the squares of m weights over their sum are Dirichlet's."""
    normal = np.random.default_rng(2).standard_normal((20_000, 9))
    divided = divide_by_scales(normal, [(0,)])
    assert abs(kurtosis(divided) - 27 / 11) < 4 * np.square(np.square(divided)).std() / 424
    assert kurtosis(divided) < 2.5


def test_a_scale_may_differ_along_two_axes():
    rng = np.random.default_rng(3)
    normal = rng.standard_normal((4, 8, 3000))
    scale = np.exp(rng.standard_normal((4, 8, 1)))
    np.testing.assert_allclose(
        divide_by_scales(normal * scale, [(0, 1)]), divide_by_scales(normal, [(0, 1)]), rtol=1e-9
    )


def test_weights_that_are_zero_stay_zero():
    weights = np.random.default_rng(4).standard_normal((5, 50))
    weights[2] = 0
    divided = divide_by_scales(weights, [(0,), (1,)])
    assert (divided[2] == 0).all() and np.isfinite(divided).all()
    assert (np.sign(divided) == np.sign(weights)).all()
