import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import models_of_every_class

import initjax
from initjax.models import MLP, CifarResNet, create_model, model_names
from initjax.models.base import MODELS
from initjax.models.resnet_cifar import relu_by_choice
from initjax.support.errors import UserError
from initjax.support.naming import parse
from initjax.training import Config

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)


def init_shapes(model, shape):
    return jax.eval_shape(model.init, KEY, jnp.zeros(shape))["params"]


def count(params):
    return sum(x.size for x in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("name", "shape", "number"),
    [
        ("resnet20", (1, 32, 32, 3), 269_722),
        ("resnet32", (1, 32, 32, 3), 464_154),
        ("resnet44", (1, 32, 32, 3), 658_586),
        ("resnet56", (1, 32, 32, 3), 853_018),
        ("resnet110", (1, 32, 32, 3), 1_727_962),
        ("lenet", (1, 32, 32, 1), 61_706),
        ("lenet", (1, 28, 28, 1), 61_706),  # padded
        ("mlp(depth=3, width=10)", (1, 8, 8, 1), 650 + 2 * 110 + 110),
        ("mlp", (1, 8, 8, 1), 65 * 256 + 257 * 256 + 2570),
        # 5x5 convolutions of 32, 32 and 64; 4x4x64 features.
        ("convnet", (1, 32, 32, 3), 2_432 + 25_632 + 51_264 + 10_250),
    ],
)
def test_number_of_parameters(name, shape, number):
    assert count(init_shapes(create_model(name), shape)) == number


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", models_of_every_class())
def test_float32_parameters_and_logits(name, dtype):
    model = create_model(name, num_classes=7, dtype=dtype)
    images = jnp.zeros((3, 64, 64, 1))
    variables = jax.eval_shape(model.init, KEY, images)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits = jax.eval_shape(model.apply, variables, images)
    assert (logits.shape, logits.dtype) == ((3, 7), jnp.float32)


