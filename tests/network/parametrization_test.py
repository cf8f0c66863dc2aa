"""muP, depth-muP and CompleteP from two shape trees, by the table of their sources."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import initjax
from initjax.models import create_model
from initjax.network.parametrization import initial_factors, of_module, read_parametrization
from initjax.support.errors import UserError

mup = initjax.parametrization.mup


def shapes(width, depth=3):
    sizes = [6, *[width] * (depth - 1), 5]
    return {
        f"Dense_{i}": {"kernel": np.zeros(ends, np.float32), "bias": np.zeros(ends[1], np.float32)}
        for i, ends in enumerate(itertools.pairwise(sizes))
    }


BASE, WIDE = shapes(16), shapes(64)  # m = 4


@pytest.mark.parametrize(
    ("optimizer", "rates"),
    [("sgd", (4, 4, 1, 4, 4, 1)), ("adam", (1, 1, 0.25, 1, 1, 1))],
)
def test_the_table(optimizer, rates):
    """Yang, Hu et al. 2022, table 8; Adam is entrywise, SGD is not."""
    found = mup(BASE, WIDE, optimizer)
    paths = ["Dense_0/kernel", "Dense_0/bias", "Dense_1/kernel", "Dense_1/bias", "Dense_2/kernel"]
    paths.append("Dense_2/bias")
    assert [found.roles[p] for p in paths] == [
        "input",
        "input",
        "hidden",
        "input",
        "output",
        "fixed",
    ]
    assert [found.rates[p] for p in paths] == list(rates)
    assert [found.multipliers[p] for p in paths] == [1, 1, 1, 1, 0.25, 1]
    assert mup(BASE, WIDE, "adamw") == mup(BASE, WIDE, "adamw")
    assert mup(BASE, WIDE, "adamw").rates == mup(BASE, WIDE, "adam").rates


@pytest.mark.slow
@pytest.mark.parametrize(
    ("init", "factors"),
    [
        ("he_normal", (1, 1, 2)),
        ("nspl", (1, 1, 2)),
        ("normal(stddev=0.02)", (1, 0.5, 1)),
        # Variances 2 / (in + out): of the base width 2/22, 2/32 and 2/21.
        ("glorot_uniform", ((70 / 22) ** 0.5, 1, (69 / 21) ** 0.5)),
        ("orthogonal", (2, 1, 2)),  # 1 / max(in, out)
        ("scaled_orthogonal", (1, 1, 2)),
        (lambda key, shape, dtype: jnp.full(shape, shape[0] ** -1.0, dtype), (1, 2, 4)),  # measured
        ("zeros", (1, 1, 1)),
    ],
)
def test_initial_sizes(init, factors):
    """Those of the base width for inputs and outputs, 1 / sqrt(m) of it between: from any start."""
    value, leaves = initjax.get(init), mup(BASE, WIDE).leaves
    found = [leaves[f"Dense_{i}/kernel"].initial(value) for i in range(3)]
    assert found == pytest.approx(factors, rel=1e-6)
    assert [f == 1 for f in found] == [f == 1 for f in factors]


@pytest.mark.slow
def test_rules_draw_these_sizes_and_say_what_they_leave():
    rules = mup(BASE, WIDE).rules([("kernel", "he_normal"), ("bias", "zeros")])
    assert [(rule.pattern, rule.init) for rule in rules[:1]] == [
        (r"^Dense_2/kernel$", initjax.rescale(initjax.he_normal(), 2))
    ]
    key = jax.random.key(0)
    found = initjax.reinitialize(WIDE, rules, key)
    plain = initjax.reinitialize(WIDE, [("kernel", "he_normal"), ("bias", "zeros")], key)
    np.testing.assert_array_equal(found["Dense_1"]["kernel"], plain["Dense_1"]["kernel"])
    np.testing.assert_allclose(
        found["Dense_2"]["kernel"], 2 * plain["Dense_2"]["kernel"], rtol=1e-6
    )
    only = mup(BASE, WIDE).rules([("Dense_2/kernel", "he_normal")])
    assert len(only) == 1
    with pytest.raises(UserError, match="'weight' matches no leaf"):
        mup(BASE, WIDE).rules([("weight", "he_normal")])


@pytest.mark.parametrize("method", ["mup", "depth_mup", "complete_p"])
def test_at_the_base_width_nothing_changes(method):
    """Every factor is exactly 1, and rules are those that were given: equal to the last bit."""
    tree = {"Block_0": {"Dense_0": BASE["Dense_1"], "Dense_1": BASE["Dense_1"]}, **BASE}
    found = getattr(initjax.parametrization, method)(tree, tree)
    assert {*found.rates.values(), *found.multipliers.values()} == {1.0}
    rules = [initjax.Rule("kernel", "orthogonal"), initjax.Rule("bias", "zeros")]
    assert found.rules(rules) == rules
    assert found.multiply(tree)["Dense_0"] == tree["Dense_0"]
    assert (
        found.scale(tree, initial_factors(found, initjax.he_normal()))["Dense_2"] == BASE["Dense_2"]
    )


def train(optimizer, params, forward, steps=3):
    """Trained leaves' forward values."""
    x = np.linspace(-1, 1, 42, dtype=np.float32).reshape(7, 6)

    def loss(params):
        h = x
        for layer in forward(params).values():
            h = jnp.tanh(h @ layer["kernel"] + layer["bias"])
        return jnp.mean((h - 1) ** 2)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def run(params):
        return forward(jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[0][0])

    return run(params)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_labels_reach_optax_and_folding_trains_alike(optimizer):
    """Multipliers in the forward pass, or in the weights and the rates: one network."""
    found = mup(BASE, WIDE, optimizer)
    make = {"sgd": optax.sgd, "adam": lambda rate: optax.adam(rate, eps=1e-15)}[optimizer]
    params = initjax.reinitialize(WIDE, found.rules({"kernel": "he_normal"}), jax.random.key(0))
    ended = []
    for each in (found, found.folded()):
        start = params if each is found else found.multiply(params)
        rates = {label: make(0.01 * rate) for label, rate in each.label_rates.items()}
        ended.append(train(optax.multi_transform(rates, each.labels), start, each.multiply))
    assert found.folded().multipliers["Dense_2/kernel"] == 1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), *ended)
    moved = jnp.abs(ended[0]["Dense_1"]["kernel"] - params["Dense_1"]["kernel"]).max()
    if optimizer == "adam":
        assert moved == pytest.approx(3 * 0.01 / 4, rel=0.2)


