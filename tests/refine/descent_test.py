import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from initjax import refine
from initjax.models import create_model
from initjax.refine.descent import cross_entropy
from initjax.refine.metainit import signed_momentum
from initjax.support.errors import UserError

pytestmark = pytest.mark.slow

KEY = jax.random.key(7)


def create(spec="mlp(depth=2, width=12)", num=192, **fields):
    """(model, params, (inputs, labels)) of a task that can be learned."""
    model = create_model(spec, num_classes=3, **({"kernel_init": "normal(stddev=1.0)"} | fields))
    inputs = jax.random.normal(jax.random.key(1), (num, 4, 4, 1))
    labels = jnp.argmax(inputs[:, 0, :3, 0], -1)
    return model, model.init(jax.random.key(0), inputs[:1])["params"], (inputs, labels)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def test_gradient_quotient_of_a_quadratic(x64):
    """(g - H g) / g - 1 = -h for g = h theta: the mean of |h|, but for epsilon."""
    h, theta = jnp.array([0.5, 2.0, -3.0, 1.0]), jnp.array([1.3, -2.0, 0.7, 3.0])

    def loss(tree):
        return sum((c * t**2).sum() / 2 for c, t in zip(tree["h"], tree["theta"], strict=True))

    def of(theta):
        return loss({"h": [h[:1], h[1:]], "theta": theta})

    found = refine.gradient_quotient(of, [theta[:1], theta[1:]], epsilon=1e-9)
    assert float(found) == pytest.approx(1.625, abs=1e-7)
    # With epsilon: (h theta - h^2 theta) / (h theta + epsilon sign) - 1, by hand.
    g = h * theta
    expected = np.mean(np.abs((g - h * g) / (g + 1e-2 * np.sign(g)) - 1))
    found = refine.gradient_quotient(of, [theta[:1], theta[1:]], epsilon=1e-2)
    assert float(found) == pytest.approx(float(expected), rel=1e-12)


def test_gradient_quotient_at_zero_gradient():
    """sgn+(0) is 1: no division by zero."""
    found = refine.gradient_quotient(lambda t: (t**2).sum(), jnp.zeros(3))
    assert float(found) == 1


def test_signed_momentum_is_the_sources():
    optimizer = signed_momentum(0.1, 0.9)
    norms = {0: jnp.float32(5), 1: jnp.float32(5)}
    state, memory = optimizer.init(norms), np.zeros(2)
    for gradient in ([3.0, -0.1], [2.0, 0.5], [-1e-6, 7.0]):
        memory = 0.9 * memory - 0.1 * np.sign(gradient)
        updates, state = optimizer.update(dict(enumerate(map(jnp.float32, gradient))), state)
        np.testing.assert_allclose([updates[0], updates[1]], memory, rtol=1e-6)


def test_metainit_lowers_the_quotient_and_keeps_directions():
    model, params, batch = create(bias_init="normal(stddev=0.1)", kernel_init="he_normal")
    refined, report = refine.metainit(
        model, params, batch, KEY, steps=60, batch_size=144, held_out=batch
    )
    assert report.after < 0.8 * report.before and report.num_held_out == 192
    assert report.method == "metainit" and report.objective == "gradient quotient"
    for path, layer in params.items():
        a, b = layer["kernel"].ravel(), refined[path]["kernel"].ravel()
        cosine = a @ b / jnp.linalg.norm(a) / jnp.linalg.norm(b)
        assert float(cosine) == pytest.approx(1, abs=1e-6)
        assert not np.allclose(a, b)
        np.testing.assert_array_equal(layer["bias"], refined[path]["bias"])


