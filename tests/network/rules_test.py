"""Rules on trees of Linen, NNX and plain parameters."""

import collections
import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx, struct
from flax.core import freeze
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import initjax
from initjax.network.paths import path_key
from initjax.network.rules import Rule, reinitialize
from initjax.support.errors import UserError

KEY = jax.random.key(5)
Moments = collections.namedtuple("Moments", "mu nu")


def assert_equal(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, tree, other)


class MLP(nn.Module):
    depth: int = 2

    @nn.compact
    def __call__(self, x):
        for _ in range(self.depth):
            x = nn.relu(nn.Dense(8)(x))
        return nn.Dense(3, name="head")(x)


def params_of(model, size):
    """The tree of a model's parameters, all 7: nothing here needs their values."""
    shapes = jax.eval_shape(model.init, KEY, jnp.ones((1, size)))["params"]
    return jax.tree.map(lambda a: jnp.asarray(np.full(a.shape, 7, a.dtype)), shapes)


def linen_params(depth=2):
    return params_of(MLP(depth), 8)


RULES = [("head", "zeros"), ("kernel", "he_uniform"), ("bias", "normal(0.1)")]


@pytest.mark.slow
def test_values_are_the_initializers_own():
    params = reinitialize(linen_params(), RULES, KEY)
    expected = initjax.he_uniform()(path_key(KEY, "Dense_1/kernel"), (8, 8), jnp.float32)
    np.testing.assert_array_equal(params["Dense_1"]["kernel"], expected)
    assert not params["head"]["kernel"].any() and not params["head"]["bias"].any()
    assert params["Dense_0"]["bias"].any()
    assert not np.array_equal(params["Dense_0"]["kernel"], params["Dense_1"]["kernel"])


def test_first_match_wins_and_the_rest_is_kept():
    old = linen_params()
    params = reinitialize(old, [("Dense_0/kernel", "ones"), ("kernel", "zeros")], KEY)
    assert (params["Dense_0"]["kernel"] == 1).all()
    assert (params["Dense_1"]["kernel"] == 0).all()
    assert params["Dense_0"]["bias"] is old["Dense_0"]["bias"]


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_adding_a_layer_leaves_the_others(implementation):
    key = jax.random.key(1, impl=implementation)
    shallow = reinitialize(linen_params(2), RULES, key)
    deep = reinitialize(linen_params(4), RULES, key)
    assert_equal({name: deep[name] for name in shallow}, shallow)


@pytest.mark.slow
def test_the_same_in_another_process():
    code = (
        "import jax, jax.numpy as jnp\n"
        "from initjax.network.rules import reinitialize\n"
        "w = reinitialize({'a': jnp.ones(4)}, [('a', 'normal')], jax.random.key(5))['a']\n"
        "print(w.tolist())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "123", "JAX_PLATFORMS": "cpu"}
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    ).stdout
    here = reinitialize({"a": jnp.ones(4)}, [("a", "normal")], KEY)["a"]
    assert printed.strip() == str(here.tolist())


TREES = {
    "dict": lambda a: {"layer": {"kernel": a}},
    "frozen dict": lambda a: freeze({"layer": {"kernel": a}}),
    "boxed": lambda a: {"layer": {"kernel": nn.Partitioned(a, names=("x", "y"))}},
    "nnx state": lambda a: nnx.State({"layer": {"kernel": nnx.Param(a)}}),
    "list": lambda a: [("kernel", {"kernel": a}), None, [a, a]],
    "named tuple": lambda a: Moments({"kernel": a}, {"kernel": a}),
    "abstract": lambda a: {"layer": {"kernel": jax.ShapeDtypeStruct(a.shape, a.dtype)}},
    "numpy": lambda a: {"layer": {"kernel": np.asarray(a)}},
}


@pytest.mark.parametrize("name", TREES)
def test_any_tree(name):
    make = TREES[name]
    tree = make(jnp.ones((8, 4)))
    if name == "list":
        tree[0] = {"kernel": jnp.ones((8, 4))}
    result = reinitialize(tree, [("kernel|^2/", "lecun_uniform")], KEY)
    assert jax.tree.structure(result) == jax.tree.structure(tree)
    leaves = jax.tree.leaves(result)
    assert all(leaf.shape == (8, 4) and not (leaf == 1).any() for leaf in leaves)
    assert len({leaf.tobytes() for leaf in map(np.asarray, leaves)}) == len(leaves)
    # One path, one draw, whatever the tree.
    expected = initjax.lecun_uniform()(path_key(KEY, "layer/kernel"), (8, 4), jnp.float32)
    if len(leaves) == 1:
        np.testing.assert_array_equal(leaves[0], expected)


Attention = collections.namedtuple("Attention", "query key value")


@struct.dataclass
class ActorCritic:
    policy: object
    value: object


