import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from initjax.support.errors import UserError
from initjax.theory.activations import activation_names, get_activation
from initjax.theory.gains import gain

X = np.linspace(-4, 4, 81)
FORMULAS = {
    "elu": np.where(X > 0, X, np.expm1(X)),
    "erf": special.erf(X),
    "gelu": X * (1 + special.erf(X / np.sqrt(2))) / 2,
    "hard_tanh": np.clip(X, -1, 1),
    "leaky_relu": np.where(X > 0, X, 0.01 * X),
    "linear": X,
    "relu": np.maximum(X, 0),
    # Klambauer et al. 2017.
    "selu": 1.0507009873554805 * np.where(X > 0, X, 1.6732632423543772 * np.expm1(X)),
    "sigmoid": special.expit(X),
    "silu": X * special.expit(X),
    "softplus": np.log1p(np.exp(X)),
    "tanh": np.tanh(X),
    "celu": np.where(X > 0, X, np.expm1(X)),
    "hard_sigmoid": np.clip(X + 3, 0, 6) / 6,
    "hard_swish": X * np.clip(X + 3, 0, 6) / 6,
    "log_sigmoid": -np.log1p(np.exp(-X)),
    "mish": X * np.tanh(np.log1p(np.exp(X))),
    "relu6": np.clip(X, 0, 6),
    "soft_sign": X / (1 + np.abs(X)),
    "squareplus": (X + np.sqrt(X**2 + 4)) / 2,
    "swish": X * special.expit(X),
}


def test_every_name_has_a_formula_here():
    assert activation_names() == sorted(FORMULAS)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMULAS)
def test_formula(name):
    values = get_activation(name)(jnp.asarray(X, jnp.float32))
    np.testing.assert_allclose(values, FORMULAS[name], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMULAS)
def test_dtype_is_kept(name):
    assert get_activation(name)(jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16


def test_relu_at_zero_and_nan():
    relu = get_activation("relu")
    assert jax.grad(relu)(0.0) == 0
    assert jax.grad(relu)(1e-30) == 1
    assert np.isnan(relu(jnp.nan))


def test_callable_is_returned():
    assert get_activation(jnp.sin) is jnp.sin


def test_unknown_name_lists_the_known():
    with pytest.raises(UserError, match=r"'foo'.*gelu.*relu.*tanh"):
        get_activation("foo")


@pytest.mark.parametrize("name", FORMULAS)
def test_a_function_knows_its_name(name):
    """So that what is told of a model's activation by value is told as by name."""
    assert get_activation(name).__name__ == name


def test_an_activation_of_the_users_own():
    assert get_activation("jax.nn:swish") is jax.nn.swish
    with pytest.raises(UserError, match="Did you mean 'swish'"):
        get_activation("jax.nn:swihs")


def test_parameters_in_a_name():
    leaky = get_activation("leaky_relu(.2)")
    np.testing.assert_allclose(leaky(jnp.asarray(X)), np.where(X > 0, X, 0.2 * X), rtol=1e-6)
    assert leaky == get_activation("leaky_relu(0.2)") and hash(leaky) == hash(leaky)
    assert gain("leaky_relu(.2)") ** 2 == pytest.approx(2 / 1.04, abs=1e-10)
    assert pickle.loads(pickle.dumps(leaky)) == leaky
    for text, message in (("relu(2)", r"relu\(2\): "), ("relu7(2)", "Unknown activation 'relu7'")):
        with pytest.raises(UserError, match=message):
            get_activation(text)
