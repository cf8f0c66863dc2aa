import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import models_of_every_class

from initjax.models import create_model
from initjax.network import taps
from initjax.support.errors import UserError

KEY = jax.random.key(0)


class Block(nn.Module):
    """x + V tanh(W x)."""

    @nn.compact
    def __call__(self, x, _=None):
        z = nn.Dense(5)(x)
        return x + nn.Dense(5)(nn.tanh(z)), None


class Twice(nn.Module):
    """A first layer, one block that is used twice, and a last layer."""

    transform: object = None

    @nn.compact
    def __call__(self, x):
        block = (self.transform(Block) if self.transform else Block)(name="block")
        x = nn.Dense(5, name="first")(x)
        for _ in range(2):
            x, _ = block(x)
        return nn.Dense(2, name="last")(x)


class Scanned(nn.Module):
    """Three blocks in one nn.scan between two layers."""

    axes: tuple = ("params", "intermediates")

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(5, name="first")(x)
        stack = nn.scan(
            Block,
            variable_axes={axis: 0 for axis in self.axes},
            split_rngs={"params": True},
            length=3,
        )
        x, _ = stack(name="stack")(x, None)
        return nn.Dense(2, name="last")(x)


class Net(nnx.Module):
    """Convolution, batch normalization, and dense layers of which the first is used twice."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dense = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(2)])

    def __call__(self, x):
        x = self.norm(self.conv(x))
        for layer in self.dense:
            x = nnx.relu(layer(x))
        return self.dense[0](x)


def linen(module, shape=(4, 3)):
    x = jax.random.normal(KEY, shape)
    return module, module.init(KEY, x), x


def affine(parameters, x):
    return x @ parameters["kernel"] + parameters["bias"]


@pytest.mark.slow
@pytest.mark.parametrize("transform", [None, nn.remat, nn.jit])
def test_values_are_the_pre_activations(transform):
    model, variables, x = linen(Twice(transform))
    output, found = taps.record(model, variables, x)
    params = variables["params"]
    expected = {"first": [affine(params["first"], x)], "block/Dense_0": [], "block/Dense_1": []}
    stream = expected["first"][0]
    for _ in range(2):
        expected["block/Dense_0"].append(affine(params["block"]["Dense_0"], stream))
        z = jnp.tanh(expected["block/Dense_0"][-1])
        expected["block/Dense_1"].append(affine(params["block"]["Dense_1"], z))
        stream = stream + expected["block/Dense_1"][-1]
    expected["last"] = [affine(params["last"], stream)]
    assert list(found) == list(expected)
    jax.tree.map(
        # Sums of some ten terms of size 1 in float32, in whatever order: 1e-6 where they cancel.
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        found,
        expected,
    )
    np.testing.assert_array_equal(output, model.apply(variables, x))


@pytest.mark.slow
@pytest.mark.parametrize("transform", [None, nn.remat, nn.jit])
def test_what_follows_sees_the_edit(transform):
    model, variables, x = linen(Twice(transform))
    calls = []

    def edit(path, z, number):
        calls.append((path, number))
        return z * 0 if (path, number) == ("block/Dense_1", 1) else z

    _, plain = taps.record(model, variables, x)
    output, found = taps.record(model, variables, x, edit=edit)
    np.testing.assert_array_equal(found["block/Dense_1"][0], plain["block/Dense_1"][0])
    np.testing.assert_array_equal(found["block/Dense_1"][1], 0)
    stream = plain["first"][0] + plain["block/Dense_1"][0]
    np.testing.assert_allclose(output, affine(variables["params"]["last"], stream), rtol=1e-5)
    assert list(dict.fromkeys(calls)) == [
        ("first", 0),
        ("block/Dense_0", 0),
        ("block/Dense_1", 0),
        ("block/Dense_0", 1),
        ("block/Dense_1", 1),
        ("last", 0),
    ]
    # Not an earlier edit's program: nn.jit remembers what it compiled.
    again, _ = taps.record(model, variables, x, edit=lambda path, z, number: z + 1)
    assert not np.allclose(again, output)


@pytest.mark.slow
@pytest.mark.parametrize("transform", [None, nn.remat])
def test_gradient_with_respect_to_a_pre_activation(transform):
    model, variables, x = linen(Twice(transform))

    @jax.jit
    @jax.grad
    def gradient(shift):
        output, _ = taps.record(
            model,
            variables,
            x,
            edit=lambda path, z, number: z + shift if path == "block/Dense_1" else z,
        )
        return output.sum()

    # The shift reaches the last layer directly and through the second use of the block.
    def by_hand(shift):
        params = variables["params"]
        stream = affine(params["first"], x)
        for _ in range(2):
            z = jnp.tanh(affine(params["block"]["Dense_0"], stream))
            stream = stream + affine(params["block"]["Dense_1"], z) + shift
        return affine(params["last"], stream).sum()

    shift = jnp.zeros((4, 5))
    np.testing.assert_allclose(gradient(shift), jax.grad(by_hand)(shift), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_vmap_over_parameters_is_a_loop_over_them():
    model, _, x = linen(Twice())
    many = jax.vmap(model.init, (0, None))(jax.random.split(KEY, 3), x)
    _, found = jax.vmap(lambda v: taps.record(model, v, x))(many)
    for i in range(3):
        _, one = taps.record(model, jax.tree.map(lambda v, i=i: v[i], many), x)
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6), found, one
        )


@pytest.mark.slow
def test_scanned_layers_have_an_entry_a_slice_in_execution_order():
    model, variables, x = linen(Scanned())
    _, calls = taps.record_calls(model, variables, x)
    assert [(call.path, call.number) for call in calls] == [
        ("first", 0),
        *((f"stack/Dense_{j}", i) for i in range(3) for j in range(2)),
        ("last", 0),
    ]
    for call in calls:
        expected = affine({"kernel": call.kernel, "bias": call.bias}, call.inputs)
        np.testing.assert_allclose(call.output, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(calls[1].inputs, calls[0].output)
    assert [call.editable for call in calls] == [True, *[False] * 6, True]
    with pytest.raises(UserError, match=r"stack/Dense_0 is inside nn\.scan.*edit"):
        taps.record(model, variables, x, edit=lambda path, z, number: z)


@pytest.mark.slow
def test_a_scan_that_does_not_carry_intermediates_is_named():
    model, variables, x = linen(Scanned(("params",)))
    with pytest.raises(UserError, match=r"stack/Dense_0 is inside nn\.scan.*'intermediates': 0"):
        taps.record(model, variables, x)


@pytest.mark.slow
def test_batch_norm_in_training_and_other_updates():
    model, variables, x = linen(create_model("resnet20(depth=8)"), (4, 8, 8, 3))
    plain, plain_updates = model.apply(variables, x, train=True, mutable=["batch_stats"])
    (output, updates), found = taps.record(model, variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_array_equal(output, plain)
    jax.tree.map(np.testing.assert_array_equal, updates, plain_updates)
    assert list(found) == [*(f"Conv_{i}" for i in range(7)), "Dense_0"]


def test_intermediates_of_the_model_itself_are_its_own():
    class Sowing(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(3)(x)
            self.sow("intermediates", "mine", x)
            return x

    model, variables, x = linen(Sowing())
    variables = {"params": variables["params"]}
    (_, updates), _ = taps.record(model, variables, x, mutable=["intermediates"])
    assert jax.tree.map(jnp.shape, updates) == {"intermediates": {"mine": ((4, 3),)}}
    output, _ = taps.record(model, variables, x)
    assert output.shape == (4, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", models_of_every_class())
def test_every_model_of_the_project(name):
    model = create_model(name)
    x = jnp.zeros((2, 64, 64, 1))
    variables = jax.eval_shape(model.init, KEY, x)
    kernels = [
        path
        for path, _ in jax.tree_util.tree_flatten_with_path(variables["params"])[0]
        if path[-1].key == "kernel"
    ]
    training = {"train": True, "mutable": ["batch_stats"]}  # where GoogLeNet has side heads
    shapes = jax.eval_shape(lambda v: taps.record(model, v, x, **training)[1], variables)
    assert sorted(shapes) == sorted("/".join(k.key for k in path[:-1]) for path in kernels)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv(6, (3, 3), strides=2, padding="VALID"), (2, 9, 9, 4)),
        (nn.Conv(6, (3,), feature_group_count=2), (2, 9, 4)),
        (nn.ConvTranspose(6, (3, 3), strides=(2, 2)), (2, 5, 5, 4)),
        (nn.DenseGeneral((3, 2), axis=(-2, -1)), (2, 5, 4)),
        (nn.Einsum((4, 3, 2), "bd,dhk->bhk"), (2, 4)),
        (nn.Dense(3, use_bias=False, dtype=jnp.bfloat16), (2, 4)),
    ],
)
def test_layers_of_every_class_and_their_replay(layer, shape):
    """A model that is a layer; the replay is the same layer with other parameters."""
    model, variables, x = linen(layer, shape)
    output, (call,) = taps.record_calls(model, variables, x)
    assert call.path == ""
    np.testing.assert_array_equal(call.output, output)
    np.testing.assert_array_equal(call.replay(call.kernel, call.bias, call.inputs), output)
    doubled = call.replay(2 * call.kernel, call.bias, x)
    assert not np.allclose(doubled, output)


@pytest.mark.slow
def test_a_subclass_that_calls_its_parent_is_one_layer():
    class DenseRelu(nn.Dense):
        @nn.compact
        def __call__(self, x):
            return nn.relu(super().__call__(x))

    model, variables, x = linen(DenseRelu(7))
    _, found = taps.record(model, variables, x)
    np.testing.assert_allclose(found[""][0], affine(variables["params"], x), rtol=1e-5, atol=1e-6)
    assert len(found[""]) == 1


def test_partitioned_parameters():
    init = nn.with_partitioning(nn.initializers.lecun_normal(), ("in", "out"))
    model, variables, x = linen(nn.Dense(5, kernel_init=init))
    _, (call,) = taps.record_calls(model, variables, x)
    np.testing.assert_allclose(call.output, x @ call.kernel, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_parameters_alone_are_variables():
    model, variables, x = linen(Twice())
    np.testing.assert_array_equal(
        taps.record(model, variables["params"], x)[0], taps.record(model, variables, x)[0]
    )


@pytest.mark.slow
def test_nnx():
    model = Net(nnx.Rngs(0))
    x = jax.random.normal(KEY, (2, 8, 8, 3))
    before = jax.tree.map(jnp.copy, nnx.state(model))
    output, found = taps.record(model, None, x)
    assert list(found) == ["conv", "dense/0", "dense/1"]
    assert [len(values) for values in found.values()] == [1, 2, 1]
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model), before)
    assert type(model.conv) is nnx.Conv
    np.testing.assert_allclose(found["conv"][0], model.conv(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["dense/0"][1], output)
    np.testing.assert_allclose(output, model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_nnx_replay_outlives_the_trace_of_its_call():
    model = Net(nnx.Rngs(0))
    x = jax.random.normal(KEY, (2, 8, 8, 3))
    calls = []
    jax.eval_shape(lambda state: calls.extend(taps.record_calls(model, state, x)[1]), None)
    kernel, bias = model.conv.kernel[...], model.conv.bias[...]
    np.testing.assert_allclose(calls[0].replay(kernel, bias, x), model.conv(x), rtol=1e-5)


@pytest.mark.slow
def test_nnx_under_jit_and_grad_with_an_edit():
    model = Net(nnx.Rngs(0))
    x = jax.random.normal(KEY, (2, 8, 8, 3))

    @jax.jit
    def gradient(state):
        def last(state):
            output, _ = taps.record(
                model, state, x, edit=lambda path, z, n: z * (path != "dense/1")
            )
            return output.sum()

        return jax.grad(last)(state)

    found = gradient(nnx.state(model, nnx.Param))
    np.testing.assert_array_equal(found["conv"]["kernel"][...], 0)
    np.testing.assert_allclose(found["dense"][0]["bias"][...], 2 * 64, rtol=1e-6)


def test_nnx_transforms_are_refused():
    class Checkpointed(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(3, 3, rngs=rngs)

        def __call__(self, x):
            return nnx.remat(lambda layer, x: layer(x))(self.dense, x)

    with pytest.raises(UserError, match="Linear of Checkpointed is inside a transform"):
        taps.record(Checkpointed(nnx.Rngs(0)), None, jnp.ones((2, 3)))


@pytest.mark.slow
def test_errors():
    model, variables, x = linen(Twice())
    with pytest.raises(UserError, match="neither a Flax Linen nor an NNX"):
        taps.record(lambda x: x, variables, x)
    with pytest.raises(UserError, match="no layers"):
        taps.record(nn.LayerNorm(), *linen(nn.LayerNorm())[1:])
    with pytest.raises(UserError, match=r"edit gave float32\[\] for first.*\[4, 5\]"):
        taps.record(model, variables, x, edit=lambda path, z, number: z.sum())
    with pytest.raises(UserError, match="puts out a tuple"):
        taps.record(*linen(nn.RNN(nn.OptimizedLSTMCell(3)), (2, 4, 3)))
