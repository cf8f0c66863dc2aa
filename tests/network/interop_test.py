"""Other libraries' own layers, with our initializers: the fans, the keys, what is saved."""

import json

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from penzai import pz

import initjax
from initjax.network.keras_initializer import keras
from initjax.network.rules import reinitialize
from initjax.support.errors import UserError

KEY = jax.random.key(0)
HE = initjax.he_normal()


def check_second_moment(w, expected):
    """Within five standard errors; those of a truncated normal's squares are below sqrt(2 / n)."""
    w = np.asarray(w, np.float64)
    assert abs((w**2).mean() / expected - 1) < 5 * np.sqrt(2 / w.size), w.shape


@pytest.mark.slow
def test_haiku_gives_its_own_key():
    init = initjax.nspl(ratio=30)
    model = hk.transform(lambda x: hk.Linear(16, w_init=init)(x))
    w = model.init(KEY, jnp.ones((1, 64)))["linear"]["w"]
    key = hk.transform(lambda: hk.next_rng_key()).apply({}, KEY)
    np.testing.assert_array_equal(w, init(key, (64, 16), jnp.float32))
    bf16 = model.init(KEY, jnp.ones((1, 64), jnp.bfloat16))["linear"]["w"]
    assert bf16.dtype == jnp.bfloat16


