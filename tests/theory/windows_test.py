"""The largest of correlated Gaussians, and the weights of softmax: against simulation."""

import math

import jax
import numpy as np
import pytest

from initjax.support.errors import UserError
from initjax.theory.windows import attended_second_moment, attention_weight, max_moments


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.95])
def test_maximum_of_a_window(correlation):
    rng = np.random.default_rng(1)
    common, own = rng.standard_normal((100_000, 1)), rng.standard_normal((100_000, 4))
    z = math.sqrt(2) * (math.sqrt(correlation) * common + math.sqrt(1 - correlation) * own)
    largest = np.maximum(z.max(1), 0)
    found = max_moments(jax.nn.relu, 2.0, 4, correlation)
    for theory, drawn in zip(found, (largest, largest**2, largest > 0), strict=True):
        assert abs(theory - drawn.mean()) < 4 * drawn.std() / math.sqrt(len(drawn))


def test_the_largest_of_one_is_itself():
    np.testing.assert_allclose(max_moments(jax.nn.relu, 3.0, 1, 0.5)[1:], [1.5, 0.5], rtol=1e-3)
    np.testing.assert_allclose(max_moments(lambda z: z, 1.0, 2, 0.0)[0], math.pi**-0.5, rtol=1e-3)


@pytest.mark.parametrize(("variance", "number"), [(0.5, 4), (1.0, 16), (4.0, 16), (9.0, 8)])
def test_weights_of_softmax(variance, number):
    rng = np.random.default_rng(2)
    w = np.exp(math.sqrt(variance) * rng.standard_normal((20_000, number)))
    p = w / w.sum(1, keepdims=True)
    squares = (p**2).sum(1)
    error = squares.std() / math.sqrt(len(squares))
    assert abs(attention_weight(variance, number) - squares.mean()) < 4 * error
    values = math.sqrt(0.2) * rng.standard_normal((20_000, 1))
    values = values + math.sqrt(0.8) * rng.standard_normal((20_000, number))
    attended = (p * values).sum(1) ** 2
    error = attended.std() / math.sqrt(len(attended))
    theory = attended_second_moment(1.0, 0.2, variance, number)
    assert abs(theory - attended.mean()) < 4 * error


def test_uniform_attention_is_a_mean():
    np.testing.assert_allclose(attended_second_moment(2.0, 0.25, 0.0, 5), 0.5 + 1.5 / 5)
    assert attention_weight(3.0, 1) == 1.0
    assert attention_weight(1e4, 16) > 0.95
    with pytest.raises(UserError, match="number=0"):
        attention_weight(1.0, 0)