def test_dtype_is_that_of_the_computation():
    images = jax.random.normal(KEY, (4, 8, 8, 1))
    variables = jax.jit(create_model("mlp").init)(KEY, images)
    full, half = (
        create_model("mlp", dtype=dtype).apply(variables, images)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    np.testing.assert_array_equal(half, half.astype(jnp.bfloat16).astype(jnp.float32))
    np.testing.assert_allclose(half, full, atol=0.1)
    assert not np.array_equal(half, full)


@pytest.mark.parametrize("by_value", [False, True])
def test_initializers_by_kind_of_layer(by_value):
    inits = {
        "kernel_init": "constant(value=2.0)",
        "dense_init": "ones",
        "bias_init": "constant(value=3.0)",
    }
    if by_value:
        inits = {field: initjax.get(text) for field, text in inits.items()}
    params = create_model("lenet", **inits).init(KEY, jnp.zeros((1, 32, 32, 1)))["params"]
    assert len(params) == 5
    for layer, weights in params.items():
        np.testing.assert_array_equal(weights["kernel"], 2.0 if layer.startswith("Conv") else 1.0)
        np.testing.assert_array_equal(weights["bias"], 3.0)


def test_dense_layers_follow_kernel_init_and_biases_are_zero():
    params = create_model("lenet", kernel_init="ones").init(KEY, jnp.zeros((1, 32, 32, 1)))
    for weights in params["params"].values():
        np.testing.assert_array_equal(weights["kernel"], 1.0)
        np.testing.assert_array_equal(weights["bias"], 0.0)


def test_any_callable_is_an_initializer():
    model = create_model("mlp", kernel_init=jax.nn.initializers.constant(0.25))
    params = model.init(KEY, jnp.zeros((1, 8, 8, 1)))["params"]
    np.testing.assert_array_equal(params["Dense_0"]["kernel"], 0.25)


def test_activation_by_name_and_by_value():
    images = jax.random.normal(KEY, (4, 8, 8, 1))
    variables = create_model("mlp").init(KEY, images)
    logits = {
        a if isinstance(a, str) else "value": create_model("mlp", activation=a).apply(
            variables, images
        )
        for a in ("relu", "tanh", jnp.tanh)
    }
    np.testing.assert_array_equal(logits["tanh"], logits["value"])
    assert not np.allclose(logits["tanh"], logits["relu"])


def test_mlp_is_its_formula():
    images = jax.random.normal(KEY, (4, 8, 8, 1))
    model = create_model("mlp(depth=1, width=5)", bias_init="ones")
    variables = model.init(KEY, images)
    first, last = (variables["params"][f"Dense_{i}"] for i in range(2))
    hidden = np.maximum(np.reshape(images, (4, 64)) @ first["kernel"] + first["bias"], 0)
    expected = hidden @ last["kernel"] + last["bias"]
    np.testing.assert_allclose(model.apply(variables, images), expected, rtol=1e-5, atol=1e-6)


def test_resnet_shortcuts_have_no_parameters_and_carry_the_input():
    # With zero scale in every normalization but the first, only the shortcuts are left.
    model = create_model("resnet20(depth=8)", num_classes=64, kernel_init="he_normal")
    images = jax.random.normal(KEY, (2, 8, 8, 3))
    variables = jax.jit(model.init)(KEY, images)
    params = {
        name: {"scale": layer["scale"] * (name == "BatchNorm_0"), "bias": layer["bias"]}
        if name.startswith("BatchNorm")
        else layer
        for name, layer in variables["params"].items()
    }
    params["Dense_0"] = {"kernel": jnp.eye(64), "bias": jnp.zeros(64)}
    features = jax.jit(model.apply)(variables | {"params": params}, images)
    stem = jax.lax.conv_general_dilated(
        images,
        params["Conv_0"]["kernel"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    kept = jnp.maximum(stem / jnp.sqrt(1 + 1e-5), 0)[:, ::4, ::4].mean((1, 2))
    expected = jnp.pad(kept, ((0, 0), (24, 24)))
    np.testing.assert_allclose(features, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("resnet33", {}, "Unknown model 'resnet33'.*resnet3[24].*Known: .*lenet"),
        ("mlp(foo=3)", {}, "'foo'.*depth=2, width=256"),
        ("mlp", {"foo": 3}, "'foo'.*depth=2, width=256"),
        ("mlp(depth=0)", {}, "depth=0"),
        ("mlp(width='a')", {}, "width='a'"),
        ("lenet", {"num_classes": 0}, "num_classes=0"),
        ("resnet20(depth=21)", {}, "6n \\+ 2"),
        ("mlp", {"kernel_init": "foo"}, "he_normal"),
        ("mlp", {"dense_init": "foo"}, "he_normal"),
        ("mlp", {"bias_init": "foo"}, "he_normal"),
        ("mlp", {"activation": "foo"}, "relu"),
    ],
)
def test_errors_say_what_is_allowed(name, fields, message):
    with pytest.raises(UserError, match=message) as error:
        create_model(name, **fields)
    assert "parent" not in str(error.value)


def test_relu_by_choice_is_relu():
    x = jnp.array([-2.0, -0.0, 0.0, 3.0, jnp.inf, jnp.nan])
    np.testing.assert_array_equal(relu_by_choice(x), jax.nn.relu(x))
    for function in (relu_by_choice, jax.nn.relu):
        np.testing.assert_array_equal(jax.vmap(jax.grad(function))(x[:5]), [0, 0, 0, 1, 1])


def test_fields_hold_values():
    """A text is read once, also where a class is called; a model with a name can be pickled."""
    inits = {"kernel_init": "nspl(2)", "dense_init": "ones", "bias_init": parse("constant(2.0)")}
    models = (
        MLP(activation=parse("tanh"), **inits),
        create_model(parse("mlp"), activation="tanh", **inits),
    )
    for model in models:
        assert model.kernel_init == initjax.nspl(2)
        assert model.dense_init == initjax.ones
        assert model.bias_init == initjax.constant(2.0)
        assert pickle.loads(pickle.dumps(model)) == model == models[0]
    assert MLP().dense_init is None
    with pytest.raises(UserError, match="Unknown activation"):
        MLP(activation="foo")
    assert create_model("resnet44") == CifarResNet(depth=44)


OWN = """
import flax.linen as nn
import jax.numpy as jnp
from initjax.models.base import ImageClassifier, register


@register("throw_away", width=5)
@register("throw_away_wide", width=50)
class ThrowAway(ImageClassifier):
    width: int = 1

    @nn.compact
    def __call__(self, x, train: bool = False):
        return self.logits(self.act(self.dense(self.width)(x.reshape(len(x), -1))))


class Plain(nn.Module):
    num_classes: int
    kernel_init: object = nn.initializers.zeros
    width: int = 4

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width, kernel_init=self.kernel_init)(x.reshape(len(x), -1))
        return nn.Dense(self.num_classes, kernel_init=self.kernel_init)(x)


def make(num_classes, width=3):
    return Plain(num_classes, nn.initializers.ones, width)


class NoClasses(nn.Module):
    pass


def nothing(num_classes):
    return num_classes
"""


def test_one_decorator_adds_a_throw_away_model(own_module):
    own_module("own_models", OWN)
    names = model_names()
    with MODELS.restored():
        import own_models

        assert set(model_names()) - set(names) == {"throw_away", "throw_away_wide"}
        model = create_model("throw_away", kernel_init="ones", num_classes=3)
        assert model == own_models.ThrowAway(3, initjax.ones, width=5)
        params = model.init(KEY, jnp.zeros((1, 4, 4, 1)))["params"]
        np.testing.assert_array_equal(params["Dense_0"]["kernel"], np.ones((16, 5)))
        assert create_model("throw_away_wide").width == 50
        assert create_model("throw_away_wide(width=7)").width == 7
    assert model_names() == names


def test_a_model_of_the_users_own(own_module):
    own_module(
        "own_nets", "register = lambda *args, **kw: lambda x: x\n" + OWN.replace(", register", "")
    )
    images = jnp.ones((2, 4, 4, 1))
    model = create_model(
        "own_nets:Plain(width=6)", kernel_init="ones", bias_init="zeros", activation="relu",
        dense_init=None, dtype=jnp.dtype("float32"), axis_name="batch", num_classes=3,
    )  # fmt: skip
    assert (model.num_classes, model.kernel_init, model.width) == (3, initjax.ones, 6)
    variables = model.init(KEY, images)
    assert set(variables["params"]) == {"Dense_0", "Dense_1"}
    logits = model.apply(variables, images, train=True)  # which its __call__ does not take
    np.testing.assert_array_equal(logits, np.full((2, 3), 96.0))
    np.testing.assert_array_equal(logits, model.clone().apply(variables, images))
    assert create_model("own_nets:Plain").num_classes == 10
    made = create_model("own_nets:make(width=2)", num_classes=4)
    assert (made.num_classes, made.width) == (4, 2)
    assert create_model("own_nets:ThrowAway(width=2)", bias_init="ones").bias_init == initjax.ones
    for name, fields, message in (
        ("own_nets:Plain", {"bias_init": "ones"}, "Plain has no field bias_init, so that constant"),
        ("own_nets:make", {"activation": "tanh"}, "own_nets:make has no field activation"),
        ("own_nets:NoClasses", {}, "has no field num_classes.\nYour own model must be a Flax"),
        ("own_nets:nothing", {}, "gave a value of type int.\nYour own model must be"),
        ("own_nets:OWN", {}, "own_nets has no 'OWN'"),
        ("own_nets:Plain(depth=3)", {}, "unexpected keyword argument 'depth'.*width=4"),
        ("own_nets:Plain", {"kernel_inti": "ones"}, "unexpected keyword argument 'kernel_inti'"),
        ("own_nets:Plain", {"kernel_init": "oness"}, "Unknown initializer 'oness'"),
    ):
        with pytest.raises(UserError, match=message):
            create_model(name, **fields)


@pytest.mark.parametrize(
    "argument, decides",
    [
        ("num_classes=3", "the data"),
        ("kernel_init='zeros'", "--init"),
        ("dense_init='zeros'", "--dense_init"),
        ("bias_init='ones'", "--bias_init"),
        ("activation='tanh'", "--activation"),
        ("dtype='bfloat16'", "--precision"),
        ("axis_name='batch'", "the number of devices"),
    ],
)
def test_what_a_flag_or_the_data_decide_is_no_argument_of_a_name(argument, decides):
    with pytest.raises(UserError, match=f"for {decides} to say; leave it out"):
        Config(model=f"mlp(width=8, {argument})")
    with pytest.raises(UserError, match="--model: "):
        Config(model="mlp(3)")  # num_classes by its place
    assert create_model("mlp(width=8, num_classes=3)").num_classes == 3  # nobody else says it