def test_an_attribute_named_value_is_a_name():
    """Only boxes of Flax hide theirs; a value matrix was left untouched, and had no name."""
    w = jnp.ones((8, 4))
    heads = reinitialize(Attention(w, w, w), [("query|key|value", "he_normal")], KEY)
    assert not any((head == 1).any() for head in heads)
    assert not np.array_equal(heads.value, heads.query)
    heads = reinitialize({"a": Attention(w, w, w)}, [("a/value$", "zeros")], KEY)["a"]
    assert not heads.value.any() and heads.query is w
    nested = ActorCritic(w, {"value": nn.Partitioned(w, names=("x", "y"))})
    both = reinitialize(nested, [("^policy$", "zeros"), ("^value/value$", "ones")], KEY)
    assert not both.policy.any() and both.value["value"].unbox().all()
    with pytest.raises(UserError, match="There are: query, key, value"):
        reinitialize(Attention(w, w, w), [("kernel", "zeros")], KEY)


@pytest.mark.slow
def test_nnx_module():
    model = nnx.Sequential(
        nnx.Linear(8, 8, rngs=nnx.Rngs(0)),
        nnx.BatchNorm(8, rngs=nnx.Rngs(0)),
        nnx.Dropout(0.5, rngs=nnx.Rngs(0)),
    )
    old = nnx.state(model)
    state = reinitialize(old, [(r"^layers/0/kernel$", "he_uniform")], KEY)
    nnx.update(model, state)
    expected = initjax.he_uniform()(path_key(KEY, "layers/0/kernel"), (8, 8), jnp.float32)
    np.testing.assert_array_equal(model.layers[0].kernel[...], expected)
    assert model(jnp.ones((2, 8))).shape == (2, 8)  # keys and counts are as they were


@pytest.mark.slow
def test_dtype_is_kept():
    params = {
        "half": jnp.ones((64, 64), jnp.bfloat16),
        "byte": jnp.ones((64, 64), jnp.float8_e4m3fn),
        "complex": jnp.ones((64, 64), jnp.complex64),
        "count": jnp.zeros((), jnp.int32),
    }
    rules = [
        Rule("byte", "normal", scale=30.0),
        Rule("half|complex", "lecun_uniform", scale=0.5),
        ("count", "ones"),
    ]
    new = reinitialize(params, rules, KEY)
    assert {k: v.dtype for k, v in new.items()} == {k: v.dtype for k, v in params.items()}
    assert float(new["half"].astype(float).std()) == pytest.approx(0.5 / 8, rel=0.05)
    assert float(new["byte"].astype(float).std()) == pytest.approx(0.3, rel=0.05)
    assert float(jnp.std(new["complex"])) == pytest.approx(0.5 / 8, rel=0.05)
    assert new["count"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_sharding_is_kept(axis_type):
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(axis_type,) * 2)
    sharding = NamedSharding(mesh, PartitionSpec("x", "y"))
    old = {"kernel": jnp.ones((8, 4)), "stack": jnp.ones((4, 8, 4))}
    rules = [("kernel", "he_uniform"), Rule("stack", "he_uniform", stacked=True)]
    plain = reinitialize(old, rules, KEY)
    sharded = {
        "kernel": jax.device_put(old["kernel"], sharding),
        "stack": jax.device_put(old["stack"], NamedSharding(mesh, PartitionSpec("x", None, "y"))),
    }
    abstract = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), sharded
    )
    # A key that lives on one device does not stand in the way.
    placed = jax.device_put(KEY, jax.devices()[3])
    for tree, key in ((sharded, KEY), (abstract, placed)):
        new = reinitialize(tree, rules, key)
        assert_equal(jax.device_get(new), jax.device_get(plain))
        for name in new:
            assert new[name].sharding == sharded[name].sharding
    with jax.set_mesh(mesh):
        new = jax.jit(lambda params: reinitialize(params, rules, KEY))(sharded)
    assert_equal(jax.device_get(new), jax.device_get(plain))
    if axis_type == AxisType.Explicit:
        assert all(jax.typeof(new[name]) == jax.typeof(sharded[name]) for name in new)


@pytest.mark.slow
@pytest.mark.parametrize("key", [jax.random.PRNGKey(5), jax.random.key(5, impl="rbg")])
def test_eager_equals_jit(key):
    params = linen_params() | {"stack": jnp.ones((3, 8, 8))}
    rules = [*RULES, Rule("stack", "he_uniform", stacked=True, scale=lambda i, n: 1 / (i + n))]
    eager = reinitialize(params, rules, key)
    jitted = jax.jit(lambda params, key: reinitialize(params, rules, key))(params, key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), eager, jitted)
    shapes = jax.eval_shape(lambda key: reinitialize(params, rules, key), key)
    assert jax.tree.map(jnp.shape, eager) == jax.tree.map(jnp.shape, shapes)


