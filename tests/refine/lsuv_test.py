import jax
import jax.numpy as jnp
import numpy as np
import pytest

from initjax import refine
from initjax.models import create_model
from initjax.refine import Network
from initjax.support.errors import UserError

pytestmark = pytest.mark.slow

KEY = jax.random.key(7)


def create(spec="mlp(depth=2, width=16)", num=256, shape=(4, 4, 2), **fields):
    """(model, params, inputs), in the widest dtype that is enabled."""
    fields = {"kernel_init": "normal(stddev=0.3)", "bias_init": "zeros"} | fields
    dtype = jnp.asarray(1.0).dtype
    model = create_model(spec, dtype=dtype, **fields)
    inputs = jax.random.normal(jax.random.key(1), (num, *shape), dtype) + 0.5
    params = model.init(jax.random.key(0), inputs[:1])["params"]
    return model, jax.tree.map(lambda x: x.astype(dtype), params), inputs


def variances(model, params, inputs):
    return [float(z.var()) for z in Network(model, KEY).record(params, inputs).values()]


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def test_without_biases_one_iteration_is_exact(x64):
    model, params, inputs = create()
    refined, report = refine.lsuv(
        model, params, inputs, KEY, tolerance=0, max_iterations=1, held_out=inputs
    )
    np.testing.assert_allclose(variances(model, refined, inputs), 1, rtol=1e-11)
    assert report.after < 1e-6 < report.before
    again, _ = refine.lsuv(model, refined, inputs, KEY, held_out=inputs)  # idempotent
    for a, b in zip(jax.tree.leaves(refined), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_invariant_to_the_scale_of_layers_and_keeps_directions(x64):
    model, params, inputs = create()
    scaled = {
        path: {"kernel": layer["kernel"] * 10.0**i, "bias": layer["bias"]}
        for i, (path, layer) in enumerate(params.items(), start=-1)
    }
    settings = {"tolerance": 0, "max_iterations": 2, "held_out": inputs}
    one, _ = refine.lsuv(model, params, inputs, KEY, **settings)
    two, _ = refine.lsuv(model, scaled, inputs, KEY, **settings)
    for a, b, given in zip(*map(jax.tree.leaves, (one, two, params)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
        if given.ndim == 2:
            np.testing.assert_allclose(a / given, (a / given)[0, 0], rtol=1e-9)


def test_biases_are_kept_and_take_iterations(x64):
    model, params, inputs = create(bias_init="normal(stddev=0.5)")
    refined, _ = refine.lsuv(model, params, inputs, KEY, tolerance=1e-6, max_iterations=100)
    fit = inputs[:192]
    np.testing.assert_allclose(variances(model, refined, fit), 1, atol=1e-6)
    for path in params:
        np.testing.assert_allclose(refined[path]["bias"], params[path]["bias"], rtol=1e-12)
    _, report = refine.lsuv(model, params, inputs, KEY, tolerance=1e-9, max_iterations=1)
    assert "still not within 1e-09 of 1" in str(report)


def test_within_the_tolerance_nothing_changes():
    model, params, inputs = create()
    refined, report = refine.lsuv(model, params, inputs, KEY, tolerance=1e9)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(refined), strict=True):
        np.testing.assert_array_equal(a, b)
    assert report.before == report.after


def test_dead_layers_and_batch_normalization():
    model, params, inputs = create("convnet(use_batch_norm=True)", 32, (8, 8, 3))
    params["Conv_1"]["kernel"] *= 0
    refined, report = refine.lsuv(model, params, inputs, KEY, tolerance=0.01, held_out=inputs)
    # Without a shortcut, everything after a dead layer is dead.
    assert "3 of 4 layers are dead" in str(report)
    assert "skipped: Conv_1, Conv_2, Dense_0" in str(report)
    after = [layer.after.variance for layer in report.layers]
    np.testing.assert_allclose(after, [1, 0, 0, 0], atol=0.01)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(refined))


def test_krahenbuhl_normalizes_and_then_equalizes(x64):
    model, params, inputs = create(kernel_init="normal(stddev=0.02)", bias_init="normal")
    normalized, before = refine.krahenbuhl(
        model, params, inputs, KEY, iterations=0, bias=0.25, held_out=inputs
    )
    for z in Network(model, KEY).record(normalized, inputs).values():
        np.testing.assert_allclose(z.mean(0), 0.25, atol=1e-12)
        np.testing.assert_allclose(z.std(0), 1, rtol=1e-12)
    equalized, report = refine.krahenbuhl(
        model, params, inputs, KEY, iterations=40, bias=0.25, held_out=inputs
    )
    # 1 - alpha of the spread is left after each iteration, 0.75^40 = 1e-5 after all.
    assert report.after < 1e-4 * before.after
    # The factors multiply to 1 and biases follow: a network of ReLUs keeps its function.
    np.testing.assert_allclose(
        model.apply({"params": equalized}, inputs),
        model.apply({"params": normalized}, inputs),
        rtol=1e-4,
        atol=1e-5,
    )


def test_krahenbuhl_skips_dead_layers():
    model, params, inputs = create(num=64)
    params["Dense_2"]["kernel"] *= 0
    refined, report = refine.krahenbuhl(model, params, inputs, KEY)
    assert "skipped: Dense_2" in str(report)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(refined))


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("lsuv", {"tolerance": -1}),
        ("lsuv", {"max_iterations": 0}),
        ("krahenbuhl", {"iterations": -1}),
        ("krahenbuhl", {"bias": float("nan")}),
        ("krahenbuhl", {"damping": -0.1}),
    ],
)
def test_errors(method, settings):
    model, params, inputs = create(num=8)
    with pytest.raises(UserError, match=next(iter(settings))):
        getattr(refine, method)(model, params, inputs, KEY, **settings)
