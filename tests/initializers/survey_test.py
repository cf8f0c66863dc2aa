"""The survey's Xavier and Kaiming: what they draw, and that the second does not carry a signal."""

import itertools
import math

import jax
import numpy as np
import pytest

import initjax
from initjax.models import create_model
from initjax.signal import measure
from initjax.support.errors import UserError

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("activation", "same"),
    [
        ("relu", "he_untruncated_normal"),
        ("tanh", "xavier_untruncated_normal"),
        ("sigmoid", "xavier_untruncated_normal"),
    ],
)
def test_xavier_switches_on_the_activation(activation, same):
    assert initjax.get(f"survey_xavier(activation='{activation}')") == initjax.get(same)


def test_there_is_a_xavier_for_three_activations():
    with pytest.raises(UserError, match="activation='gelu' is not one of relu, sigmoid, tanh"):
        initjax.survey_xavier(activation="gelu")


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_kaiming_is_half_a_normal_law(activation):
    """|w| sqrt(fan_in) / gain is |z|: its first two moments, and its median."""
    w = np.asarray(initjax.survey_kaiming(activation=activation)(KEY, (400, 500)), np.float64)
    z = w * math.sqrt(400) / initjax.gain(activation)
    assert z.min() >= 0
    assert z.mean() == pytest.approx(math.sqrt(2 / math.pi), abs=4 * 0.603 / math.sqrt(z.size))
    assert np.mean(z**2) == pytest.approx(1, abs=4 * math.sqrt(2 / z.size))
    # The density of |z| at its median .6745 is .6356.
    assert np.median(z) == pytest.approx(0.6745, abs=4 * 0.5 / 0.6356 / math.sqrt(z.size))


@pytest.mark.slow
def test_kaimings_mean_explodes_with_width():
    """By 2 sqrt(width / pi) a layer, until the outputs of all inputs are one direction."""
    x = jax.random.uniform(jax.random.key(1), (64, 16, 16, 1))  # images: not negative
    model = create_model("mlp(depth=4, width=256)", kernel_init="he_normal")
    he = model.init(KEY, x)["params"]
    half = initjax.reinitialize(he, [("kernel", "survey_kaiming")], KEY)
    signals = [measure(model, {"params": params}, x) for params in (he, half)]
    assert signals[0].verdict == "healthy" and "exploding" in signals[1].verdict
    means = [layer.mean for layer in signals[1].layers[:-1]]
    grown = [after / before for before, after in itertools.pairwise(means)]
    # Units have means of their own, which the next layer weighs.
    assert grown == pytest.approx([2 * math.sqrt(256 / math.pi)] * 3, rel=0.02)
    alike = [signal.layers[-1].correlation for signal in signals]
    assert alike[0] < 0.95 and alike[1] > 0.999