class Scanned(nn.Module):
    depth: int

    @nn.compact
    def __call__(self, x):
        def body(layer, x, _):
            return layer(x), None

        layers = nn.scan(
            body,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.depth,
        )
        return layers(nn.Dense(64, name="layer"), x, None)[0]


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_stacked_layers(implementation):
    key = jax.random.key(2, impl=implementation)
    params = params_of(Scanned(6), 64)
    rules = [
        Rule("kernel", "lecun_uniform", stacked=True, scale=lambda layer, n: (layer + 1) / n),
        Rule("bias", initjax.variance_scaling(in_axis=0, out_axis=()), stacked=True),
    ]
    new = reinitialize(params, rules, key)
    kernel = new["layer"]["kernel"]
    assert kernel.shape == (6, 64, 64)
    for i, w in enumerate(kernel):
        folded = jax.random.fold_in(path_key(key, "layer/kernel"), i)
        expected = initjax.lecun_uniform()(folded, (64, 64), jnp.float32) * (i + 1) / 6
        np.testing.assert_allclose(w, expected, rtol=1e-6)
        assert float(w.std()) == pytest.approx((i + 1) / 6 / 8, rel=0.05)  # fans of the slice
    # More layers leave those that were there, where the scale does.
    plain = [Rule("kernel", "lecun_uniform", stacked=True)]
    few = reinitialize({"kernel": kernel[:3]}, plain, key)["kernel"]
    many = reinitialize({"kernel": kernel}, plain, key)["kernel"]
    np.testing.assert_array_equal(many[:3], few)


def test_layers_counted_by_the_path():
    params = {f"Block_{i}": {"kernel": jnp.zeros((8, 8))} for i in (2, 0, 10)}
    rule = Rule(r"Block_(?P<layer>\d+)/", "ones", scale=lambda layer, n: 10 * layer + n)
    new = reinitialize(params, [rule], KEY)
    assert [float(new[f"Block_{i}"]["kernel"][0, 0]) for i in (0, 2, 10)] == [3, 13, 23]


def test_fixup_as_rules():
    from initjax.initializers import fixup

    params = linen_params(3)
    rules = [("Dense_2/kernel", "zeros"), (r"Dense_\d+/kernel", fixup(12, 3)), ("head", "zeros")]
    new = reinitialize(params, rules, KEY)
    assert not new["Dense_2"]["kernel"].any() and new["Dense_1"]["kernel"].any()


def test_equal_layers_share_a_program():
    params = {f"layer_{i}": jnp.ones((8, 24)) for i in range(30)}
    traces = []

    def init(key, shape, dtype):
        traces.append(shape)
        return jax.random.normal(key, shape, dtype)

    reinitialize(params, [("layer", init)], KEY)
    reinitialize(params, [("layer", init)], jax.random.key(9))
    assert traces == [(8, 24)]


@pytest.mark.parametrize(
    "rules, message",
    [
        ([("kernle", "zeros")], "rule 'kernle' matches no leaf. There are: Dense_0/bias"),
        ([("kernel", "zeros"), ("Dense_0/kernel", "ones")], "never reached"),
        ([("(", "zeros")], r"pattern='\(' is not a regular expression"),
        ([(3, "zeros")], "pattern=3"),
        ([("kernel", "he_norml")], "Did you mean 'he_normal'"),
        ([("kernel", 3)], "initializer=3"),
        ([("kernel",)], "is neither a Rule"),
        ("kernel", "is not a sequence of rules"),
        ([("bias", "he_uniform")], "Dense_0/bias, shape .8,., rule 'bias'.*in_axis=-2"),
        ([("bias", jax.nn.initializers.he_uniform())], "Dense_0/bias, shape"),
        ([("bias", lambda key, shape, dtype: jnp.zeros(3))], "gave weights of shape"),
        ([("step", "zeros")], "dtype=bool cannot hold weights"),
        ([("rng", "zeros")], "dtype=key<fry> cannot hold weights"),
        ([("count", "normal")], "count, shape .*int32 cannot hold random weights"),
    ],
)
def test_refuses(rules, message):
    extra = {"step": jnp.array(True), "rng": KEY, "count": jnp.zeros((), jnp.int32)}
    with pytest.raises(UserError, match=message):
        reinitialize(linen_params() | extra, rules, KEY)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"scale": float("nan")}, "scale=nan"),
        ({"scale": "x"}, "scale='x'"),
        ({"scale": lambda i, n: 1.0}, "depends on the layer"),
        ({"scale": lambda i, n: float("inf"), "stacked": True}, r"scale\(0, 8\)=inf"),
        ({"stacked": True, "init": "he_uniform"}, "Dense_0/bias"),
    ],
)
def test_refuses_rule(arguments, message):
    with pytest.raises(UserError, match=message):
        reinitialize(linen_params(), [Rule(**({"pattern": ".", "init": "zeros"} | arguments))], KEY)


def test_mapping_of_rules():
    new = reinitialize(linen_params(), {"kernel": "zeros", "bias": "ones"}, KEY)
    assert (new["head"]["bias"] == 1).all() and (new["head"]["kernel"] == 0).all()