@pytest.mark.slow
def test_ntk():
    """He's weights of variance 2, and the network of the standard parametrization."""
    found = initjax.parametrization.ntk(WIDE, "sgd")
    rules = [("kernel", "he_normal"), ("bias", "zeros")]
    params = initjax.reinitialize(WIDE, found.rules(rules), jax.random.key(0))
    kernel = params["Dense_1"]["kernel"]
    assert float(kernel.var()) == pytest.approx(2, rel=4 * (2 / kernel.size) ** 0.5)
    plain = initjax.reinitialize(WIDE, rules, jax.random.key(0))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found.multiply(params), plain
    )
    assert found.folded().rates["Dense_1/kernel"] == pytest.approx(1 / 64)


def vit(**fields):
    return create_model("vit_tiny(patch_size=4)", **fields)


@pytest.mark.slow
def test_a_transformer():
    """Queries, norms, tables and what has three axes; the class token is a vector."""
    x = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    nets = [vit(depth=d, width_multiplier=w) for d, w in ((1, 0.125), (4, 0.25))]
    found = of_module(read_parametrization("complete_p"), *nets, x)
    roles, deep = found.roles, "Block_3/"
    assert roles["Conv_0/kernel"] == roles["class_token"] == roles["position_embedding"] == "input"
    assert roles[f"{deep}attention/query/kernel"] == roles[f"{deep}Dense_1/kernel"] == "hidden"
    assert roles[f"{deep}LayerNorm_0/scale"] == "input" and roles["Dense_0/kernel"] == "output"
    m, r = found.multipliers, found.rates
    assert m[f"{deep}attention/query/kernel"] == m[f"{deep}attention/query/bias"] == 2**-0.5
    assert m[f"{deep}attention/out/kernel"] == m[f"{deep}Dense_1/bias"] == 1 / 4
    assert m[f"{deep}Dense_0/kernel"] == 1 and m["Dense_0/kernel"] == 0.5
    assert r[f"{deep}Dense_1/kernel"] == 0.5 and r[f"{deep}Dense_1/bias"] == 1


