"""Models of users: several axes of outputs, other collections, normalized weights."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from initjax import refine
from initjax.network.paths import get_layer
from initjax.support.errors import UserError

pytestmark = pytest.mark.slow

KEY = jax.random.key(7)
X = jax.random.normal(jax.random.key(1), (64, 4, 8))


class Attention(nn.Module):
    """Faults A3: biases of several axes, in every layer that Flax has with them."""

    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(num_heads=2, bias_init=nn.initializers.normal())(x)
        x = nn.relu(nn.DenseGeneral((3, 5), name="split")(x))
        x = nn.DenseGeneral(6, axis=(-2, -1), name="join")(x)
        return nn.Einsum((6, 2, 3), "btd,dhk->bthk", name="einsum")(x)


class Normalized(nn.Module):
    """Weights divided by their norms, and a buffer."""

    @nn.compact
    def __call__(self, x, train=False):
        shift = self.variable("buffers", "shift", lambda: jnp.full((8,), 0.25))
        x = nn.SpectralNorm(nn.Dense(16, name="spectral"))(x - shift.value, update_stats=train)
        x = nn.WeightNorm(nn.Dense(12, name="weight"))(nn.relu(x))
        return nn.Dense(4, name="plain")(nn.relu(x))


def test_layers_of_several_axes():
    model = Attention()
    params = model.init(jax.random.key(0), X)["params"]
    refined, report = refine.lsuv(model, params, X, KEY, tolerance=1e-3, held_out=X)
    assert [round(layer.after.variance, 2) for layer in report.layers] == [1.0] * 7
    kernels = [get_layer(p, "MultiHeadDotProductAttention_0/query") for p in (params, refined)]
    ratio = kernels[1]["kernel"] / kernels[0]["kernel"]
    np.testing.assert_allclose(ratio, ratio[0, 0, 0], rtol=1e-5)  # one number a layer
    np.testing.assert_array_equal(kernels[1]["bias"], kernels[0]["bias"])

    # One mean and variance for each of the heads' units: the channels are both axes.
    whole, report = refine.consistency(model, {"params": params}, X, KEY, held_out=X)
    assert report.after < 1e-6
    assert whole["params"]["einsum"]["bias"].shape == (2, 3)
    ratio = whole["params"]["einsum"]["kernel"] / params["einsum"]["kernel"]
    np.testing.assert_allclose(ratio, jnp.broadcast_to(ratio[:1], ratio.shape), rtol=1e-5)


def test_other_collections_and_normalized_weights():
    model = Normalized()
    variables = model.init(jax.random.key(0), X)
    assert set(variables) == {"params", "batch_stats", "buffers"}
    refined, report = refine.lsuv(model, variables, X, KEY, tolerance=1e-3, held_out=X)
    assert set(refined) == set(variables)
    assert refined["buffers"] is variables["buffers"]
    for leaf in jax.tree.leaves(refined):
        assert np.isfinite(leaf).all()
    assert any("normalizes the weights of spectral" in note for note in report.notes)
    variances = {layer.path: layer.after.variance for layer in report.layers}
    assert abs(variances["weight"] - 1) < 0.01
    assert abs(variances["plain"] - 1) < 0.01
    for name in ("spectral", "weight"):  # what nn.WeightNorm divides has its size beside it
        kernels = [tree["params"][name]["kernel"] for tree in (refined, variables)]
        np.testing.assert_array_equal(*kernels)
    with pytest.raises(UserError, match=r"Normalized reads variables.*\n.*all its collections"):
        refine.lsuv(model, variables["params"], X, KEY)

    kept, report = refine.autoinit(model, variables, X, KEY, held_out=X)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(kept))
    assert "weights of, spectral, weight" in str(report)


class Plain(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 4, rngs=rngs)])
        self.norm = nnx.BatchNorm(16, rngs=rngs)

    def __call__(self, x):
        return self.layers[1](nnx.relu(self.norm(self.layers[0](x))))


def test_nnx_models():
    model = Plain(nnx.Rngs(0))
    state = nnx.state(model)  # with the running statistics, which stay
    refined, report = refine.lsuv(model, state, X, KEY, tolerance=1e-3, held_out=X)
    assert [layer.path for layer in report.layers] == ["layers/0", "layers/1"]
    assert [round(layer.after.variance, 2) for layer in report.layers] == [1.0, 1.0]
    assert jax.tree.structure(refined) == jax.tree.structure(state)
    nnx.update(model, refined)
    z = model.layers[0](X)
    np.testing.assert_allclose(z.var(), 1, rtol=1e-2)


class Stack(nn.Module):
    @nn.compact
    def __call__(self, x):
        scan = nn.scan(
            lambda layer, x, _: (layer(x), None),
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True},
            length=3,
        )
        return nn.Dense(4, name="head")(scan(nn.Dense(8, name="layers"), x, None)[0])


def test_stacked_layers():
    params = Stack().init(jax.random.key(0), X)["params"]
    with pytest.raises(UserError, match=r"layers holds the layers of an nn.scan .*\n.*in a loop"):
        refine.lsuv(Stack(), params, X, KEY)
    refined, report = refine.pca_filters(Stack(), params, X, KEY, held_out=X)
    np.testing.assert_array_equal(refined["layers"]["kernel"], params["layers"]["kernel"])
    assert report.layers[-1].objective_after < 1e-2
    assert "layers: no patches" in str(report)