HAIKU = {
    "convolution": (lambda: hk.Conv2D(64, 3, w_init=HE), 2 / (9 * 32)),
    "groups": (lambda: hk.Conv2D(64, 3, feature_group_count=4, w_init=HE), 2 / (9 * 8)),
    # Its kernel is (4, 4, out, in), and a unit sees a quarter of it.
    "transposed": (lambda: hk.Conv2DTranspose(64, 4, stride=2, w_init=HE), 2 / (16 * 32 / 4)),
    "named": (lambda: hk.Conv2DTranspose(64, 3, w_init=HE, name="up"), 2 / (9 * 32)),
    # 32 groups: an input meets 2 outputs.
    "depthwise": (
        lambda: hk.DepthwiseConv2D(2, 3, w_init=initjax.he_normal(mode="fan_out")),
        2 / (9 * 2),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HAIKU)
def test_haiku_convolutions(name):
    make, expected = HAIKU[name]
    params = hk.transform(lambda x: make()(x)).init(KEY, jnp.ones((1, 8, 8, 32)))
    (layer,) = params.values()
    check_second_moment(layer["w"], expected)


@pytest.mark.slow
def test_haiku_attention():
    def attend(x):
        return hk.MultiHeadAttention(4, 16, model_size=64, w_init=HE)(x, x, x)

    params = hk.transform(attend).init(KEY, jnp.ones((2, 3, 64)))
    assert len(params) == 4
    for layer in params.values():
        check_second_moment(layer["w"], 2 / 64)


@pytest.mark.parametrize("factory", [initjax.he_normal, initjax.nspl, initjax.orthogonal])
def test_a_factory_says_call_it(factory):
    def linear(x):
        return hk.Linear(16, w_init=factory)(x)

    calls = [
        lambda: hk.transform(linear).init(KEY, jnp.ones((1, 64))),
        lambda: keras.layers.Dense(16, kernel_initializer=factory)(jnp.ones((1, 64))),
        lambda: pz.nn.Linear.from_config("a", KEY, {"x": 64}, {"y": 16}, initializer=factory),
    ]
    for call in calls:
        with pytest.raises(UserError, match=r"makes an initializer, and was given a .*\nCall it"):
            call()


def test_outside_of_a_library_a_key_is_needed():
    with pytest.raises(UserError, match=r"key=\(3, 4\) is no key.\n.*initjax.for_keras"):
        initjax.nspl()((3, 4), jnp.float32)
    with pytest.raises(UserError, match=r"Give|for_keras"):
        keras.layers.Dense(16, kernel_initializer=HE)(jnp.ones((1, 64)))


def test_keras_equals_the_initializer():
    init = initjax.for_keras("nspl(ratio=30)", seed=3)
    layer = keras.layers.Dense(16, kernel_initializer=init)
    layer.build((None, 64))
    expected = initjax.get("nspl(ratio=30)")(jax.random.key(3), (64, 16), jnp.float32)
    np.testing.assert_array_equal(layer.kernel.value, expected)


KERAS = {
    "convolution": (lambda i: keras.layers.Conv2D(64, 3, kernel_initializer=i), 2 / (9 * 32)),
    "one axis": (lambda i: keras.layers.Conv1D(64, 4, kernel_initializer=i), 2 / (4 * 32)),
    "groups": (
        lambda i: keras.layers.Conv2D(64, 3, groups=4, kernel_initializer=i),
        2 / (9 * 8),
    ),
    "transposed": (
        lambda i: keras.layers.Conv2DTranspose(64, 4, strides=2, kernel_initializer=i),
        2 / (16 * 32 / 4),
    ),
    "depthwise": (
        lambda i: keras.layers.DepthwiseConv2D(3, depth_multiplier=8, depthwise_initializer=i),
        2 / 9,
    ),
    "einsum": (
        lambda i: keras.layers.EinsumDense("ab,bhk->ahk", (4, 16), kernel_initializer=i),
        2 / 32,
    ),
    "embedding": (lambda i: keras.layers.Embedding(32, 64, embeddings_initializer=i), 2 / 32),
}


@pytest.mark.parametrize("name", KERAS)
def test_keras_layers(name):
    make, expected = KERAS[name]
    layer = make(initjax.for_keras("he_normal", seed=1))
    axes = {"one axis": 1, "einsum": 0, "embedding": 0}.get(name, 2)
    layer.build((None, *(8,) * axes, 32))
    check_second_moment(layer.weights[0].value, expected)


def test_keras_depthwise_and_pointwise():
    init = initjax.for_keras(initjax.he_normal(mode="fan_out"), seed=1)
    layer = keras.layers.SeparableConv2D(
        64, 3, depth_multiplier=8, depthwise_initializer=init, pointwise_initializer=init
    )
    layer.build((None, 8, 8, 32))
    check_second_moment(layer.depthwise_kernel.value, 2 / (9 * 8))
    check_second_moment(layer.pointwise_kernel.value, 2 / 64)


@pytest.mark.slow
def test_keras_attention_and_gates():
    layer = keras.layers.MultiHeadAttention(4, 16, kernel_initializer=initjax.for_keras(HE))
    layer.build((None, 3, 64), (None, 3, 64))
    kernels = [v.value for v in layer.weights if v.path.endswith("kernel")]
    assert sorted(w.shape for w in kernels) == [(4, 16, 64), (64, 4, 16), (64, 4, 16), (64, 4, 16)]
    for w in kernels:
        check_second_moment(w, 2 / 64)
    assert not np.array_equal(*[w for w in kernels if w.shape == (64, 4, 16)][:2])
    init = initjax.for_keras("glorot_normal", seed=1)
    cell = keras.layers.LSTM(32, kernel_initializer=init)
    cell.build((None, 3, 64))
    check_second_moment(cell.weights[0].value, 2 / (64 + 32))


class Experts(keras.layers.Layer):
    """A layer of one's own, of which no convention tells the axes."""

    def __init__(self, initializer):
        super().__init__()
        self.initializer = initializer

    def build(self, shape):
        self.w = self.add_weight(shape=(12, 64, 64), initializer=self.initializer)


@pytest.mark.slow
def test_keras_asks_for_the_axes_of_other_layers():
    with pytest.raises(UserError, match=r"\(12, 64, 64\) .* not known.\nGive .*layout="):
        Experts(initjax.for_keras("he_normal")).build(())
    layer = Experts(initjax.for_keras("he_normal", seed=1, layout="sio"))
    layer.build(())
    check_second_moment(layer.w.value, 2 / 64)
    with pytest.raises(UserError, match="seed=-1"):
        initjax.for_keras("he_normal", seed=-1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own
def test_keras_models_are_saved_with_their_initializers(tmp_path):
    init = initjax.for_keras(initjax.nspl(ratio=30), seed=3)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(16, kernel_initializer=init)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.weights[0].value, model.weights[0].value)
    config = json.loads(json.dumps(keras.initializers.serialize(init)))
    again = keras.initializers.get(config)
    assert again.init == init.init
    np.testing.assert_array_equal(again((64, 16)), init((64, 16)))
    with pytest.raises(UserError, match="has no text to save"):
        initjax.for_keras(jax.nn.initializers.he_normal()).get_config()


@pytest.mark.slow
def test_keras_seeds_are_those_of_keras():
    drawn = []
    for seed in (0, 0, 1):
        keras.utils.set_random_seed(seed)
        drawn.append(initjax.for_keras("he_normal")((64, 16)))
    np.testing.assert_array_equal(*drawn[:2])
    assert not np.array_equal(*drawn[1:])


@pytest.mark.slow
def test_equinox_models_by_rules():
    class Model(eqx.Module):
        attention: eqx.nn.MultiheadAttention
        convolution: eqx.nn.Conv2d
        up: eqx.nn.ConvTranspose2d
        mlp: eqx.nn.MLP  # whose activations are leaves too

    model = eqx.filter_eval_shape(  # shapes are enough
        lambda: Model(
            eqx.nn.MultiheadAttention(4, 64, key=KEY),
            eqx.nn.Conv2d(32, 64, 3, groups=4, key=KEY),
            eqx.nn.ConvTranspose2d(32, 64, 4, stride=2, key=KEY),
            eqx.nn.MLP(64, 8, 128, 1, key=KEY),
        )
    )
    new = reinitialize(model, [("weight", HE), ("bias", "zeros")], KEY)
    for name in ("query_proj", "key_proj", "value_proj", "output_proj"):
        check_second_moment(getattr(new.attention, name).weight, 2 / 64)
    check_second_moment(new.convolution.weight, 2 / (9 * 8))
    check_second_moment(new.up.weight, 2 / (16 * 32 / 4))
    check_second_moment(new.mlp.layers[1].weight, 2 / 128)
    assert new.mlp.activation is model.mlp.activation
    assert not new.mlp.layers[0].bias.any()


@pytest.mark.slow
def test_penzai_says_its_axes():
    linear = pz.nn.Linear.from_config(
        "l", KEY, {"x": 64}, {"head": 4, "size": 16}, {"expert": 3}, initializer=HE
    )
    weights = linear.weights.value
    assert weights.named_shape == {"expert": 3, "x": 64, "head": 4, "size": 16}
    check_second_moment(weights.unwrap("expert", "x", "head", "size"), 2 / 64)
    key = jax.random.key(5)
    drawn = initjax.nspl()(key, input_axes={"x": 64}, output_axes={"y": 16}, dtype=jnp.float32)
    np.testing.assert_array_equal(
        drawn.unwrap("x", "y"), initjax.nspl()(key, (64, 16), jnp.float32)
    )
    affine = pz.nn.Affine.from_config(
        "a", KEY, {"x": 64}, {"y": 16}, linear_initializer=HE, bias_initializer=initjax.zeros
    )
    check_second_moment(affine.sublayers[0].weights.value.unwrap("x", "y"), 2 / 64)
    window = {"convolution_spatial_axes": {"h": 3, "w": 3}, "dtype": jnp.float32}
    kernel = HE(key, input_axes={"x": 32}, output_axes={"y": 64}, **window)
    check_second_moment(kernel.unwrap("h", "w", "x", "y"), 2 / (9 * 32))
    with pytest.raises(UserError, match="without nonsense"):
        HE(key, nonsense=1)
