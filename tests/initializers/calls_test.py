"""Calls as JAX, Flax and others write them: those that are right work, the others say what is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import initjax
from initjax.support.errors import UserError

KEY = jax.random.key(7)
JAX = jax.nn.initializers


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, arguments, shape",
    [
        ("normal", (0.02, jnp.float32), (5, 3)),
        ("normal", (0.02,), 7),
        ("constant", (0.5, jnp.bfloat16), (3,)),
        ("truncated_normal", (0.02, jnp.float32, -1.0, 3.0), (5, 3)),
        ("he_normal", (-2, -1, (), jnp.float32), (5, 3)),
        ("orthogonal", (2.0, 0, jnp.float32), (4, 6)),
        ("delta_orthogonal", (2.0, -2, jnp.float32), (3, 4, 6)),
        # Flax's for embeddings: one axis is named twice.
        ("variance_scaling", (1.0, "fan_in", "normal", -2, 0), (50, 8)),
    ],
)
def test_positional_arguments_of_jax(name, arguments, shape):
    ours = getattr(initjax, name)(*arguments)(KEY, shape)
    theirs = getattr(JAX, name)(*arguments)(KEY, shape if isinstance(shape, tuple) else (shape,))
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


def test_an_embedding_has_rows_of_unit_length():
    w = initjax.variance_scaling(1.0, "fan_in", "normal", out_axis=0)(KEY, (2000, 16))
    squares = np.asarray((w**2).sum(1), np.float64)
    assert abs(squares.mean() - 1) < 4 * squares.std() / np.sqrt(2000)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: initjax.he_normal(KEY, (3, 4), jnp.float32), r"Call it first.*he_normal\(\)"),
        (lambda: initjax.nspl(jax.random.PRNGKey(0), (3, 4)), r"nspl makes an initializer"),
        (lambda: initjax.fixup(KEY, (3, 4)), r"kernel_init=fixup\(num_branches=16\)"),
        (lambda: initjax.nspl()(0, (3, 4)), r"key=0 is no key.\nA key is jax.random.key\(0\)"),
        (lambda: initjax.he_normal()((3, 4), jnp.float32), "Haiku and Keras call"),
        (lambda: initjax.he_normal()((3, 4), dtype="float32"), r"lambda shape, dtype=None: init"),
        (lambda: initjax.he_normal()(KEY, jnp.float32), "is no shape"),
        (lambda: initjax.he_normal()(KEY, (3, 4), axes=1), "without axes.\nOf forms .* Penzai"),
        (lambda: initjax.he_normal((64, 8), jnp.float32), r"given a shape.\nCall it first"),
        (lambda: initjax.nspl((3, 4), dtype="float32"), r"given a shape.\nCall it first"),
        (lambda: initjax.constant(0.7)(KEY, (3,), jnp.int32), "value=0.7 is no int32"),
        (lambda: initjax.get("fixup"), "missing a required argument: 'num_branches'"),
        (lambda: initjax.get("deepnorm"), "missing a required argument: 'num_layers'"),
        (lambda: initjax.get("gpt2_residual()"), "missing a required argument: 'num_layers'"),
        (lambda: initjax.get("mean_field_residual"), "missing a required argument: 'num_layers'"),
    ],
)
def test_errors_say_what_to_call(call, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        call()


def test_deepnorm_is_an_initializer():
    init = initjax.get("deepnorm(num_layers=8)")
    assert (init.alpha, init.beta) == (2.0, 64**-0.25)
    w = np.asarray(init(KEY, (256, 128)), np.float64)
    squares = w**2 * (256 + 128) / 2 * np.sqrt(64)
    assert abs(squares.mean() - 1) < 4 * squares.std() / np.sqrt(w.size)
    assert initjax.constant(2.0)(KEY, (2,), jnp.int32).tolist() == [2, 2]


def test_a_variance_below_the_range_of_float32():
    w = np.asarray(initjax.variance_scaling(1e-50, distribution="normal")(KEY, (100, 100)))
    squares = (w.astype(np.float64) ** 2) * 1e52
    assert abs(squares.mean() - 1) < 4 * squares.std() / 100


def test_zero_makes_the_corner_of_a_hadamard_matrix_alone():
    expected = scipy.linalg.hadamard(64)[:20, :50] / 8
    np.testing.assert_array_equal(initjax.zero()(KEY, (20, 50)), expected)
    wide = jax.make_jaxpr(lambda key: initjax.zero()(key, (8, 9000)))(KEY)
    sizes = [v.aval.size for equation in wide.jaxpr.eqns for v in equation.outvars]
    assert max(sizes) == 8 * 9000  # of 16384 x 16384
