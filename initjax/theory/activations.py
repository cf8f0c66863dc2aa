"""Activation functions by name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from initjax.support.errors import UserError

_ACTIVATIONS: dict[str, Callable] = {
    "elu": jax.nn.elu,
    "erf": jax.lax.erf,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "hard_tanh": jax.nn.hard_tanh,
    "leaky_relu": jax.nn.leaky_relu,
    "linear": lambda x: x,
    "relu": jax.nn.relu,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}


def activation_names() -> list[str]:
    """The names that `get_activation` knows, sorted."""
    return sorted(_ACTIVATIONS)


def get_activation(activation: str | Callable) -> Callable:
    """The activation function of a name; a callable is returned as it is.

    Raises:
      UserError (a ValueError): an unknown name.

    >>> get_activation("tanh")(0.0)
    Array(0., dtype=float32, weak_type=True)
    """
    if callable(activation):
        return activation
    if activation not in _ACTIVATIONS:
        raise UserError(
            f"Unknown activation {activation!r}. Known: {', '.join(activation_names())}."
        )
    return _ACTIVATIONS[activation]
