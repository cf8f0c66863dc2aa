"""Which axes of parameters are what: against the layers that count, and asked for where unknown."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import initjax
from initjax.initializers.layout import Layout
from initjax.network.conventions import conventional_layout
from initjax.network.layouts import find_layouts
from initjax.network.paths import named_leaves, path_key
from initjax.network.rules import Rule, reinitialize
from initjax.support.errors import UserError

KEY = jax.random.key(0)


def shapes_of(model, *inputs):
    return jax.eval_shape(model.init, KEY, *inputs)["params"]


class Zoo(nn.Module):
    """One of every kind of layer that Flax has."""

    @nn.compact
    def __call__(self, x, tokens):
        embedding = nn.Embed(50, 16, name="embed")
        x = nn.Conv(8, (3, 3), strides=2, name="conv")(x)
        x = nn.Conv(16, (3, 3), feature_group_count=8, name="depthwise")(x)
        x = nn.ConvTranspose(4, (4, 4), strides=(2, 2), name="up")(x)
        x = nn.ConvTranspose(6, (3, 3), strides=(3, 2), transpose_kernel=True, name="swapped")(x)
        x = nn.LayerNorm(name="norm")(x.reshape(2, -1, 6))
        x = x + self.param("position", nn.initializers.normal(), x.shape[1:])
        x = nn.remat(nn.MultiHeadDotProductAttention)(num_heads=2, name="attention")(x)
        x = nn.DenseGeneral((2, 3), name="several")(x)
        x = nn.DenseGeneral(5, axis=(-2, -1), name="joined")(x)
        x = nn.Einsum((5, 2, 4), "...d,dhk->...hk", name="einsum")(x)
        scan = nn.scan(
            lambda layer, x, _: (layer(x), None),
            variable_axes={"params": 1},
            split_rngs={"params": True},
            length=3,
        )
        x = scan(nn.Dense(4, name="scanned"), x, None)[0].reshape(8, 2, -1, 4)
        mapped = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        x = nn.vmap(nn.Dense, **mapped)(4, name="experts")(x)
        x = nn.vmap(nn.Conv, **mapped)(3, (5,), name="convs")(x)
        x = nn.RNN(nn.OptimizedLSTMCell(4), name="rnn")(x.reshape(2, -1, 3))
        x = nn.WeightNorm(nn.Dense(4, name="wn"))(x)
        tokens = embedding(tokens)
        return x, embedding.attend(nn.Dense(16, name="shared")(tokens))


ZOO = {
    "embed/embedding": ("oi", (16, 50)),
    "conv/kernel": ("hwio", (27, 72)),
    "depthwise/kernel": ("hwio", (9, 18)),
    "up/kernel": ("hwio", (16 * 16 // 4, 64)),
    "swapped/kernel": ("hwoi", (9 * 4 // 6, 54)),
    "attention/query/kernel": ("ioo", (6, 6)),
    "attention/out/kernel": ("iio", (6, 6)),
    "several/kernel": ("ioo", (6, 6)),
    "joined/kernel": ("iio", (6, 5)),
    "einsum/kernel": ("ioo", (5, 8)),
    "scanned/kernel": ("iso", (4, 4)),
    "experts/kernel": ("sio", (4, 4)),
    "convs/kernel": ("skio", (20, 15)),
    "wn/kernel": ("io", (4, 4)),
    "shared/kernel": ("io", (16, 16)),
}


@pytest.mark.slow
def test_axes_are_found_in_the_program():
    inputs = jax.ShapeDtypeStruct((2, 7, 7, 3), jnp.float32), jnp.zeros(2, jnp.int32)
    params = shapes_of(Zoo(), *inputs)
    found = find_layouts(Zoo(), params, *inputs)
    shapes = {path: leaf.shape for path, leaf in named_leaves(params)}
    for path, (text, fans) in ZOO.items():
        expected = Layout.read(text)
        assert found[path].roles(shapes[path]) == expected.roles(shapes[path]), path
        assert found[path].fans(shapes[path]) == fans, path
    for path in ("position", "norm/scale", "attention/query/bias"):
        assert path not in found
    # The same of all variables, whose paths begin with their collection.
    whole = find_layouts(Zoo(), {"params": params}, *inputs)
    assert whole == {f"params/{path}": layout for path, layout in found.items()}


@pytest.mark.slow
def test_attention_by_rules_is_what_kernel_init_gives():
    """Faults A1: a variance times 512 of .25 where He asks for 2."""
    model, x = nn.MultiHeadDotProductAttention(num_heads=8), jnp.ones((1, 3, 512))
    params = shapes_of(model, x)
    layouts = find_layouts(model, params, x)
    new = reinitialize(params, [("kernel", "he_normal")], KEY, layouts=layouts)
    for name in ("query", "key", "value", "out"):
        kernel = new[name]["kernel"]
        assert float(kernel.var() * 512) == pytest.approx(2, rel=0.02)
        flat = initjax.he_normal()(path_key(KEY, f"{name}/kernel"), (512, 512))
        np.testing.assert_array_equal(kernel.reshape(512, 512), flat)


@pytest.mark.slow
@pytest.mark.parametrize("init", ["orthogonal", jax.nn.initializers.he_normal(), "nspl"])
def test_initializers_that_know_no_axes_get_them(init):
    rule = Rule("kernel", init, layout="oihw")
    kernel = reinitialize({"kernel": jnp.zeros((16, 8, 3, 3))}, [rule], KEY)["kernel"]
    expected = initjax.get(init)(path_key(KEY, "kernel"), (3, 3, 8, 16), jnp.float32)
    np.testing.assert_allclose(kernel, expected.transpose(3, 2, 0, 1), rtol=1e-6)


@pytest.mark.slow
def test_nnx_layers_are_found():
    model = nnx.MultiHeadAttention(2, 8, 8, decode=False, rngs=nnx.Rngs(0))
    state = nnx.state(model, nnx.Param)
    layouts = find_layouts(model, state, jnp.ones((1, 3, 8)))
    assert layouts["query/kernel"] == Layout.read("ioo")
    new = reinitialize(state, [("kernel", "lecun_normal")], KEY, layouts=layouts)
    assert new["out"]["kernel"][...].shape == (2, 4, 8)


@pytest.mark.slow
def test_stacks_by_program_are_stacks_by_rule():
    def apply(params, x):
        return jax.lax.scan(lambda x, w: (x @ w["kernel"], None), x, params)[0]

    params = {"kernel": jnp.zeros((3, 8, 8))}
    layouts = find_layouts(apply, params, jnp.ones((2, 8)))
    falling = Rule("kernel", "he_normal", True, lambda layer, n: 1 / (1 + layer))
    for rule in (Rule("kernel", "he_normal"), Rule("kernel", "he_normal", True), falling):
        found = reinitialize(params, [rule], KEY, layouts=layouts)["kernel"]
        told = Rule("kernel", "he_normal", True, rule.scale)
        np.testing.assert_array_equal(found, reinitialize(params, [told], KEY)["kernel"])
    several = Rule("kernel", "he_normal", stacked=True, layout="ioo")
    new = reinitialize({"kernel": jnp.zeros((3, 64, 8, 8))}, [several], KEY)["kernel"]
    assert float(new.var() * 64) == pytest.approx(2, rel=0.1)


def test_stacks_that_a_loop_indexes():
    def apply(params, x):
        for i in range(3):
            x = x @ params["w"][i]
        return x

    layouts = find_layouts(apply, {"w": jnp.zeros((3, 4, 4))}, jnp.ones((2, 4)))
    assert layouts == {"w": Layout.read("sio")}


def test_two_uses_that_differ_are_no_layout():
    layouts = find_layouts(lambda w, x: (x @ w, x @ w.T), jnp.zeros((4, 4)), jnp.ones((2, 4)))
    assert layouts == {}


def test_a_transform_of_the_weights_is_followed():
    """Standardized, cut, transposed, split and put together again."""

    def apply(params, x):
        w = (params["w"] - params["w"].mean(1, keepdims=True)) / jnp.linalg.norm(params["w"])
        w = jnp.clip(w, -1, 1).reshape(2, 3, 4, 5).transpose(2, 3, 0, 1).reshape(20, 6)
        return x @ jnp.concatenate([w[:10], w[10:]])

    assert find_layouts(apply, {"w": jnp.zeros((6, 20))}, jnp.ones((2, 20))) == {
        "w": Layout.read("oi")
    }


KNOWN = [
    ("Dense_0/kernel", (64, 32)),
    ("Conv_0/kernel", (3, 3, 16, 32)),
    ("Conv_0/kernel", (1, 7, 16, 32)),
    ("Conv_0/kernel", (4, 4, 16, 32)),
    ("conv1/kernel", (5, 16, 32)),
    ("conv2_d/w", (3, 3, 1, 64)),
    ("stem/kernel", (7, 7, 3, 64)),
    ("conv3d/kernel", (3, 3, 3, 16, 32)),
    ("bias", (8,)),
]
AMBIGUOUS = [
    ("query/kernel", (512, 8, 64)),
    ("out/kernel", (8, 64, 512)),
    ("blocks/kernel", (12, 256, 256)),
    ("experts/kernel", (8, 8, 64, 256)),
    ("conv1/kernel", (64, 3, 7, 7)),
    ("conv1/kernel", (64, 64, 3, 3)),
    ("conv1/kernel", (16, 16, 3, 3)),
    ("conv1/kernel", (64, 64, 3)),
    ("Conv_0/kernel", (12, 3, 3, 64, 64)),
    ("ConvTranspose_0/kernel", (4, 4, 16, 32)),
    ("depthwise_conv2d/kernel", (3, 3, 16, 2)),
    ("layer/weight", (64, 32)),
    ("position", (1, 196, 768)),
]


@pytest.mark.parametrize(("path", "shape"), KNOWN)
def test_conventions(path, shape):
    assert conventional_layout(path, shape) == Layout()


@pytest.mark.parametrize(("path", "shape"), AMBIGUOUS)
def test_what_is_ambiguous_is_asked_for(path, shape):
    params = {path: jax.ShapeDtypeStruct(shape, jnp.float32)}
    for init in ("orthogonal", jax.nn.initializers.he_normal(), initjax.rescale(initjax.nspl(), 2)):
        with pytest.raises(
            UserError, match=r"which axes are inputs is not known.\nGive .*layouts="
        ):
            reinitialize(params, [(".", init)], KEY)


@pytest.mark.slow
@pytest.mark.parametrize(
    "init", ["zeros", "normal", jax.nn.initializers.ones, initjax.he_normal(0, 1), "rezero"]
)
def test_what_needs_no_axes_or_has_its_own_is_let_through(init):
    new = reinitialize({"a": jnp.zeros((4, 5, 3))}, [("a", init)], KEY)["a"]
    expected = initjax.get(init)(path_key(KEY, "a"), (4, 5, 3), jnp.float32)
    np.testing.assert_allclose(new, expected, rtol=1e-6)


@pytest.mark.slow
def test_equinox():
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(32, 8, 1024, 2, key=KEY)
    params = eqx.filter(model, eqx.is_array)
    new = reinitialize(params, [("weight", "he_normal")], KEY)
    for layer, fan_in in zip(new.layers, (32, 1024, 1024), strict=True):
        assert float(layer.weight.var() * fan_in) == pytest.approx(2, rel=0.05)
    cases = {
        "oihw": eqx.nn.Conv2d(8, 32, 3, groups=4, key=KEY),
        "oik": eqx.nn.ConvTranspose1d(8, 32, 4, stride=2, key=KEY),
        "oi": eqx.nn.Embedding(5, 4, key=KEY),
        "soi": eqx.filter_vmap(lambda key: eqx.nn.Linear(4, 5, key=key))(jax.random.split(KEY, 3)),
    }
    for text, layer in cases.items():
        found = conventional_layout("weight", layer.weight.shape, layer)
        assert found.roles(layer.weight.shape) == Layout.read(text).roles(layer.weight.shape)
    assert conventional_layout("weight", (32, 2, 3, 3), cases["oihw"]).fans((32, 2, 3, 3)) == (
        18,
        72,
    )
    assert conventional_layout("weight", (32, 8, 4), cases["oik"]).fans((32, 8, 4)) == (16, 128)


def test_haiku():
    hk = pytest.importorskip("haiku")
    x = jnp.ones((1, 8, 8, 3))
    model = hk.transform(lambda x: hk.Linear(5)(hk.Conv2DTranspose(4, 4, stride=2)(x)))
    params = jax.eval_shape(model.init, KEY, x)
    layouts = find_layouts(model.apply, params, KEY, x)
    assert layouts["conv2_d_transpose/w"].fans((4, 4, 4, 3)) == (12, 64)
    assert layouts["linear/w"] == Layout.read("io")


@pytest.mark.parametrize(
    ("layout", "shape", "message"),
    [
        ("i-o", (2, 2), "layout='i-o' is neither a Layout nor a text such as 'ioo'"),
        ("", (2, 2), "layout=''"),
        (3, (2, 2), "layout=3"),
        ("oihw", (2, 2), "The layout has 4 axes, and the shape is"),
        (Layout(3), (2, 2), "in_axis=.* names an axis that the shape"),
        (Layout(0, 0), (2, 2), "is named twice"),
    ],
)
def test_refuses(layout, shape, message):
    with pytest.raises(UserError, match=message):
        reinitialize({"a": jnp.zeros(shape)}, [Rule("a", "he_normal", layout=layout)], KEY)


def test_a_model_that_is_none():
    with pytest.raises(UserError, match="model=dict is no Flax module and no function"):
        find_layouts({}, {}, jnp.ones(3))