def blocks(number, width=4):
    ends = {"Dense_0": (width, 2 * width), "Dense_1": (2 * width, width)}
    block = {name: {"kernel": np.zeros(shape)} for name, shape in ends.items()}
    return {f"Block_{i}": block for i in range(number)}


def test_depth():
    """Dey et al. 2025, table 1: a branch times m_L^(-a), rates within times m_L^(a - 1)."""
    kernel = "Block_3/Dense_1/kernel"
    for method, optimizer, multiplier, rate in (
        ("depth_mup", "adam", 1 / 2, 1 / 2), ("complete_p", "adam", 1 / 4, 1),
        ("depth_mup", "sgd", 1 / 2, 1), ("complete_p", "sgd", 1 / 4, 4),
    ):  # fmt: skip
        found = getattr(initjax.parametrization, method)(blocks(1), blocks(4, 8), optimizer)
        width = 1 / 2 if optimizer == "adam" else 1
        assert found.multipliers[kernel] == multiplier, method
        assert found.rates[kernel] == found.rates["Block_0/Dense_0/kernel"] == rate * width
        assert found.multipliers["Block_3/Dense_0/kernel"] == 1
    with pytest.raises(UserError, match=r"blocks='layer' matches no leaf. There are: Block_0/"):
        initjax.parametrization.depth_mup(blocks(1), blocks(1), blocks="layer")
    with pytest.raises(UserError, match=r"ends='x' matches no leaf of a block"):
        initjax.parametrization.depth_mup(blocks(1), blocks(1), ends="x")


@pytest.mark.parametrize(("number", "expected"), [(10, 2.59374), (100, 2.70481)])
def test_branches_by_depth_keep_the_stream(number, expected):
    """ReLU from He's weights, branches times 1/sqrt(L): (1 + 1/L)^L."""
    found = initjax.parametrization.depth_mup(blocks(1), blocks(number))
    ends = [m for path, m in found.multipliers.items() if "Dense_1" in path]
    assert np.prod([1 + m**2 for m in ends]) == pytest.approx(expected, abs=5e-6)


def test_axes_that_a_shape_does_not_tell():
    class Heads(nn.Module):
        heads: int

        @nn.compact
        def __call__(self, x):
            x = nn.Embed(9, 8 * self.heads)(x)
            return nn.MultiHeadDotProductAttention(self.heads, out_features=3)(x)

    tokens = jnp.zeros((1, 5), jnp.int32)
    small, large = (
        jax.eval_shape(Heads(n).init, jax.random.key(0), tokens)["params"] for n in (2, 4)
    )
    with pytest.raises(UserError, match=r"kernel, shape .* which axes are inputs is not known"):
        mup(small, large)
    found = mup(small, large, layouts=initjax.find_layouts(Heads(4), large, tokens))
    roles = {path.split("_0/")[1]: role for path, role in found.roles.items()}
    assert (
        roles["embedding"] == roles["query/bias"] == "input" and roles["query/kernel"] == "hidden"
    )
    assert roles["out/kernel"] == "output"
    assert {m for p, m in found.multipliers.items() if "query" in p} == {1.0}  # heads' size stays


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mup({"a": jnp.zeros((2, 3))}, {"b": jnp.zeros((2, 3))}), "a is in one of the two"),
        (lambda: mup({"a": jnp.zeros(3)}, {"a": jnp.zeros((2, 3))}), "have other axes"),
        (lambda: mup(BASE, shapes(64, 2)), "Dense_2/bias is in one of the two networks only"),
        (lambda: initjax.parametrization.complete_p(BASE, shapes(64, 4)), "Dense_3/bias is in one"),
        (
            lambda: initjax.parametrization.depth_mup(
                {"Block_0": BASE}, {"Block_1": {"other": WIDE["Dense_0"]}}
            ),
            "has no other block for Block_1/other",
        ),
        (lambda: mup(BASE, WIDE, "lion"), "optimizer='lion' is not one of sgd, adam, adamw"),
        (lambda: mup(BASE, WIDE, query="q"), "It takes: queries="),
        (lambda: read_parametrization("mupp"), "Did you mean 'mup'"),
        (lambda: read_parametrization("mup(queries='(')"), "is not a regular expression"),
    ],
)
def test_errors(call, message):
    with pytest.raises(UserError) as error:
        call()
    assert message in str(error.value) and len(str(error.value).splitlines()) <= 2
