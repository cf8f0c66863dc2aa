"""Whole Fixup: its parameters counted, its start, and that it trains."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import initjax
from initjax.data import load, normalize
from initjax.models import create_model
from initjax.support.errors import UserError

KEY = jax.random.key(0)


def shapes_of(name, **fields):
    model = create_model(name, **fields)
    return jax.eval_shape(model.init, KEY, jnp.zeros((1, 32, 32, 3)))["params"]


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def named(tree):
    return dict(initjax.network.named_leaves(tree))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fields", "number", "normalized", "scalars"),
    [
        # The number with normalization, less that, plus 2 m + 1 a branch and two at the ends.
        ("resnet32(normalization='fixup')", {}, 464_154, 2_272, 15 * 5 + 2),
        pytest.param(
            *("resnet50(normalization='fixup')", {"num_classes": 1000}, 25_557_032, 53_120),
            *(16 * 7 + 2,),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_parameters(name, fields, number, normalized, scalars):
    params = shapes_of(name, **fields)
    assert count(params) == number - normalized + scalars in (461_959, 25_504_026)
    assert not [path for path in named(params) if "norm" in path.lower()]


@pytest.fixture(scope="module")
def start():
    """(model, its parameters) with three branches."""
    model = create_model("resnet20(depth=8, normalization='fixup')", kernel_init="he_normal")
    return model, jax.jit(model.init)(KEY, jnp.ones((1, 8, 8, 1)))["params"]


@pytest.mark.slow
def test_the_blocks_are_those_of_the_rules(start):
    """As `fixup_rules` would start them, with the branches counted: L^(-1/2), L = 3 and 15."""
    shapes = shapes_of("resnet32(normalization='fixup')")
    rules = {r.pattern: r.init for r in initjax.fixup_rules(shapes, head="Dense_0/kernel")}
    assert rules["^Block_14/Conv_0/kernel$"] == initjax.fixup(15, 2)
    _, params = start
    for i in range(3):
        block = params[f"Block_{i}"]
        w = np.asarray(block["Conv_0"]["kernel"], np.float64)
        variance = (2 / 3) / (9 * w.shape[2])
        # Kurtosis of a normal law cut at 2 sd: 2.06.
        assert (w**2).mean() == pytest.approx(variance, rel=4 * (1.06 / w.size) ** 0.5)
        assert not block["Conv_1"]["kernel"].any()
        assert block["ScalarMultiplier_0"]["scale"] == 1
        assert len([name for name in block if name.startswith("ScalarBias")]) == 4
    assert not any(x.any() for path, x in named(params).items() if path.endswith("bias"))
    assert not params["Dense_0"]["kernel"].any()


@pytest.mark.slow
def test_it_begins_as_its_shortcuts_at_ln_k(start):
    model, params = start
    apply = jax.jit(lambda params, x: model.apply({"params": params}, x))
    x = jax.random.normal(KEY, (4, 8, 8, 1))
    logits = apply(params, x)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.arange(4))
    np.testing.assert_array_equal(losses, np.full(4, np.log(10), np.float32))
    # With another head the branches' first layers still change nothing.
    params = params | {
        "Dense_0": {"kernel": jax.random.normal(KEY, (64, 10)), "bias": jnp.ones(10)}
    }
    other = jax.tree.map(lambda w: w, params)
    for i in range(3):
        other[f"Block_{i}"]["Conv_0"]["kernel"] *= 5.0
    first, second = (apply(p, x) for p in (params, other))
    assert first.any()
    np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_a_head_that_is_given_stays():
    model = create_model("resnet20(depth=8, normalization='fixup')", dense_init="ones")
    params = jax.jit(model.init)(KEY, jnp.ones((1, 8, 8, 1)))["params"]
    assert params["Dense_0"]["kernel"].all()


@pytest.mark.slow
def test_it_trains(start):
    """Thirty steps on the digits: from ln 10 to less than four fifths of it, all scalars moving."""
    digits = load("digits")
    x = normalize(jnp.asarray(digits.train_images[:256]), digits.mean, digits.std)
    y = jnp.asarray(digits.train_labels[:256])
    model, params = start
    tx = optax.sgd(0.03, momentum=0.9)
    state = tx.init(params)

    def loss(params):
        logits = model.apply({"params": params}, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = tx.update(gradient, state)
        return value, optax.apply_updates(params, updates), state

    losses = []
    for _ in range(30):
        value, params, state = step(params, state)
        losses.append(float(value))
    assert losses[0] == pytest.approx(np.log(10), abs=1e-6)
    assert losses[-1] < 0.8 * np.log(10)
    moved = {path for path, w in named(params).items() if (w != named(start[1])[path]).all()}
    assert {path for path in named(params) if "Scalar" in path} <= moved


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet32(normalization='layer')", "normalization='layer' is not one of batch, fixup"),
        ("resnet18(normalization='fix')", "normalization='fix' is not one of"),
        ("resnet50(normalization='fixup', zero_init_residual=True)", "its branches begin at 0"),
    ],
)
def test_refuses(name, message):
    with pytest.raises(UserError, match=message):
        create_model(name)
