import jax
import jax.numpy as jnp
import numpy as np
import pytest

import initjax
from initjax.models import create_model, model_names
from initjax.models.resnet_cifar import relu_by_choice
from initjax.support.errors import UserError

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
@pytest.mark.parametrize("name", model_names())
def test_float32_parameters_and_logits(name, dtype):
    model = create_model(name, num_classes=7, dtype=dtype)
    images = jnp.zeros((3, 8, 8, 1))
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
        ("resnet33", {}, "Unknown model 'resnet33'.*resnet32.*Known: .*lenet"),
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