def test_metainit_without_labels_and_with_another_optimizer():
    model, params, (inputs, _) = create("mlp(depth=1, width=8)")
    settings = {"steps": 10, "batch_size": 32}
    _, report = refine.metainit(model, params, inputs, KEY, optimizer=optax.adam(0.1), **settings)
    assert "random" in str(report) and report.after < report.before
    still, _ = refine.metainit(model, params, inputs, KEY, optimizer=optax.sgd(0.0), **settings)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(still), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_metainit_leaves_a_dead_layer_alone():
    model, params, batch = create("mlp(depth=1, width=8)")
    params["Dense_1"]["kernel"] *= 0
    refined, report = refine.metainit(model, params, batch, KEY, steps=2, batch_size=32)
    assert (refined["Dense_1"]["kernel"] == 0).all() and "Dense_1" in str(report)
    with pytest.raises(UserError, match="all of them are zero"):
        zeros = jax.tree.map(jnp.zeros_like, params)
        refine.metainit(model, zeros, batch, KEY)


@pytest.mark.parametrize("inner", ["sgd", "adam"])
def test_gradinit_meets_its_constraint_and_keeps_directions(inner):
    model, params, batch = create(kernel_init="normal(stddev=1.0)")
    gamma = {"sgd": 0.5, "adam": 5.0}[inner]
    rate = {"sgd": 0.1, "adam": 0.01}[inner]
    settings = {"inner": inner, "gamma": gamma, "learning_rate": rate, "steps": 60}
    settings |= {"batch_size": 48, "optimizer": optax.adam(0.03)}
    refined, report = refine.gradinit(model, params, batch, KEY, **settings)
    inputs, labels = (x[:144] for x in batch)

    def norm(params):
        gradients = jax.grad(lambda p: cross_entropy(model.apply({"params": p}, inputs), labels))(
            params
        )
        flat = jnp.concatenate([g.ravel() for g in jax.tree.leaves(gradients)])
        return float(jnp.linalg.norm(flat, ord=1 if inner == "adam" else 2))

    assert norm(refined) <= gamma * (1 + 1e-5) < norm(params)
    assert report.after < 0.8 * report.before and "NOT" not in str(report)
    for path, layer in params.items():
        ratio = refined[path]["kernel"] / layer["kernel"]
        np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-5)
        assert ratio[0, 0] >= 0.01 - 1e-6


def test_gradinit_says_when_the_constraint_cannot_be_met():
    model, params, batch = create("mlp(depth=1, width=8)")
    _, report = refine.gradinit(
        model, params, batch, KEY, gamma=1e-6, steps=2, batch_size=32, floor=0.5
    )
    assert "could NOT be brought below" in str(report)


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(8)(x.reshape(x.shape[0], -1))
        return nn.Dense(3)(nn.relu(nn.BatchNorm(use_running_average=not train)(x)))


@pytest.mark.parametrize("method", ["gradinit", "metainit"])
def test_batch_normalization(method):
    model, (_, _, batch) = Normalized(), create("mlp(depth=1, width=4)")
    params = model.init(KEY, batch[0])["params"]
    settings = {"steps": 10, "batch_size": 48}
    refined, report = getattr(refine, method)(model, params, batch, KEY, **settings)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(refined))
    assert not np.allclose(refined["Dense_0"]["kernel"], params["Dense_0"]["kernel"])
    assert [layer.path for layer in report.layers] == ["Dense_0", "Dense_1"]


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("metainit", {"steps": 0}, "steps=0"),
        ("metainit", {"batch_size": 500}, "A step needs 500 samples"),
        ("gradinit", {"inner": "rmsprop"}, "inner='rmsprop' is not one of sgd, adam"),
        ("gradinit", {"gamma": -1}, "gamma=-1.0 must be positive"),
        ("gradinit", {"batch_size": 120}, "needs 180 samples"),
    ],
)
def test_errors(method, settings, message):
    model, params, batch = create("mlp(depth=1, width=4)")
    with pytest.raises(UserError, match=message):
        getattr(refine, method)(model, params, batch, KEY, **settings)


def test_gradinit_needs_labels():
    model, params, (inputs, _) = create("mlp(depth=1, width=4)")
    with pytest.raises(UserError, match="needs labels"):
        refine.gradinit(model, params, inputs, KEY)
