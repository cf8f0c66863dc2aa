"""Convolutions whose kernel is larger than their image."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from initjax.models import create_model
from initjax.models.convolution import convolve

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
DENSE = [  # image, kernel, strides, padding
    ((2, 2), (3, 3), 1, "SAME"),  # digits, third stage of a ResNet
    ((2, 2), (5, 5), 1, "SAME"),  # digits, third convolution of the small network
    ((1, 1), (3, 3), 1, "SAME"),
    ((2, 2), (3, 3), 2, "SAME"),
    ((1, 4), (3, 3), 1, "SAME"),
    ((1, 3), (2, 3), 2, "SAME"),
    ((2, 2), (3, 3), 1, ((1, 2), (0, 1))),
    ((2, 2), (3, 3), 2, ((3, 4), (5, 2))),  # outputs that see no input
    ((2, 2), (5, 5), 3, ((3, 3), (2, 4))),
]
PLAIN = [
    ((1, 2), (3, 3), 1, "VALID"),  # no output
    ((2, 2), (2, 2), 1, "VALID"),
    ((3, 3), (5, 5), 1, "SAME"),
    ((4, 4), (3, 3), 2, "SAME"),
]


@pytest.mark.parametrize(("size", "kernel", "strides", "padding"), DENSE + PLAIN)
def test_it_is_the_convolution_of_flax(size, kernel, strides, padding):
    use_bias = strides == 1  # each is compiled with its gradient: half of the cases
    settings = {"strides": strides, "padding": padding, "use_bias": use_bias}
    plain = nn.Conv(4, kernel, **settings)
    ours = nn.Conv(4, kernel, conv_general_dilated=convolve, **settings)
    x = jax.random.normal(KEY, (3, *size, 5))
    params, other = plain.init(KEY, x), ours.init(KEY, x)
    jax.tree.map(np.testing.assert_array_equal, params, other)
    weights = jax.random.normal(jax.random.key(1), plain.apply(params, x).shape)

    def outputs_and_gradients(layer):
        def loss(params, x):
            y = layer.apply(params, x)
            return (weights * jnp.tanh(y)).sum(), y

        (_, y), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)
        return y, gradients

    results = map(outputs_and_gradients, (ours, plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *results)


@pytest.mark.parametrize(("size", "kernel", "strides", "padding"), DENSE + PLAIN)
def test_it_is_dense_only_on_small_images(size, kernel, strides, padding):
    layer = nn.Conv(4, kernel, strides, padding, conv_general_dilated=convolve)
    x = jnp.zeros((3, *size, 5))
    program = str(jax.make_jaxpr(layer.apply)(layer.init(KEY, x), x))
    dense = (size, kernel, strides, padding) in DENSE
    assert ("dot_general" in program, "conv_general_dilated" in program) == (dense, not dense)


@pytest.mark.parametrize("settings", [{"kernel_dilation": 2}, {"feature_group_count": 5}])
def test_dilated_and_grouped_convolutions_stay(settings):
    x = jax.random.normal(KEY, (3, 2, 2, 5))
    plain, ours = (nn.Conv(5, (3, 3), conv_general_dilated=f, **settings) for f in (None, convolve))
    params = plain.init(KEY, x)
    np.testing.assert_array_equal(ours.apply(params, x), plain.apply(params, x))


@pytest.mark.parametrize("name", ["resnet20(depth=8)", "convnet", "lenet"])
def test_models_on_digits_keep_names_and_values(name, monkeypatch):
    x = jax.random.normal(KEY, (4, 8, 8, 1))
    model = create_model(name)
    variables = model.init(KEY, x)
    ours = model.apply(variables, x)
    monkeypatch.setattr("initjax.models.base.convolve", lax.conv_general_dilated)
    jax.tree.map(np.testing.assert_array_equal, variables, model.init(KEY, x))
    np.testing.assert_allclose(ours, model.apply(variables, x), atol=1e-5)
