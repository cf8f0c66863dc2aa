"""Arrays that belong together: the rule, and the rules that are made of it."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import initjax
from initjax import JointRule, reinitialize
from initjax.support.errors import UserError

KEY = jax.random.key(9)


def shapes_of(model, *inputs):
    return jax.eval_shape(model.init, KEY, *inputs)["params"]


def pair(key, parts, dtype):
    first = jax.random.normal(key, parts["a"].shape, dtype)
    return {"a": first, "b": -first} if "b" in parts else {"a": first}


PAIR = JointRule({"a": "(?<![^/])a$", "b": "(?<![^/])b$"}, pair)


def tree(dtype=jnp.float32, **more):
    layer = {name: jax.ShapeDtypeStruct((3, 4), dtype) for name in "ab"}
    return {"x": layer, "y": {"z": layer}} | more


@pytest.mark.slow
def test_blocks_are_drawn_together_and_apart():
    new = reinitialize(tree(alone={"a": jnp.zeros(2)}), [PAIR], KEY)
    for block in (new["x"], new["y"]["z"]):
        np.testing.assert_array_equal(block["a"], -block["b"])
    assert not np.array_equal(new["x"]["a"], new["y"]["z"]["a"])
    assert new["alone"]["a"].any()
    # A block more leaves the others.
    np.testing.assert_array_equal(reinitialize(tree(), [PAIR], KEY)["x"]["a"], new["x"]["a"])


def test_other_rules_go_first_and_behind():
    rules = [("x/b", "zeros"), PAIR, ("c", "ones")]
    new = reinitialize(tree(c=jnp.zeros(2)), rules, KEY)
    assert not new["x"]["b"].any() and new["x"]["a"].any() and new["c"].all()
    with pytest.raises(UserError, match="never reached"):
        reinitialize(tree(), [("a|b", "zeros"), PAIR], KEY)
    with pytest.raises(UserError, match="matches no leaf"):
        reinitialize({"c": jnp.zeros(2)}, [PAIR], KEY)


@pytest.mark.slow
def test_dtype_jit_and_stacks():
    new = reinitialize(tree(jnp.bfloat16), [PAIR], KEY)["x"]["a"]
    whole = reinitialize(tree(), [PAIR], KEY)["x"]["a"]
    assert new.dtype == jnp.bfloat16
    np.testing.assert_array_equal(new, whole.astype(jnp.bfloat16))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), tree())
    traced = jax.jit(lambda params: reinitialize(params, [PAIR], KEY))(zeros)
    np.testing.assert_array_equal(traced["x"]["a"], whole)
    stacked = JointRule(PAIR.patterns, pair, stacked=True)
    layers = reinitialize(tree(), [stacked], KEY)["x"]
    np.testing.assert_array_equal(layers["a"], -layers["b"])
    assert len(np.unique(layers["a"])) == 12


@pytest.mark.parametrize(
    "rules, message",
    [
        (lambda: [JointRule({"a": "("}, pair)], "not a regular expression"),
        (lambda: [JointRule({"a": "a"}, None)], "init=None"),
        (lambda: [JointRule({"a": "[ab]$"}, pair)], "finds x/a and x/b in one block"),
        (lambda: [JointRule({"a": "a$", "c": "b$"}, pair)], "gave 'c' the shape None"),
        (lambda: PAIR, "is not a sequence of rules"),
    ],
)
def test_refuses(rules, message):
    with pytest.raises(UserError, match=message):
        reinitialize(tree(), rules(), KEY)


class Mlp(nn.Module):
    depth: int = 1
    width: int = 64

    @nn.compact
    def __call__(self, x):
        x = nn.Embed(50, 16)(x)
        x = nn.LayerNorm()(x)
        for _ in range(self.depth):
            self.sow("intermediates", "z", x := nn.Dense(self.width)(x))
            x = nn.relu(x)
        return x


@pytest.mark.slow
def test_torch_rules():
    rules = [("Dense_1/kernel", "zeros"), initjax.torch_rules()]
    params = reinitialize(shapes_of(Mlp(2), jnp.ones(3, int)), rules, KEY)
    # The kernel may be another rule's: the bias's fan is still its.
    assert not params["Dense_1"].pop("kernel").any()
    for name, fan in (("Dense_0", 16), ("Dense_1", 64)):
        for leaf in params[name].values():
            largest = float(abs(leaf).max())
            assert 0.85 / math.sqrt(fan) < largest <= 1 / math.sqrt(fan)
    norm = params["LayerNorm_0"]
    assert norm["scale"].all() and not norm["bias"].any()
    embedding = np.asarray(params["Embed_0"]["embedding"], np.float64)
    assert embedding.std() == pytest.approx(1, rel=4 / math.sqrt(2 * embedding.size))


@pytest.mark.slow
def test_torch_rules_ask_for_the_axes():
    model = nn.MultiHeadDotProductAttention(num_heads=4)
    x = jnp.ones((1, 5, 16))
    params = shapes_of(model, x)
    with pytest.raises(UserError, match="which axes are inputs is not known"):
        reinitialize(params, [initjax.torch_rules()], KEY)
    layouts = initjax.find_layouts(model, params, x)
    new = reinitialize(params, [initjax.torch_rules()], KEY, layouts=layouts)
    for name in ("query", "out"):
        assert 0.2 < float(abs(new[name]["kernel"]).max()) <= 0.25
        assert 0 < float(abs(new[name]["bias"]).max()) <= 0.25


@pytest.mark.slow
def test_biases_sustain_the_signal_of_torchs_deep_networks():
    """q* = .4 / fan_in, with the factor 1/6 a layer above it."""
    width, layers, draws = 128, 4, 40
    params = {f"Dense_{i}": {"kernel": jnp.zeros((width, width)), "bias": jnp.zeros(width)}
              for i in range(layers)}  # fmt: skip

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    def second_moments(key, y):
        new, found = reinitialize(params, [initjax.torch_rules()], key), []
        for layer in new.values():
            z = y @ layer["kernel"] + layer["bias"]
            found.append((z**2).mean())
            y = jax.nn.relu(z)
        return jnp.stack(found)

    x, keys = 30 * jax.random.normal(KEY, (16, width)), jax.random.split(KEY, draws)
    q = np.asarray(second_moments(keys, x), np.float64)
    ratios = q[:, 1:] / q[:, :-1]  # far above q*
    error = ratios.std(0) / math.sqrt(draws)
    assert (abs(ratios.mean(0) - 1 / 6) < 4 * error + 0.01).all()
    q = np.asarray(second_moments(keys, 0 * x), np.float64)  # from below: q_l = q* (1 - 6^-l)
    error = q[:, -1].std() / math.sqrt(draws)
    assert abs(q[:, -1].mean() - 0.4 / width * (1 - 6.0**-layers)) < 4 * error


@pytest.mark.slow
def test_chrono_rule():
    cell = nn.LSTMCell(features=8)
    carry = cell.initialize_carry(KEY, (1, 4))
    params = reinitialize(
        shapes_of(cell, carry, jnp.ones((1, 4))), [initjax.chrono_rule(100.0), (".", "zeros")], KEY
    )
    forget = params["hf"]["bias"]
    np.testing.assert_array_equal(params["hi"]["bias"], -forget)
    assert (forget > 0).all() and (forget <= math.log(99)).all()
    assert not params["ho"]["bias"].any()


def test_lru_rule():
    shapes = {name: jax.ShapeDtypeStruct((500,), jnp.float32) for name in ("nu_log", "gamma_log")}
    new = reinitialize({"lru": shapes}, [initjax.lru_rule()], KEY)["lru"]
    size = np.exp(-np.exp(np.asarray(new["nu_log"], np.float64)))
    np.testing.assert_allclose(np.exp(new["gamma_log"]), np.sqrt(1 - size**2), rtol=1e-5)


@pytest.mark.slow
def test_mamba_rules():
    shapes = {"A_log": (32, 16), "D": (32,), "dt_proj": {"kernel": (4, 32), "bias": (32,)},
              "in_proj": {"kernel": (16, 64)}, "out_proj": {"kernel": (32, 16)}}  # fmt: skip
    params = {"layer_0": jax.tree.map(jnp.zeros, shapes, is_leaf=lambda x: isinstance(x, tuple))}
    rules = [*initjax.mamba_rules(16), initjax.torch_rules()]
    new = reinitialize(params, rules, KEY)["layer_0"]
    np.testing.assert_allclose(np.exp(new["A_log"][0]), np.arange(1, 17), rtol=1e-6)
    assert new["D"].all() and (jax.nn.softplus(new["dt_proj"]["bias"]) <= 0.1001).all()
    for layer, bound in (("dt_proj", 0.5), ("in_proj", 0.25), ("out_proj", 32**-0.5 / 4)):
        assert 0.9 * bound < float(abs(new[layer]["kernel"]).max()) <= bound


def attention_tree(width=192, heads=3, size=64):
    kernel = {"kernel": jax.ShapeDtypeStruct((width, heads, size), jnp.float32)}
    out = {"kernel": jax.ShapeDtypeStruct((heads, size, width), jnp.float32)}
    return {"attention": {"query": kernel, "key": kernel, "value": kernel, "out": out}}


@pytest.mark.slow
def test_mimetic_attention():
    """d = 192, heads of 64."""
    d, k = 192, 64
    new = reinitialize(attention_tree(), [initjax.mimetic_attention()], KEY)["attention"]
    query, key, value, out = (
        np.asarray(new[name]["kernel"], np.float64) for name in ("query", "key", "value", "out")
    )
    for head in range(3):
        q, w = query[:, head], key[:, head]
        product = q @ w.T
        assert np.trace(product) / d == pytest.approx(0.395, abs=0.02)  # the part of rank 64
        assert np.linalg.matrix_rank(product, tol=1e-4) == k
        assert np.linalg.norm(q) == pytest.approx(np.linalg.norm(w), rel=1e-6)
    assert not np.allclose(query[:, 0], query[:, 1])  # a draw of each head
    product = value.reshape(d, -1) @ out.reshape(-1, d)
    assert np.trace(product) / d == pytest.approx(-0.4, abs=0.01)
    noise = product[~np.eye(d, dtype=bool)]
    assert noise.std() * math.sqrt(d) == pytest.approx(0.4, abs=0.01)


@pytest.mark.slow
def test_the_whole_of_mimetic_attention():
    """Heads as wide as the layer keep all of .7 Z + .7 I, also in two axes."""
    d = 192
    kernel = {"kernel": jnp.zeros((d, d))}
    layer = {name: kernel for name in ("query", "key", "value", "out")}
    rule = initjax.mimetic_attention(num_heads=1)
    new = reinitialize({"a": layer}, [rule], KEY)["a"]
    product = np.asarray(new["query"]["kernel"] @ new["key"]["kernel"].T, np.float64)
    assert np.trace(product) / d == pytest.approx(0.7, abs=0.02)  # 4 sd of .7 / d
    assert product[~np.eye(d, dtype=bool)].std() * math.sqrt(d) == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize(
    "params, rule, message",
    [
        (attention_tree, lambda: initjax.mimetic_attention(alphas=(1.0,)), "alphas="),
        (lambda: attention_tree(64), initjax.mimetic_attention, "more than rank 64"),
        (lambda: {"query": {"kernel": jnp.zeros((4, 4))}}, initjax.mimetic_attention,
         "no key and no value and no out"),
        (lambda: {n: {"kernel": jnp.zeros((4, 4))} for n in ("query", "key", "value", "out")},
         initjax.mimetic_attention, "say num_heads"),
    ],
)  # fmt: skip
def test_mimetic_attention_refuses(params, rule, message):
    with pytest.raises(UserError, match=message):
        reinitialize(params(), [rule()], KEY)


@pytest.mark.slow
def test_gated_linear_unit_keeps_the_mean_square(activation="gelu"):
    d = 512
    params = {"mlp": {name: {"kernel": jnp.zeros((d, d))} for name in ("gate", "up")}}
    new = reinitialize(params, [initjax.gated_linear_unit(activation)], KEY)["mlp"]
    phi = initjax.theory.get_activation(activation)
    x = jax.random.normal(KEY, (1000, d))
    product = (phi(x @ new["gate"]["kernel"]) * (x @ new["up"]["kernel"])) ** 2
    by_unit = np.asarray(product.mean(0), np.float64)
    assert abs(by_unit.mean() - 1) < 4 * by_unit.std() / math.sqrt(d) + 0.02
