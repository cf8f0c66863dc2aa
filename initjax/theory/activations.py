"""Activation functions by name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from initjax.support.naming import Call, Registry


def gelu(x):
    """x Phi(x), exactly."""
    return jax.nn.gelu(x, approximate=False)


def linear(x):
    """x itself."""
    return x


_ACTIVATIONS = Registry("activation")
for _name, _function in {
    "elu": jax.nn.elu,
    "erf": jax.lax.erf,
    "gelu": gelu,
    "hard_tanh": jax.nn.hard_tanh,
    "leaky_relu": jax.nn.leaky_relu,
    "linear": linear,
    "relu": jax.nn.relu,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}.items():
    _ACTIVATIONS.add(_name, _function)


def activation_names() -> list[str]:
    """The names that `get_activation` knows, sorted."""
    return sorted(_ACTIVATIONS)


def get_activation(activation: str | Call | Callable) -> Callable:
    """The activation function of a name; a callable is returned as it is.

    "package.module:name" is a function of your own.

    Raises:
      UserError (a ValueError): an unknown name.

    >>> get_activation("tanh")(0.0)
    Array(0., dtype=float32, weak_type=True)
    """
    return activation if callable(activation) else _ACTIVATIONS.look_up(str(activation))
