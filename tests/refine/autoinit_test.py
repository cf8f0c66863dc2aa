import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from initjax import refine
from initjax.models import create_model

pytestmark = pytest.mark.slow

KEY = jax.random.key(7)


def scales(model, inputs, **settings):
    """fan_in Var(W) of every layer after autoinit, in the order of the layers, and the report."""
    params = model.init(jax.random.key(0), inputs[:1])["params"]
    refined, report = refine.autoinit(model, params, inputs, KEY, **settings)
    found = {}
    for layer in report.layers:
        kernel = np.asarray(refined[layer.path]["kernel"], np.float64)
        found[layer.path] = (kernel**2).mean() * kernel[..., 0].size
    return list(found.values()), report


def standard(shape):
    """Inputs with mean 0 and variance 1 to rounding, also of the calibration part."""
    x = jax.random.normal(jax.random.key(1), shape)
    fit = x[: shape[0] * 3 // 4]
    return (x - fit.mean()) / fit.std()


@pytest.mark.parametrize(
    ("activation", "scale"),
    [("relu", 2.0), ("tanh", 2.536175), ("linear", 1.0), ("gelu", 1 / 0.42522148), ("selu", 1.0)],
)
def test_scales_of_activations(activation, scale):
    """The reference's figures: He's rule after ReLU, LeCun's without an activation."""
    model = create_model(
        "mlp(depth=3, width=16)", activation=activation, kernel_init="uniform(scale=0.3)"
    )
    found, _ = scales(model, standard((64, 3, 3, 2)))
    np.testing.assert_allclose(found, [1, scale, scale, scale], rtol=2e-6)


def test_the_inputs_moment_counts():
    model = create_model("mlp(depth=1, width=16)", kernel_init="he_normal")
    found, _ = scales(model, 3 * standard((64, 3, 3, 2)) + 4)
    np.testing.assert_allclose(found, [1 / (9 + 16), 2], rtol=1e-5)


def test_biases_add_their_moments():
    """Constant biases: the next second moment is E relu(z + 1)^2."""
    model = create_model("mlp(depth=1, width=16)", kernel_init="he_normal", bias_init="ones")
    found, _ = scales(model, standard((64, 3, 3, 2)))
    z = np.random.default_rng(0).normal(size=2_000_000)
    moment = np.maximum(z + 1, 0) ** 2
    # 5 standard errors of the sampled moment
    tolerance = 5 * moment.std() / np.sqrt(z.size) / moment.mean()
    assert found[1] == pytest.approx(1 / moment.mean(), rel=tolerance)


def test_batch_normalization_and_shortcuts():
    """After normalization and ReLU He's rule; a sum of two independent signals halves it."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            y = nn.Dense(64)(nn.BatchNorm(use_running_average=not train)(x))
            x = nn.Dense(64)(nn.relu(y))
            return nn.Dense(64)(x + nn.Dense(64)(nn.tanh(y)))

    found, report = scales(Net(), 5 * standard((4096, 8)) + 2)
    np.testing.assert_allclose(found, [1, 2, 2.536175, 0.5], rtol=2e-3)
    assert report.after < 0.2


def test_measured_variances_of_a_model():
    """What is computed is near what is measured, from weights that are far from it."""
    model = create_model("lenet", kernel_init="normal(stddev=0.01)")
    inputs = jax.random.normal(jax.random.key(1), (32, 16, 16, 3))
    params = model.init(jax.random.key(0), inputs[:1])["params"]
    refined, report = refine.autoinit(model, params, inputs, KEY)
    # The values in a pooling window are not independent; the rest is exact for wide layers.
    assert all(0.3 < layer.after.variance < 3 for layer in report.layers), report.table()
    assert report.after < 0.6 < report.before
    ratio = refined["Conv_1"]["kernel"] / params["Conv_1"]["kernel"]
    np.testing.assert_allclose(ratio, ratio.ravel()[0], rtol=1e-5)


def test_padding_concatenation_dropout_and_maxima():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            y = nn.Dense(32, name="a")(x)
            y = nn.Dropout(0.5, deterministic=not train)(y)  # E y^2 = 2
            z = jnp.concatenate([y, jnp.zeros_like(y)], -1)  # 1
            z = nn.Dense(32, name="b")(z)
            z = jnp.pad(z, ((0, 0), (0, 32)))  # 1/2
            z = nn.Dense(32, name="c")(z)
            z = z.reshape(-1, 16, 2).max(-1)  # E max^2 = 1 of two normals
            return nn.Dense(4, name="d")(z)

    found, _ = scales(Net(), standard((2000, 50)))
    np.testing.assert_allclose(found, [1, 1, 2, 1], rtol=0.02)


def test_shared_and_dead_layers():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            shared = nn.Dense(8, name="shared")
            dead = nn.Dense(8, name="dead", kernel_init=nn.initializers.zeros)
            return nn.Dense(2, name="last")(shared(nn.relu(shared(x))) + dead(x))

    found, report = scales(Net(), standard((64, 8)))
    # The second use puts out half: 1 / (1/2) for what follows.
    np.testing.assert_allclose(found, [1, 0, 2], rtol=1e-5)
    assert "skipped: dead" in str(report)


def test_what_cannot_be_followed_is_left_and_named():
    inputs = standard((16, 4, 8))
    model = nn.MultiHeadDotProductAttention(num_heads=2)
    params = model.init(KEY, inputs)["params"]
    refined, report = refine.autoinit(model, params, inputs, KEY, held_out=inputs)
    for name in ("query", "key", "value"):  # of inputs of mean square 1
        square = float((refined[name]["kernel"] ** 2).mean())
        np.testing.assert_allclose(square * 8, 1, rtol=0.1)
    np.testing.assert_array_equal(refined["out"]["kernel"], params["out"]["kernel"])
    assert "weights of, out, which were left as they are" in str(report)
